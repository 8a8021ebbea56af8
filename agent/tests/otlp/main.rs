//! The OTLP exporter against real collectors and against peers that misbehave, fed through its public interface
//! with snapshots made by hand.
//!
//! The collectors are named by environment variables, and tests that need one say `skipped` without it:
//! - `NODEPROBE_TEST_ROTEL`: the executable of rotel (`rotel-agent` of the Python package `rotel`);
//! - `NODEPROBE_TEST_VICTORIA_METRICS`: `victoria-metrics` (Debian package of that name).

#![expect(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    clippy::float_cmp,
    reason = "tests fail by panicking, their peers may have gone, and small numbers arrive unchanged"
)]

extern crate nodeprobe;

mod faults;
mod logs;
mod peer;
mod prometheus;
mod rotel;
mod snapshot;
mod tls;
mod victoria_metrics;

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Child,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use nodeprobe::{
    export::otlp::{Config, Exporter, Overrides, config, config::HostFacts},
    model::{Process, Snapshot},
    self_metrics::AgentCounters,
};

/// The configuration that the given variables make; they are the whole environment.
fn configured(variables: &[(&str, &str)]) -> Config {
    let lookup =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
    let host = HostFacts { name: Some("test-host".to_owned()), ..HostFacts::default() };
    let resolved = config::resolve(&lookup, &Overrides::default(), host).unwrap();
    assert_eq!(resolved.warnings, Vec::<String>::new());
    resolved.config
}

fn exporter(variables: &[(&str, &str)]) -> (Exporter, Arc<AgentCounters>) {
    let counters = Arc::new(AgentCounters::default());
    (Exporter::new(&configured(variables), Arc::clone(&counters)).unwrap(), counters)
}

/// The hand-made process, observed since 20 s ago: backends refuse points that are far in the past.
fn process(pid: u32) -> Process {
    let now = SystemTime::now();
    let started = now - Duration::from_secs(30);
    Process { started, observed_since: now - Duration::from_secs(20), ..snapshot::process(pid) }
}

fn now(processes: Vec<Process>) -> Snapshot {
    snapshot::snapshot(SystemTime::now(), processes)
}

/// Likewise, with a stall of each process that is blamed on a function.
fn blaming(processes: Vec<Process>) -> Snapshot {
    snapshot::blaming(SystemTime::now(), processes)
}

/// An executable named by the environment; without it the test is skipped, and says so.
fn tool(variable: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        println!("skipped: {variable} is not set");
    }
    path
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries until it is there, 20 s at most.
async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until a server accepts connections.
async fn listening(port: u16) {
    eventually("the server", async || tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok())
        .await;
}
