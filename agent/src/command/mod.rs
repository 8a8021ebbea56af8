//! One file per command. Commands wire; the work is in the modules.

pub mod check;
pub mod debug;
pub mod diagnose;
pub mod ps;
pub mod record;
mod replay;
pub mod run;
pub mod shell;
pub mod top;
pub mod trace;

use std::{
    error::Error,
    io::Write as _,
    mem::ManuallyDrop,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use crate::{
    agent::{Agent, Ending, EventTap},
    bpf::{LoadError, Settings},
    kernel::tracefs,
    procfs::Procfs,
};

pub const EXIT_OK: u8 = 0;
pub const EXIT_ERROR: u8 = 1;
/// Something is wrong with an observed process.
pub const EXIT_FINDINGS: u8 = 2;
/// No Node process was seen.
pub const EXIT_NO_PROCESS: u8 = 3;
/// The command line is wrong, as in BSD's sysexits.
pub const EXIT_USAGE: u8 = 64;

/// Probes are attached, or are about to be.
static OBSERVING: AtomicBool = AtomicBool::new(false);
/// How to take them out, once they are in.
static ENDING: Mutex<Option<Ending>> = Mutex::new(None);
/// Half of what that may take at most, on a host where nothing comes to its turn.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What a command returns: an exit code, or an error for people.
pub type Outcome = anyhow::Result<u8>;

/// Prints an error with its causes and, where one is known, its remedy.
pub fn complain(error: &anyhow::Error) {
    let mut text = format!("nodeprobe: {error:#}\n");
    if let Some(remedy) = remedy(error) {
        text.push_str(remedy);
        text.push('\n');
    }
    // If stderr is closed there is nobody to tell.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    if error.downcast_ref::<LoadError>().is_some_and(LoadError::is_permission) {
        return Some(
            "Loading eBPF programs needs root, or the capabilities CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN (before Linux 6.10), \
             CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: run it with sudo. `nodeprobe check` tells what this host lacks.",
        );
    }
    error.downcast_ref::<LoadError>().map(|_| "`nodeprobe check` tells what this host lacks.")
}

/// Makes tracefs available. To be called while the process has one thread: a private mount needs that.
/// Without tracefs the signals that need it are missing, and a line in the log says why.
pub(crate) fn prepare() {
    raise_descriptor_limit();
    if let Err(error) = tracefs::ensure() {
        tracing::warn!("{error}");
    }
}

/// A probe is a descriptor, or those of a program in a file are one, about twenty to a Node build: the usual soft limit of 1024 would end at the fiftieth.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer; if one fails, the old limit stays, and a refused probe says so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Starts observing.
///
/// # Errors
/// As [`Agent::start`].
pub(crate) fn observe(settings: &Settings, tap: Option<EventTap>) -> Result<ManuallyDrop<Agent>, LoadError> {
    OBSERVING.store(true, Ordering::Relaxed);
    let (agent, ending) = Agent::start(settings, Procfs::default(), tap)?;
    *ENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
    // Never dropped: see `exit`.
    Ok(ManuallyDrop::new(agent))
}

/// Takes the probes out and ends the process.
///
/// Those in files are taken out here, a tenth of a second: in a container everything is killed once this process has gone, and a process
/// that is killed while it takes a probe out of the memory of others leaves it there for good. Tracepoints hold on to nobody's memory,
/// and are left to a child that does nothing else: the kernel waits for a grace period of 20 to 110 ms (measured on Linux 6.18) at every
/// one, one after the other, also when a process just exits, and a user would wait for the prompt. So are probes of kernels that have no
/// links for many (before 6.10). The child shares the descriptors, so they are only closed when it has gone too. It waits until this
/// process has let go of them: whoever is last does the closing.
pub fn exit(code: u8) -> ! {
    // `_exit` flushes nothing; if nobody reads any more there is nothing to flush.
    drop(std::io::stdout().flush());
    // Whoever reads our output must see its end now.
    // SAFETY: the path is a C string; descriptors that cannot be had are refused.
    unsafe {
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if nothing >= 0 {
            libc::dup2(nothing, 1);
        }
    }
    if let Some(ending) = ENDING.lock().unwrap_or_else(PoisonError::into_inner).take() {
        ending.end(END_LIMIT);
    }
    // SAFETY: in the child only calls follow that are async-signal-safe, so other threads' locks do not matter. If fork
    // fails, this process does the waiting itself.
    unsafe {
        let parent = libc::getpid();
        if OBSERVING.load(Ordering::Relaxed) && libc::fork() == 0 {
            // Whoever reads our output must see its end now.
            for descriptor in 0..3 {
                libc::close(descriptor);
            }
            let moment = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            // A process gets another parent after its own has closed everything.
            while libc::getppid() == parent {
                libc::nanosleep(&raw const moment, std::ptr::null_mut());
            }
            libc::_exit(0);
        }
        libc::_exit(i32::from(code))
    }
}

/// A runtime for a command that does one thing at a time; it has no thread of its own.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.context("the asynchronous runtime could not be started")
}

/// SIGTERM and SIGINT, which end every command in good order. Caught from the begin: a signal during start-up counts.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn catch(runtime: &Runtime) -> anyhow::Result<Self> {
        let _inside = runtime.enter();
        let catch = |kind| signal(kind).context("SIGTERM and SIGINT cannot be caught");
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whether an error only says that the reader of our output has gone, as after `| head`.
pub(crate) fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Log messages go to stderr; `RUST_LOG`, then `OTEL_LOG_LEVEL`, then `default` say which.
pub(crate) fn init_log(default: &str, writer: Option<std::fs::File>) {
    let directives = std::env::var("RUST_LOG")
        .or_else(|_| std::env::var("OTEL_LOG_LEVEL"))
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // A second initialisation can only come from a test that has its own.
    drop(if let Some(file) = writer {
        builder.with_ansi(false).with_writer(Mutex::new(file)).try_init()
    } else {
        let colours =
            std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(colours).with_writer(std::io::stderr).try_init()
    });
}
