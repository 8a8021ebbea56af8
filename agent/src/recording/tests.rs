//! Recordings there and back, and files that no recorder wrote.

use std::io::{BufReader, Cursor};

use serde_json::{Value, json};

use super::{End, Header, ReadError, Reader, Recorder};
use crate::{
    model::{CpuPeriods, Interval, Signal},
    report::{profile, sample},
};

fn header() -> Header {
    Header::new("2026-11-23T20:31:04.250Z".to_owned(), Some("host-1".to_owned()), 1.0, 0.05)
}

fn recorded(intervals: &[Interval], finish: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut recorder = Recorder::new(&mut file, &header()).unwrap();
    for interval in intervals {
        recorder.write(interval).unwrap();
    }
    if finish {
        recorder.finish(sample::time(9)).unwrap();
    }
    file
}

fn reader(file: &[u8]) -> Reader<BufReader<Cursor<Vec<u8>>>> {
    Reader::new(BufReader::new(Cursor::new(file.to_vec()))).unwrap()
}

/// Everything up to the end or to what is wrong.
fn read(file: &[u8]) -> (Vec<Interval>, Result<End, ReadError>) {
    let mut reader = reader(file);
    let mut intervals = Vec::new();
    loop {
        match reader.next_interval() {
            Ok(Some(interval)) => intervals.push(interval),
            Ok(None) => return (intervals, Ok(reader.end().unwrap())),
            Err(error) => return (intervals, Err(error)),
        }
    }
}

/// Debug shows every field of the model, so two that look alike are alike.
fn shown(intervals: &[Interval]) -> Vec<String> {
    let mut intervals = intervals.to_vec();
    for interval in &mut intervals {
        // What was not lost is not written.
        interval.lost.retain(|_, count| *count > 0);
    }
    intervals.iter().map(|interval| format!("{interval:#?}")).collect()
}

fn everything() -> Vec<Interval> {
    let unavailable = sample::with_unavailable(sample::process(305, "legacy"), Signal::Gc, "no symbol");
    let mut second = profile::sample::interval(1);
    second.lost.insert("ring_full", 3);
    second.processes.push(unavailable);
    second.processes[0].exited = true;
    vec![profile::sample::interval(0), second, sample::interval(2, Vec::new()), profile::sample::interval(3)]
}

/// The sample has a control character in a name, which comes back cleaned.
fn cleaned(intervals: &[Interval]) -> Vec<String> {
    shown(intervals).iter().map(|text| text.replace("hash;\\nround", "hash;\u{fffd}round")).collect()
}

/// `file` with its line `number` (from 0) put through `change`.
fn changed(file: &[u8], number: usize, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut value = serde_json::from_str(&lines[number]).unwrap();
    change(&mut value);
    lines[number] = value.to_string();
    (lines.join("\n") + "\n").into_bytes()
}

#[test]
fn everything_comes_back() {
    let intervals = everything();
    let (read, end) = read(&recorded(&intervals, true));
    assert_eq!(end.unwrap(), End::Complete);
    assert_eq!(shown(&read), cleaned(&intervals));
}

#[test]
fn waits_for_a_processor_come_back_and_older_files_have_none() {
    let mut interval = sample::interval(0, vec![sample::process(301, "shop")]);
    interval.processes[0].cpu_periods = Some(CpuPeriods { elapsed: 10, throttled: 4 });
    interval.processes[0].nice = Some(-5);
    let file = recorded(std::slice::from_ref(&interval), true);
    assert_eq!(shown(&read(&file).0), shown(std::slice::from_ref(&interval)));
    let older = changed(&file, 1, |line| {
        let interval = &mut line["interval"];
        assert!(interval.as_object_mut().unwrap().remove("host_cpu").is_some());
        for field in ["cpu_periods", "nice"] {
            let process = interval["processes"][0].as_object_mut().unwrap();
            assert!(process.remove(field).is_some(), "{field}");
        }
    });
    (interval.host_cpu, interval.processes[0].cpu_periods, interval.processes[0].nice) = (None, None, None);
    assert_eq!(shown(&read(&older).0), shown(&[interval]));
    let absurd = changed(&file, 1, |line| {
        line["interval"]["host_cpu"] = json!([u64::MAX, u64::MAX, u64::MAX]);
        line["interval"]["processes"][0]["nice"] = json!(i64::MIN);
        line["interval"]["processes"][0]["cpu_periods"] = json!([0, u64::MAX]);
    });
    let absurd = read(&absurd).0.remove(0);
    assert_eq!(absurd.processes[0].nice, Some(-20));
    assert!(absurd.host_cpu.unwrap().steal_ratio().unwrap() <= 1.0);
}

#[test]
fn what_repeats_is_written_once() {
    let file = String::from_utf8(recorded(&everything(), true)).unwrap();
    for once in ["bcryptjs/index.js", "checkout-api", "/srv/app/auth.js", "processTicksAndRejections"] {
        // The name of a service is in it as name and as service name.
        let expected = if once == "checkout-api" { 2 } else { 1 };
        assert_eq!(file.matches(once).count(), expected, "{once}");
    }
}

#[test]
fn the_first_line_tells_what_the_file_is() {
    let file = recorded(&[], true);
    assert_eq!(reader(&file).header(), &header());
    let first: Value = serde_json::from_slice(file.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["format"], "nodeprobe-recording");
    assert_eq!(first["version"], 1);
    assert_eq!(first["columns"]["times"], json!(["stack", "category", "samples", "time_ns"]));
}

/// Every length of file that a crash can leave behind.
#[test]
fn a_file_that_was_cut_off_is_right_up_to_there() {
    let intervals = [profile::sample::interval(0), profile::sample::interval(1)];
    let file = recorded(&intervals, false);
    let ends: Vec<usize> =
        file.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let expected = cleaned(&intervals);
    let near = |length: usize| ends.iter().any(|end| length.abs_diff(*end) < 3);
    // Every seventh, and all of them around the ends of lines: each reads the file anew.
    for length in ((ends[0] + 1)..=file.len()).filter(|length| length % 7 == 0 || near(*length)) {
        let whole = ends[1..].iter().filter(|end| length >= **end).count();
        let (read, end) = read(&file[..length]);
        assert_eq!(shown(&read), expected[..whole], "{length}");
        let at_end = length == ends[0] + 1 || ends.iter().any(|end| length == *end || length == *end + 1);
        let expected = if at_end { End::Unfinished } else { End::CutOff { line: whole as u64 + 2 } };
        assert_eq!(end.unwrap(), expected, "{length}");
    }
}

#[test]
fn a_corrupt_line_is_named_and_nothing_before_it_is_lost() {
    let intervals = everything();
    let file = recorded(&intervals, true);
    let broken = changed(&file, 3, |line| *line = json!("?"));
    let (read, end) = read(&broken);
    assert_eq!(shown(&read), cleaned(&intervals[..2]));
    let sentence = end.unwrap_err().to_string();
    assert!(sentence.starts_with("line 4: it is not what a recorder writes"), "{sentence}");
}

#[test]
fn numbers_that_refer_to_nothing_are_errors() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 9] = [
        (|v| v["interval"]["sampled"][0]["stacks"][0][0] = json!(999), "refers to stack 999"),
        (|v| v["interval"]["stacks"][0]["frames"][0] = json!(999), "refers to frame 999"),
        (|v| v["interval"]["frames"][0][1] = json!(u64::MAX), "refers to string 18446744073709551615"),
        (|v| v["interval"]["frames"][0][0] = json!("wasm"), "`wasm` is not known"),
        (|v| v["interval"]["processes"][0]["identity"] = json!(7), "refers to identity 7"),
        (
            |v| v["interval"]["processes"][0]["threads"][0]["turns"]["exponential"] = json!([5000, 1]),
            "bucket 5000",
        ),
        (|v| v["interval"]["processes"][0]["threads"][0]["turns"]["explicit"] = json!([1]), "has no count"),
        (|v| v["interval"]["time_ns"] = json!(-1), "not what a recorder writes"),
        (|v| v["interval"]["stacks"][0]["frames"] = json!(vec![0; 2000]), "more than 1024 frames"),
    ];
    let file = recorded(&[profile::sample::interval(0)], true);
    for (change, expected) in changes {
        let (read, end) = read(&changed(&file, 1, change));
        assert_eq!(read.len(), 0);
        let sentence = end.unwrap_err().to_string();
        assert!(sentence.contains(expected) && sentence.starts_with("line 2: "), "{sentence}");
    }
}

/// Largest numbers everywhere must not overflow in whatever adds them up.
#[test]
fn absurd_numbers_do_no_harm() {
    fn inflate(value: &mut Value) {
        match value {
            Value::Number(number) if number.is_f64() => *value = json!(1e300),
            Value::Number(_) => *value = json!(u64::MAX),
            Value::Array(items) => items.iter_mut().for_each(inflate),
            Value::Object(map) => map.values_mut().for_each(inflate),
            _ => {}
        }
    }
    let file = recorded(&[profile::sample::interval(0)], true);
    let file = changed(&file, 1, |line| {
        let interval = &mut line["interval"];
        inflate(&mut interval["time_ns"]);
        inflate(&mut interval["duration_s"]);
        for process in interval["processes"].as_array_mut().unwrap() {
            let identity = process["identity"].take();
            for field in ["uptime_s", "rss_bytes", "cpu_ratio", "heap_used_bytes"] {
                inflate(&mut process[field]);
            }
            process["identity"] = identity;
            for thread in process["threads"].as_array_mut().unwrap() {
                inflate(&mut thread["busy_ns"]);
                inflate(&mut thread["idle_ns"]);
                thread["stall_causes"] = json!({ "gc": u64::MAX, "lock": u64::MAX, "nonsense": u64::MAX });
                thread["turns"] = json!({ "count": u64::MAX, "sum_ns": u64::MAX, "max_ns": u64::MAX,
                    "explicit": [0, u64::MAX, 1, u64::MAX], "exponential": [0, u64::MAX, 3, u64::MAX] });
            }
        }
        for row in interval["sampled"][0]["stacks"].as_array_mut().unwrap() {
            row[2] = json!(u64::MAX);
            row[3] = json!(u64::MAX);
        }
    });
    let (read, end) = read(&file);
    assert_eq!(end.unwrap(), End::Complete);
    let mut profile = profile::Profile::default();
    for _ in 0..100 {
        profile.add(&read[0]);
    }
    profile::collapsed::write(&profile, std::io::sink()).unwrap();
    profile::pprof::write(&profile, std::io::sink()).unwrap();
    profile::speedscope::write(&profile, std::io::sink()).unwrap();
    for format in [crate::report::Format::Text, crate::report::Format::Json, crate::report::Format::Csv] {
        crate::report::Writer::new(format, std::io::sink()).write(&read[0]).unwrap();
    }
}

/// Bytes that were changed at random either read as something or are an error: never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let file = recorded(&everything(), true);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1_000 {
        let mut damaged = file.clone();
        for _ in 0..random.usize(1..20) {
            let at = random.usize(..damaged.len());
            damaged[at] = *random.choice(b"0123456789[]{},:\"\n\xffae-").unwrap();
        }
        if let Ok(mut reader) = Reader::new(BufReader::new(Cursor::new(damaged))) {
            while let Ok(Some(interval)) = reader.next_interval() {
                drop(interval);
            }
        }
    }
}

#[test]
fn what_is_no_recording_or_a_newer_one_is_refused_with_a_sentence() {
    let refused =
        |file: &[u8]| Reader::new(BufReader::new(Cursor::new(file.to_vec()))).unwrap_err().to_string();
    assert_eq!(refused(b""), "it is empty");
    for foreign in [&b"\x7fELF\x02\x01"[..], b"{}\n", b"[]\n", b"{\"format\":\"har\"}\n", b"\n"] {
        assert!(refused(foreign).starts_with("it is no recording"), "{foreign:?}");
    }
    let newer = changed(&recorded(&[], true), 0, |line| {
        *line = json!({ "format": "nodeprobe-recording", "version": 2, "writer": { "not": "a string" } });
    });
    let sentence = refused(&newer);
    assert!(sentence.contains("version 2") && sentence.contains("use a newer one"), "{sentence}");
}

#[test]
fn tables_begin_anew_before_they_grow_without_end() {
    let mut file = Vec::new();
    let mut recorder = Recorder::new(&mut file, &header()).unwrap();
    let mut intervals = Vec::new();
    // 40 × 2000 different functions: more than one table takes.
    for second in 0..40 {
        let mut interval = sample::interval(second, vec![sample::process(301, "checkout-api")]);
        let stacks = (0..2_000).map(|number| {
            let function = format!("f{second}_{number}");
            let frame = profile::sample::frame(crate::model::FrameKind::JavaScript, &function, None, None);
            crate::model::StackTime {
                stack: profile::sample::stack(&[frame]),
                category: crate::model::Category::Application,
                samples: 1,
                time_ns: 1,
            }
        });
        interval.stacks = vec![crate::model::ThreadStacks {
            process: interval.processes[0].id,
            tid: 301,
            stacks: stacks.collect(),
        }];
        recorder.write(&interval).unwrap();
        intervals.push(interval);
    }
    recorder.finish(sample::time(40)).unwrap();
    assert_eq!(std::str::from_utf8(&file).unwrap().matches("\"fresh\":true").count(), 1);
    let (read, end) = read(&file);
    assert_eq!(end.unwrap(), End::Complete);
    assert_eq!(shown(&read), shown(&intervals));
}

/// What a busy process costs: 60 s with four stalls, 125 samples in some 40 different stacks each.
#[test]
fn a_minute_of_a_busy_process_is_small() {
    let mut random = fastrand::Rng::with_seed(7);
    let frames: Vec<_> = (0..400)
        .map(|number| {
            let script = format!("/srv/app/node_modules/package-{}/lib/index.js", number % 40);
            let (function, line) = (format!("functionNumber{number}"), Some(number));
            profile::sample::frame(crate::model::FrameKind::JavaScript, &function, Some(&script), line)
        })
        .collect();
    // Stacks of 25 frames that share their outer part; 300 different ones in all.
    let stacks: Vec<_> = (0..300)
        .map(|_| {
            let inner = (0..8).map(|_| random.choice(&frames).unwrap().clone());
            profile::sample::stack(&inner.chain(frames[..17].iter().cloned()).collect::<Vec<_>>())
        })
        .collect();
    let intervals: Vec<_> = (0..60)
        .map(|second| {
            let mut interval = profile::sample::interval(second);
            interval.processes.truncate(1);
            interval.stacks.truncate(1);
            interval.stacks[0].stacks = (0..40)
                .map(|_| crate::model::StackTime {
                    stack: std::sync::Arc::clone(random.choice(&stacks).unwrap()),
                    category: crate::model::Category::Application,
                    samples: 3,
                    time_ns: 24 * sample::MS,
                })
                .collect();
            let stall = interval.stalls[0].clone();
            interval.stalls = vec![stall; 4];
            interval
        })
        .collect();
    let bytes = recorded(&intervals, true).len();
    println!("{bytes} bytes per minute");
    assert!(bytes < 600_000, "{bytes}");
}
