//! The OpenTelemetry Collector between the agent and a database; see `collector/main.go`.

use std::{
    fs::{self, File, OpenOptions},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    collector::{executable, free_port, wait_for_port},
    node::target_tmp,
    process::OwnedProcess,
};

const END: Duration = Duration::from_secs(20);

/// A Collector that takes OTLP over gRPC and hands metrics on over HTTP. Can be killed and started again on the same port.
pub struct Otelcol {
    executable: PathBuf,
    pub grpc_port: u16,
    process: Option<OwnedProcess>,
    directory: TempDir,
}

impl Otelcol {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn forwarding_to(url: &str) -> Result<Self, String> {
        let executable = executable("NODEPROBE_TEST_OTELCOL")?;
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let mut collector = Self { executable, grpc_port: free_port(), process: None, directory };
        let settings = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{}\"}}}}}}}}\n\
             exporters: {{otlphttp: {{metrics_endpoint: \"{url}\"}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}\n  \
             pipelines: {{metrics: {{receivers: [otlp], exporters: [otlphttp]}}}}\n",
            collector.grpc_port
        );
        fs::write(collector.settings(), settings).expect("a file can be written");
        File::create(collector.log_path()).expect("the log can be made");
        collector.restart();
        Ok(collector)
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        self.kill();
        let log = OpenOptions::new().append(true).open(self.log_path()).expect("the log can be opened");
        let mut command = Command::new(&self.executable);
        command.arg("--config").arg(self.settings());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(OwnedProcess::spawn(&mut command));
        wait_for_port(self.grpc_port);
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGKILL);
            process.wait(END);
        }
    }

    fn settings(&self) -> PathBuf {
        self.directory.path().join("otelcol.yaml")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}
