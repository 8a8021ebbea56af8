//! Links that hold many places of a file at once (`BPF_TRACE_UPROBE_MULTI`, Linux 6.6).
//!
//! A probe that is opened as a performance event is taken out under a lock of the whole kernel, and a grace period is waited for
//! with that lock held: 33 ms for each probe of the host (Linux 6.18), one after the other, however many threads ask. Links are
//! taken out side by side: twenty places in one take 20 to 50 ms together. They also do without `CAP_SYS_ADMIN`.
//!
//! The program has to be loaded for it, which aya does from 0.15 on only; so it is done here with what aya is made of.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    io,
    num::NonZeroU32,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::{
    Function, Object, Program,
    generated::{bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type},
};

use crate::kernel::{Trial, trial};

/// What the verifier may say of a program that it refuses.
const LOG_BYTES: usize = 1 << 20;
/// How often a program is loaded whose verification was interrupted.
const TRIES: usize = 5;

/// The uprobe programs of the object, ready to be loaded one by one.
pub(super) struct MultiPrograms(BTreeMap<String, (Program, Function)>);

impl MultiPrograms {
    /// `None`: this kernel has no such links, or ones that take a process for its first thread (before 6.10).
    ///
    /// # Errors
    /// The object cannot be put together; the same object was by aya a moment ago.
    pub(super) fn new(object: &[u8], ebpf: &Ebpf) -> Result<Option<Self>, String> {
        if trial::link_uprobes() != Trial::Works {
            return Ok(None);
        }
        relocated(object, ebpf).map(|programs| Some(Self(programs)))
    }

    /// Loads one of them.
    ///
    /// # Errors
    /// The kernel refuses it, with the words of the verifier in the form that aya gives them.
    pub(super) fn load(&self, name: &str) -> Result<OwnedFd, String> {
        let (program, function) = self.0.get(name).ok_or("the program is not in the object")?;
        let load = |log: &mut [u8]| load(&function.instructions, &program.license, name, log);
        let mut refusal = None;
        for _ in 0..TRIES {
            match load(&mut []) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => {
                    // The verifier gives way to a signal.
                    let again = error.raw_os_error() == Some(libc::EAGAIN);
                    refusal.get_or_insert(error);
                    if !again {
                        break;
                    }
                }
            }
        }
        // Once more, for its words: the log costs time that a program which is taken need not spend.
        let mut log = vec![0; LOG_BYTES];
        load(&mut log).map_err(|error| {
            // Where the log does not fit it says only that.
            let error = refusal.unwrap_or(error);
            let text = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
            format!("the BPF_PROG_LOAD syscall returned {error}. Verifier output: {text}")
        })
    }
}

/// The instructions of every uprobe program, with the maps that aya has made in their places.
fn relocated(object: &[u8], ebpf: &Ebpf) -> Result<BTreeMap<String, (Program, Function)>, String> {
    let mut parsed = Object::parse(object).map_err(|error| error.to_string())?;
    let sections = parsed.functions.keys().map(|(section, _)| *section).collect();
    let maps = std::mem::take(&mut parsed.maps);
    let made: BTreeMap<&str, &MapData> =
        ebpf.maps().filter_map(|(name, map)| Some((name, data(map)?))).collect();
    let places = maps.iter().filter_map(|(name, map)| {
        let fd = made.get(name.as_str())?.fd().as_fd().as_raw_fd();
        Some((name.as_str(), fd, map))
    });
    parsed.relocate_maps(places, &sections).map_err(|error| error.to_string())?;
    parsed.relocate_calls(&sections).map_err(|error| error.to_string())?;
    let functions = &parsed.functions;
    let programs = parsed.programs.into_iter();
    Ok(programs
        .filter_map(|(name, program)| {
            let function = functions.get(&program.function_key())?.clone();
            Some((name, (program, function)))
        })
        .collect())
}

/// Of the kinds that `ebpf/src/maps.rs` has.
const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data)
        | Map::StackTraceMap(data) => Some(data),
        _ => None,
    }
}

/// Attaches a program at `places` (offset in the file, cookie), for one process and its threads or for all. All or none.
///
/// # Errors
/// What the kernel says.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    path: &CStr,
    places: &[(u64, u64)],
    pid: Option<NonZeroU32>,
) -> io::Result<OwnedFd> {
    let (offsets, cookies): (Vec<u64>, Vec<u64>) = places.iter().copied().unzip();
    link(program, path, &offsets, &cookies, pid.map_or(0, NonZeroU32::get))
}

fn link(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    cookies: &[u64],
    pid: u32,
) -> io::Result<OwnedFd> {
    // SAFETY: all zeros is what the kernel takes for absent.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    attr.link_create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    // SAFETY: the member of the union that goes with this attach type, all zeros until now.
    let multi = unsafe { &mut attr.link_create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = offsets.as_ptr() as u64;
    multi.cookies = cookies.as_ptr() as u64;
    multi.cnt = u32::try_from(offsets.len()).map_err(io::Error::other)?;
    multi.pid = pid;
    bpf(bpf_cmd::BPF_LINK_CREATE, &attr)
}

fn load(instructions: &[bpf_insn], license: &CStr, name: &str, log: &mut [u8]) -> io::Result<OwnedFd> {
    // SAFETY: all zeros is what the kernel takes for absent.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the member of the union that goes with the command, all zeros until now.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    load.license = license.as_ptr() as u64;
    // The last byte stays zero.
    let room = load.prog_name.len() - 1;
    for (to, from) in load.prog_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    if !log.is_empty() {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &attr)
}

/// A command whose result is a descriptor.
fn bpf(command: bpf_cmd, attr: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is readable for the size given, and what it points to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw const *attr, size_of::<bpf_attr>()) };
    match i32::try_from(fd) {
        // SAFETY: a descriptor that the kernel has just returned.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
