//! The run loop on a real pseudo-terminal, which `script` of util-linux provides.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use tokio::sync::{mpsc, watch};

use super::*;
use crate::tui::{ColorChoice, Options, run};

/// Set for the process inside of the terminal.
const INSIDE: &str = "NODEPROBE_TEST_INSIDE_TERMINAL";
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// Runs the test `child` of this module inside of a terminal, types `keys` once the screen is drawn, and returns what
/// the terminal got, with its settings at the end.
fn in_a_terminal(child: &str, keys: &[u8]) -> String {
    let tests = std::env::current_exe().unwrap();
    let tests = tests.display();
    let command = format!(
        "stty rows 24 cols 100; '{tests}' --exact tui::tests::live::{child} --ignored --nocapture; stty -a"
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .envs([("TERM", "xterm-256color"), ("RUST_BACKTRACE", "0"), (INSIDE, "1"), ("LC_ALL", "C.UTF-8")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux is needed");
    let (mut stdin, mut stdout) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let mut output = Vec::new();
    let mut typed = false;
    let mut chunk = [0; 4096];
    loop {
        let read = stdout.read(&mut chunk).unwrap();
        if read == 0 {
            break;
        }
        output.extend(&chunk[..read]);
        // The name of the process: intervals have arrived.
        if !typed && String::from_utf8_lossy(&output).contains("live-sample") {
            typed = true;
            stdin.write_all(keys).unwrap();
        }
    }
    script.wait().unwrap();
    String::from_utf8_lossy(&output).into_owned()
}

/// Between entering and leaving the screen, and what came after.
fn split(output: &str) -> (&str, &str) {
    let (_, inside) = output.split_once(ENTER).unwrap_or_else(|| panic!("no screen in {output:?}"));
    let (inside, after) = inside.rsplit_once(LEAVE).unwrap_or_else(|| panic!("still there: {output:?}"));
    (inside, after)
}

fn assert_cooked(after: &str) {
    let settings: Vec<&str> = after.split([' ', ';', '\r', '\n']).collect();
    for setting in ["icanon", "echo", "isig", "opost"] {
        assert!(settings.contains(&setting), "{setting} is off: {after:?}");
    }
    assert!(after.contains("\u{1b}[?25h"), "the cursor stays hidden: {after:?}");
}

#[test]
fn quitting_gives_the_terminal_back() {
    for key in [b"q", b"\x03"] {
        let output = in_a_terminal("child_shows_until_it_is_told_to_quit", key);
        let (inside, after) = split(&output);
        assert!(inside.contains("live-sample"));
        assert!(after.contains("1 passed"), "{after:?}");
        assert_cooked(after);
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_its_message() {
    let output = in_a_terminal("child_panics_on_another_thread", b"");
    let (inside, after) = split(&output);
    assert!(!inside.contains("on purpose"), "{inside:?}");
    assert!(after.contains("on purpose"), "{after:?}");
    assert!(after.contains("Panicked"), "the screen was drawn on after the panic: {after:?}");
    assert_cooked(after);
}

#[test]
fn dropping_the_future_gives_the_terminal_back() {
    let output = in_a_terminal("child_drops_the_future", b"");
    let (_, after) = split(&output);
    assert!(after.contains("1 passed"), "{after:?}");
    assert_cooked(after);
}

fn options() -> Options {
    Options {
        color: ColorChoice::Auto,
        ascii: false,
        mouse: false,
        filter: String::new(),
        snapshot_dir: PathBuf::from("."),
        delay: watch::Sender::new(Duration::from_secs(1)),
    }
}

/// One interval, and a sender that keeps the channel open.
fn source() -> (mpsc::Sender<Arc<Interval>>, mpsc::Receiver<Arc<Interval>>) {
    let (sender, receiver) = mpsc::channel(4);
    let interval = sample::interval(0, vec![sample::process(1, "live-sample")]);
    sender.try_send(Arc::new(interval)).unwrap();
    (sender, receiver)
}

#[tokio::test]
#[ignore = "started inside of a terminal by the tests above"]
async fn child_shows_until_it_is_told_to_quit() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let (_sender, receiver) = source();
    run(receiver, options()).await.unwrap();
}

#[tokio::test]
#[ignore = "started inside of a terminal by the tests above"]
async fn child_panics_on_another_thread() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let (sender, receiver) = source();
    let panicking = tokio::task::spawn_blocking(move || {
        // The first interval is taken when the screen is up.
        while sender.capacity() < sender.max_capacity() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The run loop wakes up for the second, after the panic.
        let guard = SendOnDrop(sender);
        assert!(guard.0.is_closed(), "on purpose");
    });
    let outcome = run(receiver, options()).await;
    assert!(panicking.await.is_err());
    eprintln!("{outcome:?}");
}

struct SendOnDrop(mpsc::Sender<Arc<Interval>>);

impl Drop for SendOnDrop {
    fn drop(&mut self) {
        drop(self.0.try_send(Arc::new(sample::interval(1, Vec::new()))));
    }
}

#[tokio::test]
#[ignore = "started inside of a terminal by the tests above"]
async fn child_drops_the_future() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let (_sender, receiver) = source();
    let cut_short = tokio::time::timeout(Duration::from_millis(300), run(receiver, options())).await;
    assert!(cut_short.is_err());
}
