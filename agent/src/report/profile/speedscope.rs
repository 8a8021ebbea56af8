//! The file format of <https://www.speedscope.app>, as its `file-format-schema.json` describes it.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{Profile, Shown, outer_to_inner};
use crate::report::timestamp;

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: &'static str,
    name: String,
    active_profile_index: usize,
    shared: Shared<'a>,
    profiles: Vec<Sampled>,
}

#[derive(Debug, Serialize)]
struct Shared<'a> {
    frames: Vec<FrameEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct FrameEntry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    col: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    /// Numbers of frames, outermost first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

/// Writes the profile: one speedscope profile per thread, in nanoseconds. Each stack stands once, with all of its time,
/// the heaviest first: when each sample was taken is not kept, so "time order" means nothing.
///
/// # Errors
/// Those of the sink.
pub fn write(profile: &Profile, mut sink: impl Write) -> io::Result<()> {
    let mut frames: Vec<FrameEntry<'_>> = Vec::new();
    let mut numbers: HashMap<Shown<'_>, usize> = HashMap::new();
    let mut profiles = Vec::new();
    let mut by_time: Vec<_> = profile.threads.iter().collect();
    // The viewer opens the first.
    by_time.sort_by_key(|(_, thread)| {
        let spent = thread.weights.values().fold(0_u64, |sum, weight| sum.saturating_add(weight.time_ns));
        std::cmp::Reverse(spent)
    });
    for ((process, tid), thread) in by_time {
        let mut sampled = Sampled {
            r#type: "sampled",
            name: thread.label(*process, *tid),
            unit: "nanoseconds",
            start_value: 0,
            end_value: 0,
            samples: Vec::new(),
            weights: Vec::new(),
        };
        for (stack, _, weight) in thread.stacks() {
            let sample = outer_to_inner(stack).into_iter().map(|shown| {
                *numbers.entry(shown).or_insert_with(|| {
                    frames.push(entry(shown));
                    frames.len() - 1
                })
            });
            sampled.samples.push(sample.collect());
            sampled.weights.push(weight.time_ns);
            sampled.end_value = sampled.end_value.saturating_add(weight.time_ns);
        }
        profiles.push(sampled);
    }
    let began = profile.began.map(|began| format!(" {}", timestamp::rfc3339(began))).unwrap_or_default();
    let file = File {
        schema: SCHEMA,
        exporter: concat!("nodeprobe@", env!("CARGO_PKG_VERSION")),
        name: format!("nodeprobe{began}"),
        active_profile_index: 0,
        shared: Shared { frames },
        profiles,
    };
    serde_json::to_writer(&mut sink, &file)?;
    sink.flush()
}

fn entry(shown: Shown<'_>) -> FrameEntry<'_> {
    match shown {
        Shown::Frame(frame) => FrameEntry {
            name: &frame.function,
            file: frame.script.as_deref(),
            line: frame.line,
            col: frame.column,
        },
        Shown::Remark(name) => FrameEntry { name, file: None, line: None, col: None },
    }
}
