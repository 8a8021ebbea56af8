//! Sends one request, with retries, until it is accepted, refused for good, or out of time.

use std::{future::Future, time::Duration};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    config::{Config, Protocol},
    error::{Failure, Retry, SendError, SetupError, excerpt},
    grpc::GrpcSink,
    http::HttpSink,
};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

enum Transport {
    Grpc(Box<GrpcSink>),
    Http(HttpSink),
}

/// A way to the collector. Shared by the exporter of process telemetry and that of the agent's own metrics, so
/// both have the same endpoint, TLS, headers and retries.
pub struct Sink {
    transport: Transport,
    endpoint: String,
    timeout: Duration,
}

/// The collector took the request but threw away some of it; it must not be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub data_points: u64,
    /// What the collector says, cleaned and cut. It may also warn without rejecting anything.
    pub message: String,
}

impl Sink {
    /// Reads the certificates; does not connect.
    ///
    /// # Errors
    /// [`SetupError`] for settings that can never work.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let transport = match config.protocol {
            Protocol::Grpc => Transport::Grpc(Box::new(GrpcSink::new(config)?)),
            Protocol::HttpProtobuf => Transport::Http(HttpSink::new(config)?),
        };
        Ok(Self { transport, endpoint: config.endpoint_shown(), timeout: config.timeout })
    }

    /// Where it goes, without credentials.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends and retries until `deadline`, or the timeout of the settings if that is sooner.
    ///
    /// # Errors
    /// [`SendError`] of the last attempt.
    pub async fn send(
        &self,
        request: ExportMetricsServiceRequest,
        deadline: Instant,
    ) -> Result<Option<Rejection>, SendError> {
        let deadline = deadline.min(Instant::now() + self.timeout);
        let response = match &self.transport {
            Transport::Grpc(grpc) => self.until(deadline, || grpc.attempt(request.clone())).await?,
            Transport::Http(http) => {
                let body = http.body(&request);
                self.until(deadline, || http.attempt(body.clone())).await?
            }
        };
        Ok(rejection(response))
    }

    async fn until<F>(
        &self,
        deadline: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<ExportMetricsServiceResponse, SendError>
    where
        F: Future<Output = Result<ExportMetricsServiceResponse, Failure>>,
    {
        let began = Instant::now();
        let mut delay = FIRST_DELAY;
        let mut last = None;
        loop {
            let Ok(result) = timeout_at(deadline, attempt()).await else {
                if let Transport::Grpc(grpc) = &self.transport {
                    grpc.reconnect();
                }
                // What went wrong before says more than the time that ran out on top.
                return Err(last.unwrap_or_else(|| SendError::Timeout {
                    endpoint: self.endpoint.clone(),
                    after: began.elapsed(),
                }));
            };
            let Failure { error, retry } = match result {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let wait = match retry {
                Retry::Never => return Err(error),
                Retry::After(wait) => wait,
                // Half to one and a half: a fleet of agents must not come back in step.
                Retry::Backoff => delay.mul_f64(0.5 + fastrand::f64()),
            };
            delay = (delay * 2).min(LONGEST_DELAY);
            match Instant::now().checked_add(wait) {
                Some(next) if next < deadline => sleep_until(next).await,
                _ => return Err(error),
            }
            tracing::debug!(%error, "sending again");
            last = Some(error);
        }
    }
}

fn rejection(response: ExportMetricsServiceResponse) -> Option<Rejection> {
    let partial = response.partial_success?;
    let data_points = u64::try_from(partial.rejected_data_points).unwrap_or(0);
    if data_points == 0 && partial.error_message.is_empty() {
        return None;
    }
    Some(Rejection { data_points, message: excerpt(&partial.error_message, 200) })
}
