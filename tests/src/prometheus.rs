//! OTLP into databases that speak `PromQL`: vmagent takes it, translates names as Prometheus does, and writes it to
//! `VictoriaMetrics` and to Prometheus, whose Debian build has no OTLP endpoint of its own.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    collector::{VictoriaMetrics, escape, executable, free_port, get, wait_for_port, workspace_file},
    node::target_tmp,
    process::OwnedProcess,
};

/// A program that runs in a directory of its own and listens on a port.
struct Server {
    port: u16,
    _process: OwnedProcess,
    _directory: TempDir,
}

impl Server {
    fn start(mut command: Command, directory: TempDir, port: u16) -> Self {
        let log = File::create(directory.path().join("log")).expect("the log can be made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = OwnedProcess::spawn(&mut command);
        wait_for_port(port);
        Self { port, _process: process, _directory: directory }
    }
}

fn directory() -> TempDir {
    TempDir::new_in(target_tmp()).expect("a scratch directory can be made")
}

/// A Collector sends several exports at a time, and one may overtake another. Without the window Prometheus takes nothing of a
/// request with one sample that is late.
const LATE_SAMPLES: &str = "storage: {tsdb: {out_of_order_time_window: 30m}}\n";

/// Settings with the rules of helm/nodeprobe.
fn evaluating_every(interval: &str) -> Result<String, String> {
    let rules = workspace_file("helm/nodeprobe/rules").canonicalize().map_err(|error| error.to_string())?;
    Ok(format!(
        "global: {{scrape_interval: 1s, evaluation_interval: {interval}}}\nrule_files: [\"{}/*.yaml\"]\n",
        rules.display()
    ))
}

/// Prometheus, as a rule with the rules of helm/nodeprobe, evaluated each second.
pub struct Prometheus(Server);

impl Prometheus {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn start() -> Result<Self, String> {
        Self::with_settings(&evaluating_every("1s")?)
    }

    /// Starts it with the rules, evaluated less often, behind a Collector.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn behind_a_collector() -> Result<Self, String> {
        Self::with_settings(&format!("{}{LATE_SAMPLES}", evaluating_every("5s")?))
    }

    /// Starts it without the rules, which look at the series of five minutes each second: that is most of the work where hundreds
    /// of processes come and go.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn without_rules() -> Result<Self, String> {
        Self::with_settings(&format!("global: {{scrape_interval: 1s}}\n{LATE_SAMPLES}"))
    }

    fn with_settings(settings: &str) -> Result<Self, String> {
        let mut command = Command::new(executable("NODEPROBE_TEST_PROMETHEUS")?);
        let (directory, port) = (directory(), free_port());
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, settings).expect("a file can be written");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(["--web.enable-remote-write-receiver", "--log.level=warn"]);
        Ok(Self(Server::start(command, directory, port)))
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }
}

/// vmagent, which lies beside `VictoriaMetrics`.
pub struct VmAgent(Server);

impl VmAgent {
    /// Starts it; what it takes goes to the databases.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn start(database: &VictoriaMetrics, prometheus: Option<&Prometheus>) -> Result<Self, String> {
        let ports = [Some(database.port), prometheus.map(Prometheus::port)];
        Self::writing_to(ports.into_iter().flatten())
    }

    /// Starts it for Prometheus alone.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn to_prometheus(prometheus: &Prometheus) -> Result<Self, String> {
        Self::writing_to([prometheus.port()])
    }

    fn writing_to(ports: impl IntoIterator<Item = u16>) -> Result<Self, String> {
        let victoria_metrics = executable("NODEPROBE_TEST_VICTORIA_METRICS")?;
        let names = ["vmagent", "vmagent-prod"].map(|name| victoria_metrics.with_file_name(name));
        let vmagent = names.iter().find(|path| path.exists()).ok_or("no vmagent beside VictoriaMetrics")?;
        let (directory, port) = (directory(), free_port());
        let mut command = Command::new(vmagent);
        command.arg(format!("-httpListenAddr=127.0.0.1:{port}"));
        for database in ports {
            command.arg(format!("-remoteWrite.url=http://127.0.0.1:{database}/api/v1/write"));
        }
        command.arg(format!("-remoteWrite.tmpDataPath={}", directory.path().join("buffer").display()));
        command.args([
            "-remoteWrite.flushInterval=500ms",
            "-opentelemetry.usePrometheusNaming",
            "-loggerLevel=WARN",
        ]);
        Ok(Self(Server::start(command, directory, port)))
    }

    /// Where it takes OTLP.
    pub fn otlp_url(&self) -> String {
        format!("http://127.0.0.1:{}/opentelemetry/v1/metrics", self.0.port)
    }
}

/// What an expression gives now: labels and value of each series.
///
/// # Errors
/// What the database says against it.
pub fn query(port: u16, expression: &str) -> Result<Vec<(Value, f64)>, String> {
    let text = get(port, &format!("/api/v1/query?query={}", escape(expression)));
    let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
    if answer["status"] != "success" {
        return Err(answer["error"].as_str().unwrap_or(&text).to_owned());
    }
    let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let value = |series: Value| {
        let value = series["value"][1].as_str()?.parse().ok()?;
        Some((series["metric"].clone(), value))
    };
    Ok(series.into_iter().filter_map(value).collect())
}
