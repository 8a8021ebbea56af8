//! The formats as their readers see them.

use std::io::Read as _;

use flate2::read::GzDecoder;
use prost::Message as _;
use serde_json::{Value, json};

use super::{MOST_STACKS, Profile, ThreadProfile, Weight, collapsed, pprof, sample::interval, speedscope};
use crate::{
    model::{Category, Stack, StackTime},
    report::sample::MS,
};

/// Two seconds of the sample.
fn profile() -> Profile {
    let mut profile = Profile::default();
    profile.add(&interval(0));
    profile.add(&interval(1));
    profile
}

fn written(write: impl FnOnce(&Profile, &mut Vec<u8>) -> std::io::Result<()>, profile: &Profile) -> Vec<u8> {
    let mut out = Vec::new();
    write(profile, &mut out).unwrap();
    out
}

#[test]
fn collapsed_stacks_have_microseconds_and_no_foreign_separators() {
    let text = String::from_utf8(written(|p, out| collapsed::write(p, out), &profile())).unwrap();
    let tick = "processTicksAndRejections node:internal/process/task_queues:95";
    let expected = [
        "checkout-api 301 main;no frame pointer 16000".to_owned(),
        format!("checkout-api 301 main;{tick};login /srv/app/auth.js:7;fsync 400000"),
        format!(
            "checkout-api 301 main;{tick};login /srv/app/auth.js:7;hash: round \
             /srv/app/node_modules/bcryptjs/index.js:42 800000"
        ),
        "checkout-api 301 worker 308;(truncated);login /srv/app/auth.js:7;JSON.parse 160000".to_owned(),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn speedscope_has_a_profile_per_thread_in_nanoseconds() {
    let file: Value =
        serde_json::from_slice(&written(|p, out| speedscope::write(p, out), &profile())).unwrap();
    assert_eq!(file["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let profiles = file["profiles"].as_array().unwrap();
    let summary: Vec<_> =
        profiles.iter().map(|p| (&p["name"], &p["unit"], &p["weights"], &p["endValue"])).collect();
    assert_eq!(
        summary,
        [
            (
                &json!("checkout-api 301 main"),
                &json!("nanoseconds"),
                &json!([800 * MS, 400 * MS, 16 * MS]),
                &json!(1216 * MS)
            ),
            (
                &json!("checkout-api 301 worker 308"),
                &json!("nanoseconds"),
                &json!([160 * MS]),
                &json!(160 * MS)
            ),
        ]
    );
    let names = |sample: &Value| -> Vec<Value> {
        let numbers = sample.as_array().unwrap().iter();
        numbers.map(|n| file["shared"]["frames"][n.as_u64().unwrap() as usize]["name"].clone()).collect()
    };
    let heaviest = names(&profiles[0]["samples"][0]);
    assert_eq!(heaviest, ["processTicksAndRejections", "login", "hash;\nround"]);
    let login = file["shared"]["frames"].as_array().unwrap().iter().find(|frame| frame["name"] == "login");
    assert_eq!(login, Some(&json!({ "name": "login", "file": "/srv/app/auth.js", "line": 7, "col": 8 })));
}

/// What the message says of each sample: frames from the innermost, values, labels.
fn samples(message: &pprof::ProfileMessage) -> Vec<(Vec<String>, Vec<i64>, Vec<String>)> {
    let text = |place: i64| message.string_table[place as usize].clone();
    let frame = |id: &u64| {
        let location = &message.location[*id as usize - 1];
        assert_eq!((location.id, location.mapping_id), (*id, 1));
        let function = &message.function[location.line[0].function_id as usize - 1];
        assert_eq!(function.id, location.line[0].function_id);
        format!("{} {}:{}", text(function.name), text(function.filename), location.line[0].line)
    };
    let label = |label: &pprof::Label| match label.str {
        0 => format!("{}={}", text(label.key), label.num),
        place => format!("{}={}", text(label.key), text(place)),
    };
    let sample = |sample: &pprof::Sample| {
        let frames = sample.location_id.iter().map(frame).collect();
        (frames, sample.value.clone(), sample.label.iter().map(label).collect())
    };
    message.sample.iter().map(sample).collect()
}

#[test]
fn pprof_has_samples_cpu_and_wall_time_with_labels() {
    let bytes = written(|p, out| pprof::write(p, out), &profile());
    let mut plain = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
    let message = pprof::ProfileMessage::decode(plain.as_slice()).unwrap();
    assert_eq!(message.string_table[0], "");
    let types: Vec<_> = message
        .sample_type
        .iter()
        .map(|t| [t.r#type, t.unit].map(|place| message.string_table[place as usize].as_str()))
        .collect();
    assert_eq!(types, [["samples", "count"], ["cpu", "nanoseconds"], ["wall", "nanoseconds"]]);
    assert_eq!(message.duration_nanos, 2_000_000_000);
    let samples = samples(&message);
    assert_eq!(samples.len(), 4);
    let (frames, values, labels) = &samples[1];
    assert_eq!(
        frames,
        &[
            "fsync :0",
            "login /srv/app/auth.js:7",
            "processTicksAndRejections node:internal/process/task_queues:95"
        ]
    );
    // Asleep, so it took no processor.
    assert_eq!(values, &[2, 0, 400_000_000]);
    assert_eq!(labels, &["service=checkout-api", "pid=301", "thread=main", "tid=301", "category=blocked"]);
    assert_eq!(samples[0].1, [100, 800_000_000, 800_000_000]);
}

#[test]
fn a_profile_without_samples_is_a_valid_file_of_each_format() {
    let empty = Profile::default();
    assert_eq!(written(|p, out| collapsed::write(p, out), &empty), b"");
    let file: Value = serde_json::from_slice(&written(|p, out| speedscope::write(p, out), &empty)).unwrap();
    assert_eq!(file["profiles"], json!([]));
    assert_eq!(samples(&pprof::message(&empty)), []);
}

#[test]
fn the_number_of_stacks_is_bounded_and_no_time_is_lost() {
    let mut thread = ThreadProfile::default();
    let mut stacks = 0;
    let extra = 10;
    for number in 0..MOST_STACKS + extra {
        let frame =
            super::sample::frame(crate::model::FrameKind::JavaScript, &number.to_string(), None, None);
        let time = StackTime {
            stack: std::sync::Arc::new(Stack { frames: vec![frame], ..Stack::default() }),
            category: Category::Application,
            samples: 1,
            time_ns: 7,
        };
        thread.add(&time, &mut stacks);
    }
    assert_eq!(thread.weights.len(), MOST_STACKS + 1);
    let total = thread.weights.values().fold(Weight::default(), |mut sum, weight| {
        sum.add(*weight);
        sum
    });
    let count = (MOST_STACKS + extra) as u64;
    assert_eq!(total, Weight { samples: count, time_ns: 7 * count });
}

/// Files for readers that are not ours: `go tool pprof -top`, the schema of the npm package `speedscope`, inferno.
#[test]
#[ignore = "writes files for other programs: NODEPROBE_PROFILES names the directory"]
fn files_for_other_readers() {
    let directory = std::path::PathBuf::from(std::env::var_os("NODEPROBE_PROFILES").unwrap());
    let profile = profile();
    std::fs::write(directory.join("p.collapsed"), written(|p, out| collapsed::write(p, out), &profile))
        .unwrap();
    std::fs::write(directory.join("p.json"), written(|p, out| speedscope::write(p, out), &profile)).unwrap();
    std::fs::write(directory.join("p.pb.gz"), written(|p, out| pprof::write(p, out), &profile)).unwrap();
}
