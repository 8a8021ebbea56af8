//! Boards as Grafana draws them: what each panel asks for, asked as Grafana would, and drawn by Grafana's own components in a
//! browser. The page is ours (`boards/draw`), and tells what it has drawn.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    agent::run,
    boards::{board, panels},
    browser,
    collector::{escape, executable, get, workspace_file},
    process::describe,
};

const BUNDLE: Duration = Duration::from_mins(2);
/// The grid of a dashboard: height of a row and the gap below it.
const ROW: u64 = 30;
const GAP: u64 = 8;
/// As wide as half of a usual screen beside the menu: what fits here fits everywhere.
pub const WIDTH: u64 = 1600;

fn page_file(name: &str) -> PathBuf {
    let directory =
        workspace_file("tests/boards/draw").canonicalize().expect("the page is in the repository");
    directory.join(name)
}

/// Our page with Grafana's components in it.
pub struct Page {
    directory: PathBuf,
    icons: PathBuf,
}

impl Page {
    /// Puts the page together in `directory`.
    ///
    /// # Errors
    /// Says what is missing.
    ///
    /// # Panics
    /// When our own code cannot be bundled.
    pub fn bundle(directory: &Path) -> Result<Self, String> {
        browser::is_there()?;
        let modules = executable("NODEPROBE_TEST_GRAFANA")?.join("node_modules");
        fs::create_dir_all(directory).expect("the directory of drawings can be made");
        let directory = directory.canonicalize().expect("it has just been made");
        let mut esbuild = Command::new(modules.join(".bin/esbuild"));
        esbuild.arg(page_file("main.jsx"));
        esbuild.arg(format!("--outfile={}", directory.join("bundle.js").display()));
        esbuild.args(["--bundle", "--minify", "--jsx=automatic", "--log-level=warning"]);
        esbuild.arg("--define:process.env.NODE_ENV=\"production\"");
        esbuild.args([".svg", ".woff", ".woff2", ".ttf"].map(|kind| format!("--loader:{kind}=dataurl")));
        let scrollbars = "react-custom-scrollbars-2";
        esbuild.arg(format!("--alias:{scrollbars}={}", page_file("scrollbars.js").display()));
        let original = modules.join(scrollbars).join("lib/index.js");
        esbuild.arg(format!("--alias:original-scrollbars={}", original.display()));
        let output = run(esbuild.env("NODE_PATH", &modules), BUNDLE);
        assert!(
            output.status.success(),
            "esbuild ended with {}: {}",
            describe(output.status),
            output.stderr_text()
        );
        Ok(Self { directory, icons: modules.join("@grafana/ui/dist/public") })
    }

    /// Draws a board; returns what the page tells of it, and where its picture is.
    pub fn draw(&self, name: &str, asked: &Asked) -> (Value, PathBuf) {
        let board = board(name);
        let data = json!({
            "board": board, "results": asked.results, "variables": asked.variables, "width": WIDTH,
            "from": asked.range.from, "to": asked.range.to, "step": asked.range.step,
        });
        fs::write(self.directory.join(format!("{name}.js")), format!("window.DRAWING = {data};\n"))
            .expect("the data can be written");
        let page = self.directory.join(format!("{name}.html"));
        // What goes wrong before our code runs is told as well.
        let html = format!(
            "<!doctype html><html><head><meta charset=\"utf-8\"><title>{name}</title>\
             <link rel=\"stylesheet\" href=\"bundle.css\"><script>window.FAULTS = [];\n\
             addEventListener('error', (event) => FAULTS.push(String(event.message)));\n\
             addEventListener('unhandledrejection', (event) => FAULTS.push(String(event.reason)));\n\
             console.error = (...words) => FAULTS.push(words.join(' '));\n\
             window.__grafana_public_path__ = 'file://{}/';</script></head>\
             <body><div id=\"root\"></div><script src=\"{name}.js\"></script><script src=\"bundle.js\"></script></body></html>",
            self.icons.display()
        );
        fs::write(&page, html).expect("the page can be written");
        let picture = self.directory.join(format!("{name}.png"));
        (browser::draw(&page, (WIDTH, height(&board)), &picture), picture)
    }
}

/// In pixels.
fn height(board: &Value) -> u64 {
    let panels = board["panels"].as_array().expect("a board has panels");
    let ends = panels
        .iter()
        .filter_map(|panel| Some(panel["gridPos"]["y"].as_u64()? + panel["gridPos"]["h"].as_u64()?));
    ends.max().unwrap_or_default() * (ROW + GAP) + GAP
}

/// Unix times in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub from: u64,
    pub to: u64,
    pub step: u64,
}

/// The answers to all questions of a board.
pub struct Asked {
    /// By the panel's id: one answer per target, in their order.
    pub results: Map<String, Value>,
    variables: Value,
    range: Range,
}

/// Asks what the panels of a board ask, with variables filled in.
///
/// # Panics
/// When the database refuses a question.
pub fn ask(port: u16, name: &str, variables: &[(&str, &str)], range: Range) -> Asked {
    let mut results = Map::new();
    // What Grafana makes of a data source whose scrape interval is `step`.
    let rate_interval = format!("{}s", 4 * range.step);
    let whole_range = format!("{}s", range.to - range.from);
    for panel in panels(&board(name)) {
        let answers = panel["targets"].as_array().expect("a panel has targets").iter().map(|target| {
            let expression = target["expr"].as_str().expect("a target has an expression");
            let expression = expression.replace("$__rate_interval", &rate_interval);
            let expression = expression.replace("$__range", &whole_range);
            let expression =
                variables.iter().fold(expression, |text, (variable, value)| text.replace(variable, value));
            let path = if target["instant"] == true {
                format!("/api/v1/query?time={}&query={}", range.to, escape(&expression))
            } else {
                format!(
                    "/api/v1/query_range?start={}&end={}&step={}&query={}",
                    range.from,
                    range.to,
                    range.step,
                    escape(&expression)
                )
            };
            let answer: Value =
                serde_json::from_str(&get(port, &path)).expect("the database answers in JSON");
            assert!(answer["status"] == "success", "{name}: {}: {expression}: {answer}", panel["title"]);
            answer["data"]["result"].clone()
        });
        results.insert(panel["id"].to_string(), answers.collect());
    }
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
    Asked { results, variables: variables.collect::<Map<_, _>>().into(), range }
}
