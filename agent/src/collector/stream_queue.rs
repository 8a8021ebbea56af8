//! How much waits in libuv's queue of a stream, read in the memory of its process.

use crate::v8::read_memory;

/// `uv_stream_t` up to the descriptor, and where in it stand its loop, the type of the handle, the bytes that wait, and the
/// descriptor: the same in every libuv 1.x on 64-bit Linux, whose ABI is stable.
const STREAM_LEN: usize = 188;
const LOOP: usize = 8;
const TYPE: usize = 16;
const QUEUE_SIZE: usize = 96;
const DESCRIPTOR: usize = 184;
/// `UV_TCP` of `uv_handle_type`.
const UV_TCP: u32 = 12;
/// No process has so much.
const MOST_BYTES: u64 = 1 << 47;

/// Bytes that wait in the stream at `address` in the memory of `pid`; `None`: it is not, or not any more, the TCP stream of the
/// descriptor `fd`, or the memory cannot be read.
pub(super) fn queued_bytes(pid: u32, address: u64, fd: u32) -> Option<u64> {
    let mut stream = [0; STREAM_LEN];
    if address == 0 || !read_memory(pid, address, &mut stream) {
        return None;
    }
    of_stream(&stream, fd)
}

fn of_stream(stream: &[u8; STREAM_LEN], fd: u32) -> Option<u64> {
    let word = |at: usize| Some(u64::from_le_bytes(stream.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u32::from_le_bytes(stream.get(at..at + 4)?.try_into().ok()?));
    let is_stream = word(LOOP)? != 0 && half(TYPE)? == UV_TCP && half(DESCRIPTOR)? == fd;
    word(QUEUE_SIZE).filter(|bytes| is_stream && *bytes < MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> [u8; STREAM_LEN] {
        let mut stream = [0; STREAM_LEN];
        stream[LOOP..LOOP + 8].copy_from_slice(&0x7f00_1234_5678_u64.to_le_bytes());
        stream[TYPE..TYPE + 4].copy_from_slice(&UV_TCP.to_le_bytes());
        stream[QUEUE_SIZE..QUEUE_SIZE + 8].copy_from_slice(&70_000_u64.to_le_bytes());
        stream[DESCRIPTOR..].copy_from_slice(&21_u32.to_le_bytes());
        stream
    }

    #[test]
    fn only_the_stream_of_the_descriptor_tells_its_queue() {
        assert_eq!(of_stream(&stream(), 21), Some(70_000));
        assert_eq!(of_stream(&stream(), 22), None, "the memory is another stream's by now");
        for (at, what) in [(LOOP, "no loop"), (TYPE, "a pipe"), (QUEUE_SIZE, "too much")] {
            let mut other = stream();
            other[at..at + 8].fill(if at == LOOP { 0 } else { 0xff });
            assert_eq!(of_stream(&other, 21), None, "{what}");
        }
    }

    #[test]
    fn memory_that_cannot_be_read_tells_nothing() {
        let pid = std::process::id();
        let stream = Box::new(stream());
        assert_eq!(queued_bytes(pid, std::ptr::from_ref(&*stream) as u64, 21), Some(70_000));
        for address in [0, 8, u64::MAX - 100] {
            assert_eq!(queued_bytes(pid, address, 21), None);
        }
    }
}
