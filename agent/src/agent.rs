//! Puts the lanes together: a thread that reads the ring buffer, a thread that discovers processes, and the
//! collector that faces ask for snapshots.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use nodeprobe_ebpf::{Event, EventKind};

use crate::{
    bpf::{Kernel, LoadError, Settings},
    collector::Collector,
    discovery::{self, Discovery},
    model::Snapshot,
    procfs::Procfs,
    readout::{Record, Ring},
    sampling::Decoder,
};

/// How long a thread sleeps at most before it looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// Samples of short turns wake nobody; they wait for so long at most. What a stack says is in the memory of the process,
/// where collections move it.
const RING_CHECK: Duration = Duration::from_millis(50);

/// The running agent. Dropping it detaches every probe, which takes a while; see `command::exit`.
pub struct Agent {
    shared: Arc<Mutex<Collector>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    probes: Arc<discovery::ProbeCount>,
}

/// A copy of what the ring buffer told, for `debug events`.
pub type EventTap = tokio::sync::mpsc::UnboundedSender<(EventKind, Event)>;

impl Agent {
    /// Loads and attaches everything and returns when all Node processes that run now are observed.
    ///
    /// # Errors
    /// When the kernel refuses the programs as a whole. A part that it refuses is a signal less, told in
    /// `Process::signals`.
    pub fn start(settings: &Settings, procfs: Procfs, tap: Option<EventTap>) -> Result<Self, LoadError> {
        let (mut kernel, maps, ring) = Kernel::load(settings)?;
        let shared = Arc::new(Mutex::new(Collector::new(procfs.clone(), maps)));
        let stop = Arc::new(AtomicBool::new(false));
        let probes = Arc::new(discovery::ProbeCount::default());
        // First the tracepoints, then the look around: a process that starts in between is seen twice, not never.
        let kernel_signals = kernel.attach_tracepoints();
        let (to_discovery, from_ring) = mpsc::channel();
        let ring_thread = {
            let (shared, stop, procfs) = (Arc::clone(&shared), Arc::clone(&stop), procfs.clone());
            spawn("ring", move || read_ring(ring, procfs, &shared, &to_discovery, tap.as_ref(), &stop))
        };
        let (ready, is_ready) = mpsc::channel();
        let discovery_thread = {
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            let probes = Arc::clone(&probes);
            spawn("discovery", move || {
                let mut discovery = Discovery::new(procfs, kernel, kernel_signals, shared, probes);
                discovery.scan();
                // The other end waits for this; if it is gone, the agent is being dropped.
                ready.send(()).ok();
                while !stop.load(Ordering::Relaxed) {
                    match from_ring.recv_timeout(discovery.next_retry().min(STOP_CHECK)) {
                        Ok(request) => discovery.request(request),
                        Err(mpsc::RecvTimeoutError::Timeout) => {}
                        Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    }
                    discovery.housekeeping();
                }
            })
        };
        // An error means that the thread is gone; then there is nothing to wait for.
        is_ready.recv().ok();
        Ok(Self { shared, stop, threads: vec![ring_thread, discovery_thread], probes })
    }

    /// What is known now. Maxima and events are those since the last call.
    pub fn snapshot(&self) -> Snapshot {
        lock(&self.shared).snapshot()
    }

    /// Uprobes attached at the moment.
    pub fn probes_attached(&self) -> u64 {
        self.probes.get()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the agent had panicked");
            }
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .expect("a thread can be started: the agent needs two and has just begun")
}

/// The lock of the collector. A panic elsewhere leaves counters that are still right, so it is taken all the same.
pub(crate) fn lock(shared: &Mutex<Collector>) -> MutexGuard<'_, Collector> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_ring(
    mut ring: Ring,
    procfs: Procfs,
    shared: &Mutex<Collector>,
    to_discovery: &mpsc::Sender<discovery::Request>,
    tap: Option<&EventTap>,
    stop: &AtomicBool,
) {
    let mut decoder = Decoder::new(procfs);
    while !stop.load(Ordering::Relaxed) {
        ring.wait(RING_CHECK);
        decoder.housekeeping(shared);
        while let Some(record) = ring.next_record() {
            let (kind, event) = match record {
                Record::Event(kind, event) => (kind, event),
                Record::Sample(sample) => {
                    decoder.sampled(sample, shared);
                    continue;
                }
            };
            let request = match kind {
                EventKind::Exec => {
                    Some(discovery::Request::Exec { pid: event.tgid, exec_ns: event.start_ns })
                }
                EventKind::ThreadStart => Some(discovery::Request::LoopThread { pid: event.tgid }),
                EventKind::ThreadExit
                | EventKind::Stall
                | EventKind::GcPause
                | EventKind::Slept
                | EventKind::Sample => {
                    lock(shared).event(kind, &event);
                    None
                }
            };
            if let Some(request) = request {
                // Discovery ends only together with this thread.
                to_discovery.send(request).ok();
            }
            if let Some(tap) = tap {
                // Whoever listened may have stopped.
                tap.send((kind, event)).ok();
            }
        }
    }
}
