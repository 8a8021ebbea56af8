//! How one signal reaches its collector. Metrics and logs have variables of their own, and general ones behind them.

use std::time::Duration;

use super::{
    Address, Compression, ConfigError, FileSetting, Headers, Overrides, Protocol, endpoint,
    values::{self, Flag, Reader},
};

/// A way to a collector.
#[derive(Clone, Debug)]
pub struct Connection {
    pub protocol: Protocol,
    /// The whole address, path included.
    pub endpoint: Address,
    pub headers: Headers,
    /// For one request with its retries.
    pub timeout: Duration,
    pub compression: Compression,
    pub certificate: Option<FileSetting>,
    pub client_key: Option<FileSetting>,
    pub client_certificate: Option<FileSetting>,
}

impl Connection {
    /// The endpoint as it may be shown: without credentials and query.
    pub fn endpoint_shown(&self) -> String {
        let shown = format!("{:?}", self.endpoint);
        match self.protocol {
            // The path of a gRPC request is that of the service.
            Protocol::Grpc => shown.trim_end_matches('/').to_owned(),
            Protocol::HttpProtobuf => shown,
        }
    }
}

/// The names of one setting: of the signal, and the general one.
type Names = [&'static str; 2];

/// The variables of a signal.
pub(super) struct Variables {
    protocol: Names,
    insecure: Names,
    pub(super) endpoint: Names,
    headers: Names,
    timeout: Names,
    compression: Names,
    certificate: Names,
    client_key: Names,
    client_certificate: Names,
    /// What HTTP appends to the general endpoint.
    pub(super) path: &'static str,
}

macro_rules! names {
    ($signal:literal, $setting:literal) => {
        [concat!("OTEL_EXPORTER_OTLP_", $signal, "_", $setting), concat!("OTEL_EXPORTER_OTLP_", $setting)]
    };
}

macro_rules! variables {
    ($signal:literal, $path:literal) => {
        Variables {
            protocol: names!($signal, "PROTOCOL"),
            insecure: names!($signal, "INSECURE"),
            endpoint: names!($signal, "ENDPOINT"),
            headers: names!($signal, "HEADERS"),
            timeout: names!($signal, "TIMEOUT"),
            compression: names!($signal, "COMPRESSION"),
            certificate: names!($signal, "CERTIFICATE"),
            client_key: names!($signal, "CLIENT_KEY"),
            client_certificate: names!($signal, "CLIENT_CERTIFICATE"),
            path: $path,
        }
    };
}

pub(super) const METRICS: Variables = variables!("METRICS", "/v1/metrics");
pub(super) const LOGS: Variables = variables!("LOGS", "/v1/logs");

/// # Errors
/// [`ConfigError`] for an endpoint or client certificate that leaves no sensible way to go on.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    overrides: &Overrides,
    variables: &Variables,
) -> Result<Connection, ConfigError> {
    let protocol = reader.value(
        Flag("--otlp-protocol", overrides.protocol.as_deref()),
        &variables.protocol,
        values::protocol,
        None,
        "http/protobuf",
    );
    let insecure = reader.value(
        Flag("--otlp-insecure", overrides.insecure.as_deref()),
        &variables.insecure,
        values::boolean,
        false,
        "false",
    );
    let endpoint = endpoint::resolve(reader, overrides.endpoint.as_deref(), variables, protocol, insecure)?;
    let headers = reader.headers(Flag("--otlp-headers", overrides.headers.as_deref()), &variables.headers);
    let timeout = reader.value(
        Flag("--otlp-timeout-ms", overrides.timeout_ms.as_deref()),
        &variables.timeout,
        values::milliseconds,
        Duration::from_secs(10),
        "10000",
    );
    let compression = reader.value(
        Flag("--otlp-compression", overrides.compression.as_deref()),
        &variables.compression,
        values::compression,
        Compression::None,
        "none",
    );
    let [certificate, client_key, client_certificate] = files(reader, overrides, variables)?;
    Ok(Connection {
        protocol: protocol.unwrap_or(Protocol::HttpProtobuf),
        endpoint: Address(endpoint),
        headers,
        timeout,
        compression,
        certificate,
        client_key,
        client_certificate,
    })
}

/// Authorities to trust, client key, client certificate.
fn files(
    reader: &mut Reader<'_>,
    overrides: &Overrides,
    variables: &Variables,
) -> Result<[Option<FileSetting>; 3], ConfigError> {
    let certificate =
        reader.file(Flag("--otlp-certificate", overrides.certificate.as_deref()), &variables.certificate);
    let client_key =
        reader.file(Flag("--otlp-client-key", overrides.client_key.as_deref()), &variables.client_key);
    let client_certificate = reader.file(
        Flag("--otlp-client-certificate", overrides.client_certificate.as_deref()),
        &variables.client_certificate,
    );
    check_identity(client_key.as_ref(), client_certificate.as_ref())?;
    Ok([certificate, client_key, client_certificate])
}

fn check_identity(key: Option<&FileSetting>, certificate: Option<&FileSetting>) -> Result<(), ConfigError> {
    const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
    const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
    match (key, certificate) {
        (Some(key), None) => Err(ConfigError::HalfIdentity { present: key.from, missing: CERTIFICATE }),
        (None, Some(certificate)) => {
            Err(ConfigError::HalfIdentity { present: certificate.from, missing: KEY })
        }
        _ => Ok(()),
    }
}
