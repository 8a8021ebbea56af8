//! Hosts as trees of files, whole ones and broken ones, and this host itself.

use std::{os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::*;
use crate::kernel::Trial;

const ALL_CAPABILITIES: &str = "000001ffffffffff";

/// A root directory that has everything; tests take away.
fn whole_host() -> TempDir {
    let host = tempfile::tempdir().unwrap();
    for directory in ["proc/self/ns", "sys/kernel/tracing/events", "sys/kernel/btf", "sys/kernel/security"] {
        std::fs::create_dir_all(host.path().join(directory)).unwrap();
    }
    std::fs::create_dir_all(host.path().join("proc/sys/kernel")).unwrap();
    std::fs::create_dir_all(host.path().join("sys/bus/event_source/devices/uprobe")).unwrap();
    set(&host, "proc/sys/kernel/osrelease", "6.12.48-amd64\n");
    set(&host, "proc/sys/kernel/perf_event_paranoid", "2\n");
    set(&host, "proc/filesystems", "nodev\tproc\nnodev\ttracefs\n\text4\n");
    set(&host, "proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
    set(&host, "sys/bus/event_source/devices/uprobe/type", "9\n");
    set(&host, "sys/kernel/btf/vmlinux", "");
    set(&host, "sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
    set_process(&host, 0, ALL_CAPABILITIES, 0);
    symlink("pid:[4026531836]", host.path().join("proc/self/ns/pid")).unwrap();
    symlink("user:[4026531837]", host.path().join("proc/self/ns/user")).unwrap();
    host
}

fn set(host: &TempDir, path: &str, text: &str) {
    std::fs::write(host.path().join(path), text).unwrap();
}

fn set_process(host: &TempDir, user: u32, capabilities: &str, seccomp: u32) {
    let status = format!(
        "Name:\tx\nUid:\t{user}\t{user}\t{user}\t{user}\nCapEff:\t{capabilities}\nSeccomp:\t{seccomp}\n"
    );
    set(host, "proc/self/status", &status);
}

fn remove(host: &TempDir, path: &str) {
    let path = host.path().join(path);
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

fn facts(host: &TempDir) -> Facts {
    Facts { bpf: Trial::Works, uprobe: Trial::Works, ..Facts::read(host.path()) }
}

/// Name and status of all that is not ok.
#[track_caller]
fn assert_lacking(facts: &Facts, expected: &[(&str, Status)]) {
    let checks = requirements(facts);
    let lacking: Vec<_> =
        checks.iter().filter(|c| c.status != Status::Ok).map(|c| (c.name, c.status)).collect();
    assert_eq!(lacking, expected);
    for check in checks {
        let explained = check.breaks.is_some() && check.remedy.is_some();
        assert_eq!(explained, check.status != Status::Ok, "{check:?}");
    }
}

fn written(facts: &Facts, format: Format) -> (bool, String) {
    let mut out = Vec::new();
    let observable = write(facts, format, &mut out).unwrap();
    (observable, String::from_utf8(out).unwrap())
}

#[test]
fn a_whole_host_lacks_nothing() {
    let host = whole_host();
    assert_lacking(&facts(&host), &[]);
    let (observable, text) = written(&facts(&host), Format::Text);
    assert!(observable);
    assert!(text.ends_with("\n\nThis host can be observed.\n"), "{text}");
    assert!(!text.contains("do:"), "{text}");
}

#[test]
fn old_kernels_fail_and_untested_ones_warn() {
    let host = whole_host();
    for (release, expected) in [
        ("4.19.0-27-amd64", Some(Status::Fail)),
        ("5.7.19", Some(Status::Fail)),
        ("5.8.0", Some(Status::Warn)),
        ("5.10.0-35-amd64", None),
        ("7.3.1", None),
        ("garbage \x1b[31m", Some(Status::Warn)),
    ] {
        set(&host, "proc/sys/kernel/osrelease", release);
        let expected: Vec<_> = expected.into_iter().map(|status| ("kernel", status)).collect();
        assert_lacking(&facts(&host), &expected);
        assert!(!written(&facts(&host), Format::Text).1.contains('\x1b'));
    }
}

#[test]
fn tracefs_must_be_mounted_or_mountable() {
    let host = whole_host();
    remove(&host, "sys/kernel/tracing/events");
    assert_lacking(&facts(&host), &[]);
    // CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH: everything but CAP_SYS_ADMIN.
    set_process(&host, 1000, "000000c000080004", 0);
    assert_lacking(&facts(&host), &[("tracefs", Status::Fail)]);
    let (observable, text) = written(&facts(&host), Format::Text);
    assert!(!observable && text.contains("sudo mount -t tracefs tracefs /sys/kernel/tracing"), "{text}");
    set(&host, "proc/filesystems", "nodev\tproc\n");
    set_process(&host, 0, ALL_CAPABILITIES, 0);
    assert_lacking(&facts(&host), &[("tracefs", Status::Fail)]);
}

#[test]
fn lockdown_confidentiality_fails_and_integrity_does_not() {
    let host = whole_host();
    set(&host, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert_lacking(&facts(&host), &[]);
    set(&host, "sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert_lacking(&facts(&host), &[("lockdown", Status::Fail)]);
}

#[test]
fn missing_capabilities_are_named() {
    let host = whole_host();
    set_process(&host, 1000, "0000000000000000", 0);
    assert_lacking(&facts(&host), &[("capabilities", Status::Fail)]);
    let (_, text) = written(&facts(&host), Format::Text);
    assert!(
        text.contains("user 1000, without CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"),
        "{text}"
    );
    // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
    set_process(&host, 0, "0000000000200000", 0);
    assert_lacking(&facts(&host), &[("capabilities", Status::Warn)]);
}

#[test]
fn what_the_kernel_refuses_counts_more_than_what_files_say() {
    let host = whole_host();
    let refused =
        Facts { bpf: Trial::Failed(libc::EPERM), uprobe: Trial::Failed(libc::EACCES), ..facts(&host) };
    assert_lacking(&refused, &[("bpf", Status::Fail), ("uprobes", Status::Fail)]);
    assert!(written(&refused, Format::Text).1.contains("CAP_SYS_ADMIN"));
    // Linux 6.10 and newer, with CAP_BPF and CAP_PERFMON.
    let linked = Facts { uprobe: Trial::Failed(libc::EACCES), uprobe_links: Trial::Works, ..facts(&host) };
    assert_lacking(&linked, &[]);
    let no_bpf = Facts { bpf: Trial::Failed(libc::ENOSYS), ..facts(&host) };
    assert_lacking(&no_bpf, &[("bpf", Status::Fail)]);
    set_process(&host, 0, ALL_CAPABILITIES, 2);
    assert_lacking(&facts(&host), &[]);
    let filtered = Facts { uprobe: Trial::Failed(libc::ENOSYS), ..facts(&host) };
    assert_lacking(&filtered, &[("uprobes", Status::Fail), ("seccomp", Status::Warn)]);
}

#[test]
fn a_container_without_the_hosts_pids_fails() {
    let host = whole_host();
    remove(&host, "proc/self/ns/pid");
    symlink("pid:[4026532290]", host.path().join("proc/self/ns/pid")).unwrap();
    assert_lacking(&facts(&host), &[("pid_namespace", Status::Fail)]);
    assert!(written(&facts(&host), Format::Text).1.contains("hostPID: true"));
}

#[test]
fn root_of_a_user_namespace_is_nobody_on_the_host() {
    let host = whole_host();
    remove(&host, "proc/self/ns/user");
    symlink("user:[4026532437]", host.path().join("proc/self/ns/user")).unwrap();
    assert_lacking(&facts(&host), &[("capabilities", Status::Fail)]);
    remove(&host, "sys/kernel/tracing/events");
    assert_lacking(&facts(&host), &[("capabilities", Status::Fail), ("tracefs", Status::Fail)]);
}

#[test]
fn paranoia_above_two_matters_without_cap_sys_admin_only() {
    let host = whole_host();
    set(&host, "proc/sys/kernel/perf_event_paranoid", "3\n");
    assert_lacking(&facts(&host), &[]);
    set_process(&host, 0, "000000c000080004", 0);
    assert_lacking(&facts(&host), &[("perf_event_paranoid", Status::Fail)]);
}

#[test]
fn what_is_only_useful_warns() {
    let host = whole_host();
    remove(&host, "sys/kernel/btf/vmlinux");
    remove(&host, "proc/mounts");
    assert_lacking(&facts(&host), &[("btf", Status::Warn), ("cgroup", Status::Warn)]);
    let (observable, text) = written(&facts(&host), Format::Text);
    assert!(observable && text.ends_with("\nThis host can be observed, with 2 of 11 in part.\n"), "{text}");
}

#[test]
fn groups_that_cannot_be_looked_at_warn() {
    let host = whole_host();
    let seen = |groups_in_sight| Facts { groups_in_sight, ..facts(&host) };
    assert_lacking(&seen(Some(true)), &[]);
    assert_lacking(&seen(Some(false)), &[("cgroup", Status::Warn)]);
    let (observable, text) = written(&seen(Some(false)), Format::Text);
    assert!(observable && text.contains("memory limits") && text.contains("--cgroupns=host"), "{text}");
}

#[test]
fn without_uprobes_in_the_kernel_it_fails() {
    let host = whole_host();
    remove(&host, "sys/bus/event_source/devices/uprobe/type");
    assert_lacking(&facts(&host), &[("uprobes", Status::Fail)]);
}

#[test]
fn an_empty_root_directory_is_a_host_that_cannot_be_observed() {
    let empty = tempfile::tempdir().unwrap();
    let (observable, text) = written(&Facts::read(empty.path()), Format::Text);
    assert!(!observable, "{text}");
}

#[test]
fn json_says_the_same_as_the_text() {
    let host = whole_host();
    set_process(&host, 1000, "0000000000000000", 0);
    let (observable, json) = written(&facts(&host), Format::Json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["observable"], observable);
    assert_eq!(json["kernel_release"], "6.12.48-amd64");
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 11);
    let failed: Vec<_> = checks.iter().filter(|check| check["status"] == "fail").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["name"], "capabilities");
    assert!(failed[0]["remedy"].as_str().unwrap().contains("sudo nodeprobe"));
    assert!(checks[0]["remedy"].is_null());
}

#[test]
fn this_host_is_seen_as_it_is() {
    let facts = Facts::of_this_host();
    let uname = std::process::Command::new("uname").arg("-r").output().unwrap().stdout;
    assert_eq!(facts.release, String::from_utf8(uname).unwrap().trim());
    let id = std::process::Command::new("id").arg("-u").output().unwrap().stdout;
    assert_eq!(facts.user_id.unwrap().to_string(), String::from_utf8(id).unwrap().trim());
    assert_eq!(facts.btf, Path::new("/sys/kernel/btf/vmlinux").exists());
    assert_ne!(facts.bpf, Trial::NotTried);
}
