//! The cheapest collector: takes OTLP over HTTP and forgets it.

use anyhow::{Result, bail};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(super) struct Sink {
    port: u16,
    requests: Arc<AtomicU64>,
}

impl Sink {
    /// Serves until the benchmark ends.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                // A connection that breaks is the agent's to open again.
                thread::spawn(move || drop(serve(&stream, &counter)));
            }
        });
        Ok(Self { port, requests })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn wait_for_requests(&self, count: u64, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while self.requests.load(Ordering::Relaxed) < count {
            if Instant::now() > deadline {
                bail!("fewer than {count} requests within {} s", within.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn serve(stream: &TcpStream, requests: &AtomicU64) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        std::io::copy(&mut Read::by_ref(&mut reader).take(length), &mut std::io::sink())?;
        requests.fetch_add(1, Ordering::Relaxed);
        // An empty message is a complete success in OTLP.
        (&mut &*stream).write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
        )?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_on_one_connection_are_answered_and_counted() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", sink.port())).unwrap();
        let request = b"POST /v1/metrics HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nabc";
        for count in 1..=2 {
            stream.write_all(request).unwrap();
            sink.wait_for_requests(count, Duration::from_secs(5)).unwrap();
        }
        assert_eq!(sink.requests.load(Ordering::Relaxed), 2);
    }
}
