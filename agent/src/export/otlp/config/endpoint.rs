//! Where requests go.

use reqwest::Url;

use super::{
    ConfigError, Protocol,
    connection::Variables,
    values::{Flag, Reader, shown},
};

/// The address of every request. Over HTTP the general endpoint gets `/v1/metrics` or `/v1/logs`, the endpoint of a
/// signal is taken as it is, and so the flag counts as general. `protocol` is `None` when the user left it open.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    flag: Option<&str>,
    variables: &Variables,
    protocol: Option<Protocol>,
    insecure: bool,
) -> Result<Url, ConfigError> {
    let chosen = protocol.unwrap_or(Protocol::HttpProtobuf);
    let given = reader.first(Flag("--otlp-endpoint", flag), &variables.endpoint);
    let [of_signal, general] = variables.endpoint;
    let (from, text) = given.unwrap_or_else(|| {
        let port = if chosen == Protocol::Grpc { 4317 } else { 4318 };
        (general, format!("http://localhost:{port}"))
    });
    let mut url = parse(&text, chosen, insecure).map_err(|reason| ConfigError::Endpoint {
        from,
        // An endpoint may hold a password.
        value: if text.contains('@') { "(not shown)".to_owned() } else { shown(&text) },
        reason,
    })?;
    if chosen == Protocol::HttpProtobuf && from != of_signal {
        let path = format!("{}{}", url.path().trim_end_matches('/'), variables.path);
        url.set_path(&path);
    }
    if chosen == Protocol::HttpProtobuf && url.port() == Some(4317) {
        reader.warnings.push(format!(
            "{from} names port 4317, where collectors usually expect gRPC, but the protocol is \
             http/protobuf; set OTEL_EXPORTER_OTLP_PROTOCOL=grpc or use port 4318 if nothing arrives"
        ));
    }
    if chosen == Protocol::Grpc && url.port() == Some(4318) {
        reader.warnings.push(format!(
            "{from} names port 4318, where collectors usually expect HTTP, but the protocol is grpc; set \
             OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf or use port 4317 if nothing arrives"
        ));
    }
    Ok(url)
}

fn parse(text: &str, protocol: Protocol, insecure: bool) -> Result<Url, String> {
    // Only gRPC knows endpoints without a scheme; there INSECURE decides.
    let with_scheme = match protocol {
        Protocol::Grpc if !text.contains("://") => {
            format!("{}://{text}", if insecure { "http" } else { "https" })
        }
        _ => text.to_owned(),
    };
    let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    Ok(url)
}
