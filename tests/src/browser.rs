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
    let mut command = Command::new("chromium");
    // As root it has no sandbox; a directory of its own keeps it from one that runs already.
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        "--virtual-time-budget=5000",
    ]);
    command.args(["--no-first-run", "--disable-extensions", "--window-size=1280,2400"]);
    // The numbers of Blink's `PreferredColorScheme`.
    let preferred = u8::from(scheme == Scheme::Light);
    command.arg(format!("--blink-settings=preferredColorScheme={preferred}"));
    command.arg(format!("--user-data-dir={}", directory.path().join("profile").display()));
    command.arg(format!("file://{}", copy.display())).env("HOME", directory.path()).stdin(Stdio::null());
    let output = run(&mut command, DRAW);
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
