//! TLS: the right authority, the wrong one, none at all, client certificates.

use nodeprobe::export::otlp::{Exporter, Outcome, SendError};

use super::{
    configured, exporter, now,
    peer::{Certificates, HttpServer, answer, tls_front},
    process,
    rotel::Rotel,
};

const CA: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";

async fn export(port: u16, protocol: &str, settings: &[(&str, &str)]) -> Outcome {
    let endpoint = format!("https://localhost:{port}");
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
    ];
    variables.extend(settings);
    let (mut exporter, _) = exporter(&variables);
    exporter.export(&now(vec![process(4711)])).await
}

fn tls_sentence(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(error @ SendError::Tls { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// With TLS 1.3 the client has finished its handshake when the server misses the certificate, so its alert may
/// or may not be read before the connection is closed.
fn asks_for_a_client_certificate(outcome: Outcome) {
    match outcome {
        Outcome::Failed(error @ (SendError::Tls { .. } | SendError::Unreachable { .. })) => {
            assert!(error.to_string().contains(CERTIFICATE), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_trusts_the_authority_it_is_given_and_no_other() {
    let Some(certificates) = Certificates::make() else { return };
    let server = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let port = tls_front(&certificates, server.port, "http/1.1", false).await;
    let (right, wrong) = (certificates.shown("ca.pem"), certificates.shown("other-ca.pem"));
    assert_eq!(export(port, "http/protobuf", &[(CA, &right)]).await, Outcome::Delivered);
    assert_eq!(server.requests().len(), 1);
    for settings in [&[(CA, wrong.as_str())][..], &[]] {
        let sentence = tls_sentence(export(port, "http/protobuf", settings).await);
        assert!(sentence.contains("not signed by a trusted authority"), "{sentence}");
        assert!(sentence.contains(CA), "{sentence}");
    }
    assert_eq!(server.requests().len(), 1, "nothing is sent to a peer that is not trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_shows_its_client_certificate() {
    let Some(certificates) = Certificates::make() else { return };
    let server = HttpServer::answering(&[&answer("200 OK", "", "")]).await;
    let port = tls_front(&certificates, server.port, "http/1.1", true).await;
    let ca = certificates.shown("ca.pem");
    let (key, certificate) = (certificates.shown("client.key"), certificates.shown("client.pem"));
    let all = [(CA, ca.as_str()), (KEY, key.as_str()), (CERTIFICATE, certificate.as_str())];
    assert_eq!(export(port, "http/protobuf", &all).await, Outcome::Delivered);
    asks_for_a_client_certificate(export(port, "http/protobuf", &all[..1]).await);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_speaks_tls_with_client_certificates_to_a_real_collector() {
    let (Some(certificates), Some(rotel)) = (Certificates::make(), Rotel::start().await) else { return };
    let port = tls_front(&certificates, rotel.grpc, "h2", true).await;
    let (ca, wrong) = (certificates.shown("ca.pem"), certificates.shown("other-ca.pem"));
    let (key, certificate) = (certificates.shown("client.key"), certificates.shown("client.pem"));
    let all = [(CA, ca.as_str()), (KEY, key.as_str()), (CERTIFICATE, certificate.as_str())];
    assert_eq!(export(port, "grpc", &all).await, Outcome::Delivered);
    rotel.has("shop-4711").await;
    let sentence = tls_sentence(export(port, "grpc", &[(CA, &wrong)]).await);
    assert!(sentence.contains(CA), "{sentence}");
    asks_for_a_client_certificate(export(port, "grpc", &all[..1]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_server_behind_https_is_named_as_such() {
    for protocol in ["http/protobuf", "grpc"] {
        let Some(certificates) = Certificates::make() else { return };
        let ca = certificates.shown("ca.pem");
        let port = super::faults::answering_at_once(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let sentence = tls_sentence(export(port, protocol, &[(CA, &ca)]).await);
        assert!(sentence.contains("does not speak TLS"), "{sentence}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_used_are_an_error_at_the_start() {
    let Some(certificates) = Certificates::make() else { return };
    std::fs::write(certificates.path("garbage"), b"\xff\x00not pem").unwrap();
    for protocol in ["http/protobuf", "grpc"] {
        for (file, expected) in [
            ("missing", "cannot read"),
            ("garbage", "no usable certificate"),
            ("ca.key", "no usable certificate"),
        ] {
            let path = certificates.shown(file);
            let config = configured(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                (CA, &path),
            ]);
            let Err(error) = Exporter::new(&config, std::sync::Arc::default()) else { panic!("{file}") };
            let sentence = error.to_string();
            assert!(sentence.contains(expected) && sentence.contains(CA), "{sentence}");
            assert!(sentence.contains(file), "{sentence}");
        }
    }
}
