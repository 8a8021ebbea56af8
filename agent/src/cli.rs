//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{
    bpf::Settings,
    command::check,
    export::prometheus::listen,
    governor::Budget,
    report::{Format, ListingFormat},
    tui::ColorChoice,
};

/// Tells from outside, with eBPF and no change to the application, why a Node.js service is slow
#[derive(Debug, Parser)]
#[command(name = "nodeprobe", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the event loops, GC and log pipes of every Node process are doing, live
    #[command(after_help = "Exit codes: 0 ok, 1 error, 3 no Node process seen, 64 usage")]
    Top(Top),
    /// Watch for a while, then say what is wrong, where, and what to do
    #[command(
        after_help = "Exit codes: 0 healthy, 1 error, 2 something is wrong, 3 no Node process seen, 64 usage"
    )]
    Diagnose(Diagnose),
    /// Print every stall as it ends, with what it was spent with, one line each
    Trace(Trace),
    /// Record into a file, for later or for another viewer
    #[command(after_help = RECORD_HELP)]
    Record(Record),
    /// List the Node processes of this host, and which signals can be had of each
    Ps(Ps),
    /// Run as a daemon that exports metrics by OTLP, or to Prometheus
    #[command(
        after_help = "The environment variables of OpenTelemetry are honoured; a flag wins over its variable."
    )]
    Run(Box<Run>),
    /// Tell whether this host can be observed, and what to do if not
    Check(Check),
    /// Print completions for a shell
    #[command(
        after_help = "For example: nodeprobe completions bash > ~/.local/share/bash-completion/completions/nodeprobe"
    )]
    Completions { shell: Shell },
    /// For nodeprobe's own tests and benchmarks; may change at any time
    #[command(hide = true, subcommand)]
    Debug(Debug),
}

const RECORD_HELP: &str = "\
Look at a recording with `nodeprobe top --replay FILE`; `nodeprobe record --from FILE --format pprof -o OUT` makes a \
profile of it. Profiles: `speedscope` opens at https://www.speedscope.app, `pprof` with `go tool pprof -http=: FILE`, \
`collapsed` with flamegraph.pl or inferno-flamegraph.
Exit codes: 0 ok, 1 error, 3 no Node process seen, 64 usage";

/// What decides how processes are observed.
#[derive(Args, Clone, Copy, Debug)]
pub struct Observe {
    /// A turn of the event loop of at least this length is a stall: `50ms`, `0.2s`
    #[arg(long, env = "NODEPROBE_STALL_THRESHOLD", value_name = "TIME", default_value = "50ms",
          value_parser = parse_duration)]
    pub stall_threshold: Duration,
    /// Loop threads (main threads and workers) that can be observed at once; 14 KiB of kernel memory each
    #[arg(long, env = "NODEPROBE_MAX_THREADS", value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub max_threads: u32,
    /// Do not sample stacks: stalls keep their causes, but nothing names the function to blame
    #[arg(long, env = "NODEPROBE_NO_STACKS")]
    pub no_stacks: bool,
    /// Share of a processor that probes which are hit often may take from a process (`1%`, `0.2%`): they are in place for as
    /// much of the time as that allows, and not at all with 0
    #[arg(long, env = "NODEPROBE_MAX_OVERHEAD", value_name = "PERCENT", default_value = "1%", value_parser = parse_percent)]
    pub max_overhead: f64,
}

impl From<Observe> for Settings {
    fn from(observe: Observe) -> Self {
        Self {
            stall_threshold_ns: u64::try_from(observe.stall_threshold.as_nanos()).unwrap_or(u64::MAX),
            max_threads: observe.max_threads,
            stacks: !observe.no_stacks,
            budget: Budget { overhead: observe.max_overhead },
            ..Self::default()
        }
    }
}

#[derive(Args, Debug)]
pub struct Top {
    /// Print instead of drawing; so by itself when stdout is no terminal
    #[arg(short, long)]
    pub batch: bool,
    /// End after this many intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,
    /// Seconds between two readings
    #[arg(short, long, value_name = "S", default_value = "1", value_parser = parse_delay)]
    pub delay: Duration,
    /// What to print in batch mode
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Only this process (may be given several times)
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Show what `nodeprobe record` wrote instead: on the screen as it happened (--delay 0.1: ten times as fast), in
    /// batch mode at once
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Colours: `NO_COLOR` in the environment means never
    #[arg(long, value_enum, default_value_t)]
    pub color: ColorChoice,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
    /// React to the mouse (the terminal's own selection then needs Shift)
    #[arg(long)]
    pub mouse: bool,
    /// Where to write log messages while the screen is in use
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    #[command(flatten)]
    pub observe: Observe,
}

#[derive(Args, Debug)]
pub struct Diagnose {
    /// Only this process (may be given several times)
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// How long to watch (`10s`, `5m`); leaks show only after a while
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = parse_span)]
    pub duration: Duration,
    /// Go on until Ctrl-C, and report whenever a finding comes or goes; JSON is one line each
    #[arg(long)]
    pub watch: bool,
    #[arg(long, value_enum, default_value_t = ListingFormat::Text)]
    pub format: ListingFormat,
    /// Also write a page for a browser: findings, time lines, turns, flame graph, garbage collection. One file that
    /// loads nothing else; with --watch written at the end, of the last minute
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long, requires = "html")]
    pub force: bool,
    #[command(flatten)]
    pub observe: Observe,
}

#[derive(Args, Debug)]
pub struct Trace {
    /// Only this process (may be given several times)
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Only turns of at least this length; wins over --stall-threshold
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min: Option<Duration>,
    #[arg(long, value_enum, default_value_t = TraceFormat::Text)]
    pub format: TraceFormat,
    /// Below each line of text the stack that took most of the stall
    #[arg(long)]
    pub stack: bool,
    #[command(flatten)]
    pub observe: Observe,
}

/// Shapes of the lines of `trace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// For people
    #[default]
    Text,
    /// One line of JSON per stall
    Ndjson,
}

#[derive(Args, Debug)]
pub struct Record {
    /// The file to write; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// End after this time (`30s`, `5m`, `1h`) instead of at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    pub duration: Option<Duration>,
    /// Only this process (may be given several times)
    #[arg(short, long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// What to write. Recordings grow as they go and survive a crash; profiles are written at the end
    #[arg(long, value_enum, default_value_t)]
    pub format: RecordFormat,
    /// Read this recording instead of observing
    #[arg(long, value_name = "FILE", conflicts_with = "duration")]
    pub from: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long)]
    pub force: bool,
    /// Seconds between two readings
    #[arg(short, long, value_name = "S", default_value = "1", value_parser = parse_delay)]
    pub delay: Duration,
    #[command(flatten)]
    pub observe: Observe,
}

/// Files that `record` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RecordFormat {
    /// Everything, a line per interval: a recording
    #[default]
    Ndjson,
    /// Profile: a line per stack, with its microseconds
    Collapsed,
    /// Profile: JSON of speedscope
    Speedscope,
    /// Profile: gzipped protobuf
    Pprof,
}

impl RecordFormat {
    /// Only the sampled stacks, added up.
    pub fn is_profile(self) -> bool {
        self != Self::Ndjson
    }
}

#[derive(Args, Debug)]
pub struct Ps {
    #[arg(long, value_enum, default_value_t = ListingFormat::Text)]
    pub format: ListingFormat,
}

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub observe: Observe,
    #[command(flatten)]
    pub otlp: Otlp,
    #[command(flatten)]
    pub cluster: Cluster,
    /// Serve a page for Prometheus at /metrics, with or without OTLP; also /healthz and /readyz. `9464` alone is
    /// 127.0.0.1:9464; all addresses only as 0.0.0.0:9464 or [::]:9464. Needs `honor_labels: true` in the scrape
    /// configuration
    #[arg(long, env = "NODEPROBE_PROMETHEUS", value_name = "ADDRESS", value_parser = listen::parse)]
    pub prometheus: Option<SocketAddr>,
}

/// What is asked of Kubernetes.
#[derive(Args, Debug)]
pub struct Cluster {
    /// Ask the API for the names of this node's pods: `auto` does in a pod with a service account
    #[arg(long, value_enum, value_name = "WHEN", env = "NODEPROBE_KUBERNETES", default_value_t)]
    pub kubernetes: Kubernetes,
    /// Name of this node in the cluster; only its pods are watched
    #[arg(long, value_name = "NAME", env = "NODEPROBE_NODE_NAME")]
    pub node_name: Option<String>,
    /// Labels of pods that become attributes `k8s.pod.label.<key>`, separated by commas
    #[arg(long, value_name = "KEYS", env = "NODEPROBE_KUBERNETES_LABELS", value_delimiter = ',')]
    pub kubernetes_labels: Vec<String>,
    /// Name services by the labels `app.kubernetes.io/instance` and `/name` before their workload
    #[arg(long, env = "NODEPROBE_KUBERNETES_NAMES_BY_LABELS")]
    pub kubernetes_names_by_labels: bool,
}

/// Whether the API of Kubernetes is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kubernetes {
    /// In a pod that has a token
    #[default]
    Auto,
    /// Also from outside, with the kubeconfig
    On,
    Off,
}

/// Where and how metrics go; each flag has a variable of OpenTelemetry behind it, named in the help.
#[derive(Args, Debug)]
pub struct Otlp {
    /// Address of the collector [`OTEL_EXPORTER_OTLP_ENDPOINT`; default <http://localhost:4318>, gRPC 4317]
    #[arg(long = "otlp-endpoint", value_name = "URL")]
    pub endpoint: Option<String>,
    /// `grpc` or `http/protobuf` [`OTEL_EXPORTER_OTLP_PROTOCOL`; default http/protobuf]
    #[arg(long = "otlp-protocol", value_name = "PROTOCOL")]
    pub protocol: Option<String>,
    /// `key=value,key2=value2` [`OTEL_EXPORTER_OTLP_HEADERS`]
    #[arg(long = "otlp-headers", value_name = "HEADERS")]
    pub headers: Option<String>,
    /// `gzip` or `none` [`OTEL_EXPORTER_OTLP_COMPRESSION`]
    #[arg(long = "otlp-compression", value_name = "METHOD")]
    pub compression: Option<String>,
    /// Certificate of the authority that signed the collector's, PEM [`OTEL_EXPORTER_OTLP_CERTIFICATE`]
    #[arg(long = "otlp-certificate", value_name = "FILE")]
    pub certificate: Option<String>,
    /// Our own certificate, PEM [`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`]
    #[arg(long = "otlp-client-certificate", value_name = "FILE")]
    pub client_certificate: Option<String>,
    /// Its key, PEM [`OTEL_EXPORTER_OTLP_CLIENT_KEY`]
    #[arg(long = "otlp-client-key", value_name = "FILE")]
    pub client_key: Option<String>,
    /// `cumulative`, `delta` or `lowmemory` [`OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`]
    #[arg(long = "otlp-temporality", value_name = "TEMPORALITY")]
    pub temporality: Option<String>,
    /// Seconds between two exports [`OTEL_METRIC_EXPORT_INTERVAL`, in ms; default 15]
    #[arg(short, long = "interval", value_name = "S", value_parser = parse_delay)]
    pub interval: Option<Duration>,
    /// `otlp`, `console`, `prometheus` or `none` [`OTEL_METRICS_EXPORTER`]
    #[arg(long = "otlp-exporter", value_name = "EXPORTER")]
    pub exporter: Option<String>,
    /// `off`: no metrics of processes under names of OpenTelemetry's conventions (`nodejs.*`, `v8js.*`, `process.*`), for
    /// applications that export these themselves; also on the page for Prometheus [`NODEPROBE_SEMCONV_METRICS`; default on]
    #[arg(long = "semconv-metrics", value_name = "WHEN", value_parser = ["on", "off"])]
    pub semconv_metrics: Option<String>,
    /// Also send every stall as a log record, 10 a minute per process at most [`NODEPROBE_STALL_LOGS`]
    #[arg(long = "otlp-stall-logs")]
    pub stall_logs: bool,
}

#[derive(Args, Debug)]
pub struct Check {
    #[arg(long, value_enum, default_value_t)]
    pub format: check::Format,
}

#[derive(Debug, Subcommand)]
pub enum Debug {
    /// Print every GC pause and every stall as a line of JSON
    Events {
        #[arg(short, long)]
        pid: Option<u32>,
        #[command(flatten)]
        observe: Observe,
    },
    /// Analyse an ELF file and print how long that takes
    Analyze {
        file: PathBuf,
        #[arg(long, default_value_t = 1)]
        repeat: u32,
    },
    /// Print docs/metrics.md
    Metrics,
    /// Write a manual page for each command into a directory
    ManPages { directory: PathBuf },
}

/// `50ms`, `0.2s`, `1500us`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err("write a number with its unit, for example 50ms or 0.2s".to_owned()),
    };
    seconds(number.parse::<f64>().ok().map(|n| n * scale), 1e-6, 3600.0)
}

/// `500ms`, `30s`, `5m`, `1h`.
fn parse_span(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number with its unit, for example 30s or 5m".to_owned()),
    };
    seconds(number.parse::<f64>().ok().map(|n| n * scale), 0.1, 7.0 * 86_400.0)
}

/// `1%`, `0.2%`; the sign may be left out.
fn parse_percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).trim_end().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        Ok(_) => Err("must be between 0% and 100%".to_owned()),
        Err(_) => Err("write a share in percent, for example 1% or 0.2%".to_owned()),
    }
}

/// Seconds, as in `top -d`.
fn parse_delay(text: &str) -> Result<Duration, String> {
    seconds(text.parse().ok(), 0.1, 3600.0)
}

fn seconds(value: Option<f64>, min: f64, max: f64) -> Result<Duration, String> {
    match value {
        Some(value) if (min..=max).contains(&value) => Ok(Duration::from_secs_f64(value)),
        Some(_) => Err(format!("must be between {min} and {max} seconds")),
        None => Err("not a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit_and_a_sensible_size() {
        assert_eq!(parse_duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(parse_duration("0.2s"), Ok(Duration::from_millis(200)));
        for bad in ["", "50", "ms", "-1s", "1h", "nans", "1e9s", "5 ms x"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_span("5m"), Ok(Duration::from_mins(5)));
        for bad in ["", "5", "0s", "8000h", "-1s", "1d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_percent("0.5%"), Ok(0.005));
        assert_eq!(parse_percent("2"), Ok(0.02));
        for bad in ["", "%", "-1%", "101%", "nan", "1%%"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
        assert!(parse_delay("0").is_err());
        assert!(parse_delay("nan").is_err());
    }
}
