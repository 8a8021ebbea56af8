//! The agent and all between it and a Prometheus: a receiver of OTLP, and vmagent, since Prometheus' Debian build takes no OTLP.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    agent::Daemon,
    collector::Rotel,
    otelcol::Otelcol,
    prometheus::{Prometheus, VmAgent, query},
    resources::Resources,
    wait::{eventually, observe_for},
};

/// How long something may take from the agent to Prometheus on a loaded machine.
pub const ARRIVAL: Duration = Duration::from_mins(1);

/// A running chain, in which the agent exports each second.
pub struct Chain {
    pub prometheus: Prometheus,
    pub daemon: Daemon,
    /// Kept to be ended last.
    pub receiver: Receiver,
    _vmagent: VmAgent,
}

/// What the agent sends to.
pub enum Receiver {
    Collector(Otelcol),
    Rotel(Rotel),
}

impl Receiver {
    pub fn grpc_port(&self) -> u16 {
        match self {
            Self::Collector(collector) => collector.grpc_port,
            Self::Rotel(rotel) => rotel.grpc_port,
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        match self {
            Self::Collector(collector) => collector.kill(),
            Self::Rotel(rotel) => rotel.kill(),
        }
    }

    /// Starts it again, on the same port.
    pub fn restart(&mut self) {
        match self {
            Self::Collector(collector) => collector.restart(),
            Self::Rotel(rotel) => rotel.restart(),
        }
    }
}

impl Chain {
    /// By way of the OpenTelemetry Collector, with further settings of the agent.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn with_collector(settings: &[(&str, &str)]) -> Result<Self, String> {
        let prometheus = Prometheus::without_rules()?;
        Self::start(prometheus, settings, |url| Otelcol::forwarding_to(url).map(Receiver::Collector))
    }

    /// The same with the rules of helm/nodeprobe in Prometheus.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn with_collector_and_rules(settings: &[(&str, &str)]) -> Result<Self, String> {
        let prometheus = Prometheus::behind_a_collector()?;
        Self::start(prometheus, settings, |url| Otelcol::forwarding_to(url).map(Receiver::Collector))
    }

    /// By way of rotel.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn with_rotel() -> Result<Self, String> {
        Self::start(Prometheus::without_rules()?, &[], |url| Rotel::forwarding_to(url).map(Receiver::Rotel))
    }

    fn start(
        prometheus: Prometheus,
        settings: &[(&str, &str)],
        receiver: impl Fn(&str) -> Result<Receiver, String>,
    ) -> Result<Self, String> {
        let vmagent = VmAgent::to_prometheus(&prometheus)?;
        let receiver = receiver(&vmagent.otlp_url())?;
        let endpoint = format!("http://127.0.0.1:{}", receiver.grpc_port());
        let fixed = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ];
        let daemon = Daemon::start(&[&fixed, settings].concat());
        let chain = Self { prometheus, daemon, receiver, _vmagent: vmagent };
        chain.wait_for("nodeprobe_agent_processes");
        Ok(chain)
    }

    /// All series of an expression, by what Prometheus has now.
    #[track_caller]
    pub fn ask(&self, expression: &str) -> Vec<(Value, f64)> {
        query(self.prometheus.port(), expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// One number over all series of an expression; 0 where there is none.
    #[track_caller]
    pub fn sum(&self, expression: &str) -> f64 {
        self.ask(expression).iter().map(|(_, value)| value).sum()
    }

    #[track_caller]
    pub fn wait_for(&self, expression: &str) {
        eventually(&format!("{expression}; {}", self.daemon.stderr()), ARRIVAL, || {
            (!self.ask(expression).is_empty()).then_some(())
        });
    }

    /// What the agent holds.
    pub fn resources(&self) -> Resources {
        Resources::of(self.daemon.pid())
    }

    /// Waits until Prometheus has what Node counted itself, which may still grow.
    #[track_caller]
    pub fn assert_arrives(&self, what: &str, expression: &str, counted: impl Fn() -> f64) {
        let last = Cell::new((0.0, 0.0));
        let end = Instant::now() + ARRIVAL;
        while Instant::now() < end {
            let (expected, found) = (counted(), self.sum(expression));
            if (found - expected).abs() < f64::EPSILON {
                eprintln!("  {what}: {expected} by Node's count and in Prometheus");
                return;
            }
            last.set((expected, found));
            observe_for(Duration::from_millis(200));
        }
        let ((expected, found), series) = (last.get(), self.ask(expression));
        panic!("{what}: Node counted {expected}, Prometheus has {found} for {expression}: {series:?}");
    }
}
