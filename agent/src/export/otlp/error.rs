//! What can go wrong on the way to the collector, in sentences, and what may be tried again.

use std::{error::Error as StdError, io, path::PathBuf, time::Duration};

use rustls::CertificateError;

const CLIENT: &str = "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY";

/// The exporter cannot be set up; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{from}: cannot read {}; check the path and its permissions", path.display())]
    Unreadable {
        from: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{from}: {} holds no usable {expected} in PEM form", path.display())]
    NotPem { from: &'static str, path: PathBuf, expected: &'static str },
    #[error(
        "no trusted certificate authorities were found on this host; install the package `ca-certificates` or \
         name a file by OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoRoots,
    #[error("the TLS settings cannot be used")]
    Tls(#[source] rustls::Error),
    #[error("the OTLP client cannot be set up for {endpoint}")]
    Client {
        endpoint: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A request was not accepted. Collector text inside is cleaned and cut.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    #[error("the collector at {endpoint} refused the connection; does it run, and on this port?")]
    Refused { endpoint: String },
    #[error("the collector at {endpoint} cannot be reached: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("the collector at {endpoint} did not answer within {} ms", after.as_millis())]
    Timeout { endpoint: String, after: Duration },
    #[error("no TLS connection to the collector at {endpoint}: {reason}")]
    Tls { endpoint: String, reason: String },
    #[error("the collector at {endpoint} did not answer in {protocol}: {reason}; {hint}")]
    Protocol { endpoint: String, protocol: &'static str, reason: String, hint: &'static str },
    #[error("the collector at {endpoint} answered HTTP {status}{}: {body}", http_hint(*status))]
    Http { endpoint: String, status: u16, body: String },
    #[error("the collector at {endpoint} answered gRPC {code}: {message}")]
    Grpc { endpoint: String, code: &'static str, message: String },
}

impl SendError {
    /// The collector has answered, and would not answer otherwise the next time.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Http { status, .. } => !matches!(status, 429 | 502 | 503 | 504),
            Self::Grpc { code, .. } => !matches!(
                *code,
                "CANCELLED"
                    | "DEADLINE_EXCEEDED"
                    | "ABORTED"
                    | "OUT_OF_RANGE"
                    | "UNAVAILABLE"
                    | "DATA_LOSS"
                    | "RESOURCE_EXHAUSTED"
            ),
            _ => false,
        }
    }
}

/// Whether the same request may be sent again, by the OTLP specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Backoff,
    /// The collector said when.
    After(Duration),
}

/// One attempt that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: SendError,
    pub(super) retry: Retry,
}

fn http_hint(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirects are not followed; name the final address)",
        401 | 403 => " (are the headers for authentication right?)",
        404 | 405 => " (is the path right? it usually ends in /v1/metrics, that of logs in /v1/logs)",
        413 => " (the request is too large for it)",
        415 => " (does it take http/protobuf?)",
        _ => "",
    }
}

/// Sorts an error below HTTP or gRPC by its root cause.
pub(super) fn classify(error: &(dyn StdError + 'static), endpoint: &str, protocol: &'static str) -> Failure {
    let endpoint = endpoint.to_owned();
    let mut reason = error.to_string();
    let mut link = Some(error);
    while let Some(cause) = link {
        if let Some(tls) = tls_within(cause) {
            let reason = tls_reason(tls);
            return Failure { error: SendError::Tls { endpoint, reason }, retry: Retry::Never };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => {
                    return Failure { error: SendError::Refused { endpoint }, retry: Retry::Backoff };
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                    return closed(endpoint);
                }
                _ => {}
            }
        }
        reason = cause.to_string();
        link = cause.source();
    }
    let reason = excerpt(&reason, 200);
    if let Some(alert) = reason.strip_prefix("received fatal alert: ") {
        let error = SendError::Tls { endpoint, reason: alert_reason(alert) };
        return Failure { error, retry: Retry::Never };
    }
    // hyper's words when the peer went away before it answered.
    if reason == "connection closed" || reason.starts_with("connection closed before") {
        return closed(endpoint);
    }
    let foreign = ["invalid HTTP", "unexpected message", "frame with invalid size", "http2 error"];
    if foreign.iter().any(|part| reason.contains(part)) {
        let hint = if protocol == "gRPC" {
            "is this a gRPC port? HTTP collectors usually listen on 4318: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        } else {
            "is this an HTTP port, and without TLS? gRPC collectors usually listen on 4317: \
             OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
        };
        let error = SendError::Protocol { endpoint, protocol, reason, hint };
        return Failure { error, retry: Retry::Never };
    }
    Failure { error: SendError::Unreachable { endpoint, reason }, retry: Retry::Backoff }
}

/// A TLS port that is spoken to in plain text often just hangs up, as does one that misses a client certificate
/// (TLS 1.3 tells only after the handshake) and a server that is being stopped: worth another try, and the
/// sentence names both.
fn closed(endpoint: String) -> Failure {
    let reason = if endpoint.starts_with("https:") {
        format!(
            "it closed the connection; is it being restarted, or does it ask for a client certificate? {CLIENT}"
        )
    } else {
        "it closed the connection; is it being restarted, or does it expect TLS (https://)?".to_owned()
    };
    Failure { error: SendError::Unreachable { endpoint, reason }, retry: Retry::Backoff }
}

/// `io::Error::source` skips the error it wraps, so that one must be asked for; layers of TLS wrap more than once.
fn tls_within<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    match cause.downcast_ref() {
        Some(tls) => Some(tls),
        None => tls_within(cause.downcast_ref::<io::Error>()?.get_ref()?),
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    match error {
        // A bad signature is what an unknown authority looks like that has the name of a trusted one.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "its certificate is not signed by a trusted authority; name the authority's PEM file by \
             OTEL_EXPORTER_OTLP_CERTIFICATE"
            .to_owned(),
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS on this port; write http:// or name its TLS port".to_owned()
        }
        rustls::Error::AlertReceived(alert) => alert_reason(&format!("{alert:?}")),
        other => excerpt(&other.to_string(), 200),
    }
}

/// By the name rustls has for it, because h2 passes TLS errors on as text.
fn alert_reason(alert: &str) -> String {
    match alert {
        "CertificateRequired" => format!("it asks for a client certificate; {CLIENT}"),
        "BadCertificate" | "UnknownCA" | "HandshakeFailure" => {
            format!("it broke off the handshake ({alert}); if it asks for a client certificate, {CLIENT}")
        }
        other => format!("it broke off the handshake ({other})"),
    }
}

/// At most `limit` characters of foreign text on one line: nothing that moves a cursor, ends a line or turns
/// the direction of writing.
pub(super) fn excerpt(text: &str, limit: usize) -> String {
    // A bound on the input too: it may be megabytes of blanks.
    let visible = text.chars().take(limit * 16).map(|c| {
        let steers = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if steers { ' ' } else { c }
    });
    let visible: String = visible.collect();
    let mut line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(limit) {
        line.truncate(end);
        line.push('…');
    }
    if line.is_empty() { "(no text)".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_short_line_without_escape_codes() {
        assert_eq!(excerpt("bad\u{1b}[31m\r\nrequest\u{202e}x", 200), "bad [31m request x");
        assert_eq!(excerpt("\n\n", 200), "(no text)");
        assert_eq!(excerpt(&"ä".repeat(1 << 20), 200).chars().count(), 201);
    }

    #[test]
    fn a_tls_error_wrapped_in_an_io_error_is_recognised() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let failure = classify(&io::Error::other(io::Error::other(tls)), "https://c", "HTTP");
        assert_eq!(failure.retry, Retry::Never);
        let sentence = failure.error.to_string();
        assert!(sentence.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{sentence}");
    }
}
