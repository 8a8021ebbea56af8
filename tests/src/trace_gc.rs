//! What V8 itself says about its pauses: the lines of `--trace-gc`, Node 16 to 26.
//!
//! The format is that of `GCTracer::PrintNVP`'s human-readable sibling `GCTracer::Print` in V8's
//! `src/heap/gc-tracer.cc`; `fixtures/trace-gc` holds real lines of every version.

/// Which part of the heap a pause collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Young generation: scavenge, minor mark-compact, minor mark-sweep.
    Minor,
    /// Whole heap: mark-compact ("mark-sweep" up to Node 18).
    Major,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Major => "major",
        }
    }
}

/// One pause.
#[derive(Clone, Debug, PartialEq)]
pub struct Pause {
    /// Address of the isolate as printed; each worker has its own.
    pub isolate: String,
    /// Since the isolate was made, seconds.
    pub at_s: f64,
    pub kind: Kind,
    /// Printed with one decimal of a MB (of 2^20 bytes), so right to 0.05 MB.
    pub heap_before_mb: f64,
    pub heap_after_mb: f64,
    /// Printed in ms with one decimal up to Node 18 and two later.
    pub duration_s: f64,
}

/// All pauses of a trace, in order. Lines that tell of no pause are passed over.
pub fn parse(trace: &str) -> Vec<Pause> {
    trace.lines().filter_map(parse_line).collect()
}

/// `[pid:isolate] 339 ms: Mark-sweep 74.2 (93.5) -> 64.0 (98.4) MB, pooled: 0 MB, 50.8 / 0.0 ms (...) ...`
fn parse_line(line: &str) -> Option<Pause> {
    let (identity, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (_pid, isolate) = identity.split_once(':')?;
    let (at_ms, rest) = rest.split_once(" ms: ")?;
    let (before, after) = rest.split_once(" -> ")?;
    let name_end = before.find(|c: char| c.is_ascii_digit())?;
    let (name, sizes_before) = before.split_at(name_end);
    let (duration_ms, _) = after.split_once(" ms")?.0.rsplit_once(" / ")?;
    Some(Pause {
        isolate: isolate.to_owned(),
        at_s: at_ms.trim().parse::<f64>().ok()? / 1e3,
        kind: kind_of(name)?,
        heap_before_mb: first_number(sizes_before)?,
        heap_after_mb: first_number(after)?,
        duration_s: duration_ms.rsplit(' ').next()?.parse::<f64>().ok()? / 1e3,
    })
}

fn kind_of(name: &str) -> Option<Kind> {
    let name = name.to_ascii_lowercase();
    if name.contains("scavenge") || name.contains("minor") {
        Some(Kind::Minor)
    } else if name.contains("mark-") {
        Some(Kind::Major)
    } else {
        None
    }
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The median of some values; `None` when there are none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_every_version_is_read() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/trace-gc");
        let mut versions = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let pauses = parse(&text);
            assert_eq!(pauses.len(), text.lines().count(), "{}", path.display());
            let majors = text.to_lowercase().matches("mark-").count();
            let counted = pauses.iter().filter(|pause| pause.kind == Kind::Major).count();
            assert_eq!(counted, majors, "{}", path.display());
            for pause in &pauses {
                assert!((1.0..600.0).contains(&pause.heap_before_mb), "{pause:?}");
                assert!((1.0..600.0).contains(&pause.heap_after_mb), "{pause:?}");
                assert!((0.0005..0.5).contains(&pause.duration_s), "{pause:?}");
            }
            versions += 1;
        }
        assert_eq!(versions, 6);
    }

    #[test]
    fn fields_are_those_of_the_line() {
        // Node 16 and Node 26, shortened after the last field that is read.
        let trace = "\
[21012:0x17a6f8c0]      339 ms: Mark-sweep 74.2 (93.5) -> 64.0 (98.4) MB, 50.8 / 0.0 ms  (+ 4.1 ms in 54 steps
[25667:0xd2e7000]       50 ms: Scavenge (interleaved) 5.0 (5.9) -> 4.6 (6.6) MB, pooled: 0.0 MB, 1.92 / 0.00 ms (av
[25667:0xd2e7000]      539 ms: Incremental Mark-Compact 99.9 (120.4) -> 95.4 (120.1) MB, pooled: 0.0 MB, 28.13 / 0.00 ms (";
        let pause = |isolate: &str, at_s, kind, heap_before_mb, heap_after_mb, duration_s| Pause {
            isolate: isolate.to_owned(),
            at_s,
            kind,
            heap_before_mb,
            heap_after_mb,
            duration_s,
        };
        let expected = [
            pause("0x17a6f8c0", 0.339, Kind::Major, 74.2, 64.0, 50.8 / 1e3),
            pause("0xd2e7000", 0.050, Kind::Minor, 5.0, 4.6, 1.92 / 1e3),
            pause("0xd2e7000", 0.539, Kind::Major, 99.9, 95.4, 28.13 / 1e3),
        ];
        assert_eq!(parse(trace), expected);
    }

    #[test]
    fn other_lines_are_passed_over() {
        let trace =
            "hello\n[1:0x2] 5 ms: Heap growing policy: x -> y\n[eslint] -> ok\n[1:0x2] 1 ms: Scavenge 1.0";
        assert_eq!(parse(trace), []);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
