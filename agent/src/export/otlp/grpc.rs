//! OTLP over gRPC.

use std::{
    error::Error as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::{
    config::{Compression, Connection},
    error::{Failure, Retry, SendError, SetupError, classify, excerpt},
    tls::Material,
    transport::Request,
};

pub(super) struct GrpcSink {
    endpoint: Endpoint,
    compression: Compression,
    channel: Mutex<Channel>,
    metadata: MetadataMap,
    shown: String,
}

impl GrpcSink {
    /// Does not connect: the first request does, and each one after a connection was lost.
    ///
    /// # Errors
    /// [`SetupError`] for settings that can never work.
    pub(super) fn new(config: &Connection) -> Result<Self, SetupError> {
        let shown = config.endpoint_shown();
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| SetupError::Client {
            endpoint: shown.clone(),
            source,
        };
        let mut endpoint = Endpoint::from_shared(config.endpoint.to_string())
            .and_then(|endpoint| endpoint.user_agent(concat!("nodeprobe/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| broken(error.into()))?;
        if config.endpoint.scheme() == "https" {
            let material = Material::read(config)?;
            let mut tls = match &material.authorities {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            if let Some((chain, key)) = &material.identity {
                tls = tls.identity(Identity::from_pem(chain, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| broken(error.into()))?;
        }
        let mut metadata = MetadataMap::new();
        for (key, value) in &config.headers.0 {
            // Neither error may carry the value: it is a secret.
            let key = MetadataKey::<Ascii>::from_bytes(key.as_bytes()).map_err(|e| broken(e.into()))?;
            let mut value = MetadataValue::try_from(value.as_str()).map_err(|e| broken(e.into()))?;
            value.set_sensitive(true);
            metadata.append(key, value);
        }
        let channel = Mutex::new(endpoint.connect_lazy());
        Ok(Self { endpoint, compression: config.compression, channel, metadata, shown })
    }

    /// Gives up the connection. All requests share one, and one to a peer that has silently gone would swallow
    /// them until the kernel notices, a quarter of an hour later.
    pub(super) fn reconnect(&self) {
        *self.lock() = self.endpoint.connect_lazy();
    }

    fn lock(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn attempt<M: Request>(&self, message: M) -> Result<M::Response, Failure> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        // A clone shares the connection.
        let channel = self.lock().clone();
        match M::call(channel, self.compression, request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(self.failure(&status)),
        }
    }

    fn failure(&self, status: &Status) -> Failure {
        // A status with a source was made on this side of the wire.
        if let Some(source) = status.source() {
            return classify(source, &self.shown, "gRPC");
        }
        let error = SendError::Grpc {
            endpoint: self.shown.clone(),
            code: code_name(status.code()),
            message: excerpt(status.message(), 200),
        };
        Failure { error, retry: retry(status) }
    }
}

/// The table "Failures" of the OTLP specification.
fn retry(status: &Status) -> Retry {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match (status.code(), delay) {
        (Code::ResourceExhausted, None) => Retry::Never,
        (
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted,
            delay,
        ) => delay.map_or(Retry::Backoff, Retry::After),
        _ => Retry::Never,
    }
}

/// As the gRPC documentation writes them, which is what people search for.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED (is this an OTLP collector with a pipeline for this signal?)",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED (are the headers for authentication right?)",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_the_codes_of_the_specification_are_retried() {
        for code in [Code::Unavailable, Code::Aborted, Code::DeadlineExceeded, Code::Cancelled] {
            assert_eq!(retry(&Status::new(code, "")), Retry::Backoff, "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::Unauthenticated, Code::Unimplemented, Code::Internal] {
            assert_eq!(retry(&Status::new(code, "")), Retry::Never, "{code:?}");
        }
    }

    #[test]
    fn an_exhausted_collector_is_retried_only_when_it_says_when() {
        assert_eq!(retry(&Status::new(Code::ResourceExhausted, "")), Retry::Never);
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(700)));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(retry(&status), Retry::After(Duration::from_millis(700)));
    }
}
