//! Puts the lanes together: a thread that reads the ring buffer, one that discovers processes, one that decodes stacks, one
//! that opens and closes windows for probes that are hit often, and the collector that faces ask for snapshots.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{Event, EventKind, sample::SAMPLE_REJECTION};

use crate::{
    bpf::{Handles, Kernel, LoadError, Settings, detach},
    collector::{Collector, Searches},
    discovery::{self, Discovery},
    governor::{
        cost,
        windows::{Windows, lock_kernel},
    },
    model::Snapshot,
    procfs::Procfs,
    readout::{Record, Ring},
    sampling::Decoder,
    urgency::{self, Urgency},
};

/// How long a thread sleeps at most before it looks whether it should end.
const STOP_CHECK: Duration = Duration::from_millis(200);
/// Samples of short turns wake nobody; they wait for so long at most. What a stack says is in the memory of the process,
/// where collections move it.
const RING_CHECK: Duration = Duration::from_millis(50);

/// Between two looks for threads that ask where their async context is. Not with every record: it takes the lock that a snapshot
/// holds for milliseconds, and the next record may be of a process that is about to die.
const SEARCH_EVERY: Duration = Duration::from_millis(200);

/// After this time everything that the ring buffer held has been taken in.
const SETTLE: Duration = Duration::from_millis(60);

/// The running agent. A process that ends does not drop it but ends it with [`Ending`].
pub struct Agent {
    shared: Arc<Mutex<Collector>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    probes: Arc<discovery::ProbeCount>,
    /// Not to be dropped by whichever thread ends last: that takes as many grace periods as there are tracepoints.
    _kernel: Arc<Mutex<Kernel>>,
}

/// What the process needs to take its probes out before it ends, whoever has the agent by then.
pub struct Ending {
    stop: Arc<AtomicBool>,
    /// Disconnected when the threads that attach probes have ended.
    attaching: mpsc::Receiver<()>,
}

impl Ending {
    /// Takes out all probes in files, which takes a tenth of a second, and waits for it, at most for twice `limit`. Those in the kernel
    /// itself are left to whoever closes the descriptors.
    pub fn end(&self, limit: Duration) {
        detach::leave_events();
        self.stop.store(true, Ordering::Relaxed);
        // Nothing is ever sent, so this waits until all senders are gone.
        self.attaching.recv_timeout(limit).ok();
        detach::wait_for_all(limit);
    }
}

/// What the ring buffer told that waits to be decoded, at most: a second of two processors, or 7 MiB of the largest samples.
/// What comes then stays in the ring buffer, which counts what it has to refuse.
const UNDECODED_MAX: usize = 256;

/// A copy of what the ring buffer told, for `debug events`.
pub type EventTap = tokio::sync::mpsc::UnboundedSender<(EventKind, Event)>;

impl Agent {
    /// Loads and attaches everything and returns when all Node processes that run now are observed.
    ///
    /// # Errors
    /// When the kernel refuses the programs as a whole. A part that it refuses is a signal less, told in
    /// `Process::signals`.
    pub fn start(
        settings: &Settings,
        procfs: Procfs,
        tap: Option<EventTap>,
    ) -> Result<(Self, Ending), LoadError> {
        let Handles { mut kernel, maps, ring, duty, stack_pointers } = Kernel::load(settings)?;
        let shared = Arc::new(Mutex::new(Collector::new(procfs.clone(), maps)));
        let stop = Arc::new(AtomicBool::new(false));
        let probes = Arc::new(discovery::ProbeCount::default());
        // First the tracepoints, then the look around: a process that starts in between is seen twice, not never.
        let kernel_signals = kernel.attach_tracepoints();
        let kernel = Arc::new(Mutex::new(kernel));
        let (to_discovery, from_ring) = mpsc::channel();
        let (to_governor, governed) = mpsc::channel();
        let (to_decoder, data) = mpsc::sync_channel(UNDECODED_MAX);
        let (attaches, attaching) = mpsc::channel::<()>();
        let ending = Ending { stop: Arc::clone(&stop), attaching };
        let urgency = Arc::new(Urgency::default());
        let decoder_thread = {
            let (shared, procfs) = (Arc::clone(&shared), procfs.clone());
            let urgency = Arc::clone(&urgency);
            spawn("decoder", move || decode(&data, &mut Decoder::new(procfs), &shared, &urgency))
        };
        let ring_thread = {
            let stop = Arc::clone(&stop);
            spawn("ring", move || {
                urgency::prompt();
                read_ring(ring, &to_discovery, &to_decoder, tap.as_ref(), &stop, &urgency);
            })
        };
        let governor_thread = {
            let (shared, kernel, procfs) = (Arc::clone(&shared), Arc::clone(&kernel), procfs.clone());
            let (stop, budget) = (Arc::clone(&stop), settings.budget);
            let attaches = attaches.clone();
            spawn("governor", move || {
                // Dropped after everything else.
                let _attaches = attaches;
                let costs = cost::measure(&mut lock_kernel(&kernel), &procfs);
                Windows::new(shared, kernel, duty, budget, costs).run(&governed, &stop);
            })
        };
        let (ready, is_ready) = mpsc::channel();
        let discovery_thread = {
            let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
            let (probes, kernel) = (Arc::clone(&probes), Arc::clone(&kernel));
            spawn("discovery", move || {
                // Dropped after everything else.
                let _attaches = attaches;
                let mut discovery = Discovery::new(
                    procfs,
                    kernel,
                    kernel_signals,
                    shared,
                    probes,
                    to_governor,
                    stack_pointers,
                );
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
        let threads = vec![ring_thread, discovery_thread, decoder_thread, governor_thread];
        Ok((Self { shared, stop, threads, probes, _kernel: kernel }, ending))
    }

    /// What is known now. Maxima and events are those since the last call. Takes [`SETTLE`] longer if processes have ended since
    /// then: this is where they appear for the last time, and what they died of has to be in it.
    pub fn snapshot(&self) -> Snapshot {
        let some_ended = lock(&self.shared).end_vanished();
        if some_ended {
            std::thread::sleep(SETTLE);
        }
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
        .expect("a thread can be started: the agent needs four and has just begun")
}

/// The lock of the collector. A panic elsewhere leaves counters that are still right, so it is taken all the same.
pub(crate) fn lock(shared: &Mutex<Collector>) -> MutexGuard<'_, Collector> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells discovery of processes, and hands everything else on in its order. While the decoder is behind by all it may be, both
/// wait for it.
fn read_ring(
    mut ring: Ring,
    to_discovery: &mpsc::Sender<discovery::Request>,
    to_decoder: &mpsc::SyncSender<Record>,
    tap: Option<&EventTap>,
    stop: &AtomicBool,
    urgency: &Urgency,
) {
    while !stop.load(Ordering::Relaxed) {
        ring.wait(RING_CHECK);
        while let Some(record) = ring.next_record() {
            if let Record::Event(kind, event) = &record {
                let request = match kind {
                    EventKind::Exec => {
                        Some(discovery::Request::Exec { pid: event.tgid, exec_ns: event.start_ns })
                    }
                    EventKind::ThreadStart => Some(discovery::Request::LoopThread { pid: event.tgid }),
                    _ => None,
                };
                if let Some(tap) = tap {
                    // Whoever listened may have stopped.
                    tap.send((*kind, *event)).ok();
                }
                if let Some(request) = request {
                    // Discovery ends only together with this thread.
                    to_discovery.send(request).ok();
                    continue;
                }
            }
            if rejecting(&record).is_some() {
                urgency.hurry();
            }
            // Waits while it is full. The decoder ends only after this thread.
            to_decoder.send(record).ok();
        }
    }
}

/// Takes in data until the ring buffer's thread has ended.
fn decode(
    data: &mpsc::Receiver<Record>,
    decoder: &mut Decoder,
    shared: &Mutex<Collector>,
    urgency: &Urgency,
) {
    urgency.begin();
    let (mut searches, mut answered) = (Searches::default(), Instant::now());
    loop {
        let record = data.recv_timeout(RING_CHECK);
        let rejecting = record.as_ref().ok().and_then(rejecting);
        match record {
            Ok(Record::Sample(sample)) => decoder.sampled(sample, shared),
            Ok(Record::Event(kind, event)) => lock(shared).event(kind, &event),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if let Some(tid) = rejecting {
            urgency.relax();
            searches.answer_rejecting(tid, shared);
        }
        decoder.housekeeping(shared);
        if answered.elapsed() >= SEARCH_EVERY {
            answered = Instant::now();
            searches.answer_all(shared);
        }
    }
}

/// The thread that has rejected a promise: its process may be gone soon.
fn rejecting(record: &Record) -> Option<u32> {
    match record {
        Record::Sample(sample) if sample.header.flags & SAMPLE_REJECTION != 0 => Some(sample.header.tid),
        _ => None,
    }
}
