//! How full the hash maps of a process's BPF programs are, asked of the kernel, not of the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

// Commands of bpf(2), and kinds of maps: include/uapi/linux/bpf.h.
const GET_NEXT_KEY: libc::c_long = 4;
const MAP_FD_BY_ID: libc::c_long = 14;
const INFO_BY_FD: libc::c_long = 15;
/// Hash, the same for each processor, and those that forget the oldest.
const HASHES: [u32; 4] = [1, 5, 9, 10];

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that these commands use.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    first: u32,
    second: u32,
    third: u64,
    fourth: u64,
}

/// Entries of each hash map of a process, by name and id.
///
/// # Panics
/// The process has gone, or the kernel refuses.
pub fn fill(pid: u32) -> BTreeMap<String, usize> {
    let mut fill = BTreeMap::new();
    for id in ids(pid) {
        let map = open(id).unwrap_or_else(|error| panic!("BPF map {id} of {pid}: {error}"));
        let info = info(&map).unwrap_or_else(|error| panic!("BPF map {id} of {pid}: {error}"));
        if HASHES.contains(&info.kind) {
            let name = String::from_utf8_lossy(&info.name).trim_end_matches('\0').to_owned();
            fill.insert(format!("{name} {id}"), entries(&map, &info));
        }
    }
    fill
}

/// The ids of the maps that a process holds.
fn ids(pid: u32) -> BTreeSet<u32> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let id_of = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok())
    };
    entries.flatten().filter_map(id_of).collect()
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let fd = call(MAP_FD_BY_ID, &Attributes { first: id, ..Attributes::default() })?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info(map: &OwnedFd) -> io::Result<Info> {
    let mut info = Info::default();
    let attributes = Attributes {
        first: map.as_raw_fd().cast_unsigned(),
        second: size_of::<Info>() as u32,
        third: (&raw mut info) as u64,
        fourth: 0,
    };
    call(INFO_BY_FD, &attributes)?;
    Ok(info)
}

/// Walks along the keys. While they come and go the walk may begin anew, so it takes as many steps as the map can have.
fn entries(map: &OwnedFd, info: &Info) -> usize {
    let mut key = vec![0; info.key_size as usize];
    let mut next = vec![0_u8; info.key_size as usize];
    let mut keys = BTreeSet::new();
    for _ in 0..info.max_entries {
        let before = if keys.is_empty() { 0 } else { key.as_ptr() as u64 };
        let attributes = Attributes {
            first: map.as_raw_fd().cast_unsigned(),
            second: 0,
            third: before,
            fourth: next.as_mut_ptr() as u64,
        };
        if call(GET_NEXT_KEY, &attributes).is_err() {
            break;
        }
        key.clone_from(&next);
        keys.insert(key.clone());
    }
    keys.len()
}

fn call(command: libc::c_long, attributes: &Attributes) -> io::Result<i32> {
    let size = size_of::<Attributes>();
    // SAFETY: the kernel reads `size` bytes of the attributes; pointers in them are to memory that lives as long as the
    // call and is as large as the map's own sizes say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
