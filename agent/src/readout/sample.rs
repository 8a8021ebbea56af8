//! A stack as it comes through the ring buffer: bytes to words, checked. What the words mean, `v8` tells.

use nodeprobe_ebpf::{
    RawFrame, SampleHeader,
    sample::{IMAGE_BYTES, IMAGE_FRAMES},
    walk::MAX_FRAMES,
};

const HEADER_BYTES: usize = size_of::<SampleHeader>();
const FRAME_BYTES: usize = size_of::<RawFrame>();

/// One stack of a loop thread, innermost frame first.
#[derive(Clone, Debug)]
pub struct RawSample {
    pub header: SampleHeader,
    pub frames: Vec<RawFrame>,
    /// Stack from `header.sp` on; empty where frame pointers led to JavaScript.
    pub image: Vec<u8>,
}

/// `None`: no sample, or one that contradicts itself.
pub fn decode(bytes: &[u8]) -> Option<RawSample> {
    let (head, payload) = bytes.split_at_checked(HEADER_BYTES)?;
    let mut words = Words(head);
    let header = SampleHeader {
        kind: words.u32()?,
        flags: words.u32()?,
        tgid: words.u32()?,
        tid: words.u32()?,
        time_ns: words.u64()?,
        turn_start_ns: words.u64()?,
        pc: words.u64()?,
        sp: words.u64()?,
        fp: words.u64()?,
        syscall: words.u32()?,
        descriptor: words.u32()?.cast_signed(),
        frames: words.u32()?,
        image_bytes: words.u32()?,
        left_pc: words.u64()?,
    };
    let (count, image_bytes) = (header.frames as usize, header.image_bytes as usize);
    if count > MAX_FRAMES || image_bytes > IMAGE_BYTES || (image_bytes > 0 && count > IMAGE_FRAMES) {
        return None;
    }
    let mut words = Words(payload.get(..count * FRAME_BYTES)?);
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        frames.push(RawFrame {
            pc: words.u64()?,
            marker: words.u64()?,
            shared: [words.u64()?, words.u64()?],
            bytecode: words.u64()?,
            bytecode_offset: words.u64()?,
        });
    }
    let image = match image_bytes {
        0 => Vec::new(),
        len => payload.get(IMAGE_FRAMES * FRAME_BYTES..)?.get(..len)?.to_vec(),
    };
    Some(RawSample { header, frames, image })
}

/// Reads words one after the other.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*word))
    }

    fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with that many frames and image bytes, all words of the payload 7.
    fn record(frames: u32, image_bytes: u32, payload_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        // Before the last word of all.
        bytes[HEADER_BYTES - 16..HEADER_BYTES - 12].copy_from_slice(&frames.to_ne_bytes());
        bytes[HEADER_BYTES - 12..HEADER_BYTES - 8].copy_from_slice(&image_bytes.to_ne_bytes());
        bytes.extend(7_u64.to_ne_bytes().iter().cycle().take(payload_bytes));
        bytes
    }

    #[test]
    fn frames_follow_the_header() {
        let sample = decode(&record(2, 0, 2 * FRAME_BYTES)).unwrap();
        assert_eq!((sample.frames.len(), sample.frames[1].bytecode_offset, sample.image.len()), (2, 7, 0));
    }

    #[test]
    fn an_image_follows_a_fixed_number_of_frames() {
        let sample = decode(&record(1, 1024, IMAGE_FRAMES * FRAME_BYTES + 1024)).unwrap();
        assert_eq!((sample.frames.len(), sample.image.len()), (1, 1024));
    }

    #[test]
    fn records_that_contradict_themselves_are_refused() {
        assert!(decode(&[]).is_none());
        assert!(decode(&record(2, 0, 2 * FRAME_BYTES - 1)).is_none());
        assert!(decode(&record(u32::MAX, 0, 8 * FRAME_BYTES)).is_none());
        assert!(decode(&record(1, 1025, IMAGE_FRAMES * FRAME_BYTES + 1024)).is_none());
        assert!(decode(&record(7, 8, 16 * FRAME_BYTES)).is_none());
    }
}
