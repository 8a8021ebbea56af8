//! Decodes what comes through the ring buffer.

use std::{
    os::fd::{AsRawFd as _, RawFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use nodeprobe_ebpf::{Event, EventKind, event::EVENT_VALUES};

use super::sample::{self, RawSample};

/// What the ring buffer holds.
#[derive(Clone, Debug)]
pub enum Record {
    Event(EventKind, Event),
    Sample(Box<RawSample>),
}

/// The reading end of the ring buffer.
pub struct Ring {
    buffer: RingBuf<MapData>,
}

impl Ring {
    pub(crate) fn new(buffer: RingBuf<MapData>) -> Self {
        Self { buffer }
    }

    /// Waits until something is there or the time is up.
    pub fn wait(&self, timeout: Duration) {
        let mut fds = [libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 }];
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `fds` is a valid array of one element for the duration of the call. A failed or interrupted poll
        // only makes the caller look early.
        unsafe { libc::poll(fds.as_mut_ptr(), 1, millis) };
    }

    fn fd(&self) -> RawFd {
        self.buffer.as_raw_fd()
    }

    /// The next record, `None` when there is none at the moment. Records of an unknown kind or length are passed
    /// over: they cannot come from the object that is embedded here.
    pub fn next_record(&mut self) -> Option<Record> {
        loop {
            let item = self.buffer.next()?;
            let record = if item.starts_with(&(EventKind::Sample as u32).to_ne_bytes()) {
                sample::decode(&item).map(|sample| Record::Sample(Box::new(sample)))
            } else {
                decode(&item).map(|(kind, event)| Record::Event(kind, event))
            };
            if let Some(record) = record {
                return Some(record);
            }
            tracing::debug!(len = item.len(), "unknown record in the ring buffer");
        }
    }
}

/// Bytes to event, checked.
fn decode(bytes: &[u8]) -> Option<(EventKind, Event)> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    let u32_at = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let u64_at = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let event = Event {
        kind: u32_at(0)?,
        detail: u32_at(4)?,
        tgid: u32_at(8)?,
        tid: u32_at(12)?,
        start_ns: u64_at(16)?,
        duration_ns: u64_at(24)?,
        values: {
            let mut values = [0; EVENT_VALUES];
            for (index, value) in values.iter_mut().enumerate() {
                *value = u64_at(32 + index * 8)?;
            }
            values
        },
    };
    EventKind::try_from(event.kind).ok().map(|kind| (kind, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_another_length_or_kind_are_passed_over() {
        const LEN: usize = size_of::<Event>();
        assert!(decode(&[1; LEN - 1]).is_none());
        assert!(decode(&[0xff; LEN]).is_none());
        let mut bytes = [0; LEN];
        bytes[0] = EventKind::Stall as u8;
        bytes[24..32].copy_from_slice(&200_000_000_u64.to_ne_bytes());
        bytes[LEN - 8] = 7;
        let (kind, event) = decode(&bytes).unwrap();
        assert_eq!((kind, event.duration_ns), (EventKind::Stall, 200_000_000));
        assert_eq!(event.values[EVENT_VALUES - 1], 7);
    }
}
