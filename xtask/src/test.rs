//! `cargo xtask test`: unit tests, then live tests against real Node.js processes on the running kernel.

use crate::{
    build::{self, cargo},
    child, dist, setup,
    workspace::Workspace,
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

/// Names the file to which a live test that cannot run appends a line.
const SKIPPED: &str = "NODEPROBE_TEST_SKIPPED";

/// The test programs of `--cluster`: files of `tests/tests` that need the feature of that name.
const CLUSTER_TESTS: &[&str] = &["boards_drawn", "cluster", "containers", "outages", "pods"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only live tests whose name contains this; unit tests are left out
    filter: Option<String>,
    /// Instead of the ordinary tests those of a whole fleet: they take an hour the first time, install a container engine,
    /// build Kubernetes and the OpenTelemetry Collector from Debian's sources, and change this machine while they run
    #[arg(long)]
    cluster: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    setup::for_build(workspace)?;
    let mut tally = Tally::default();
    // Some unit tests read real Node.js binaries and processes.
    let mut missing = setup::for_tests(workspace)?;
    if args.cluster {
        missing.extend(setup::for_cluster(workspace)?);
    }
    // After all of the set-up: what is not there yet, tests would be told to do without.
    let mut environment = environment(workspace);
    if args.cluster {
        environment.extend(cluster_environment(workspace)?);
    }
    if args.filter.is_none() && !args.cluster {
        let mut unit = cargo(workspace);
        unit.args(["test", "--workspace", "--exclude=nodeprobe-tests", "--no-fail-fast"]);
        unit.envs(environment.iter().cloned());
        run_tests("unit tests", &mut unit, &mut tally)?;
    }
    build::run(workspace)?;
    let skipped = workspace.target.join("skipped-tests");
    drop(fs::remove_file(&skipped));
    run_tests("live tests", live(workspace, args, environment)?.env(SKIPPED, &skipped), &mut tally)?;
    // No such file: nothing was skipped.
    tally.read_skipped(&fs::read_to_string(&skipped).unwrap_or_default());

    for sentence in &missing {
        eprintln!("xtask: not installed, so tests that need it were skipped: {sentence}");
    }
    print!("{}", tally.report());
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The live tests, compiled as the user and run as root. One at a time: they measure time on shared cores.
fn live(workspace: &Workspace, args: &Args, environment: Vec<(&'static str, OsString)>) -> Result<Command> {
    let mut command = cargo(workspace);
    if !child::is_root() {
        let sudo =
            child::which("sudo").context("the live tests need root and there is no sudo: run as root")?;
        let names =
            environment.iter().map(|(name, _)| *name).chain([SKIPPED, "CI", "PATH", "RUST_BACKTRACE"]);
        let names = names.collect::<Vec<_>>().join(",");
        let runner = format!("{} --preserve-env={names} --", sudo.display());
        // cargo starts test programs through this, and they alone become root.
        command
            .env(format!("CARGO_TARGET_{}_RUNNER", host_triple()?.to_uppercase().replace('-', "_")), runner);
    }
    command.envs(environment).args(["test", "--package=nodeprobe-tests", "--no-fail-fast"]);
    if args.cluster {
        // Cargo leaves these out unless the feature is on (tests/Cargo.toml).
        command.arg("--features=cluster").args(CLUSTER_TESTS.iter().map(|name| format!("--test={name}")));
    }
    command.args(&args.filter).args(["--", "--test-threads=1"]);
    Ok(command)
}

/// What the live tests are told about: only what is really there, so that a test can say what it lacks.
fn environment(workspace: &Workspace) -> Vec<(&'static str, OsString)> {
    let existing = |path: PathBuf| path.exists().then(|| path.into_os_string());
    [
        ("NODEPROBE_BIN", existing(workspace.nodeprobe())),
        ("NODEPROBE_TEST_NODES", existing(workspace.nodes())),
        ("NODEPROBE_TEST_DEBIAN_NODE", existing(workspace.debian_node())),
        ("NODEPROBE_TEST_ROTEL", setup::collectors::rotel_path(workspace).map(Into::into)),
        (
            "NODEPROBE_TEST_VICTORIA_METRICS",
            setup::collectors::victoria_metrics_path(workspace).map(Into::into),
        ),
        ("NODEPROBE_TEST_GRAFANA", setup::grafana::path(workspace).map(Into::into)),
        ("NODEPROBE_TEST_HELM_PYTHON", setup::helm::python_path(workspace).map(Into::into)),
        (
            "NODEPROBE_TEST_PROMETHEUS",
            setup::collectors::prometheus_path(workspace, "prometheus").map(Into::into),
        ),
        (
            "NODEPROBE_TEST_PROMTOOL",
            setup::collectors::prometheus_path(workspace, "promtool").map(Into::into),
        ),
        ("NODEPROBE_TEST_OTELCOL", setup::otelcol::path(workspace).map(Into::into)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// What the tests of a fleet are told on top of it. The image is that of this tree.
fn cluster_environment(workspace: &Workspace) -> Result<Vec<(&'static str, OsString)>> {
    let mut environment = vec![("NODEPROBE_TEST_IMAGE", dist::image(workspace)?.into_os_string())];
    let kubernetes = setup::kubernetes::path(workspace).map(PathBuf::into_os_string);
    environment.extend(kubernetes.map(|path| ("NODEPROBE_TEST_KUBERNETES", path)));
    Ok(environment)
}

fn host_triple() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = child::ask(OsStr::new(&rustc), &["-vV"]).context("cannot run `rustc -vV`")?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    Ok(host.to_owned())
}

fn run_tests(what: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    let started = Instant::now();
    let failed_before = tally.failed;
    eprintln!("xtask: {what}");
    let mut running = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run cargo for the {what}"))?;
    let stdout = running.stdout.take().context("cargo has no standard output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        tally.read(&line);
        println!("{line}");
    }
    let status = running.wait()?;
    if !status.success() && tally.failed == failed_before {
        // A compile error or a crash of the test program: no test has a name for it, and it must not pass.
        tally.failed += 1;
        eprintln!("xtask: the {what} ended with {status} and no failed test: see the messages above");
    }
    eprintln!("xtask: {what} took {} s", started.elapsed().as_secs());
    Ok(())
}

/// Counts from the output of Rust's test programs. Their harness knows no skipping at run time and calls a test that
/// returned passed; so such a test writes its name and reason to a file.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
    /// Test and reason, one for each thing that could not be tried.
    skipped: Vec<(String, String)>,
}

impl Tally {
    /// Takes one line of a test program's output.
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count_before(result, " passed");
            self.failed += count_before(result, " failed");
            self.ignored += count_before(result, " ignored");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }

    /// Takes the lines `<test> skipped: <reason>`.
    fn read_skipped(&mut self, text: &str) {
        let skips = text.lines().filter_map(|line| line.split_once(" skipped: "));
        self.skipped.extend(skips.map(|(test, reason)| (test.to_owned(), reason.to_owned())));
    }

    /// The summary; its last line is plain, for programs. A test that tried only a part counts as skipped.
    fn report(&self) -> String {
        let list = |title: &str, lines: Vec<String>| match lines.as_slice() {
            [] => String::new(),
            lines => format!("\n{title}:\n  {}\n", lines.join("\n  ")),
        };
        let skips =
            list("skipped", self.skipped.iter().map(|(test, reason)| format!("{test}: {reason}")).collect());
        let failures = list("failed", self.failures.clone());
        let tests: BTreeSet<_> = self.skipped.iter().map(|(test, _)| test).collect();
        // One that failed as well was not called passed.
        let skipped = tests.iter().filter(|test| !self.failures.contains(test)).count() as u64;
        let passed = self.passed.saturating_sub(skipped);
        format!(
            "{skips}{failures}\n{passed} passed, {} failed, {} skipped\n",
            self.failed,
            skipped + self.ignored
        )
    }
}

/// The number that stands directly before `word`, as in `3 passed; 0 failed`; zero when there is none.
fn count_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a_block_is_a_stall ... ok
test a_tty_blocks ... ok
test wrong ... FAILED

failures:

---- wrong stdout ----
thread panicked

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn read(output: &str, skipped: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.read_skipped(skipped);
        tally
    }

    #[test]
    fn a_skipped_test_is_not_counted_as_passed() {
        let report = read(OUTPUT, "a_tty_blocks skipped: no terminal can be made here\n").report();
        assert!(report.ends_with("\n1 passed, 1 failed, 2 skipped\n"), "{report}");
        assert!(report.contains("a_tty_blocks: no terminal can be made here"), "{report}");
    }

    #[test]
    fn a_test_that_skips_twice_or_fails_as_well_is_counted_once() {
        let skipped =
            "a_tty_blocks skipped: no Node 18\na_tty_blocks skipped: no Node 20\nwrong skipped: no Node 18\n";
        let report = read(OUTPUT, skipped).report();
        assert!(report.ends_with("\n1 passed, 1 failed, 2 skipped\n"), "{report}");
    }

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(read(OUTPUT, "").failures, ["wrong"]);
    }

    #[test]
    fn counts_of_several_test_programs_add_up() {
        let output = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n\
                      test result: ok. 40 passed; 0 failed; 0 ignored";
        assert!(read(output, "").report().ends_with("\n42 passed, 0 failed, 0 skipped\n"));
    }
}
