//! The page of `nodeprobe diagnose --html`, made of real processes and drawn by a real browser.

use std::{fs, path::PathBuf, time::Duration};

use nodeprobe_tests::{
    Node, Workload,
    agent::{self, Output},
    browser::{self, Scheme},
    load::Load,
    node::target_tmp,
    on_one_node,
    process::describe,
    skip::skip,
    workload::number,
};
use serde_json::Value;
use tempfile::TempDir;

on_one_node!(Node::of_major(22) => the_page_shows_what_is_wrong_and_since_when);
on_one_node!(Node::of_major(22) => the_page_tells_who_allocates);
on_one_node!(Node::of_major(24) => names_that_look_like_markup_stay_text);
on_one_node!(Node::of_major(20) => a_file_that_cannot_be_had_is_told_before_anything_is_watched);

const RUN: Duration = Duration::from_mins(1);

/// What every page is asked.
const ASK: &str = "
    const root = document.documentElement;
    const all = (selector) => [...document.querySelectorAll(selector)];
    const page = () => ({
        state: root.dataset.state, errors: root.dataset.errors, first_error: root.dataset.firstError ?? null,
        background: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
        findings: all('[data-finding]').map((finding) => finding.dataset.finding),
        allocates: all('[data-allocates]').map((row) => [row.dataset.allocates, row.innerText]),
        culprits: all('[data-culprit]').map((culprit) => culprit.textContent),
        cells: all('svg rect.cell').length, stalls: all('svg rect.stall').length, curves: all('svg path.curve').length,
        frames: all('svg.flame g.frame').map((frame) => frame.dataset.function),
        images: document.images.length, scripts: document.scripts.length, owned: root.dataset.owned ?? null,
        text: document.body.innerText,
    });
";

/// A page and the directory that it is in.
struct Page {
    path: PathBuf,
    _directory: TempDir,
}

impl Page {
    /// Diagnoses one process.
    fn of(workload: &Workload) -> (Self, Output) {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let path = directory.path().join("page.html");
        let mut command = agent::command(["diagnose", "--for", "6s", "--format", "json", "--html"]);
        command.arg(&path).args(["--pid", &workload.pid().to_string()]);
        let output = agent::run(&mut command, RUN);
        let made = (Self { path, _directory: directory }, output);
        let (code, stderr) = (made.1.status.code(), made.1.stderr_text());
        assert_eq!(code, Some(2), "{}; {stderr}", describe(made.1.status));
        assert!(stderr.contains("nodeprobe: wrote "), "{stderr}");
        made
    }

    /// Diagnoses a service with a failure mode, while it is asked for what shows it.
    fn of_service(node: &Node, failure_mode: &str) -> (Self, Output) {
        let workload = Workload::plan(node, &format!("failure-modes/{failure_mode}.js")).start();
        let ready = workload.wait_for("ready");
        let path = ready["path"].as_str().expect("it says what to ask for");
        let _load = Load::start(number(&ready, "port") as u16, path, number(&ready, "rate"), 4);
        Self::of(&workload)
    }

    /// What the page is when `then` was done to it.
    #[track_caller]
    fn ask(&self, scheme: Scheme, then: &str) -> Value {
        let answer = browser::ask(&self.path, scheme, &format!("{ASK} {then}; return page();"));
        assert_eq!(answer["state"], "ready", "{answer:#}");
        assert_eq!(answer["errors"], "0", "{answer:#}");
        answer
    }
}

fn has(list: &Value, wanted: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|entry| entry == wanted))
}

fn the_page_shows_what_is_wrong_and_since_when(node: &Node) {
    if let Err(reason) = browser::is_there() {
        return skip(&reason);
    }
    let (page, output) = Page::of_service(node, "event-loop-starvation");

    // What is on stdout is what it would be without a page.
    let json = output.json();
    let findings = json["processes"][0]["findings"].as_array().expect("findings are a list");
    assert!(findings.iter().any(|finding| finding["id"] == "event-loop-starvation"), "{json:#}");
    let light = page.ask(Scheme::Light, "");
    assert!(has(&light["findings"], "event-loop-starvation"), "{light:#}");
    assert!(has(&light["culprits"], "hashPassword"), "{light:#}");
    assert!(has(&light["frames"], "hashPassword"), "{light:#}");
    for (what, least) in [("cells", 5.0), ("stalls", 5.0), ("curves", 4.0)] {
        assert!(number(&light, what) >= least, "{what}: {light:#}");
    }

    let dark = page.ask(Scheme::Dark, "");
    assert_ne!(light["background"], dark["background"]);
    assert_ne!(light["ink"], dark["ink"]);
    assert_eq!(light["cells"], dark["cells"]);
    let toggled = "document.querySelector('.theme').click(); document.querySelector('.theme').click()";
    assert_eq!(page.ask(Scheme::Light, toggled)["background"], dark["background"]);

    // By keys: the first stall with stacks is opened in the flame graph, then the frame is zoomed to.
    let keys = "
        const stalls = document.querySelector('svg[aria-label*=\"stalls\"]');
        const press = (element, key) => element.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
        for (let stall = 0; stall < 20 && !document.querySelector('.chip'); stall += 1) {
            press(stalls, 'ArrowRight');
            press(stalls, 'Enter');
        }
        const frame = all('svg.flame g.frame').find((frame) => frame.dataset.function === 'hashPassword');
        press(frame, 'Enter')";
    let zoomed = page.ask(Scheme::Light, keys);
    assert!(has(&zoomed["frames"], "hashPassword"), "{zoomed:#}");
    assert!(zoomed["text"].as_str().is_some_and(|text| text.contains("stall at ")), "{zoomed:#}");
    assert_eq!(zoomed["scripts"], light["scripts"]);
}

fn the_page_tells_who_allocates(node: &Node) {
    if let Err(reason) = browser::is_there() {
        return skip(&reason);
    }
    let (page, output) = Page::of_service(node, "gc-pressure");
    let json = output.json();
    let told = &json["processes"][0]["allocations"][0];
    let shown = &page.ask(Scheme::Light, "")["allocates"][0];
    assert_eq!(shown[0], told["function"], "{told:#}");
    assert!(shown[1].as_str().is_some_and(|row| row.contains("MiB/s")), "{shown:#}; {told:#}");
    let findings = json["processes"][0]["findings"].as_array().expect("findings are a list");
    let found = findings.iter().find(|finding| finding["id"] == "gc-pressure");
    let found = found.unwrap_or_else(|| panic!("no gc-pressure in {json:#}"));
    assert_eq!(found["culprit"]["function"], told["function"], "{found:#}");
    let per_s = number(&found["evidence"], "allocated_by_culprit_bytes_per_s");
    let of_list = number(told, "bytes") / number(&json["processes"][0], "window_s");
    assert!((per_s / of_list - 1.0).abs() < 0.01, "{per_s} and {of_list} bytes a second");
}

fn names_that_look_like_markup_stay_text(node: &Node) {
    if let Err(reason) = browser::is_there() {
        return skip(&reason);
    }
    // A path may hold anything but a NUL, and so may the name of a method.
    let hostile = "</script><img src=x onerror=document.documentElement.dataset.owned=1>";
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let script = directory.path().join(format!("{hostile}.js"));
    fs::create_dir_all(script.parent().expect("it is in a directory")).expect("the directory can be made");
    let source = format!(
        "const work = {{ '{hostile}'(until) {{ while (Date.now() < until); }} }};
         setInterval(() => work['{hostile}'](Date.now() + 120), 300);
         process.title = '{hostile}';
         require('fs').appendFileSync(process.env.NODEPROBE_ORACLE, JSON.stringify({{ type: 'ready' }}) + '\\n');
         process.stdin.on('end', () => process.exit()).resume();\n"
    );
    fs::write(&script, source).expect("the script can be written");
    let workload = Workload::plan_path(node, &script).start();
    workload.wait_for("ready");
    let (page, _) = Page::of(&workload);
    for (scheme, then) in [
        (Scheme::Light, ""),
        (Scheme::Dark, "all('svg.flame g.frame').at(-1).dispatchEvent(new Event('click'))"),
    ] {
        let answer = page.ask(scheme, then);
        assert!(has(&answer["culprits"], hostile), "{answer:#}");
        assert!(has(&answer["frames"], hostile), "{answer:#}");
        assert!(
            answer["text"].as_str().is_some_and(|text| text.contains(&format!("{hostile}.js"))),
            "{answer:#}"
        );
        assert_eq!((&answer["owned"], &answer["images"]), (&Value::Null, &Value::from(0)), "{answer:#}");
        // Data, the page's own, and the one that asks.
        assert_eq!(answer["scripts"], 3, "{answer:#}");
    }
}

fn a_file_that_cannot_be_had_is_told_before_anything_is_watched(_: &Node) {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let mine = directory.path().join("mine.html");
    fs::write(&mine, "mine").expect("the file can be written");
    for (path, expected) in [
        (mine.clone(), "exists already; --force writes over it"),
        (directory.path().join("missing/page.html"), "cannot be created; name another place with --html"),
    ] {
        let mut command = agent::command(["diagnose", "--for", "1h", "--html"]);
        let output = agent::run(command.arg(&path), Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(1), "{}", output.stderr_text());
        assert!(output.stderr_text().contains(expected), "{}", output.stderr_text());
    }
    assert_eq!(fs::read_to_string(&mine).expect("it is there"), "mine");
}
