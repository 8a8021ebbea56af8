//! What is served under which path, apart from HTTP.

use std::{
    io::Write as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use hyper::{Method, StatusCode, body::Bytes};
use tokio::{sync::Mutex, time::Instant};

use super::{accept::Format, page::Page};
use crate::export::heartbeat::Heartbeat;

/// Scrapes that come faster share what was read: a snapshot takes the lock that the probes' events need, too.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Reads a snapshot and hands it to all who have to see it, the page among them. Blocks.
pub type Read = dyn Fn() + Send + Sync;

/// The pages, whether there is anything on them yet, and whether what makes them still works.
pub struct Site {
    page: Arc<Page>,
    heartbeat: Arc<Heartbeat>,
    read: OnceLock<Arc<Read>>,
    /// Held while a page is made, so that one is made at a time.
    made: Mutex<Made>,
}

/// Pages that may be shared.
#[derive(Default)]
struct Made {
    read: Option<Instant>,
    /// By format, plain and compressed.
    bodies: [[Option<Bytes>; 2]; Format::ALL.len()],
}

/// What a scraper wants and takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) format: Format,
    pub(super) gzip: bool,
}

/// An answer, before it is HTTP.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) gzip: bool,
    pub(super) body: Bytes,
}

impl Answer {
    fn new(status: StatusCode, body: &'static str) -> Self {
        let body = Bytes::from_static(body.as_bytes());
        Self { status, content_type: "text/plain; charset=utf-8", gzip: false, body }
    }
}

const PATHS: &str = "there is /metrics for Prometheus, /healthz and /readyz\n";
const STARTING: &str = "not ready: nodeprobe is still attaching its probes\n";

impl Site {
    pub fn new(page: Arc<Page>, heartbeat: Arc<Heartbeat>) -> Self {
        Self { page, heartbeat, read: OnceLock::new(), made: Mutex::default() }
    }

    /// Everything is attached and a first snapshot was read: from now on there are metrics.
    pub fn open(&self, read: Arc<Read>) {
        // It is said once; if it were said again, the first would do.
        drop(self.read.set(read));
    }

    pub(super) async fn answer(&self, method: &Method, path: &str, wanted: Wanted) -> Answer {
        if !matches!(path, "/" | "/metrics" | "/healthz" | "/readyz") {
            return Answer::new(StatusCode::NOT_FOUND, PATHS);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Answer::new(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD do anything here\n");
        }
        match (path, self.read.get()) {
            ("/healthz", _) => self.health(),
            ("/", _) => Answer::new(StatusCode::OK, PATHS),
            (_, None) => Answer::new(StatusCode::SERVICE_UNAVAILABLE, STARTING),
            ("/readyz", Some(_)) => Answer::new(StatusCode::OK, "ready\n"),
            (_, Some(read)) => self.metrics(Arc::clone(read), method, wanted).await,
        }
    }

    /// Who serves this and who observes are different threads, so that one answers for the other.
    fn health(&self) -> Answer {
        let Some(silence) = self.heartbeat.silence() else { return Answer::new(StatusCode::OK, "ok\n") };
        let sentence = format!("no reading has finished for {} s: nodeprobe hangs", silence.as_secs());
        // Whoever restarts it for that leaves the log behind.
        tracing::error!("{sentence}");
        let body = Bytes::from(format!("not healthy: {sentence}\n"));
        Answer { body, ..Answer::new(StatusCode::SERVICE_UNAVAILABLE, "") }
    }

    async fn metrics(&self, read: Arc<Read>, method: &Method, wanted: Wanted) -> Answer {
        let Wanted { format, gzip } = wanted;
        let mut answer =
            Answer { content_type: format.content_type(), gzip, ..Answer::new(StatusCode::OK, "") };
        // Nothing is shown, so nothing must count as shown.
        if *method == Method::HEAD {
            return answer;
        }
        let mut made = self.made.lock().await;
        let is_fresh = made.read.is_some_and(|at| at.elapsed() < SHARED_FOR);
        if let Some(body) = made.bodies[format as usize][usize::from(gzip)].as_ref().filter(|_| is_fresh) {
            answer.body = body.clone();
            return answer;
        }
        let page = Arc::clone(&self.page);
        let rendered = tokio::task::spawn_blocking(move || {
            if !is_fresh {
                read();
            }
            let text = page.render(format);
            if gzip { compressed(&text) } else { Bytes::from(text) }
        });
        match rendered.await {
            Ok(body) => {
                answer.body = body.clone();
                if !is_fresh {
                    *made = Made { read: Some(Instant::now()), ..Made::default() };
                }
                made.bodies[format as usize][usize::from(gzip)] = Some(body);
                answer
            }
            Err(error) => {
                tracing::error!(%error, "the page for Prometheus could not be made");
                Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made; see the log\n")
            }
        }
    }
}

/// The series of a process repeat its labels in every line: at the fastest level a page is a tenth.
fn compressed(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("writing to memory cannot fail");
    Bytes::from(encoder.finish().expect("writing to memory cannot fail"))
}
