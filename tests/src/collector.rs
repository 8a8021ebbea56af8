//! Real receivers of OTLP: `rotel` (gRPC and HTTP) and `VictoriaMetrics` (HTTP).

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    node::target_tmp,
    process::OwnedProcess,
    rotel_log::{self, Metric},
    wait::eventually,
};

const START: Duration = Duration::from_secs(20);

/// Path of a receiver named by the environment.
///
/// # Errors
/// Says what is missing.
pub fn executable(variable: &str) -> Result<PathBuf, String> {
    let path = env::var_os(variable).ok_or_else(|| format!("{variable} names no executable"))?;
    PathBuf::from(&path).canonicalize().map_err(|error| format!("{variable}={}: {error}", path.display()))
}

/// A port of 127.0.0.1 on which nobody listens now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("127.0.0.1 has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

pub(crate) fn wait_for_port(port: u16) {
    eventually(&format!("a listener on port {port}"), START, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(drop)
    });
}

/// `rotel`, printing all it receives or handing it on. Can be killed and started again on the same ports.
pub struct Rotel {
    executable: PathBuf,
    pub grpc_port: u16,
    pub http_port: u16,
    /// Where all it receives goes, and how.
    exporter: Vec<String>,
    process: Option<OwnedProcess>,
    directory: TempDir,
}

impl Rotel {
    /// Starts it on free ports.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn start() -> Result<Self, String> {
        Self::exporting("blackhole")
    }

    /// Starts it on free ports; it sends metrics on, by HTTP.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn forwarding_to(url: &str) -> Result<Self, String> {
        // It asks for a place for traces as well, of which there are none.
        let nowhere = "http://127.0.0.1:1";
        Self::exporting(&format!(
            "otlp --otlp-exporter-protocol http --otlp-exporter-endpoint {nowhere} \
             --otlp-exporter-metrics-endpoint {url}"
        ))
    }

    fn exporting(exporter: &str) -> Result<Self, String> {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let mut rotel = Self {
            executable: executable("NODEPROBE_TEST_ROTEL")?,
            grpc_port: free_port(),
            http_port: free_port(),
            exporter: exporter.split(' ').map(str::to_owned).collect(),
            process: None,
            directory,
        };
        rotel.restart();
        Ok(rotel)
    }

    /// Starts it again, with a log of its own for what comes from now on.
    pub fn restart(&mut self) {
        self.kill();
        let log = OpenOptions::new().create(true).write(true).truncate(true).open(self.log_path());
        let log = log.expect("the log can be opened");
        let mut command = Command::new(&self.executable);
        command.args(["start", "--exporter"]).args(&self.exporter).args(["--debug-log", "metrics"]);
        command
            .args(["--debug-log-verbosity", "detailed", "--pid-file"])
            .arg(self.directory.path().join("pid"));
        command.args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{}", self.grpc_port)]);
        command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", self.http_port)]);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a descriptor can be copied")).stdout(log);
        self.process = Some(OwnedProcess::spawn(&mut command));
        wait_for_port(self.grpc_port);
        wait_for_port(self.http_port);
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGKILL);
            process.wait(START);
        }
    }

    /// What has arrived since the last start.
    pub fn received(&self) -> Vec<Metric> {
        rotel_log::parse(&String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()))
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("rotel.log")
    }
}

/// `VictoriaMetrics` with an empty database.
pub struct VictoriaMetrics {
    pub port: u16,
    _process: OwnedProcess,
    _directory: TempDir,
}

impl VictoriaMetrics {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn start() -> Result<Self, String> {
        Self::start_on(Ipv4Addr::LOCALHOST)
    }

    /// Starts it on a free port of 127.0.0.1, or of all addresses.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn start_on(address: Ipv4Addr) -> Result<Self, String> {
        let executable = executable("NODEPROBE_TEST_VICTORIA_METRICS")?;
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let port = free_port();
        let mut command = Command::new(executable);
        command.arg(format!("-storageDataPath={}", directory.path().join("data").display()));
        command.arg(format!("-httpListenAddr={address}:{port}"));
        command.args(["-retentionPeriod=1d", "-search.latencyOffset=0s", "-loggerLevel=WARN"]);
        let log = File::create(directory.path().join("log")).expect("the log can be made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = OwnedProcess::spawn(&mut command);
        wait_for_port(port);
        Ok(Self { port, _process: process, _directory: directory })
    }

    /// Where it takes OTLP.
    pub fn otlp_url(&self) -> String {
        format!("http://127.0.0.1:{}/opentelemetry/v1/metrics", self.port)
    }

    /// The labels of all series of the last hour.
    pub fn series(&self) -> Vec<Value> {
        let path = "/api/v1/series?match[]=%7B__name__!%3D%22%22%7D&start=-1h";
        let answer: Value = serde_json::from_str(&get(self.port, path)).unwrap_or_default();
        answer["data"].as_array().cloned().unwrap_or_default()
    }

    /// The newest value of a query that gives one series.
    pub fn value(&self, query: &str) -> Option<f64> {
        let answer: Value =
            serde_json::from_str(&get(self.port, &format!("/api/v1/query?query={}", escape(query)))).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

pub(crate) fn escape(query: &str) -> String {
    let escaped = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") }
    };
    query.bytes().map(escaped).collect()
}

/// The body of a GET on 127.0.0.1; HTTP/1.0, so that it comes in one piece.
pub fn get(port: u16, path: &str) -> String {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(START))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().unwrap_or_else(|error| panic!("GET {path}: {error}"));
    answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
}

/// A file of the workspace.
pub fn workspace_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
