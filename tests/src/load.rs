//! HTTP requests at a steady rate, from threads of the test: a client that is Node would be observed as well.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Sends requests until it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

/// A service under load answers late, and a client must end all the same.
const PATIENCE: Duration = Duration::from_secs(5);

impl Load {
    /// `rate` requests per second for `path`, over `connections` that are kept alive. A connection whose answer is late sends
    /// its next request at once.
    pub fn start(port: u16, path: &str, rate: f64, connections: usize) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let period = Duration::from_secs_f64(connections as f64 / rate);
        let clients = (0..connections)
            .map(|index| {
                let (stop, answers, path) = (Arc::clone(&stop), Arc::clone(&answers), path.to_owned());
                let offset = period.mul_f64(index as f64 / connections as f64);
                thread::spawn(move || client(port, &path, period, offset, &stop, &answers))
            })
            .collect();
        Self { stop, answers, clients }
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has sent nothing more; the test sees that by what it measures.
            drop(client.join());
        }
    }
}

fn client(port: u16, path: &str, period: Duration, offset: Duration, stop: &AtomicBool, answers: &AtomicU64) {
    let mut connection = None;
    let mut next = Instant::now() + offset;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now < next {
            thread::sleep((next - now).min(Duration::from_millis(100)));
            continue;
        }
        next = (next + period).max(now);
        let Some(stream) = connection.take().or_else(|| connect(port)) else {
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        if let Some(stream) = ask(stream, path) {
            answers.fetch_add(1, Ordering::Relaxed);
            connection = Some(stream);
        }
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Sends one request and reads its answer; `None`: the connection is of no more use.
fn ask(mut stream: TcpStream, path: &str) -> Option<TcpStream> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&chunk[..read]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())?;
        if answer.len() >= end + 4 + length {
            return Some(stream);
        }
    }
}
