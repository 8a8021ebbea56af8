//! Against a server that speaks the protocol of lists and watches, because it has to fail on command. A real one is asked by
//! `cargo xtask test --cluster`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::*;
use crate::kubernetes::describe::tests::api_pod;

const UID: &str = "0a1b2c3d-1111-4222-8333-444455556666";

/// What a server says to a watch from a version that it has forgotten.
const EXPIRED: &str = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;

/// What the server has, and what it was asked.
#[derive(Default)]
struct State {
    listed: Mutex<Vec<String>>,
    /// Lines for whoever watches.
    events: Mutex<Vec<String>>,
    requests: Mutex<Vec<String>>,
    is_down: AtomicBool,
}

/// The server, until it is dropped: then its connections end, and new ones are refused.
struct Server {
    state: Arc<State>,
    address: SocketAddr,
    accepting: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        let shared = Arc::clone(&state);
        let accepting = std::thread::spawn(move || {
            while !shared.is_down.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let state = Arc::clone(&shared);
                        // It ends with its connection.
                        drop(std::thread::spawn(move || answer(&stream, &state)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self { state, address, accepting: Some(accepting) }
    }

    fn client(&self) -> Client {
        let mut config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        config.read_timeout = Some(Duration::from_secs(20));
        Client::try_from(config).unwrap()
    }

    fn has(&self, pod: &ApiPod) {
        *self.state.listed.lock().unwrap() = vec![serde_json::to_string(pod).unwrap()];
    }

    fn tells(&self, what: &str, pod: &ApiPod) {
        let pod = serde_json::to_string(pod).unwrap();
        self.state.events.lock().unwrap().push(format!(r#"{{"type":"{what}","object":{pod}}}"#));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.is_down.store(true, Ordering::Relaxed);
        self.accepting.take().unwrap().join().unwrap();
    }
}

/// One connection, request after request. Errors are those of a client that has gone.
fn answer(stream: &TcpStream, state: &State) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        state.requests.lock().unwrap().push(request.clone());
        let mut stream = stream;
        if request.contains("watch=true") {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            while !state.is_down.load(Ordering::Relaxed) {
                let events = std::mem::take(&mut *state.events.lock().unwrap());
                for event in &events {
                    stream.write_all(format!("{:x}\r\n{event}\n\r\n", event.len() + 1).as_bytes()).ok()?;
                    if event.contains(EXPIRED) {
                        stream.write_all(b"0\r\n\r\n").ok()?;
                        return None;
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            return None;
        }
        let items = state.listed.lock().unwrap().join(",");
        let body = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{items}]}}"#
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).ok()?;
    }
}

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn pods_of_the_node_are_listed_watched_and_kept_while_the_server_is_away() {
    let pods = Shared::default();
    let is_known = || pods.lock().find(UID).is_some();
    let server = Server::start(0);
    server.has(&api_pod("", "shop"));
    let (client, shared, port) = (server.client(), pods.clone(), server.address.port());
    let watching = tokio::spawn(async move { watch(client, "worker-3", &shared).await });
    wait_until("the list is taken in", is_known).await;
    let asked = server.state.requests.lock().unwrap()[0].clone();
    assert!(asked.starts_with("GET /api/v1/pods?"), "{asked}");
    assert!(asked.contains("fieldSelector=spec.nodeName%3Dworker-3"), "only of this node: {asked}");

    server.tells("DELETED", &api_pod("", "shop"));
    wait_until("a pod is gone", || !is_known()).await;
    server.tells("ADDED", &api_pod("", "shop:2"));
    wait_until("a pod has come", is_known).await;
    assert_eq!(pods.lock().find(UID).unwrap().containers[1].image, "shop:2");

    drop(server);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(is_known(), "the server is away, not the pod");
    let server = Server::start(port);
    let is_image = |image: &str| pods.lock().find(UID).is_some_and(|pod| pod.containers[1].image == image);
    server.tells("MODIFIED", &api_pod("", "shop:3"));
    wait_until("the watch goes on", || is_image("shop:3")).await;
    server.has(&api_pod("", "shop:4"));
    server.state.events.lock().unwrap().push(EXPIRED.to_owned());
    wait_until("it is listed anew", || is_image("shop:4")).await;
    watching.abort();
}
