//! What processes tell before discovery knows them, which takes it a tenth of a second from their `exec`. Dropped, the second
//! `listen` of a quick server would pass for its first.

#![forbid(unsafe_code)]

use nodeprobe_ebpf::Event;

use super::wall_clock;
use crate::{
    model::{Notice, NoticeKind},
    target::{Target, Targets},
};

/// Each of a burst of processes tells a few things. What comes above it is lost as all of it was before.
const WAITING_MAX: usize = 1024;
/// What discovery does not know by then has ended, and counts as a process that was not identified.
const WAIT_NS: u64 = 5_000_000_000;

/// Events that wait for their process.
#[derive(Debug, Default)]
pub(super) struct Early(Vec<(NoticeKind, Event)>);

impl Early {
    pub(super) fn hold(&mut self, kind: NoticeKind, event: &Event) {
        if self.0.len() < WAITING_MAX {
            self.0.push((kind, *event));
        }
    }

    /// Moves what is known by now into `notices`, which stay in the order of their times.
    pub(super) fn release(&mut self, now_ns: u64, targets: &Targets, notices: &mut Vec<Notice>) {
        let before = notices.len();
        self.0.retain(|(kind, event)| match targets.find(event.tgid) {
            // Another program under the same pid told it.
            Some(target) if event.start_ns < target.begin_ns => false,
            Some(target) => {
                notices.push(told(*kind, event, target));
                false
            }
            None => now_ns.saturating_sub(event.start_ns) < WAIT_NS,
        });
        if notices.len() > before {
            notices.sort_by_key(|notice| notice.time);
        }
    }
}

/// The notice of a process that is known.
pub(super) fn told(kind: NoticeKind, event: &Event, target: &Target) -> Notice {
    Notice { process: target.id, tid: event.tid, kind, time: wall_clock(event.start_ns) }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use nodeprobe_ebpf::{EventKind, event::EVENT_VALUES};

    use super::*;
    use crate::model::{Identity, ProcessId};

    const S: u64 = 1_000_000_000;

    fn listening(tgid: u32, start_ns: u64) -> Event {
        let kind = EventKind::Listening as u32;
        Event { kind, detail: 0, tgid, tid: tgid, start_ns, duration_ns: 0, values: [0; EVENT_VALUES] }
    }

    fn known(pid: u32, begin_ns: u64) -> Target {
        let id = ProcessId { pid, start_ticks: 1 };
        let (now, signals) = (SystemTime::now(), Arc::default());
        let mut target = Target::new(id, Identity::default(), signals, now, now, true);
        target.begin_ns = begin_ns;
        target
    }

    #[test]
    fn the_first_comes_before_what_was_told_since() {
        let (mut early, mut targets, mut notices) = (Early::default(), Targets::default(), Vec::new());
        early.hold(NoticeKind::Listening, &listening(7, 10 * S));
        early.release(11 * S, &targets, &mut notices);
        assert_eq!(notices, []);
        targets.add(known(7, 9 * S));
        let second = told(NoticeKind::Listening, &listening(7, 12 * S), targets.get(7).unwrap());
        notices.push(second.clone());
        early.release(12 * S, &targets, &mut notices);
        assert_eq!(notices.len(), 2);
        assert!(notices[0].time < second.time);
        assert_eq!(notices[1], second);
        early.release(12 * S, &targets, &mut notices);
        assert_eq!(notices.len(), 2, "each once");
    }

    #[test]
    fn it_is_never_another_programs_and_waits_neither_for_ever_nor_without_bound() {
        let (mut early, mut targets, mut notices) = (Early::default(), Targets::default(), Vec::new());
        early.hold(NoticeKind::Listening, &listening(7, 10 * S));
        targets.add(known(7, 11 * S));
        early.hold(NoticeKind::Listening, &listening(8, 10 * S));
        early.release(16 * S, &targets, &mut notices);
        targets.add(known(8, 9 * S));
        early.release(16 * S, &targets, &mut notices);
        assert_eq!(notices, []);
        for tgid in 0..5000 {
            early.hold(NoticeKind::Listening, &listening(tgid, 16 * S));
        }
        assert_eq!(early.0.len(), WAITING_MAX);
    }
}
