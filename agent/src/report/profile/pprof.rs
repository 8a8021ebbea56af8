//! pprof: a gzipped protobuf, for `go tool pprof`, Grafana Pyroscope, Polar Signals and others.
//!
//! The messages are those of <https://github.com/google/pprof/blob/main/proto/profile.proto>, written out here because
//! they are few and frozen; fields that stay empty are left out.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::UNIX_EPOCH,
};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use super::{Profile, Shown, Weight, outer_to_inner};
use crate::model::Category;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProfileMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    /// The first is empty.
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    pub(super) time_nanos: i64,
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

/// Here and below, `int64` that stand for text are places in the string table.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ValueType {
    #[prost(int64, tag = "1")]
    pub(super) r#type: i64,
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Label {
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    #[prost(int64, tag = "2")]
    pub(super) str: i64,
    #[prost(int64, tag = "3")]
    pub(super) num: i64,
}

#[expect(clippy::struct_excessive_bools, reason = "the format has them")]
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Mapping {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    pub(super) has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Location {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

#[expect(clippy::struct_field_names, reason = "the names of the format")]
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Line {
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
    #[prost(int64, tag = "3")]
    pub(super) column: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Function {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    #[prost(int64, tag = "3")]
    pub(super) system_name: i64,
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
    #[prost(int64, tag = "5")]
    pub(super) start_line: i64,
}

/// Writes the profile: `samples/count`, `cpu/nanoseconds` and `wall/nanoseconds` (with what the thread slept), labels
/// `service`, `pid`, `thread`, `tid`, `category`.
///
/// # Errors
/// Those of the sink.
pub fn write(profile: &Profile, sink: impl Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(sink, Compression::default());
    gzip.write_all(&message(profile).encode_to_vec())?;
    gzip.finish()?.flush()
}

/// The one mapping: everything has its names already, and the readers shall not look for symbols.
const MAPPING: u64 = 1;

#[derive(Default)]
struct Builder<'a> {
    message: ProfileMessage,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<Shown<'a>, u64>,
}

pub(super) fn message(profile: &Profile) -> ProfileMessage {
    let mut builder = Builder::default();
    builder.string("");
    let nanoseconds = builder.string("nanoseconds");
    let samples = ValueType { r#type: builder.string("samples"), unit: builder.string("count") };
    let cpu = ValueType { r#type: builder.string("cpu"), unit: nanoseconds };
    let wall = ValueType { r#type: builder.string("wall"), unit: nanoseconds };
    builder.message.sample_type = vec![samples, cpu, wall];
    builder.message.default_sample_type = wall.r#type;
    builder.message.period_type = Some(cpu);
    builder.message.period = signed(nodeprobe_ebpf::sample::SAMPLE_PERIOD_NS);
    builder.message.time_nanos = profile
        .began
        .and_then(|began| began.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    builder.message.duration_nanos = i64::try_from(profile.duration.as_nanos()).unwrap_or(i64::MAX);
    let comment = builder.string(concat!("nodeprobe ", env!("CARGO_PKG_VERSION")));
    builder.message.comment.push(comment);
    let filename = builder.string("node");
    builder.message.mapping.push(Mapping {
        id: MAPPING,
        filename,
        has_functions: true,
        has_filenames: true,
        has_line_numbers: true,
        has_inline_frames: true,
    });
    for ((process, tid), thread) in &profile.threads {
        let labels = [
            builder.text_label("service", &thread.service),
            builder.number_label("pid", process.pid),
            builder.text_label("thread", &thread.thread(*process, *tid)),
            builder.number_label("tid", *tid),
        ];
        for (stack, category, Weight { samples, time_ns }) in thread.stacks() {
            let mut label = labels.to_vec();
            label.push(builder.text_label("category", category.name()));
            let on_cpu = if category == Category::Blocked { 0 } else { time_ns };
            let outer_to_inner = outer_to_inner(stack);
            let location_id = outer_to_inner.into_iter().rev().map(|shown| builder.location(shown)).collect();
            let value = vec![signed(samples), signed(on_cpu), signed(time_ns)];
            builder.message.sample.push(Sample { location_id, value, label });
        }
    }
    builder.message
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl<'a> Builder<'a> {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(place) = self.strings.get(text) {
            return *place;
        }
        let place = signed(self.message.string_table.len() as u64);
        self.message.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), place);
        place
    }

    fn text_label(&mut self, key: &str, text: &str) -> Label {
        Label { key: self.string(key), str: self.string(text), num: 0 }
    }

    fn number_label(&mut self, key: &str, number: u32) -> Label {
        Label { key: self.string(key), str: 0, num: i64::from(number) }
    }

    fn location(&mut self, shown: Shown<'a>) -> u64 {
        if let Some(id) = self.locations.get(&shown) {
            return *id;
        }
        let (name, script, line, column, first_line) = match shown {
            Shown::Frame(frame) => {
                let first_line = frame.line.filter(|_| !frame.line_is_exact);
                let script = frame.script.as_deref().unwrap_or_default();
                (&*frame.function, script, frame.line, frame.column, first_line)
            }
            Shown::Remark(remark) => (remark, "", None, None, None),
        };
        let (name, filename) = (self.string(name), self.string(script));
        let functions = &mut self.message.function;
        let function_id = *self.functions.entry((name, filename)).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function { id, name, system_name: name, filename, start_line: 0 });
            id
        });
        if let (Some(first_line), Some(function)) = (first_line, functions.get_mut(function_id as usize - 1))
        {
            function.start_line = i64::from(first_line);
        }
        let number = |number: Option<u32>| number.map_or(0, i64::from);
        let line = Line { function_id, line: number(line), column: number(column) };
        let id = self.message.location.len() as u64 + 1;
        self.message.location.push(Location { id, mapping_id: MAPPING, line: vec![line] });
        self.locations.insert(shown, id);
        id
    }
}
