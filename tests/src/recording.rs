//! What `nodeprobe record` wrote: the stacks of a recording, each frame as a whole, and what was told at once.
//!
//! Each line may bring new strings, frames and stacks, and refers to all of them by number; at a line that is `fresh` the
//! numbers begin anew.

use std::collections::BTreeSet;

use serde_json::Value;

/// What the tests ask a recording for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Processes that were observed.
    pub pids: BTreeSet<u32>,
    pub sampled: Vec<Sampled>,
    pub taken: Vec<Taken>,
    pub notices: Vec<Notice>,
}

/// A stack that was taken on an occasion, not by the clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub pid: u32,
    pub occasion: String,
    pub count: u64,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// What was told at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub pid: u32,
    pub kind: String,
    /// By the age of the process in the same interval.
    pub since_start_s: f64,
}

/// A stack that was sampled in one thread during one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    pub pid: u32,
    pub tid: u32,
    pub category: String,
    pub samples: u64,
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why no frame of JavaScript could be told.
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: String,
    pub function: String,
    pub script: Option<String>,
    pub line: Option<u64>,
    /// Else it is the function's first.
    pub line_is_exact: bool,
}

impl Frame {
    /// Application or Node's own: not native code, and no builtin.
    pub fn is_javascript(&self) -> bool {
        matches!(self.kind.as_str(), "javascript" | "node_internal")
    }

    /// A frame of `nodeprobe trace`, which does not tell whether its line is the one being executed.
    pub fn of_trace(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        Self {
            kind: text("kind").unwrap_or_default(),
            function: text("function").unwrap_or_default(),
            script: text("script"),
            line: value["line"].as_u64(),
            line_is_exact: false,
        }
    }
}

impl Recording {
    /// Reads a whole recording.
    ///
    /// # Panics
    /// When it is none, or was not ended in good order.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let mut lines = text.lines().map(parse);
        let header: Value = lines.next().expect("a recording begins with a header");
        assert_eq!(header["format"], "nodeprobe-recording", "{header}");
        let mut tables = Tables::default();
        let mut recording = Self::default();
        let mut ended = false;
        for line in lines {
            assert!(!ended, "a line after the end: {line}");
            ended = !line["end"].is_null();
            let interval = &line["interval"];
            tables.grow(interval);
            for thread in list(&interval["sampled"]) {
                let sampled = list(&thread["stacks"]).iter().map(|time| tables.sampled(thread, time));
                recording.sampled.extend(sampled);
            }
            let processes = list(&interval["processes"]);
            recording.pids.extend(processes.iter().map(|process| tables.pid(process)));
            recording.taken.extend(list(&interval["occasions"]).iter().map(|taken| tables.taken(taken)));
            let notices = list(&interval["notices"]).iter().map(|notice| tables.notice(interval, notice));
            recording.notices.extend(notices);
        }
        assert!(ended, "the recording was not ended in good order");
        recording
    }
}

/// All sampled stacks of a recording.
///
/// # Panics
/// As [`Recording::parse`].
#[track_caller]
pub fn sampled_stacks(recording: &str) -> Vec<Sampled> {
    Recording::parse(recording).sampled
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn index(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number")) as usize
}

#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    frames: Vec<Frame>,
    stacks: Vec<Value>,
    identities: Vec<Value>,
}

impl Tables {
    fn grow(&mut self, interval: &Value) {
        if interval["fresh"] == true {
            *self = Self::default();
        }
        let strings =
            list(&interval["strings"]).iter().map(|text| text.as_str().expect("a string").to_owned());
        self.strings.extend(strings);
        for row in list(&interval["frames"]) {
            let frame = self.frame(row);
            self.frames.push(frame);
        }
        self.stacks.extend_from_slice(list(&interval["stacks"]));
        self.identities.extend_from_slice(list(&interval["identities"]));
    }

    fn pid(&self, process: &Value) -> u32 {
        index(&self.identities[index(&process["identity"])]["pid"]) as u32
    }

    fn taken(&self, taken: &Value) -> Taken {
        Taken {
            pid: index(&taken["pid"]) as u32,
            occasion: taken["occasion"].as_str().expect("an occasion").to_owned(),
            count: taken["count"].as_u64().expect("a count"),
            frames: self.frames_of(&self.stacks[index(&taken["stack"])]),
        }
    }

    fn notice(&self, interval: &Value, notice: &Value) -> Notice {
        let pid = index(&notice["pid"]) as u32;
        let process = list(&interval["processes"]).iter().find(|process| self.pid(process) == pid);
        let uptime_s =
            process.and_then(|process| process["uptime_s"].as_f64()).expect("its process is there");
        let time_ns = |value: &Value| value["time_ns"].as_i64().expect("a time");
        let before_end_s = (time_ns(interval) - time_ns(notice)) as f64 / 1e9;
        Notice {
            pid,
            kind: notice["notice"].as_str().expect("a kind").to_owned(),
            since_start_s: uptime_s - before_end_s,
        }
    }

    fn frames_of(&self, stack: &Value) -> Vec<Frame> {
        list(&stack["frames"]).iter().map(|frame| self.frames[index(frame)].clone()).collect()
    }

    /// kind, function, script, line, column, whether the line is the one being executed, package.
    fn frame(&self, row: &Value) -> Frame {
        let string = |at: usize| Some(self.strings[row[at].as_u64()? as usize].clone());
        Frame {
            kind: row[0].as_str().expect("a kind").to_owned(),
            function: string(1).expect("a function"),
            script: string(2),
            line: row[3].as_u64(),
            line_is_exact: row[5] == true,
        }
    }

    /// stack, category, samples, nanoseconds.
    fn sampled(&self, thread: &Value, time: &Value) -> Sampled {
        let stack = &self.stacks[index(&time[0])];
        Sampled {
            pid: index(&thread["pid"]) as u32,
            tid: index(&thread["tid"]) as u32,
            category: time[1].as_str().expect("a category").to_owned(),
            samples: time[2].as_u64().expect("a count"),
            frames: self.frames_of(stack),
            problem: stack["problem"].as_str().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDING: &str = r#"{"format":"nodeprobe-recording","version":1}
{"interval":{"time_ns":2000000000,"duration_s":1.0,"strings":["hash","/srv/app.js"],"frames":[["javascript",0,1,4,7,true,null]],"stacks":[{"frames":[0,0]}],"identities":[{"pid":7,"start_ticks":1,"name":"app"}],"processes":[{"identity":0,"uptime_s":2.5,"threads":[]}],"occasions":[{"pid":7,"start_ticks":1,"tid":7,"occasion":"allocation","stack":0,"count":4}],"notices":[{"pid":7,"start_ticks":1,"tid":7,"notice":"listening","time_ns":1500000000}],"sampled":[{"pid":7,"start_ticks":1,"tid":8,"stacks":[[0,"application",3,5]]}]}}
{"interval":{"time_ns":2,"duration_s":1.0,"fresh":true,"strings":["epoll_wait"],"frames":[["native",0,null,null,null,false,null]],"stacks":[{"frames":[0],"problem":"no JavaScript"}],"processes":[],"sampled":[{"pid":7,"start_ticks":1,"tid":7,"stacks":[[0,"native",1,5]]}]}}
{"end":{"time_ns":3,"intervals":2}}
"#;

    #[test]
    fn numbers_are_resolved_and_begin_anew() {
        let hash = Frame {
            kind: "javascript".to_owned(),
            function: "hash".to_owned(),
            script: Some("/srv/app.js".to_owned()),
            line: Some(4),
            line_is_exact: true,
        };
        let poll = Frame {
            kind: "native".to_owned(),
            function: "epoll_wait".to_owned(),
            script: None,
            line: None,
            line_is_exact: false,
        };
        let expected = [
            Sampled {
                pid: 7,
                tid: 8,
                category: "application".to_owned(),
                samples: 3,
                frames: vec![hash.clone(), hash.clone()],
                problem: None,
            },
            Sampled {
                pid: 7,
                tid: 7,
                category: "native".to_owned(),
                samples: 1,
                frames: vec![poll],
                problem: Some("no JavaScript".to_owned()),
            },
        ];
        let recording = Recording::parse(RECORDING);
        assert_eq!(recording.sampled, expected);
        let taken =
            Taken { pid: 7, occasion: "allocation".to_owned(), count: 4, frames: vec![hash.clone(), hash] };
        assert_eq!(recording.taken, [taken]);
        // The process was 2.5 s old half a second after the notice.
        let notice = Notice { pid: 7, kind: "listening".to_owned(), since_start_s: 2.0 };
        assert_eq!(recording.notices, [notice]);
        assert_eq!(recording.pids, BTreeSet::from([7]));
    }

    #[test]
    #[should_panic(expected = "good order")]
    fn a_recording_without_an_end_is_refused() {
        sampled_stacks(&RECORDING[..RECORDING.find("{\"end\"").unwrap()]);
    }
}
