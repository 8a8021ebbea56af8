//! A diagnosis as one page for a browser, with everything it needs inside: the face of `nodeprobe diagnose --html`.
//!
//! The page is put together from the files of `assets/diagnosis/`; what it shows is in it as JSON: the diagnosis as `--format
//! json` prints it, and the lines of a recording. Names of functions, scripts and services come from observed processes and
//! may be anything. So the JSON is escaped until nothing in it can end its element, and the scripts put it on the page as
//! text only, never as markup.

use std::io::{self, Write};

use nodeprobe_ebpf::histogram::{FIRST_INDEX, SCALE};
use serde::Serialize;

use super::diagnosis::Diagnosis;

macro_rules! asset {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/diagnosis/", $name))
    };
}

/// The frame, with a place for each part.
const FRAME: &str = asset!("page.html");
const STYLES: [&str; 4] =
    [asset!("theme.css"), asset!("layout.css"), asset!("findings.css"), asset!("charts.css")];
/// In one scope, in this order; the last one draws.
const SCRIPTS: [&str; 17] = [
    asset!("errors.js"),
    asset!("dom.js"),
    asset!("format.js"),
    asset!("palette.js"),
    asset!("recording.js"),
    asset!("tooltip.js"),
    asset!("chart.js"),
    asset!("findings.js"),
    asset!("timelines.js"),
    asset!("heatmap.js"),
    asset!("flame_tree.js"),
    asset!("flame.js"),
    asset!("functions.js"),
    asset!("memory.js"),
    asset!("allocations.js"),
    asset!("startup.js"),
    asset!("main.js"),
];
const STYLE_PLACE: &str = "/*{style}*/";
const DATA_PLACE: &str = "{data}";
const SCRIPT_PLACE: &str = "/*{script}*/";

/// What the exponential buckets of a recording mean: slot `i` begins at `2^((i + first_index) / per_octave)` seconds.
#[derive(Serialize)]
struct Buckets {
    per_octave: u32,
    first_index: i32,
}

/// Writes the page. `recording` are the lines of a recording, the header first.
///
/// # Errors
/// Those of the sink.
pub fn write<'a>(
    diagnosis: &Diagnosis,
    recording: impl Iterator<Item = &'a [u8]>,
    mut sink: impl Write,
) -> io::Result<()> {
    let (before_style, rest) = split(FRAME, STYLE_PLACE);
    let (before_data, rest) = split(rest, DATA_PLACE);
    let (before_script, after) = split(rest, SCRIPT_PLACE);
    sink.write_all(before_style.as_bytes())?;
    for style in STYLES {
        sink.write_all(style.as_bytes())?;
    }
    sink.write_all(before_data.as_bytes())?;
    data(diagnosis, recording, Escaped(&mut sink))?;
    sink.write_all(before_script.as_bytes())?;
    for script in SCRIPTS {
        sink.write_all(script.as_bytes())?;
    }
    sink.write_all(after.as_bytes())
}

fn split(text: &'static str, place: &str) -> (&'static str, &'static str) {
    text.split_once(place).expect("the frame has a place for each part")
}

fn data<'a>(
    diagnosis: &Diagnosis,
    recording: impl Iterator<Item = &'a [u8]>,
    mut sink: impl Write,
) -> io::Result<()> {
    sink.write_all(b"{\"diagnosis\":")?;
    serde_json::to_writer(&mut sink, diagnosis)?;
    sink.write_all(b",\"buckets\":")?;
    serde_json::to_writer(&mut sink, &Buckets { per_octave: 1 << SCALE, first_index: FIRST_INDEX })?;
    sink.write_all(b",\"recording\":[")?;
    for (index, line) in recording.enumerate() {
        if index > 0 {
            sink.write_all(b",\n")?;
        }
        sink.write_all(line.trim_ascii_end())?;
    }
    sink.write_all(b"]}")
}

/// JSON that can stand in a `<script>` element. What is replaced occurs in strings only, where the escape means the same.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    /// Takes all of `json`. A line separator (U+2028, U+2029) must not be divided between two calls; `serde_json` writes strings
    /// without characters to escape in one piece.
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        let mut rest = json;
        while let Some((at, length, escape)) = next_to_escape(rest) {
            self.0.write_all(&rest[..at])?;
            self.0.write_all(escape)?;
            rest = &rest[at + length..];
        }
        self.0.write_all(rest)?;
        Ok(json.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Where the next one is, its bytes, and what it becomes.
fn next_to_escape(json: &[u8]) -> Option<(usize, usize, &'static [u8])> {
    json.iter().enumerate().find_map(|(at, byte)| {
        let (length, escape): (usize, &[u8]) = match byte {
            b'<' => (1, b"\\u003c"),
            b'>' => (1, b"\\u003e"),
            b'&' => (1, b"\\u0026"),
            0xe2 if json[at..].starts_with("\u{2028}".as_bytes()) => (3, b"\\u2028"),
            0xe2 if json[at..].starts_with("\u{2029}".as_bytes()) => (3, b"\\u2029"),
            _ => return None,
        };
        Some((at, length, escape))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        recording::{Header, Recent},
        report::{diagnosis::ProcessDiagnosis, sample},
        stack::allocations::Allocation,
        verdict::Judge,
    };

    const HOSTILE: [&str; 8] = [
        "</script><img src=x onerror=alert(1)>.js",
        "<!--<script>",
        "]]>&lt;\"'`",
        "{data}/*{script}*//*{style}*/",
        "${alert(1)}",
        "\u{2028}\u{2029}",
        "\\u003c/script>\\",
        "\u{202e}gpj.exe\u{feff}",
    ];

    /// The page of a process whose name, and whose function and script to blame, are `name`.
    fn page(name: &str) -> String {
        let process = sample::process(301, name);
        let mut stall = sample::sampled_stall(&process, 0, 180 * sample::MS);
        stall.culprit = Some(sample::culprit(name, name, 7));
        let mut interval = sample::interval(0, vec![process.clone()]);
        interval.stalls.push(stall);
        let mut judge = Judge::new(60.0);
        judge.push(&interval);
        let allocates = Allocation { culprit: sample::culprit(name, name, 7), ratio: 0.5, bytes: Some(1e6) };
        let found = ProcessDiagnosis::new(&process, judge.findings(process.id), 1.0).allocating(&[allocates]);
        let header = Header::new("2026-11-23T20:31:04.250Z".to_owned(), Some(name.to_owned()), 1.0, 0.05);
        let mut recent = Recent::new(&header, 60.0).unwrap();
        recent.push(&interval).unwrap();
        let mut page = Vec::new();
        write(&Diagnosis::new(sample::time(0), [found]), recent.lines(), &mut page).unwrap();
        String::from_utf8(page).unwrap()
    }

    fn data_of(page: &str) -> &str {
        let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
        rest.split_once("</script>").unwrap().0
    }

    #[test]
    fn hostile_names_stay_in_their_element_and_arrive_unchanged() {
        for name in HOSTILE {
            let page = page(name);
            let data = data_of(&page);
            assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{name:?}");
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!(data["recording"][0]["host"], name);
            let strings = data["recording"][1]["interval"]["strings"].as_array().unwrap();
            assert!(strings.contains(&Value::from(name)), "{strings:?}");
            let innocent = self::page("shop");
            let count = |page: &str, tag| page.matches(tag).count();
            for tag in ["<script", "</script", "<style", "</style", "<img", "<!--"] {
                assert_eq!(count(&page, tag), count(&innocent, tag), "{name:?} brings in {tag}");
            }
        }
    }

    #[test]
    fn the_diagnosis_is_the_document_that_is_printed() {
        let data: Value = serde_json::from_str(data_of(&page("shop"))).unwrap();
        assert_eq!(data["diagnosis"]["processes"][0]["pid"], 301);
        assert_eq!(data["buckets"], serde_json::json!({ "per_octave": 8, "first_index": -160 }));
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = page("shop");
        // A name space is a name, not an address.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        for reference in
            ["http://", "https://", "src=", "url(", "@import", "<link", "import(", "fetch(", "XMLHttp"]
        {
            assert!(!page.contains(reference), "{reference}");
        }
        assert!(page.contains("http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';"));
    }

    #[test]
    fn data_never_becomes_markup() {
        for script in SCRIPTS {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "document.write",
                "DOMParser",
                "eval(",
                "Function(",
            ] {
                assert!(!script.contains(way), "{way}");
            }
            assert!(!script.contains("</script"));
        }
    }
}
