//! Sends one request, with retries, until it is accepted, refused for good, or out of time.

use std::{future::Future, time::Duration};

use opentelemetry_proto::tonic::collector::{
    logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient},
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_client::MetricsServiceClient,
    },
};
use prost::Message;
use tokio::time::{Instant, sleep_until, timeout_at};

use tonic::{Status, codec::CompressionEncoding, transport::Channel};

use super::{
    config::{Compression, Connection, Protocol},
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

/// A request of one signal, with what differs between signals.
pub trait Request: Message + Clone {
    type Response: Message + Default;

    /// Sends it over gRPC.
    fn call(
        channel: Channel,
        compression: Compression,
        request: tonic::Request<Self>,
    ) -> impl Future<Output = Result<tonic::Response<Self::Response>, Status>> + Send;

    /// How many points or records the collector threw away, and what it says to that.
    fn partial_success(response: Self::Response) -> Option<(i64, String)>;
}

impl Request for ExportMetricsServiceRequest {
    type Response = ExportMetricsServiceResponse;

    async fn call(
        channel: Channel,
        compression: Compression,
        request: tonic::Request<Self>,
    ) -> Result<tonic::Response<Self::Response>, Status> {
        let mut client = MetricsServiceClient::new(channel);
        if compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.export(request).await
    }

    fn partial_success(response: Self::Response) -> Option<(i64, String)> {
        response.partial_success.map(|partial| (partial.rejected_data_points, partial.error_message))
    }
}

impl Request for ExportLogsServiceRequest {
    type Response = ExportLogsServiceResponse;

    async fn call(
        channel: Channel,
        compression: Compression,
        request: tonic::Request<Self>,
    ) -> Result<tonic::Response<Self::Response>, Status> {
        let mut client = LogsServiceClient::new(channel);
        if compression == Compression::Gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.export(request).await
    }

    fn partial_success(response: Self::Response) -> Option<(i64, String)> {
        response.partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))
    }
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
    /// Data points or log records.
    pub data_points: u64,
    /// What the collector says, cleaned and cut. It may also warn without rejecting anything.
    pub message: String,
}

impl Sink {
    /// Reads the certificates; does not connect.
    ///
    /// # Errors
    /// [`SetupError`] for settings that can never work.
    pub fn new(config: &Connection) -> Result<Self, SetupError> {
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
    pub async fn send<M: Request>(
        &self,
        request: M,
        deadline: Instant,
    ) -> Result<Option<Rejection>, SendError> {
        let deadline = deadline.min(Instant::now() + self.timeout);
        let response = match &self.transport {
            Transport::Grpc(grpc) => self.until(deadline, || grpc.attempt(request.clone())).await?,
            Transport::Http(http) => {
                let body = http.body(&request);
                self.until(deadline, || http.attempt::<M>(body.clone())).await?
            }
        };
        Ok(rejection(M::partial_success(response)))
    }

    async fn until<T, F>(&self, deadline: Instant, attempt: impl Fn() -> F) -> Result<T, SendError>
    where
        F: Future<Output = Result<T, Failure>>,
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

fn rejection(partial: Option<(i64, String)>) -> Option<Rejection> {
    let (rejected, message) = partial?;
    let data_points = u64::try_from(rejected).unwrap_or(0);
    if data_points == 0 && message.is_empty() {
        return None;
    }
    Some(Rejection { data_points, message: excerpt(&message, 200) })
}
