//! What is served under which path, apart from HTTP.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper::{Method, StatusCode};
use tokio::{sync::Mutex, time::Instant};

use super::{accept::Format, page::Page};

/// Scrapes that come faster share what was read: a snapshot takes the lock that the probes' events need, too.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Reads a snapshot and hands it to all who have to see it, the page among them. Blocks.
pub type Read = dyn Fn() + Send + Sync;

/// The pages, and whether there is anything on them yet.
pub struct Site {
    page: Arc<Page>,
    read: OnceLock<Arc<Read>>,
    /// Held while a page is made, so that one is made at a time.
    made: Mutex<Made>,
}

/// Pages that may be shared.
#[derive(Default)]
struct Made {
    read: Option<Instant>,
    /// By format.
    texts: [Option<Arc<str>>; Format::ALL.len()],
}

/// An answer, before it is HTTP.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Arc<str>,
}

impl Answer {
    fn new(status: StatusCode, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: Arc::from(body) }
    }
}

const PATHS: &str = "there is /metrics for Prometheus, /healthz and /readyz\n";
const STARTING: &str = "not ready: nodeprobe is still attaching its probes\n";

impl Site {
    pub fn new(page: Arc<Page>) -> Self {
        Self { page, read: OnceLock::new(), made: Mutex::default() }
    }

    /// Everything is attached and a first snapshot was read: from now on there are metrics.
    pub fn open(&self, read: Arc<Read>) {
        // It is said once; if it were said again, the first would do.
        drop(self.read.set(read));
    }

    pub(super) async fn answer(&self, method: &Method, path: &str, accept: &str) -> Answer {
        if !matches!(path, "/" | "/metrics" | "/healthz" | "/readyz") {
            return Answer::new(StatusCode::NOT_FOUND, PATHS);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Answer::new(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD do anything here\n");
        }
        match (path, self.read.get()) {
            ("/healthz", _) => Answer::new(StatusCode::OK, "ok\n"),
            ("/", _) => Answer::new(StatusCode::OK, PATHS),
            (_, None) => Answer::new(StatusCode::SERVICE_UNAVAILABLE, STARTING),
            ("/readyz", Some(_)) => Answer::new(StatusCode::OK, "ready\n"),
            (_, Some(read)) => self.metrics(Arc::clone(read), method, Format::accepted(accept)).await,
        }
    }

    async fn metrics(&self, read: Arc<Read>, method: &Method, format: Format) -> Answer {
        let mut answer = Answer { content_type: format.content_type(), ..Answer::new(StatusCode::OK, "") };
        // Nothing is shown, so nothing must count as shown.
        if *method == Method::HEAD {
            return answer;
        }
        let mut made = self.made.lock().await;
        let is_fresh = made.read.is_some_and(|at| at.elapsed() < SHARED_FOR);
        if let Some(text) = made.texts[format as usize].as_ref().filter(|_| is_fresh) {
            answer.body = Arc::clone(text);
            return answer;
        }
        let page = Arc::clone(&self.page);
        let rendered = tokio::task::spawn_blocking(move || {
            if !is_fresh {
                read();
            }
            page.render(format)
        });
        match rendered.await {
            Ok(text) => {
                answer.body = Arc::from(text);
                if !is_fresh {
                    *made = Made { read: Some(Instant::now()), ..Made::default() };
                }
                made.texts[format as usize] = Some(Arc::clone(&answer.body));
                answer
            }
            Err(error) => {
                tracing::error!(%error, "the page for Prometheus could not be made");
                Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made; see the log\n")
            }
        }
    }
}
