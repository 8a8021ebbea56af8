//! Takes probes out. The kernel waits for a grace period at each, 20 to 110 ms; it is asked for all of them at the same time, by
//! threads of their own, and nobody waits but the end of the process.

use std::{
    os::fd::OwnedFd,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aya::programs::{trace_point::TracePointLink, uprobe::UProbeLink};

/// What holds probes in place; dropping it takes them out, which takes a while.
pub(super) enum Link {
    /// One place, by a performance event.
    Event {
        _link: UProbeLink,
    },
    /// Some places of a file.
    Multi {
        _link: OwnedFd,
        places: usize,
    },
    TracePoint {
        _link: TracePointLink,
    },
}

impl Link {
    /// Number of places.
    pub(super) const fn places(&self) -> usize {
        match self {
            Self::Event { .. } | Self::TracePoint { .. } => 1,
            Self::Multi { places, .. } => *places,
        }
    }
}

/// Links that are being taken out at the moment, in the whole process.
static UNDER_WAY: Mutex<usize> = Mutex::new(0);
static FEWER: Condvar = Condvar::new();

/// Counts itself out.
struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FEWER.notify_all();
    }
}

/// The process ends.
static IS_LAST: AtomicBool = AtomicBool::new(false);

/// From now on only links of many places are taken out: all others the kernel takes out one after the other, and whoever closes the
/// last descriptors may wait for that.
pub fn leave_events() {
    IS_LAST.store(true, Ordering::Relaxed);
}

/// Enough for a thread that calls close(2).
const STACK_BYTES: usize = 64 << 10;

/// Takes links out without waiting for it: one thread each, or the second would stay in place while the first is waited for.
pub(super) fn aside(links: impl IntoIterator<Item = Link>) -> Detaching {
    let detach = |link| {
        if IS_LAST.load(Ordering::Relaxed) && !matches!(link, Link::Multi { .. }) {
            std::mem::forget(link);
            return None;
        }
        let under_way = UnderWay::begin();
        let builder = thread::Builder::new().name("detach".to_owned()).stack_size(STACK_BYTES);
        // Where no thread can be had it is detached here.
        builder
            .spawn(move || {
                drop(link);
                drop(under_way);
            })
            .ok()
    };
    Detaching(links.into_iter().filter_map(detach).collect())
}

/// Probes that are on their way out.
#[derive(Default)]
pub struct Detaching(Vec<thread::JoinHandle<()>>);

impl Detaching {
    /// Waits until they are out: at most some tenths of a second after they began.
    pub fn wait(self) {
        for thread in self.0 {
            // It does nothing that could panic.
            thread.join().ok();
        }
    }
}

/// Waits until nothing is on its way out any more, at most for `limit`. To be called before the process ends: a thread that is killed
/// while it takes a breakpoint out of the memory of others leaves it there ("failed to unregister, leaking uprobe" in the kernel's
/// log), and they run into it for the rest of their lives.
pub fn wait_for_all(limit: Duration) {
    let under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    // What is still under way after that the kernel has to finish without us.
    drop(FEWER.wait_timeout_while(under_way, limit, |under_way| *under_way > 0));
}
