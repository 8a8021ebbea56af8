//! The share of the processor's time that goes into log lines, against Node's own measurement of the same calls.

use std::{
    io::{self, PipeReader, Read as _, Write as _},
    thread,
    time::Duration,
};

use nodeprobe_tests::{
    Agent, Node, Workload, load::Load, on_one_node, report::Report, wait::observe_for, workload::number,
};
use serde_json::Value;

// Four minutes: three services at once.
on_one_node!(Node::of_major(24) => what_goes_into_log_lines_is_told);

/// Bar, a share.
const ERROR: f64 = 0.05;
/// In short turns, as the logger's, and most of the others on a quick machine, a sample stands for 32 ms. Of a share of a half 1000 samples
/// are needed to know it to 1.6 points, a third of the bar. A quick machine spends 8 s of processor time a minute on either service, so
/// it takes four. Not twice the requests instead: then a line costs twice as much, because its reader has to be woken, and turns last
/// longer than 8 ms; there the tick tells too little of it (docs/overhead.md, "Two clocks"): 31.1 % were told of 34.1.
const LOAD: Duration = Duration::from_mins(4);
/// Seconds between two reports: who writes has to be seen in each.
const INTERVAL: &str = "5";
const CONNECTIONS: usize = 8;

struct Service {
    what: &'static str,
    workload: Workload,
    _load: Load,
}

impl Service {
    fn start(node: &Node, what: &'static str, rate: f64) -> Self {
        let (reading, writing) = io::pipe().expect("a pipe can be made");
        thread::spawn(move || read_all(reading));
        // Node's clock is that of the process: its helpers must not work beside the thread that is measured.
        let plan = Workload::plan(node, "logging.js").flag("--single-threaded").args([what]);
        let workload = plan.stdout(std::os::fd::OwnedFd::from(writing)).start();
        let ready = workload.wait_for("ready");
        let path = ready["path"].as_str().expect("it says what to ask for");
        let load = Load::start(number(&ready, "port") as u16, path, rate, CONNECTIONS);
        Self { what, workload, _load: load }
    }

    /// The share by Node's clock, the one told, and the function that is told to log most.
    fn end(mut self, reports: &[Report]) -> (f64, f64, Value) {
        self.workload.say("report");
        let report = self.workload.wait_for("report");
        let truth = number(&report, "logging_cpu_s") / number(&report, "cpu_s");
        let pid = self.workload.pid();
        let of_service = || reports.iter().filter_map(move |report| report.process(pid));
        let sum =
            |field: &str| of_service().filter_map(|process| process["logging"][field].as_f64()).sum::<f64>();
        let (logging_s, sampled_s) = (sum("cpu_s"), sum("sampled_s"));
        let told = logging_s / sampled_s;
        tell(&format!(
            "{}: {told:.3} of {sampled_s:.1} s told, {truth:.3} of {:.1} s by Node",
            self.what,
            number(&report, "cpu_s")
        ));
        let most = of_service().max_by(|a, b| {
            let cpu_s = |process: &Value| process["logging"]["cpu_s"].as_f64().unwrap_or(0.0);
            cpu_s(a).total_cmp(&cpu_s(b))
        });
        let function =
            most.map_or(Value::Null, |process| process["logging"]["top_function"]["function"].clone());
        self.workload.end();
        (truth, told, function)
    }
}

fn read_all(mut reading: PipeReader) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(1..) = reading.read(&mut buffer) {}
}

/// Prints a measurement, be the test a success or not: the deviations are of interest.
fn tell(text: &str) {
    // Not eprint!: the test runner would swallow it.
    io::stderr().write_all(format!("  {text}\n").as_bytes()).expect("stderr can be written");
}

fn what_goes_into_log_lines_is_told(node: &Node) {
    let idle = Workload::idle(node);
    let agent = Agent::every(INTERVAL);
    agent.wait_for_process(idle.pid());
    let first = agent.mark();
    let services = [("console", 16.0), ("logger", 1600.0), ("silent", 500.0)];
    let services = services.map(|(what, rate)| Service::start(node, what, rate));
    observe_for(LOAD);
    let reports = agent.reports_since(first);
    for service in services {
        let what = service.what;
        let (truth, told, function) = service.end(&reports);
        if what == "silent" {
            assert!(told < 0.01, "{told} of a service that logs nothing");
            continue;
        }
        assert!(truth > 0.2, "it does not log much: {truth}, {what}");
        assert!((told - truth).abs() <= ERROR, "{told} told, {truth} by Node's clock, {what}");
        assert_eq!(function, if what == "console" { "book" } else { "logRequest" });
    }
    agent.end();
}
