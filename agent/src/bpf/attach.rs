//! Attaches loaded programs: tracepoints once, uprobes per file.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    num::NonZeroU32,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    sync::Arc,
};

use aya::programs::{
    ProgramError,
    trace_point::TracePointLink,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
};

use super::{
    detach::{self, Detaching, Link},
    load::{Kernel, TRACEPOINT_PROGRAMS, chain, tracepoint, uprobe},
    multi,
};
use crate::{
    kernel::tracefs,
    model::{Availability, Signal},
};

/// A place in a file for one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookTarget {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Offset in the file, not an address.
    pub file_offset: u64,
    /// What the program gets from `bpf_get_attach_cookie`; kernels before 5.15 have none.
    pub cookie: Option<u64>,
}

/// The attachments to one file. Dropping it detaches them without waiting for it; see [`detach`](super::detach).
#[derive(Default)]
pub struct Attached {
    links: Vec<Link>,
}

impl Attached {
    /// Number of probes.
    pub fn len(&self) -> usize {
        self.links.iter().map(Link::places).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Takes over the attachments of `other`.
    pub fn merge(&mut self, mut other: Self) {
        self.links.append(&mut other.links);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        detach::aside(std::mem::take(&mut self.links));
    }
}

/// Attached tracepoints.
pub struct TracePoints(Vec<TracePointLink>);

impl TracePoints {
    /// Detaches without waiting for it. Before the same programs are attached again, the result has to be waited for: the kernel
    /// refuses a program that is still at its tracepoint.
    pub fn detach_aside(self) -> Detaching {
        detach::aside(self.0.into_iter().map(|link| Link::TracePoint { _link: link }))
    }
}

/// What `async_context` hangs on. Writes before reads: a request that was seen must not be answered unseen.
const ASYNC_CONTEXT: [(&str, &str); 3] = [
    ("context_write", "sys_exit_write"),
    ("context_write", "sys_exit_writev"),
    ("context_read", "sys_exit_read"),
];

/// Program, category, tracepoint, and whether the signal can do without it: not every architecture has every
/// system call (arm64 has no `epoll_wait`, kernels before 5.11 no `epoll_pwait2`).
const TRACEPOINTS: [(&str, &str, &str, bool); 16] = [
    // Before the writes, which are traced in another way without them.
    ("sched_wakeup", "sched", "sched_wakeup", false),
    ("sched_switch", "sched", "sched_switch", false),
    // Ends before begins, so that nothing begun stays open.
    ("thread_exit", "sched", "sched_process_exit", false),
    ("process_exec", "sched", "sched_process_exec", false),
    ("listen_exit", "syscalls", "sys_exit_listen", false),
    ("epoll_exit", "syscalls", "sys_exit_epoll_wait", true),
    ("epoll_exit", "syscalls", "sys_exit_epoll_pwait", false),
    ("epoll_exit", "syscalls", "sys_exit_epoll_pwait2", true),
    ("epoll_enter", "syscalls", "sys_enter_epoll_wait", true),
    ("epoll_enter", "syscalls", "sys_enter_epoll_pwait", false),
    ("epoll_enter", "syscalls", "sys_enter_epoll_pwait2", true),
    ("write_exit", "syscalls", "sys_exit_write", false),
    ("write_exit", "syscalls", "sys_exit_writev", false),
    ("dup_enter", "syscalls", "sys_enter_dup3", false),
    ("write_enter", "syscalls", "sys_enter_write", false),
    ("write_enter", "syscalls", "sys_enter_writev", false),
];

/// Where the scheduler's tracepoints have the fields that `ebpf/src/sched.rs` reads. Those of system calls are the same
/// everywhere; these are moved by kernels with a longer common part (RHEL 9, real-time kernels).
const SCHED_FORMATS: [(&str, &str, u32); 4] = [
    ("sched_switch", "prev_pid", 24),
    ("sched_switch", "prev_state", 32),
    ("sched_switch", "next_pid", 56),
    ("sched_wakeup", "pid", 24),
];

/// Why the fields of a tracepoint are not where they are read; `None` when they are.
fn unexpected_format(category: &str, name: &str) -> Option<String> {
    let mut wanted = SCHED_FORMATS.iter().filter(|(of, ..)| category == "sched" && *of == name).peekable();
    wanted.peek()?;
    let format = match tracefs::format(Path::new("/"), category, name) {
        Ok(format) => format,
        Err(error) => return Some(format!("its format cannot be read: {error}")),
    };
    let moved = wanted.find(|(_, field, offset)| tracefs::field_offset(&format, field) != Some(*offset));
    moved.map(|(_, field, offset)| format!("this kernel has its field {field} not at byte {offset}"))
}

impl Kernel {
    /// Attaches every tracepoint and tells which signals the kernel gives and which not, with the reason.
    pub fn attach_tracepoints(&mut self) -> BTreeMap<Signal, Availability> {
        let mut signals: BTreeMap<Signal, Availability> = [
            Signal::EventLoop,
            Signal::Stdio,
            Signal::Lifecycle,
            Signal::Sched,
            Signal::Sample,
            Signal::Sockets,
            Signal::AsyncContext,
        ]
        .map(|signal| (signal, Availability::Ok))
        .into();
        let sched_raw = self.attach_sched_raw();
        if let Err(reason) = &sched_raw {
            tracing::info!(
                reason,
                "the scheduler's events are taken by tracepoints with a format, which take more time"
            );
        }
        for (program, category, name, optional) in TRACEPOINTS {
            // The return alone tells all that is asked, if it tells the descriptor and if sleeps are seen.
            let returns_only = self.accepts("write_return")
                && (sched_raw.is_ok() || self.accepts("sched_switch"))
                && signals[&Signal::Sched] == Availability::Ok;
            let program = match program {
                "sched_wakeup" | "sched_switch" if sched_raw.is_ok() => continue,
                "write_enter" if returns_only => continue,
                "write_exit" if returns_only => "write_return",
                program => program,
            };
            let Err(reason) = self.attach_tracepoint(program, category, name) else { continue };
            if optional {
                tracing::debug!(tracepoint = name, reason, "optional tracepoint is not there");
                continue;
            }
            tracing::warn!(tracepoint = name, reason, "tracepoint was not attached");
            let signal = match program {
                "epoll_enter" | "epoll_exit" => Signal::EventLoop,
                "write_enter" | "write_exit" | "write_return" | "dup_enter" => Signal::Stdio,
                "sched_switch" | "sched_wakeup" => Signal::Sched,
                _ => Signal::Lifecycle,
            };
            let without_format = sched_raw.as_ref().err().filter(|_| signal == Signal::Sched);
            let also = without_format.map(|reason| format!("; nor can it without its format: {reason}"));
            let text = format!(
                "the kernel's tracepoint {category}:{name} cannot be used: {reason}{}",
                also.unwrap_or_default()
            );
            signals.insert(signal, Availability::Unavailable(text.into()));
        }
        if let Availability::Unavailable(reason) = &signals[&Signal::Stdio] {
            signals.insert(Signal::Sockets, Availability::Unavailable(Arc::clone(reason)));
        } else if !self.accepts("write_return") || signals[&Signal::Sched] != Availability::Ok {
            let text = "the return of a write does not tell its descriptor here (Linux before 5.15, or no scheduler events)";
            signals.insert(Signal::Sockets, Availability::Unavailable(text.into()));
        }
        if !self.stacks {
            let text = "stacks are not sampled: nodeprobe was told so by --no-stacks";
            signals.insert(Signal::Sample, Availability::Unavailable(text.into()));
        } else if let Err(reason) = self.attach_sampler() {
            tracing::warn!(reason, "stacks are not sampled");
            let text = format!("the kernel gives no clock for samples: {reason}");
            signals.insert(Signal::Sample, Availability::Unavailable(text.into()));
        }
        signals
    }

    /// Attaches the programs of `async_context`, which every HTTP request passes several times. May be called at any time; what was
    /// begun while they were attached before counts no longer.
    ///
    /// # Errors
    /// What the kernel refuses, in its words. Then none of them is attached.
    pub fn attach_async_context(&mut self) -> Result<TracePoints, String> {
        self.windows += 1;
        self.context_window.set(0, self.windows, 0).map_err(|error| chain(&error))?;
        let mut links = Vec::with_capacity(ASYNC_CONTEXT.len());
        for (name, event) in ASYNC_CONTEXT {
            if let Some(refusal) = self.refused.get(name) {
                return Err(format!("the program `{name}` was refused (Linux before 5.15?): {refusal}"));
            }
            let program = tracepoint(&mut self.ebpf, name).ok_or("the program is not in the object")?;
            let attach = |program: &mut aya::programs::TracePoint| -> Result<TracePointLink, ProgramError> {
                let link = program.attach("syscalls", event)?;
                program.take_link(link)
            };
            links.push(attach(program).map_err(|error| format!("syscalls:{event}: {}", chain(&error)))?);
        }
        Ok(TracePoints(links))
    }

    /// Whether the kernel took a program.
    pub fn accepts(&self, program: &str) -> bool {
        !self.refused.contains_key(program)
    }

    fn attach_tracepoint(&mut self, program: &str, category: &str, name: &str) -> Result<(), String> {
        if let Some(problem) = unexpected_format(category, name) {
            return Err(problem);
        }
        debug_assert!(TRACEPOINT_PROGRAMS.contains(&program), "a program that load.rs does not load");
        if let Some(refusal) = self.refused.get(program) {
            return Err(format!("the program was refused: {refusal}"));
        }
        let tracepoint = tracepoint(&mut self.ebpf, program).ok_or("the program is not in the object")?;
        tracepoint.attach(category, name).map(drop).map_err(|error| chain(&error))
    }

    /// Attaches `targets` to `file`, for every process that maps it, now or later. What cannot be attached is
    /// told by the second value: the target and the kernel's words.
    ///
    /// The file is named to the kernel by our own descriptor: the process it came from may be gone, and its path
    /// means another file in our mount namespace.
    pub fn attach_file(
        &mut self,
        file: &File,
        targets: impl IntoIterator<Item = HookTarget>,
    ) -> (Attached, Vec<(HookTarget, String)>) {
        self.attach_in(file, targets, None)
    }

    /// As [`attach_file`](Self::attach_file), for one process and its threads only.
    pub fn attach_process(
        &mut self,
        file: &File,
        targets: impl IntoIterator<Item = HookTarget>,
        pid: NonZeroU32,
    ) -> (Attached, Vec<(HookTarget, String)>) {
        self.attach_in(file, targets, Some(pid))
    }

    fn attach_in(
        &mut self,
        file: &File,
        targets: impl IntoIterator<Item = HookTarget>,
        only: Option<NonZeroU32>,
    ) -> (Attached, Vec<(HookTarget, String)>) {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut attached = Attached::default();
        let mut failed = Vec::new();
        for group in by_program(targets) {
            match self.attach_multi(&group, &path, only) {
                Ok(link) => attached.links.push(link),
                // Only one that cannot be had makes the kernel refuse all, so each is tried alone.
                Err(_) => {
                    for target in group {
                        match self.attach_uprobe(target, &path, only) {
                            Ok(link) => attached.links.push(link),
                            Err(reason) => failed.push((target, reason)),
                        }
                    }
                }
            }
        }
        (attached, failed)
    }

    /// Targets of one program, by one link where the kernel has such links.
    fn attach_multi(
        &self,
        targets: &[HookTarget],
        path: &str,
        only: Option<NonZeroU32>,
    ) -> Result<Link, String> {
        let loaded = targets.first().and_then(|target| self.multi.get(target.program));
        let program = loaded.ok_or("not loaded for such links")?;
        let path = CString::new(path).map_err(|error| chain(&error))?;
        let places: Vec<(u64, u64)> =
            targets.iter().map(|target| (target.file_offset, target.cookie.unwrap_or(0))).collect();
        let link = multi::attach(program.as_fd(), &path, &places, only).map_err(|error| chain(&error))?;
        Ok(Link::Multi { _link: link, places: places.len() })
    }

    fn attach_uprobe(
        &mut self,
        target: HookTarget,
        path: &str,
        only: Option<NonZeroU32>,
    ) -> Result<Link, String> {
        let HookTarget { program, file_offset, cookie } = target;
        if let Some(refusal) = self.refused.get(program) {
            return Err(format!("the program was refused: {refusal}"));
        }
        if self.multi.contains_key(program) {
            return self.attach_multi(&[target], path, only);
        }
        let scope = only.map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
        let probe = uprobe(&mut self.ebpf, program).ok_or("the program is not in the object")?;
        let attach = |probe: &mut aya::programs::UProbe| -> Result<UProbeLink, ProgramError> {
            let location = UProbeAttachLocation::AbsoluteOffset(file_offset);
            let point = UProbeAttachPoint { location, cookie };
            let link = probe.attach(point, path, scope)?;
            probe.take_link(link)
        };
        attach(probe).map(|link| Link::Event { _link: link }).map_err(|error| chain(&error))
    }
}

/// In the order in which the programs come first.
fn by_program(targets: impl IntoIterator<Item = HookTarget>) -> Vec<Vec<HookTarget>> {
    let mut groups: Vec<Vec<HookTarget>> = Vec::new();
    for target in targets {
        match groups.iter_mut().find(|group| group[0].program == target.program) {
            Some(group) => group.push(target),
            None => groups.push(vec![target]),
        }
    }
    groups
}
