use std::time::{Duration, Instant};

use super::*;
use crate::procfs::Procfs;

fn this_process() -> (ProcessId, ProcessDir) {
    let dir = Procfs::default().process(std::process::id()).unwrap();
    (ProcessId { pid: dir.pid(), start_ticks: dir.stat().unwrap().start_ticks }, dir)
}

fn fixture(name: &str) -> String {
    format!("{}/src/stack/source_map/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// `path:line:column name`, the path counted from the fixtures.
fn original(
    maps: &mut SourceMaps,
    script: &str,
    url: Option<&str>,
    line: u32,
    column: u32,
) -> Option<String> {
    let (process, dir) = this_process();
    let found = maps.original(process, &dir, &Arc::from(script), url, Position { line, column })?;
    let source = found.source.strip_prefix(&fixture("")).unwrap_or(&found.source).to_owned();
    let name = found.name.map_or(String::new(), |name| format!(" {name}"));
    Some(format!("{source}:{}:{}{name}", found.line, found.column))
}

/// Positions that Node.js 20 prints for the fixtures, without and with `--enable-source-maps`.
#[test]
fn positions_are_those_that_node_prints() {
    for (script, line, column, expected) in [
        ("tsc/orders.js", 22, 12, "src/orders.ts:21:10"),
        ("tsc/index.js", 11, 59, "src/index.ts:7:43"),
        ("tsc/index.js", 13, 22, "src/index.ts:10:22"),
        ("esbuild/index.js", 1, 136, "src/orders.ts:21:10"),
        ("esbuild/index.js", 1, 229, "src/index.ts:7:35 whereAmI"),
        ("esbuild/index.js", 1, 257, "src/index.ts:10:22 checkout"),
    ] {
        let found = original(&mut SourceMaps::new(), &fixture(script), None, line, column);
        assert_eq!(found.as_deref(), Some(expected), "{script}:{line}:{column}");
    }
}

#[test]
fn the_place_where_a_function_is_named_tells_its_name() {
    // `function i(`: the name is nine characters further on.
    let text = std::fs::read_to_string(fixture("esbuild/index.js")).unwrap();
    let column = text.find("function i(").unwrap() as u32 + 9 + 1;
    let found = original(&mut SourceMaps::new(), &fixture("esbuild/index.js"), None, 1, column);
    assert_eq!(found.as_deref(), Some("src/index.ts:5:10 checkout"));
}

#[test]
fn a_map_is_read_once_and_so_is_a_missing_one() {
    let mut maps = SourceMaps::new();
    let (process, dir) = this_process();
    let script: Arc<str> = Arc::from(fixture("tsc/orders.js"));
    let missing: Arc<str> = Arc::from(fixture("tsc/nothing.js"));
    let place = Position { line: 22, column: 12 };
    assert!(maps.original(process, &dir, &script, None, place).is_some());
    assert_eq!(maps.original(process, &dir, &missing, None, place), None);
    let (spent, kept) = (maps.spent.clone(), maps.size_bytes());
    assert!(kept > 0 && kept < 4096, "{kept}");
    assert!(maps.original(process, &dir, &script, None, place).is_some());
    assert_eq!(maps.original(process, &dir, &missing, Some("orders.js.map"), place), None, "remembered");
    assert_eq!(maps.spent, spent);
    // The same map of another process takes no memory.
    let other = ProcessId { start_ticks: 1, ..process };
    assert!(maps.original(other, &dir, &script, None, place).is_some());
    assert!(maps.size_bytes() <= kept);
    maps.forget(process);
    maps.forget(other);
    assert_eq!((maps.size_bytes(), maps.spent.len()), (0, 0));
}

#[test]
fn data_urls_serve_scripts_without_a_file() {
    let url = "data:application/json,{\"version\":3,\"sources\":[\"/src/a.ts\"],\"mappings\":\"AACA\"}";
    assert_eq!(
        original(&mut SourceMaps::new(), "evalmachine", Some(url), 1, 1).as_deref(),
        Some("/src/a.ts:2:1")
    );
    assert_eq!(original(&mut SourceMaps::new(), "evalmachine", None, 1, 1), None);
}

#[test]
fn a_long_data_url_at_the_end_of_a_file_is_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // `{"version":3,"sources":["/a.ts"],"mappings":"AAAA"}` behind 9000 spaces, which are `ICAg` in base 64.
    let json = "eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIi9hLnRzIl0sIm1hcHBpbmdzIjoiQUFBQSJ9";
    let text =
        format!("f();\n//# sourceMappingURL=data:application/json;base64,{}{json}\n", "ICAg".repeat(3000));
    std::fs::write(file.path(), text).unwrap();
    let script = file.path().to_str().unwrap();
    assert_eq!(original(&mut SourceMaps::new(), script, None, 1, 1).as_deref(), Some("/a.ts:1:1"));
}

/// Line and column, 0-based, in the map `json`.
fn find(json: &str, line: u32, column: u32) -> Option<(String, u32, u32)> {
    let map = parse(json.as_bytes())?;
    let place = map.find(line, column)?;
    Some((place.source.to_owned(), place.line, place.column))
}

#[test]
fn a_place_belongs_to_the_segment_it_lies_in() {
    // Line 0: column 2 to a:0:0, column 4 to nothing, column 6 to a:0:6. Line 2: column 0 to a:1:0.
    let json = r#")]}'
        {"version":3,"sources":["a"],"mappings":"EAAA,E,EAAM;;AACN","sourcesContent":["x"],"x":{"y":[1]}}"#;
    let at = |line, column| find(json, line, column).map(|(_, line, column)| (line, column));
    assert_eq!(
        [at(0, 1), at(0, 2), at(0, 3), at(0, 4), at(0, 5)],
        [None, Some((0, 0)), Some((0, 0)), None, None]
    );
    assert_eq!(
        [at(0, 6), at(0, 999), at(1, 0), at(2, 3), at(3, 0)],
        [Some((0, 6)), Some((0, 6)), None, Some((1, 0)), None]
    );
}

#[test]
fn far_places_are_found_as_near_ones() {
    // 50 000 segments in one line, each two columns and one original line further; then 50 000 lines.
    let one_line = format!(r#"{{"version":3,"sources":["a"],"mappings":"AAAA{}"}}"#, ",EACA".repeat(49_999));
    let lines = format!(r#"{{"version":3,"sources":["a"],"mappings":"AAAA{}"}}"#, ";AACA".repeat(49_999));
    let (one_line, lines) = (parse(one_line.as_bytes()).unwrap(), parse(lines.as_bytes()).unwrap());
    for index in [0, 1, 203, 204, 205, 206, 1023, 25_000, 49_999] {
        assert_eq!(one_line.find(0, index * 2 + 1).unwrap().line, index);
        assert_eq!(lines.find(index, 0).unwrap().line, index);
    }
    assert!(one_line.size_bytes() < 280_000, "{}", one_line.size_bytes());
}

#[test]
fn indexed_maps_have_sections() {
    let json = r#"{"version":3,"sections":[
        {"offset":{"line":0,"column":10},"map":{"version":3,"sources":["a"],"mappings":"AAAA;AACA"}},
        {"offset":{"line":5,"column":2},"map":{"version":3,"sources":["b"],"mappings":"AAAA"}}]}"#;
    assert_eq!(find(json, 0, 9), None);
    assert_eq!(find(json, 0, 12), Some(("a".into(), 0, 0)));
    assert_eq!(find(json, 1, 0), Some(("a".into(), 1, 0)));
    assert_eq!(find(json, 5, 2), Some(("b".into(), 0, 0)));
}

#[test]
fn broken_maps_are_no_maps() {
    for json in [
        "",
        "[]",
        "null",
        "{",
        ")]}'",
        r#"{"version":3}"#,
        r#"{"version":2,"sources":["a"],"mappings":"AAAA"}"#,
        r#"{"version":3,"sources":[1],"mappings":"AAAA"}"#,
        r#"{"version":3,"sources":["a"],"mappings":"A*AA"}"#,
        r#"{"version":3,"sources":["a"],"mappings":"AA"}"#,
        r#"{"version":3,"sources":["a"],"mappings":"AAAAAA"}"#,
        r#"{"version":3,"sources":["a"],"mappings":"ggggggggggggC"}"#,
        r#"{"version":3,"sources":["a"],"mappings":"g"}"#,
        r#"{"version":3,"sources":["a"],"mappings":"DAAA"}"#,
        // Columns that go back.
        r#"{"version":3,"sources":["a"],"mappings":"EAAA,DAAA"}"#,
        r#"{"version":3,"sections":[]}"#,
        r#"{"version":3,"sections":[{"map":{"sections":[]}}]}"#,
    ] {
        assert_eq!(find(json, 0, 0), None, "{json}");
    }
    // A source that is not there.
    assert_eq!(find(r#"{"version":3,"sources":["a"],"mappings":"ACAA"}"#, 0, 0), None);
    assert_eq!(
        find(r#"{"version":3,"sources":[null],"mappings":"AAAA"}"#, 0, 0),
        Some((String::new(), 0, 0))
    );
}

#[test]
fn hostile_maps_end_in_bounded_time_and_memory() {
    let deep = format!(r#"{{"version":3,"x":{}"#, "[".repeat(1 << 20));
    let sections =
        format!(r#"{{"version":3,"sections":[{}]}}"#, vec![r#"{"map":{"mappings":""}}"#; 100_000].join(","));
    let segments = format!(r#"{{"version":3,"sources":["a"],"mappings":"{}"}}"#, "A,".repeat(1 << 20));
    let lines = format!(r#"{{"version":3,"sources":["a"],"mappings":"{}A"}}"#, ";".repeat(1 << 21));
    for json in [&deep, &sections, &segments, &lines] {
        let begin = Instant::now();
        assert_eq!(find(json, 0, 0), None);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }
    let names = format!(r#"{{"version":3,"names":[{}"",""],"mappings":"A"}}"#, r#""","#.repeat(1 << 20));
    let size_bytes = parse(names.as_bytes()).unwrap().size_bytes();
    assert!(size_bytes < 2 * names.len(), "{size_bytes} of {}", names.len());
}

#[test]
fn one_process_cannot_keep_us_reading() {
    let mut maps = SourceMaps::new();
    let (process, dir) = this_process();
    maps.spent.insert(process, PROCESS_MAX_BYTES);
    let script: Arc<str> = Arc::from(fixture("tsc/orders.js"));
    assert_eq!(maps.original(process, &dir, &script, None, Position { line: 22, column: 12 }), None);
}

#[test]
fn positions_that_do_not_exist_have_no_original() {
    for (line, column) in [(0, 1), (1, 0), (0, 0), (u32::MAX, u32::MAX)] {
        assert_eq!(original(&mut SourceMaps::new(), &fixture("tsc/orders.js"), None, line, column), None);
    }
}
