//! The page over HTTP. Nobody who connects is trusted, neither to be quick nor to mean well: connections, sizes and
//! times are bounded, and nothing that observes or exports waits for any of this.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{
        ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE,
        HeaderValue,
    },
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    accept::{Format, takes_gzip},
    site::{Site, Wanted},
};

/// At once; a scraper or two and the probes of Kubernetes need a handful. More wait in the kernel.
const CONNECTIONS: usize = 32;
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// For a connection with everything; Prometheus gives up after 10 s by default.
const CONNECTION_TIME: Duration = Duration::from_secs(20);
/// Of the head of a request, whose body nobody reads.
const HEAD_BYTES: usize = 16 << 10;
/// After an error that the next connection would meet, too: no descriptor left, for example.
const REST: Duration = Duration::from_millis(200);

/// Why the page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "another program listens on {0} already: give --prometheus (NODEPROBE_PROMETHEUS) another port, or end that \
         program; `ss -ltnp` tells which it is"
    )]
    Busy(SocketAddr),
    #[error(
        "{0} is no address of this host: --prometheus (NODEPROBE_PROMETHEUS) takes one that is, or 0.0.0.0 for all"
    )]
    NotOurs(SocketAddr),
    #[error("the page for Prometheus cannot be served on {address}")]
    Io { address: SocketAddr, source: io::Error },
}

/// A socket that listens, before anything is served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// # Errors
    /// What is wrong with the address, and what to do.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Self { listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::Busy(address)),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                Err(ListenError::NotOurs(address))
            }
            Err(source) => Err(ListenError::Io { address, source }),
        }
    }

    /// Where it listens; the port is known also where 0 was asked for.
    ///
    /// # Errors
    /// Of getsockname(2), which has no reason to fail.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever.
    pub async fn serve(self, site: Arc<Site>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let site = Arc::clone(&site);
                    tokio::spawn(async move {
                        if timeout(CONNECTION_TIME, converse(stream, site)).await.is_err() {
                            tracing::debug!("a scrape took too long and was cut off");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(REST).await;
                }
            }
        }
    }
}

/// One request: a connection that stays open would hold a place that others may need.
async fn converse(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(|request| respond(request, &site));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the page for Prometheus ended early");
    }
}

async fn respond(request: Request<Incoming>, site: &Site) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name| {
        let values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let wanted =
        Wanted { format: Format::accepted(&header(ACCEPT)), gzip: takes_gzip(&header(ACCEPT_ENCODING)) };
    let answer = site.answer(request.method(), request.uri().path(), wanted).await;
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if answer.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if answer.status == hyper::StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}
