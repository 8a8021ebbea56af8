//! OTLP over HTTP with protobuf bodies.

use std::{io::Write as _, time::Duration};

use flate2::{Compression as Level, write::GzEncoder};
use prost::{Message as _, bytes::Bytes};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use rustls::RootCertStore;

use super::{
    config::{Compression, Connection},
    error::{Failure, Retry, SendError, SetupError, classify, excerpt},
    tls::Material,
    transport::Request,
};

/// No answer of a collector is longer; one that is is cut.
const LONGEST_ANSWER: usize = 64 << 10;

pub(super) struct HttpSink {
    client: Client,
    url: Url,
    compression: Compression,
    endpoint: String,
}

impl HttpSink {
    /// Does not connect.
    ///
    /// # Errors
    /// [`SetupError`] for settings that can never work.
    pub(super) fn new(config: &Connection) -> Result<Self, SetupError> {
        let shown = config.endpoint_shown();
        let mut headers = HeaderMap::new();
        for (key, value) in &config.headers.0 {
            let broken = |source| SetupError::Client { endpoint: shown.clone(), source };
            let key = HeaderName::from_bytes(key.as_bytes()).map_err(|e| broken(e.into()))?;
            let mut value = HeaderValue::from_str(value).map_err(|e| broken(e.into()))?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let tls = match config.endpoint.scheme() {
            "https" => Material::read(config)?.client_config()?,
            // reqwest sets TLS up even for plain HTTP, and without this by a process-wide provider. Never used:
            // redirects are not followed.
            _ => Material::default().client_config_trusting(RootCertStore::empty())?,
        };
        let client = Client::builder()
            .user_agent(concat!("nodeprobe/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // A redirect would carry the headers, and with them the secrets, to another host.
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(tls);
        let client =
            client.build().map_err(|e| SetupError::Client { endpoint: shown.clone(), source: e.into() })?;
        Ok(Self { client, url: config.endpoint.0.clone(), compression: config.compression, endpoint: shown })
    }

    /// The body, encoded once for all attempts.
    pub(super) fn body(&self, message: &impl Request) -> Bytes {
        let plain = message.encode_to_vec();
        match self.compression {
            Compression::None => plain.into(),
            Compression::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
                gzip.write_all(&plain)
                    .and_then(|()| gzip.finish())
                    .expect("writing to a Vec cannot fail")
                    .into()
            }
        }
    }

    pub(super) async fn attempt<M: Request>(&self, body: Bytes) -> Result<M::Response, Failure> {
        let mut request = self.client.post(self.url.clone()).body(body);
        if self.compression == Compression::Gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        // The URL is left out of the error: it may hold a password, and the endpoint is named anyway.
        let failed = |error: reqwest::Error| classify(&error.without_url(), &self.endpoint, "HTTP");
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let retry = retry(status, response.headers());
        // What is said after the status cannot change it.
        let answer = answer(&mut response).await;
        if status.is_success() {
            // Some backends answer with nothing or with JSON; success is in the status.
            return Ok(M::Response::decode(answer.as_slice()).unwrap_or_default());
        }
        let error = SendError::Http {
            endpoint: self.endpoint.clone(),
            status: status.as_u16(),
            body: excerpt(&String::from_utf8_lossy(&answer), 200),
        };
        Err(Failure { error, retry })
    }
}

async fn answer(response: &mut Response) -> Vec<u8> {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = LONGEST_ANSWER - answer.len();
        answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if answer.len() == LONGEST_ANSWER {
            break;
        }
    }
    answer
}

/// The table "Retryable Response Codes" of the OTLP specification. `Retry-After` as a date is taken for no
/// advice: it would trust two clocks.
fn retry(status: StatusCode, headers: &HeaderMap) -> Retry {
    match status.as_u16() {
        429 | 502 | 503 | 504 => headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map_or(Retry::Backoff, |seconds| Retry::After(Duration::from_secs(seconds))),
        _ => Retry::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_statuses_of_the_specification_are_retried() {
        let none = HeaderMap::new();
        for status in [429, 502, 503, 504] {
            assert_eq!(retry(StatusCode::from_u16(status).unwrap(), &none), Retry::Backoff);
        }
        for status in [400, 401, 404, 413, 500, 501] {
            assert_eq!(retry(StatusCode::from_u16(status).unwrap(), &none), Retry::Never);
        }
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("3"));
        let after = retry(StatusCode::SERVICE_UNAVAILABLE, &headers);
        assert_eq!(after, Retry::After(Duration::from_secs(3)));
    }
}
