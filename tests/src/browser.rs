//! Chromium without a screen: what a page looks like once it has drawn itself.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{agent::run, node::target_tmp, process::describe};

/// How long it may take to start and to draw on a loaded machine.
const DRAW: Duration = Duration::from_secs(90);

/// What the system of whoever looks prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Dark,
    Light,
}

/// Why there is none.
///
/// # Errors
/// Says what is missing.
pub fn is_there() -> Result<(), String> {
    let version =
        Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match version {
        Ok(status) if status.success() => Ok(()),
        _ => {
            Err("no `chromium` in PATH that starts; `cargo xtask setup --tests` installs it on Debian"
                .to_owned())
        }
    }
}

/// Opens a copy of `page` in which `probe`, the body of a function, runs last. Returns what that returns.
#[track_caller]
pub fn ask(page: &Path, scheme: Scheme, probe: &str) -> Value {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let copy = directory.path().join("page.html");
    let text = fs::read_to_string(page).expect("the page can be read");
    let (before, after) = text.rsplit_once("</body>").expect("the page has an end");
    let asking = format!(
        "<pre id=\"answer\"></pre><script>document.getElementById('answer').textContent = \
         JSON.stringify((() => {{ {probe} }})());</script></body>"
    );
    fs::write(&copy, format!("{before}{asking}{after}")).expect("the copy can be written");
    let mut command = chromium(directory.path());
    command.args(["--virtual-time-budget=5000", "--window-size=1280,2400"]);
    // The numbers of Blink's `PreferredColorScheme`.
    let preferred = u8::from(scheme == Scheme::Light);
    command.arg(format!("--blink-settings=preferredColorScheme={preferred}"));
    answer_of(command.arg(format!("file://{}", copy.display())))
}

/// Opens a page that writes its answer down itself, once as it is and once for its picture.
#[track_caller]
pub fn draw(page: &Path, (width, height): (u64, u64), picture: &Path) -> Value {
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let mut command = chromium(directory.path());
    command.arg(format!("--window-size={width},{height}"));
    // Icons are files beside the page.
    command.args(["--virtual-time-budget=15000", "--hide-scrollbars", "--allow-file-access-from-files"]);
    command.arg(format!("--screenshot={}", picture.display()));
    answer_of(command.arg(format!("file://{}", page.display())))
}

fn chromium(home: &Path) -> Command {
    let mut command = Command::new("chromium");
    // As root it has no sandbox; a directory of its own keeps it from one that runs already.
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    command.args(["--no-first-run", "--disable-extensions"]);
    command.arg(format!("--user-data-dir={}", home.join("profile").display()));
    command.env("HOME", home).stdin(Stdio::null());
    command
}

/// What the page has written into its `<pre id="answer">`.
#[track_caller]
fn answer_of(command: &mut Command) -> Value {
    let output = run(command, DRAW);
    let dom = output.stdout_text();
    let answer =
        dom.split_once("<pre id=\"answer\">").and_then(|(_, rest)| Some(rest.split_once("</pre>")?.0));
    let answer = answer.unwrap_or_else(|| {
        panic!(
            "Chromium ended with {} and no answer; stderr: {}",
            describe(output.status),
            output.stderr_text()
        )
    });
    let answer =
        answer.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in the answer {answer:?}"))
}
