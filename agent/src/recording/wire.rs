//! The shapes of the lines. Field names are a contract: fields may be added, none is renamed or removed without a new
//! [`VERSION`](super::VERSION).
//!
//! Times are Unix nanoseconds. What is zero, empty or unknown is left out. Rows that come in great numbers are arrays;
//! [`Columns`] in the header names their places.

use std::collections::BTreeMap;

use nodeprobe_ebpf::thread::{MODULE_KINDS, POOL_KINDS};
use serde::{Deserialize, Serialize};

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`](super::FORMAT).
    pub format: String,
    pub version: u32,
    /// What wrote it: `nodeprobe 0.1.0`.
    #[serde(default)]
    pub writer: String,
    #[serde(default)]
    pub host: Option<String>,
    /// RFC 3339, when it was begun.
    #[serde(default)]
    pub began: String,
    /// Seconds between two readings.
    #[serde(default)]
    pub delay_s: f64,
    /// Turns of at least this length are stalls.
    #[serde(default)]
    pub stall_threshold_s: f64,
    #[serde(default)]
    pub columns: Columns,
}

/// What stands where in the rows that are arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    pub frames: Vec<String>,
    pub times: Vec<String>,
    pub buckets: Vec<String>,
}

impl Default for Columns {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            frames: names(&["kind", "function", "script", "line", "column", "line_is_exact", "package"]),
            times: names(&["stack", "category", "samples", "time_ns"]),
            buckets: names(&["slot", "count", "slot", "count"]),
        }
    }
}

/// Every line but the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Interval(Box<IntervalLine>),
    End(EndLine),
}

/// The last line: the recording was ended in good order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct EndLine {
    #[serde(default)]
    pub(super) time_ns: u64,
    #[serde(default)]
    pub(super) intervals: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IntervalLine {
    pub(super) time_ns: u64,
    pub(super) duration_s: f64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) answers_seen_ns: u64,
    /// Of the host's processors: nanoseconds busy, idle, stolen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_cpu: Option<(u64, u64, u64)>,
    /// All tables begin anew with this line.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) fresh: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) strings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) frames: Vec<FrameRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stacks: Vec<StackLine>,
    /// Identities; `ProcessLine::identity` counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) identities: Vec<IdentityLine>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) lost: BTreeMap<String, u64>,
    pub(super) processes: Vec<ProcessLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stalls: Vec<StallLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pauses: Vec<PauseLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sampled: Vec<SampledLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) occasions: Vec<OccasionLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notices: Vec<NoticeLine>,
}

/// kind, function, script, line, column, whether the line is the one being executed, package.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FrameRow(
    pub(super) String,
    pub(super) usize,
    pub(super) Option<usize>,
    pub(super) Option<u32>,
    pub(super) Option<u32>,
    pub(super) bool,
    pub(super) Option<usize>,
);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StackLine {
    /// Innermost first.
    pub(super) frames: Vec<usize>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) truncated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// stack, category, samples, nanoseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TimeRow(pub(super) usize, pub(super) String, pub(super) u64, pub(super) u64);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IdentityLine {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) name: String,
    #[serde(default)]
    pub(super) service_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) service_namespace: Option<String>,
    #[serde(default)]
    pub(super) service_instance_id: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) resource_attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) v8_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) container_id: Option<String>,
    #[serde(default)]
    pub(super) executable_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespaced_pid: Option<u32>,
    #[serde(default)]
    pub(super) parent_pid: u32,
    #[serde(default)]
    pub(super) user_id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) heap_limit_bytes: Option<u64>,
    /// `null`: observed; else why not.
    #[serde(default)]
    pub(super) signals: BTreeMap<String, Option<String>>,
}

/// libuv's pool of threads.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PoolLine {
    /// By kind in the order of `model::queue::POOL_NAMES`: begun, nanoseconds waited, nanoseconds busy while other work waited.
    pub(super) kinds: [(u64, u64, u64); POOL_KINDS],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_wait_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) waiting: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) oldest_wait_ns: u64,
}

/// Drains of microtask queues, and for how long they were looked at.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct MicrotasksLine {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) drains: HistogramLine,
    #[serde(default)]
    pub(super) seen_ns: u64,
}

/// A socket that is full.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BacklogLine {
    pub(super) fd: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queued_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) libuv_queued_bytes: Option<u64>,
    pub(super) age_ns: u64,
}

/// How the process started. Nanoseconds since its `exec`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StartupLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) environment_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_turn_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) listening_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) steady_ns: Option<u64>,
    /// How many, nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modules: Option<(u64, u64)>,
    /// Name, nanoseconds on a processor, nanoseconds asleep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) packages: Vec<(String, u64, u64)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ProcessLine {
    pub(super) identity: usize,
    #[serde(default)]
    pub(super) uptime_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rss_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cpu_ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cpu_throttled_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run_delay_ns: Option<u64>,
    /// Of the quota: elapsed, throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cpu_periods: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nice: Option<i64>,
    /// Unhandled, handled late.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) rejections: (u64, u64),
    /// Eager, lazy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) deopts: (u64, u64),
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) pool: PoolLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) microtasks: MicrotasksLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) sockets_refused: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) backlogs: Vec<BacklogLine>,
    /// Kept, lost, none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) async_context: (u64, u64, u64),
    /// By kind in the order of `model::startup::MODULE_NAMES`: how many, nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) modules: [(u64, u64); MODULE_KINDS],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) startup: Option<StartupLine>,
    /// Of the control group: its limit, what it uses; bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group_memory: Option<(u64, Option<u64>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) heap_used_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allocated_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) heap_limit_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) minor: PausesLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) major: PausesLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) stdout: StdioLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) stderr: StdioLine,
    pub(super) threads: Vec<ThreadLine>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) exited: bool,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PausesLine {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) durations: HistogramLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_age_ns: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct StdioLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) writes: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) eagain: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) blocked_ns: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) durations: HistogramLine,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ThreadLine {
    pub(super) tid: u32,
    pub(super) kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) exited: bool,
    #[serde(default)]
    pub(super) busy_ns: u64,
    #[serde(default)]
    pub(super) idle_ns: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) turns: HistogramLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) stalls: HistogramLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current_turn_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) current_turn_causes: CausesLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current_turn_stack: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current_turn_culprit: Option<CulpritLine>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) stall_causes: CausesLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) minor: PausesLine,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) major: PausesLine,
}

/// Nanoseconds by cause.
pub(super) type CausesLine = BTreeMap<String, u64>;

/// Buckets are pairs of slot and count, one after the other; empty ones are left out.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct HistogramLine {
    #[serde(default)]
    pub(super) count: u64,
    #[serde(default)]
    pub(super) sum_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_ns: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) explicit: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) exponential: Vec<u64>,
}

/// Numbers of strings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CulpritLine {
    pub(super) function: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) script: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) package: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StallLine {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) tid: u32,
    pub(super) thread: String,
    pub(super) began_ns: u64,
    pub(super) duration_ns: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) startup: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) lower_bound: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) causes: CausesLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) longest_sleep: Option<SleepLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) stacks: Vec<TimeRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) culprit: Option<CulpritLine>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SleepLine {
    pub(super) duration_ns: u64,
    pub(super) cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) syscall: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PauseLine {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) tid: u32,
    pub(super) kind: String,
    pub(super) began_ns: u64,
    pub(super) duration_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after_bytes: Option<u64>,
}

/// What a thread was sampled executing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SampledLine {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) tid: u32,
    pub(super) stacks: Vec<TimeRow>,
}

/// A stack that was not taken by the clock.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OccasionLine {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) tid: u32,
    pub(super) occasion: String,
    pub(super) stack: usize,
    pub(super) count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NoticeLine {
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
    pub(super) tid: u32,
    pub(super) notice: String,
    pub(super) time_ns: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
