//! What waits: work for libuv's pool of threads, and data in sockets that nobody reads.

use std::{io::Read as _, net::TcpStream, os::fd::AsRawFd as _, time::Duration};

use nodeprobe_tests::{
    Agent, Node, Report, Workload, on_every_node,
    report::{assert_nothing_lost, assert_quiet},
    wait::eventually,
    workload::number,
};
use serde_json::Value;

on_every_node!(work_for_the_pool_is_that_of_node, a_full_socket_is_told_with_its_peer_until_it_drains);

/// Sums a counter of a process over reports.
fn sum(reports: &[Report], pid: u32, pointer: &str) -> f64 {
    reports.iter().filter_map(|report| report.process(pid)?.pointer(pointer)?.as_f64()).sum()
}

fn work_for_the_pool_is_that_of_node(node: &Node) {
    /// Until the callback of a stat that has waited, Node has to be woken and to run it.
    const LATER_MS: f64 = 20.0;
    let mut workload = Workload::plan(node, "queues.js").env("UV_THREADPOOL_SIZE", "1").start();
    workload.wait_for("ready");
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    workload.say("work");
    let worked = workload.wait_for("worked");
    let reports = agent.reports_since(0);
    let pid = workload.pid();
    for kind in ["fs", "dns", "crypto", "zlib"] {
        let tasks = sum(&reports, pid, &format!("/thread_pool/by_type/{kind}/tasks"));
        assert!(
            (tasks - number(&worked["tasks"], kind)).abs() < 0.5,
            "{kind}: {tasks}, {worked}, {}",
            node.label
        );
    }
    let all: f64 = worked["tasks"].as_object().expect("by kind").values().filter_map(Value::as_f64).sum();
    assert!((sum(&reports, pid, "/thread_pool/tasks") - all).abs() < 0.5, "{worked}, {}", node.label);
    let of_process = reports.iter().filter_map(|report| report.process(pid));
    let longest_ms =
        of_process.filter_map(|process| process["thread_pool"]["wait_max_s"].as_f64()).fold(0.0, f64::max)
            * 1e3;
    // The last of it waited longer than the first stat, and not longer than all of it took.
    let (waited_ms, ended_ms) = (number(&worked, "waited_ms"), number(&worked, "ended_ms"));
    assert!(waited_ms > 50.0, "the thread was not busy: {worked}");
    assert!(
        (waited_ms - LATER_MS..ended_ms).contains(&longest_ms),
        "waited for {longest_ms} ms, Node says {worked}, {}",
        node.label
    );
    let busy_s = sum(&reports, pid, "/thread_pool/by_type/crypto/busy_s")
        + sum(&reports, pid, "/thread_pool/by_type/other/busy_s");
    assert!((waited_ms / 1e3 - busy_s).abs() < 0.1 * waited_ms / 1e3 + 0.02, "busy for {busy_s} s, {worked}");
    assert!(
        sum(&reports, idle.pid(), "/thread_pool/tasks").abs() < 0.5,
        "the idle process has handed in nothing"
    );
    assert_quiet(&reports, idle.pid());
    assert_nothing_lost(&reports);
    agent.end();
}

/// What waits in a socket to be read.
fn readable_bytes(socket: &TcpStream) -> f64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one integer to a valid place.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    assert_eq!(result, 0, "FIONREAD: {}", std::io::Error::last_os_error());
    f64::from(bytes)
}

fn a_full_socket_is_told_with_its_peer_until_it_drains(node: &Node) {
    let mut workload = Workload::plan(node, "queues.js").start();
    let port = number(&workload.wait_for("ready"), "port") as u16;
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    let mut reader = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let peer = reader.local_addr().expect("it is connected").to_string();
    let backlog = |report: &Report| {
        let backlogs = report.process(workload.pid())?["sockets"]["backlogs"].as_array()?.clone();
        backlogs.into_iter().find(|backlog| backlog["peer"] == peer.as_str())
    };
    agent.wait_for("the socket to be full", Duration::from_secs(10), &backlog);
    // Until nothing moves any more.
    let mut readable = -1.0;
    eventually("the sockets to come to rest", Duration::from_secs(10), || {
        let before = std::mem::replace(&mut readable, readable_bytes(&reader));
        (readable > 0.0 && (readable - before).abs() < 0.5).then_some(())
    });
    let mark = agent.mark();
    let full = agent.wait_for_after(mark, "a second look", Duration::from_secs(10), &backlog);
    workload.say("report");
    let report = workload.wait_for("report");
    let taken = report["taken"][0].as_f64().expect("one has connected");
    let expected = taken - readable_bytes(&reader);
    let queued = number(&full, "queued_bytes");
    assert!(expected > 65536.0, "{report}");
    assert!((queued - expected).abs() <= 0.05 * expected, "{queued} bytes, truly {expected}, {}", node.label);
    let (in_libuv, truly) = (number(&full, "libuv_queued_bytes"), report["queued"][0].as_f64());
    assert!(truly.is_some_and(|bytes| bytes > 1e6), "the kernel does not take all: {report}");
    assert_eq!(Some(in_libuv), truly, "in libuv's queue, {}", node.label);
    let mut left = 16 << 20;
    let mut buffer = vec![0; 1 << 20];
    reader.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit can be set");
    while left > 0 {
        left -= reader.read(&mut buffer).expect("the rest comes");
    }
    let mark = agent.mark();
    agent.wait_for_after(mark, "the socket to be drained", Duration::from_secs(10), |report| {
        report.process(workload.pid())?["sockets"]["backlogs"].as_array()?.is_empty().then_some(())
    });
    let reports = agent.reports_since(0);
    let refused = |pid: u32| sum(&reports, pid, "/sockets/eagain");
    assert!(refused(workload.pid()) >= 1.0);
    assert!(refused(idle.pid()).abs() < 0.5, "the idle process has no socket");
    assert_nothing_lost(&reports);
    agent.end();
}
