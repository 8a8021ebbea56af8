//! What `nodeprobe record` wrote: the sampled stacks of a recording, each frame as a whole.
//!
//! Each line may bring new strings, frames and stacks, and refers to all of them by number; at a line that is `fresh` the
//! numbers begin anew.

use serde_json::Value;

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

/// All sampled stacks of a recording.
///
/// # Panics
/// When it is none, or was not ended in good order.
#[track_caller]
pub fn sampled_stacks(recording: &str) -> Vec<Sampled> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    let mut lines = recording.lines().map(parse);
    let header: Value = lines.next().expect("a recording begins with a header");
    assert_eq!(header["format"], "nodeprobe-recording", "{header}");
    let mut tables = Tables::default();
    let mut sampled = Vec::new();
    let mut ended = false;
    for line in lines {
        assert!(!ended, "a line after the end: {line}");
        ended = !line["end"].is_null();
        let interval = &line["interval"];
        tables.grow(interval);
        for thread in list(&interval["sampled"]) {
            sampled.extend(list(&thread["stacks"]).iter().map(|time| tables.sampled(thread, time)));
        }
    }
    assert!(ended, "the recording was not ended in good order");
    sampled
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    frames: Vec<Frame>,
    stacks: Vec<Value>,
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
        let index = |value: &Value| value.as_u64().expect("a number") as usize;
        let stack = &self.stacks[index(&time[0])];
        Sampled {
            pid: index(&thread["pid"]) as u32,
            tid: index(&thread["tid"]) as u32,
            category: time[1].as_str().expect("a category").to_owned(),
            samples: time[2].as_u64().expect("a count"),
            frames: list(&stack["frames"]).iter().map(|frame| self.frames[index(frame)].clone()).collect(),
            problem: stack["problem"].as_str().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDING: &str = r#"{"format":"nodeprobe-recording","version":1}
{"interval":{"time_ns":1,"duration_s":1.0,"strings":["hash","/srv/app.js"],"frames":[["javascript",0,1,4,7,true,null]],"stacks":[{"frames":[0,0]}],"processes":[],"sampled":[{"pid":7,"start_ticks":1,"tid":8,"stacks":[[0,"application",3,5]]}]}}
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
                frames: vec![hash.clone(), hash],
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
        assert_eq!(sampled_stacks(RECORDING), expected);
    }

    #[test]
    #[should_panic(expected = "good order")]
    fn a_recording_without_an_end_is_refused() {
        sampled_stacks(&RECORDING[..RECORDING.find("{\"end\"").unwrap()]);
    }
}
