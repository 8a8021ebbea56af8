//! Peers made for the tests: an HTTP server that answers as it is told, and a TLS front for a plain server.

use std::{
    io::Read as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use flate2::read::GzDecoder;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The body, decompressed.
    pub(super) fn plain(&self) -> Vec<u8> {
        if !self.head.to_ascii_lowercase().contains("content-encoding: gzip") {
            return self.body.clone();
        }
        let mut plain = Vec::new();
        GzDecoder::new(self.body.as_slice()).read_to_end(&mut plain).unwrap();
        plain
    }
}

/// Answers one request per connection, with the answers in turn and the last one for ever.
pub(super) struct HttpServer {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl HttpServer {
    pub(super) async fn answering(answers: &[&str]) -> Self {
        Self::answering_on(0, answers).await
    }

    pub(super) async fn answering_on(port: u16, answers: &[&str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_request(&mut stream).await else { continue };
                let answer = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request);
                    answers[(seen.len() - 1).min(answers.len() - 1)].clone()
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { port, requests }
    }

    /// All, also those about the agent itself.
    pub(super) fn all_requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Those about the hand-made process.
    pub(super) fn requests(&self) -> Vec<Request> {
        let mut requests = self.all_requests();
        requests.retain(|request| request.plain().windows(9).any(|window| window == b"shop-4711"));
        requests
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { head, body: bytes.split_off(end + 4) })
}

/// An answer with a body.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Certificates made by openssl: an authority, and a server and a client it signed.
pub(super) struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// `None` without openssl: the test is skipped.
    pub(super) fn make() -> Option<Self> {
        let made = Self { directory: tempfile::tempdir().unwrap() };
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: openssl is not installed");
            return None;
        }
        let authority = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        for name in ["ca", "other-ca"] {
            let subject = format!("/CN={name}");
            made.openssl(
                &authority,
                &["-subj", &subject, "-keyout"],
                &format!("{name}.key"),
                &["-out", &format!("{name}.pem")],
            );
        }
        for name in ["server", "client"] {
            let subject = format!("/CN={name}");
            let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
            made.openssl(
                &request,
                &["-subj", &subject, "-keyout"],
                &format!("{name}.key"),
                &["-out", &format!("{name}.csr")],
            );
            std::fs::write(made.path("extensions"), "subjectAltName=DNS:localhost\n").unwrap();
            let sign = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
            made.openssl(
                &sign,
                &["-extfile", "extensions", "-in"],
                &format!("{name}.csr"),
                &["-out", &format!("{name}.pem")],
            );
        }
        Some(made)
    }

    fn openssl(&self, first: &[&str], second: &[&str], file: &str, last: &[&str]) {
        let output = Command::new("openssl")
            .current_dir(self.directory.path())
            .args(first)
            .args(second)
            .arg(file)
            .args(last)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn shown(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

/// Ends TLS on a new port and passes the rest on to `target`.
pub(super) async fn tls_front(
    certificates_of: &Certificates,
    target: u16,
    alpn: &str,
    ask_client: bool,
) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if ask_client {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&certificates_of.path("ca.pem")));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(certificates_of.path("server.key")).unwrap();
    let mut config =
        builder.with_single_cert(certificates(&certificates_of.path("server.pem")), key).unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await.unwrap();
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    port
}
