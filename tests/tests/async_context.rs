//! Answers to HTTP requests with and without the async context of the request, against what `AsyncLocalStorage` itself says.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Report, Workload, on_every_node, on_one_node,
    report::{assert_nothing_lost, assert_quiet},
    wait::eventually,
    workload::number,
};

on_every_node!(answers_without_a_context_are_those_that_node_counts);

mod debian {
    use super::*;
    on_one_node!(Node::debian() => answers_without_a_context_are_those_that_node_counts);
}

mod stripped {
    use super::*;
    on_one_node!(Node::stripped(24) => answers_without_a_context_are_those_that_node_counts);
}

const PATIENCE: Duration = Duration::from_secs(20);
const REQUESTS: usize = 100;

/// A connection that is kept alive.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit can be set");
        Self(BufReader::new(stream))
    }

    /// Asks, and reads the answer to its end.
    fn ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).expect("it can be asked");
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("it answers");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().expect("a number"),
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).expect("the body comes");
    }
}

fn counts(report: &Report, pid: u32) -> Option<[f64; 3]> {
    let counts = &report.process(pid)?["async_context"];
    Some(["answers", "with_context", "without_context"].map(|name| number(counts, name)))
}

fn answers_without_a_context_are_those_that_node_counts(node: &Node) {
    let mut workload = Workload::plan(node, "failure-modes/async-context-loss.js").start();
    let ready = workload.wait_for("ready");
    let mut client = Client::connect(number(&ready, "port") as u16);
    let idle = Workload::idle(node);
    let agent = Agent::observing([&workload, &idle]);
    let pid = workload.pid();
    // Its first request tells the agent where to look.
    eventually("answers to be seen", PATIENCE, || {
        client.ask("/order");
        let reports = agent.reports_since(0);
        reports
            .iter()
            .any(|report| counts(report, pid).is_some_and(|[answers, ..]| answers > 0.5))
            .then_some(())
    });
    let is_quiet = |report: &Report| {
        let [answers, ..] = counts(report, pid)?;
        (answers < 0.5).then_some(())
    };
    agent.wait_for_after(agent.mark(), "the last of those to be counted", PATIENCE, is_quiet);
    workload.say("report");
    let before = workload.wait_for("report");
    let mark = agent.mark();
    for _ in 0..REQUESTS {
        client.ask("/order");
        thread::sleep(Duration::from_millis(5));
    }
    agent.wait_for_after(agent.mark(), "the last answer to be counted", PATIENCE, is_quiet);
    workload.say("report");
    let after = workload.wait_for_nth("report", 2).pop().expect("there are two");
    let of_node = |name: &str| number(&after["callbacks"], name) - number(&before["callbacks"], name);
    let reports = agent.reports_since(mark);
    let sums = reports.iter().filter_map(|report| counts(report, pid));
    let [answers, kept, lost] = sums.fold([0.0; 3], |sums, more| std::array::from_fn(|i| sums[i] + more[i]));
    assert!((of_node("without_store") - REQUESTS as f64).abs() < 0.5, "{before} {after}");
    assert!(
        (lost - of_node("without_store")).abs() < 0.5 && (answers - lost).abs() < 0.5 && kept < 0.5,
        "{answers} answers, {kept} kept, {lost} lost of {}, {}",
        of_node("without_store"),
        node.label
    );
    for report in &reports {
        assert_eq!(counts(report, idle.pid()).map(|[answers, ..]| answers > 0.5), Some(false), "it is idle");
    }
    assert_quiet(&reports, idle.pid());
    assert_nothing_lost(&reports);
    agent.end();
}
