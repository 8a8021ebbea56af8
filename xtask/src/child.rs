//! Running other programs so that a person sees what runs, for how long, and why it failed.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsStr,
    io::{IsTerminal, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Runs a program whose own output is progress enough (cargo, pip).
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    eprintln!("xtask: {}", shown(command));
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed ({status}); its output is above", shown(command));
    }
    Ok(())
}

/// Runs a silent program to its end and returns its standard output; what it prints is shown only when it fails.
/// A line with the elapsed time says that it is still at work.
pub(crate) fn quiet(what: &str, command: &mut Command) -> Result<String> {
    let started = Instant::now();
    let (done, is_done) = mpsc::channel::<()>();
    let output = thread::scope(|scope| {
        scope.spawn(move || tell_elapsed(what, started, &is_done));
        let output = command.stdin(Stdio::null()).output();
        drop(done);
        output
    })
    .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "{what}: `{}` failed ({})\n{}{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The standard output of a program that answers at once; `None` when it is missing or fails.
pub(crate) fn ask(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("cannot run `{}`", shown(command)))
}

/// The first executable file of this name in `PATH`.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let executable =
        |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| executable(path))
}

pub(crate) fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    Path::new("/proc/self").metadata().is_ok_and(|m| m.uid() == 0)
}

/// `program` with the rights of root: as it is, or through sudo with the environment kept.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo = which("sudo").with_context(|| {
        format!("`{}` needs root and there is no sudo: run this command as root", program.as_ref().display())
    })?;
    let mut command = Command::new(sudo);
    command.arg("--preserve-env").arg("--").arg(program);
    Ok(command)
}

fn tell_elapsed(what: &str, started: Instant, is_done: &mpsc::Receiver<()>) {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { Duration::from_secs(1) } else { Duration::from_secs(10) };
    eprintln!("xtask: {what}");
    let mut told = false;
    while matches!(is_done.recv_timeout(every), Err(mpsc::RecvTimeoutError::Timeout)) {
        let elapsed = started.elapsed().as_secs();
        if terminal {
            eprint!("\r       {elapsed} s ");
            // Progress is a courtesy: a closed stderr must not end the work.
            drop(std::io::stderr().flush());
            told = true;
        } else {
            eprintln!("xtask: {what}: {elapsed} s");
        }
    }
    if told {
        eprintln!();
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
