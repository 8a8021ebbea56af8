//! Stacks of real Node.js, against what V8 itself says of them. The workload tells its `Error.stack` before its hot line
//! begins; it is then stopped at random moments, only to take the registers, which in production the kernel side has.

use std::{
    collections::BTreeMap,
    fs::File,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use nodeprobe_ebpf::{
    RawFrame,
    sample::{IMAGE_BYTES, IMAGE_FRAMES},
    walk::{self, MAX_FRAMES, walk},
};
use serde_json::Value;

use super::{
    Decoded, JavaScript, Layout, RawStack, StackReader, V8File,
    memory::{Memory as _, ProcessMemory},
};
use crate::{
    binary::{self, Binary},
    procfs::{ProcessDir, live},
};

const WORKLOAD: &str = include_str!("workload.js");

struct Stack(ProcessMemory);

impl walk::Memory for Stack {
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        super::memory::Memory::words(&self.0, address)
    }
}

/// A thread of a child of ours, traced.
struct Traced(libc::pid_t);

impl Traced {
    fn seize(tid: u32) -> Self {
        let tid = tid.cast_signed();
        ptrace(libc::PTRACE_SEIZE, tid, 0);
        Self(tid)
    }

    /// Stops the thread, hands out its registers (pc, sp, fp), and lets it go on.
    fn stopped<R>(&self, look: impl FnOnce([u64; 3]) -> R) -> R {
        ptrace(libc::PTRACE_INTERRUPT, self.0, 0);
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result; the thread is one that this thread traces.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        assert_eq!(waited, self.0, "the traced thread has ended");
        // SAFETY: all zeros is a valid value of this struct of integers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        ptrace(libc::PTRACE_GETREGS, self.0, (&raw mut registers) as usize);
        let result = look([registers.rip, registers.rsp, registers.rbp]);
        ptrace(libc::PTRACE_CONT, self.0, 0);
        result
    }
}

impl Drop for Traced {
    /// A thread that is still traced when its process is killed is not reaped.
    fn drop(&mut self) {
        // SAFETY: as in `ptrace` and `stopped`; a thread that has ended makes the calls fail, which is as well.
        unsafe {
            libc::ptrace(libc::PTRACE_INTERRUPT, self.0, 0, 0);
            libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0);
        }
    }
}

fn ptrace(request: libc::c_uint, tid: libc::pid_t, data: usize) {
    // SAFETY: the requests used take no address, and `data` is 0 or a place for the registers.
    let result = unsafe { libc::ptrace(request, tid, 0, data) };
    assert_eq!(result, 0, "ptrace {request}: {}", std::io::Error::last_os_error());
}

/// Takes a sample as the kernel side does.
struct Sample {
    pc: u64,
    sp: u64,
    fp: u64,
    frames: Vec<RawFrame>,
    image: Vec<u8>,
}

fn sample(memory: ProcessMemory, [pc, sp, fp]: [u64; 3]) -> Sample {
    let mut frames = vec![RawFrame::ZERO; MAX_FRAMES];
    let count = walk(&Stack(memory), pc, fp, |index, frame| frames[index] = frame);
    frames.truncate(count);
    let mut image = Vec::new();
    if count <= IMAGE_FRAMES && !frames.iter().any(RawFrame::may_be_javascript) {
        image.resize(IMAGE_BYTES, 0);
        while !image.is_empty() && !memory.read(sp, &mut image) {
            image.truncate(image.len().saturating_sub(256));
        }
    }
    Sample { pc, sp, fp, frames, image }
}

/// One line of `Error.stack`: function, script, line, column.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    function: String,
    script: String,
    line: u32,
    column: u32,
}

impl Expected {
    /// `    at Class.method [as alias] (file:1:2)`, `    at file:1:2`; `None` for builtins and async callers.
    fn parse(line: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("at ")?;
        if rest.starts_with("async ") {
            return None;
        }
        let (function, place) = match rest.strip_suffix(')').and_then(|rest| rest.split_once(" (")) {
            Some((function, place)) => (function, place),
            None => ("", rest),
        };
        // `eval at f (file:1:2), <anonymous>:3:4`
        let place = place.rsplit_once(", ").map_or(place, |(_, place)| place);
        let mut parts = place.rsplitn(3, ':');
        let column = parts.next()?.trim_end_matches(')').parse().ok()?;
        let line = parts.next()?.parse().ok()?;
        let function = function.split(" [as ").next()?.trim_start_matches("new ");
        let function = function.rsplit('.').next()?.to_owned();
        Some(Self { function, script: parts.next()?.trim_start_matches("file://").to_owned(), line, column })
    }
}

#[derive(Debug, Default)]
struct Rates {
    samples: u64,
    /// Of those on a processor within a scenario.
    within: u64,
    /// .. and that have a frame of JavaScript.
    decoded: u64,
    frames: u64,
    names_wrong: u64,
    lines_right: u64,
    columns_right: u64,
    lines_wrong: u64,
    lines_unknown: u64,
    /// Frames that V8 tells and the decoder does not.
    missing: u64,
    hot_right: u64,
    hot_wrong: u64,
    hot_unknown: u64,
    rescued: u64,
    decode_ns: Vec<u64>,
    misses: BTreeMap<String, u64>,
    complaints: BTreeMap<String, u64>,
    scenarios: BTreeMap<String, u64>,
    names: BTreeMap<String, u64>,
}

impl Rates {
    fn complain(&mut self, what: String) {
        *self.complaints.entry(what).or_default() += 1;
    }

    fn compare(&mut self, scenario: &str, stack: &str, callees: &[&str], decoded: &Decoded) {
        self.within += 1;
        self.rescued += u64::from(decoded.rescued);
        let found: Vec<&JavaScript> = decoded.javascript().collect();
        if found.is_empty() {
            let frames: Vec<String> =
                decoded.frames.iter().take(8).map(|frame| format!("{frame:x?}")).collect();
            *self.misses.entry(format!("{scenario}: {}", frames.join(" < "))).or_default() += 1;
            return;
        }
        self.decoded += 1;
        *self.scenarios.entry(scenario.to_owned()).or_default() += 1;
        let rescued = decoded.rescued;
        for frame in &found {
            if rescued {
                *self
                    .names
                    .entry(format!("rescued {scenario} {}", frame.function.as_deref().unwrap_or("-")))
                    .or_default() += 1;
            }
            let kind = if frame.inlined { "inlined " } else { "" };
            *self.names.entry(format!("{kind}{}", frame.function.as_deref().unwrap_or("-"))).or_default() +=
                1;
        }
        // The first line is that of the function that tells.
        let expected: Vec<Expected> = stack.lines().skip(2).filter_map(Expected::parse).collect();
        if found
            .iter()
            .any(|frame| ["mark", "publish", "unmark"].contains(&frame.function.as_deref().unwrap_or("")))
        {
            return;
        }
        let mut inner = found.iter().rev();
        for (index, expected_frame) in expected.iter().rev().enumerate() {
            let Some(frame) = inner.next() else {
                self.missing += 1;
                self.complain(format!("{scenario}: missing {}", expected_frame.function));
                continue;
            };
            self.frames += 1;
            let is_hot = index + 1 == expected.len();
            let name = frame.function.as_deref().unwrap_or("");
            let last = name.rsplit('.').next().unwrap_or("");
            let same_name = last == expected_frame.function
                || expected_frame.function == "<anonymous>" && name.is_empty()
                || expected_frame.function == "eval" && name.is_empty()
                || name.ends_with(&expected_frame.function);
            if !same_name {
                self.names_wrong += 1;
                self.complain(format!("{scenario}: name {name:?} instead of {expected_frame:?}"));
                // What is further in cannot be compared.
                return;
            }
            let line = expected_frame.line + u32::from(is_hot);
            match frame.position {
                None if is_hot => {
                    self.hot_unknown += 1;
                    self.complain(format!(
                        "{scenario}: hot line unknown, leaf {:x?}",
                        decoded.frames.first()
                    ));
                }
                Some(place) if is_hot && place.line == line => self.hot_right += 1,
                Some(place) if is_hot => {
                    self.hot_wrong += 1;
                    self.complain(format!("{scenario}: hot line {} instead of {line}", place.line));
                }
                None => {
                    self.lines_unknown += 1;
                    self.complain(format!("{scenario}: line unknown in {name}"));
                }
                Some(place) if place.line == line => {
                    self.lines_right += 1;
                    self.columns_right += u64::from(place.column == expected_frame.column);
                }
                Some(place) => {
                    self.lines_wrong += 1;
                    self.complain(format!("{scenario}: {place:?} instead of {expected_frame:?}"));
                }
            }
        }
        for frame in inner {
            let name = frame.function.as_deref().unwrap_or("(anonymous)");
            let last = name.rsplit('.').next().unwrap_or(name);
            let internal = frame.script.as_deref().is_some_and(|script| script.starts_with("node:"));
            if !internal && !callees.contains(&last) && !callees.contains(&"*") {
                self.names_wrong += 1;
                self.complain(format!("{scenario}: unexpected {name:?} {frame:?}"));
            }
        }
    }
}

fn v8_file(process: &ProcessDir, binary: &Binary) -> V8File {
    let exe = process.exe().unwrap().path;
    let mappings = process
        .mappings(|mapping| {
            mapping.executable
                && (mapping.path == exe || mapping.path.to_string_lossy().contains("libnode.so"))
        })
        .unwrap();
    let mapping = mappings.iter().find(|mapping| mapping.path != exe).or(mappings.first()).unwrap();
    V8File {
        device: mapping.device,
        inode: mapping.inode,
        segments: binary.engine.code_segments.clone(),
        builtins: binary.engine.builtins.clone(),
    }
}

fn measure(node: &Path, options: &[&str], thread: bool, seconds: u64) -> Rates {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("workload.js");
    let record = dir.path().join("record");
    std::fs::write(&script, WORKLOAD).unwrap();
    let file = File::open(node).unwrap();
    let begin = Instant::now();
    let binary = binary::analyze(&file).unwrap();
    let analysis = begin.elapsed();
    let engine = &binary.engine;
    let layout =
        Layout::new(&engine.metadata, binary.v8_version.unwrap(), engine.bytecode_sizes.as_deref()).unwrap();
    assert!(layout.code.is_some(), "no layout of code");
    assert!(engine.metadata.len() > 400);
    println!("{}: analysed in {analysis:?}", node.display());
    let mut command = Command::new(node);
    command.args(options).arg(&script).arg(&record).stderr(Stdio::inherit());
    if thread {
        command.arg("worker");
    }
    let running = live::Running::start_and_wait(&mut command);
    let process = running.dir();
    let pid = process.pid();
    let mut file = v8_file(&process, &binary);
    if std::env::var_os("NODEPROBE_TEST_STRIPPED").is_some() {
        file.builtins = None;
    }
    let tid = if thread {
        std::thread::sleep(Duration::from_millis(800));
        busiest(&process)
    } else {
        pid
    };
    let mut reader = StackReader::new(process, Arc::new(layout), file);
    let memory = ProcessMemory::new(pid);
    let traced = Traced::seize(tid);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rates = Rates::default();
    let mut random = fastrand::Rng::with_seed(1);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_micros(random.u64(2_000..9_000)));
        // Decoded after the thread runs on, as in production.
        let late = std::env::var_os("NODEPROBE_TEST_LATE").is_some();
        let (sample, told, decoded) = traced.stopped(|registers| {
            let sample = sample(memory, registers);
            let told = std::fs::read(&record).unwrap_or_default();
            let decoded = if late { None } else { Some(read(&mut reader, &sample, &mut rates)) };
            (sample, told, decoded)
        });
        let decoded = decoded.unwrap_or_else(|| read(&mut reader, &sample, &mut rates));
        rates.samples += 1;
        let end = told.iter().position(|byte| *byte == 0).unwrap_or(told.len());
        let Ok(told) = serde_json::from_slice::<Value>(&told[..end]) else { continue };
        let callees: Vec<&str> =
            told["callees"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        rates.compare(
            told["scenario"].as_str().unwrap_or_default(),
            told["stack"].as_str().unwrap_or_default(),
            &callees,
            &decoded,
        );
    }
    rates
}

fn read(reader: &mut StackReader, sample: &Sample, rates: &mut Rates) -> Decoded {
    let begin = Instant::now();
    let stack = RawStack {
        pc: sample.pc,
        sp: sample.sp,
        fp: sample.fp,
        frames: &sample.frames,
        image: &sample.image,
    };
    let decoded = reader.read(&stack);
    rates.decode_ns.push(begin.elapsed().as_nanos() as u64);
    decoded
}

/// The thread that has used most of the processor.
fn busiest(process: &ProcessDir) -> u32 {
    let ticks = |tid: &u32| {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/task/{tid}/stat", process.pid())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        fields.get(11).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0)
    };
    process.thread_ids().unwrap().into_iter().max_by_key(ticks).unwrap()
}

/// Shares of everything that could be right, in percent.
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn print(node: &Path, rates: &mut Rates) {
    rates.decode_ns.sort_unstable();
    let decode_ns = |percentile: usize| rates.decode_ns[rates.decode_ns.len() * percentile / 100];
    let callers = rates.lines_right + rates.lines_wrong + rates.lines_unknown;
    let hot = rates.hot_right + rates.hot_wrong + rates.hot_unknown;
    println!(
        "{}: samples {}, within {}, decoded {:.2} %, frames {}, wrong names {}, missing {}",
        node.display(),
        rates.samples,
        rates.within,
        percent(rates.decoded, rates.within),
        rates.frames,
        rates.names_wrong,
        rates.missing,
    );
    println!(
        "  callers' lines right {:.2} % (wrong {}, unknown {}, columns right {:.2} %)",
        percent(rates.lines_right, callers),
        rates.lines_wrong,
        rates.lines_unknown,
        percent(rates.columns_right, rates.lines_right),
    );
    println!(
        "  hot lines right {:.2} % (wrong {}, unknown {}), rescued {}, decode median {} ns p99 {} ns",
        percent(rates.hot_right, hot),
        rates.hot_wrong,
        rates.hot_unknown,
        rates.rescued,
        decode_ns(50),
        decode_ns(99),
    );
    if std::env::var_os("NODEPROBE_TEST_VERBOSE").is_some() {
        println!("    {:?}\n    {:?}", rates.scenarios, rates.names);
    }
    for (what, count) in rates.misses.iter().chain(&rates.complaints) {
        println!("    {count} {}", what.chars().take(600).collect::<String>());
    }
}

/// `NODEPROBE_TEST_SECONDS` per version; `NODEPROBE_TEST_ONLY` is a part of the path of the binaries meant, `.._OPTIONS` goes
/// to Node.js. Set: `.._WORKER` looks at a worker thread, `.._LATE` decodes when the thread runs on, `.._STRIPPED` leaves
/// out where V8's builtins are, `.._VERBOSE` tells the functions.
#[test]
fn stacks_agree_with_what_v8_says_of_itself() {
    let seconds = std::env::var("NODEPROBE_TEST_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let only = std::env::var("NODEPROBE_TEST_ONLY").unwrap_or_default();
    let options = std::env::var("NODEPROBE_TEST_OPTIONS").unwrap_or_default();
    let options: Vec<&str> = options.split_whitespace().collect();
    let worker = std::env::var_os("NODEPROBE_TEST_WORKER").is_some();
    for node in live::nodes("stacks_agree_with_what_v8_says_of_itself") {
        // The layout of 16 is older than the oldest understood.
        if !node.to_string_lossy().contains(&only) || node.to_string_lossy().contains("/16.") {
            continue;
        }
        let mut rates = measure(&node, &options, worker, seconds);
        print(&node, &mut rates);
        let lines = rates.lines_right + rates.hot_right;
        let all = lines + rates.lines_wrong + rates.lines_unknown + rates.hot_wrong + rates.hot_unknown;
        assert!(rates.within > 50, "{}: too few samples", node.display());
        assert!(
            percent(rates.decoded, rates.within) >= 97.0,
            "{}: stacks without JavaScript",
            node.display()
        );
        // One is left to the moment between two lines of the workload.
        assert!(rates.names_wrong <= 1, "{}: wrong names", node.display());
        assert!(percent(lines, all) >= 85.0, "{}: lines", node.display());
        assert!(percent(rates.lines_wrong, all) <= 0.5, "{}: wrong lines", node.display());
    }
}
