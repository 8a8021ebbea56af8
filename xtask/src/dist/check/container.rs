//! The image under podman with runc, with what the chart gives its container and no more.

use super::super::{Release, image};
use crate::{child, setup::nodes, workspace::Workspace};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What may keep podman from starting anything in a virtual machine for builds: limits that root may not raise, cgroups of
/// two kinds.
const CONFIGURATION: &str = "[containers]\ndefault_ulimits = [\"nofile=1024:20000\", \"nproc=4096:4096\"]\n\
    [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
/// As in the chart, values.yaml: what works on every kernel.
const CAPABILITIES: &[&str] = &["--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--cap-add=DAC_READ_SEARCH"];
/// What docs/permissions.md says is enough from Linux 6.10 on. Podman's profile of system calls allows bpf(2) to `SYS_ADMIN` only.
const LEAST: &[&str] = &[
    "--cap-add=BPF",
    "--cap-add=PERFMON",
    "--cap-add=SYS_PTRACE",
    "--cap-add=DAC_READ_SEARCH",
    "--security-opt=seccomp=unconfined",
];
/// As in the chart: values.yaml, and templates/_container.tpl.
const RIGHTS: [&str; 13] = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--user=0",
    "--pid=host",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--security-opt=apparmor=unconfined",
    "--volume=/sys/kernel/tracing:/sys/kernel/tracing:ro",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro",
    "--memory=256m",
    "--cgroup-parent=/nodeprobe-dist",
    // For the address of a port of its own a network would have to be made.
    "--network=host",
    "--env=NODEPROBE_PROMETHEUS=127.0.0.1:29464",
];
const ADDRESS: &str = "127.0.0.1:29464";

pub(super) fn run(workspace: &Workspace, release: &Release) -> Result<()> {
    if let Some(missing) = ["podman", "runc"].into_iter().find(|program| child::which(program).is_none()) {
        eprintln!("xtask: left out: the image in a container, there is no {missing}");
        return Ok(());
    }
    let _tracefs = Tracefs::mounted()?;
    let podman = Podman::new(release)?;
    child::quiet(
        "loading the image",
        podman.command().arg("load").arg("-i").arg(release.path(".image.tar")),
    )?;
    let image = image::name(release);
    let mut shell = podman.started(&["--entrypoint=/bin/sh"], &image);
    ensure!(!shell.arg("-c").arg("true").output()?.status.success(), "there is a shell in the image");

    let check = |more| {
        let mut check = podman.started(more, &image);
        check.arg("check");
        check
    };
    let checked = child::quiet("`nodeprobe check` in a container", &mut check(CAPABILITIES))?;
    print!("{checked}");
    let node = Node(
        Command::new(nodes::any(workspace)?)
            .args(["-e", "setInterval(() => {}, 10)"])
            .stdin(Stdio::null())
            .spawn()?,
    );
    daemon(&podman, &image, node.0.id(), CAPABILITIES)?;
    let least = check(LEAST).output()?;
    if least.status.success() {
        daemon(&podman, &image, node.0.id(), LEAST)?;
    } else {
        let said = [least.stdout, least.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // Where uprobes can be linked nothing needs it, so that is no reason to leave this out.
        ensure!(!said.contains("may be linked"), "`nodeprobe check` fails without SYS_ADMIN:\n{said}");
        eprintln!("xtask: left out: the image without SYS_ADMIN, before Linux 6.10 it needs that:\n{said}");
    }
    podman.remove()
}

/// The host's tracefs, as on machines with systemd: without `SYS_ADMIN` a container cannot mount its own. Unmounted again at the end
/// where it was not there.
struct Tracefs {
    is_ours: bool,
}

impl Tracefs {
    const PATH: &str = "/sys/kernel/tracing";

    fn mounted() -> Result<Self> {
        let is_ours = fs::read_dir(Self::PATH)?.next().is_none();
        if is_ours {
            child::quiet(
                "mounting tracefs",
                Command::new("mount").args(["-t", "tracefs", "tracefs", Self::PATH]),
            )?;
        }
        Ok(Self { is_ours })
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = child::quiet("unmounting tracefs", Command::new("umount").arg(Self::PATH))
        {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// `run` sees a process of the host, is well by its own account, and ends when it is asked to.
fn daemon(podman: &Podman, image: &str, pid: u32, rights: &[&str]) -> Result<()> {
    let name = "--name=nodeprobe-dist";
    let console = "--env=OTEL_METRICS_EXPORTER=console";
    let mut run = podman.started(&[&[name, console], rights].concat(), image);
    let mut daemon =
        run.args(["run", "--interval=1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + Duration::from_mins(1);
    let seen = loop {
        let output = podman.command().args(["logs", "nodeprobe-dist"]).output()?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if is_measured(&told, pid) || Instant::now() > until {
            break told;
        }
        if let Some(status) = daemon.try_wait()? {
            bail!("`run` in a container ended with {status}: {}", String::from_utf8_lossy(&output.stderr));
        }
        thread::sleep(Duration::from_secs(1));
    };
    let asked = asked_over_http(podman, image);
    child::quiet("ending `run`", podman.command().args(["stop", "--time=20", "nodeprobe-dist"]))?;
    let output = daemon.wait_with_output()?;
    ensure!(is_measured(&seen, pid), "`run` in a container does not measure process {pid}:\n{seen}");
    asked?;
    ensure!(output.status.success(), "`run` in a container ended with {}", output.status);
    eprintln!(
        "xtask: `run` in a container measures process {pid} of the host, and ends when asked to; with {}",
        rights.join(" ")
    );
    Ok(())
}

/// What the console exporter prints of a process whose event loop has probes that fire.
fn is_measured(told: &str, pid: u32) -> bool {
    let pid = format!("process.pid={pid},");
    let idle = "nodejs.eventloop.time{nodejs.eventloop.state=idle";
    told.split("resource{").any(|process| process.contains(&pid) && process.contains(idle))
}

/// What the kubelet and Prometheus ask for, of an agent that answers.
fn asked_over_http(podman: &Podman, image: &str) -> Result<()> {
    let help = child::quiet("asking for its flags", podman.started(&[], image).args(["run", "--help"]))?;
    if !help.contains("--prometheus") {
        eprintln!("xtask: left out: /healthz, /readyz and /metrics, this version does not listen");
        return Ok(());
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let mut stream = TcpStream::connect(ADDRESS)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "{path} answers {status}");
    }
    Ok(())
}

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// With images and containers of its own, so that nothing of the user's is touched.
struct Podman {
    dir: PathBuf,
}

impl Podman {
    fn new(release: &Release) -> Result<Self> {
        let dir = release.dir.join("podman");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("containers.conf"), CONFIGURATION)?;
        Ok(Self { dir })
    }

    fn command(&self) -> Command {
        let mut command = child::as_root("podman").unwrap_or_else(|_| Command::new("podman"));
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        // With copies in place of mounts, which would outlive this.
        command.arg("--storage-driver=vfs");
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command
    }

    /// `podman run` up to the image: the caller appends what is to run.
    fn started(&self, more: &[&str], image: &str) -> Command {
        let mut command = self.command();
        command.args(["run", "--rm"]).args(RIGHTS).args(more).arg(image);
        command
    }

    fn remove(&self) -> Result<()> {
        // A child in which the kernel removes the probes outlives the agent by some seconds, and keeps the cgroup.
        let empty = r#"for i in 1 2 3 4 5 6 7 8 9 10; do
            find /sys/fs/cgroup -depth -type d -path '*/nodeprobe-dist*' -exec rmdir {} + 2>/dev/null
            [ -z "$(find /sys/fs/cgroup -type d -name nodeprobe-dist)" ] && exit 0
            sleep 2
        done"#;
        child::quiet("removing the container's cgroups", child::as_root("sh")?.args(["-c", empty]))?;
        let mut remove = child::as_root("rm")?;
        child::quiet("removing what podman left", remove.arg("-rf").arg(&self.dir))
            .map(drop)
            .context("podman's files")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_and_unit_give_the_capabilities_that_are_tried_here() {
        let tried: Vec<_> = CAPABILITIES.iter().filter_map(|flag| flag.strip_prefix("--cap-add=")).collect();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let read = |name: &str| fs::read_to_string(format!("{root}/{name}")).unwrap();
        let values = read("helm/nodeprobe/values.yaml");
        assert!(values.contains(&format!("\ncapabilities: [{}]\n", tried.join(", "))));
        let unit = read("packaging/nodeprobe.service");
        assert!(unit.contains(&format!("\nCapabilityBoundingSet=CAP_{}\n", tried.join(" CAP_"))));
    }

    #[test]
    fn a_process_that_is_only_listed_is_not_measured() {
        let listed = "resource{process.pid=71, a=b}\n  process.memory.usage 1 By\n";
        let measured =
            "resource{process.pid=7, a=b}\n  nodejs.eventloop.time{nodejs.eventloop.state=idle, x=y} 1 s\n";
        assert!(is_measured(&format!("{listed}{measured}"), 7));
        assert!(!is_measured(&format!("{listed}{measured}"), 71));
    }
}
