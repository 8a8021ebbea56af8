//! Where the kernel's structures have their members, as the kernel itself describes its types (BTF).
//!
//! The format is ABI: `include/uapi/linux/btf.h` and Documentation/bpf/btf.rst of Linux. Only what leads to a member of a
//! structure is read; the crates for it are under the LGPL or keep members to themselves.

use std::{fs, path::Path};

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;

/// The offset in bytes of a member of a structure of the running kernel, whose `/sys` is below `root`. Members of members are not
/// looked for.
///
/// # Errors
/// Why it is not known.
pub(crate) fn member_offset(root: &Path, structure: &str, member: &str) -> Result<u32, String> {
    let path = root.join("sys/kernel/btf/vmlinux");
    let btf = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    find(&btf, structure.as_bytes(), member.as_bytes()).ok_or_else(|| {
        format!("{} tells of no member {member} of {structure}, or has an unknown form", path.display())
    })
}

fn find(btf: &[u8], structure: &[u8], member: &[u8]) -> Option<u32> {
    let magic = u16::from_ne_bytes(*btf.first_chunk()?);
    // Sections are counted from the end of the header, whose length stands in it.
    let [header_len, types_at, types_len, names_at, names_len] = words(btf.get(4..)?)?;
    let section = |at: u32, len: u32| {
        let begin = header_len.checked_add(at)? as usize;
        btf.get(begin..begin.checked_add(len as usize)?)
    };
    let (mut types, names) = (section(types_at, types_len)?, section(names_at, names_len)?);
    let is_named = |at: u32, name: &[u8]| {
        let rest = names.get(at as usize..)?.strip_prefix(name)?;
        (rest.first() == Some(&0)).then_some(())
    };
    if magic != MAGIC {
        return None;
    }
    while !types.is_empty() {
        let [name, info, _size] = words(types)?;
        let (kind, count, is_bitfields) = (info >> 24 & 0x1f, info & 0xffff, info >> 31 != 0);
        let after = types.get(12..)?;
        let (details, rest) = after.split_at_checked(details_len(kind, count as usize)?)?;
        types = rest;
        if kind == KIND_STRUCT && is_named(name, structure).is_some() {
            return details.chunks_exact(12).find_map(|details| {
                let [name, _type, bits] = words(details)?;
                is_named(name, member)?;
                // Where the structure has bit fields, the upper eight bits tell how wide this one is: 0, none.
                let is_whole = !is_bitfields || bits >> 24 == 0;
                (is_whole && bits % 8 == 0).then_some(bits / 8)
            });
        }
    }
    None
}

/// How many bytes follow the first twelve of a type. Of an unknown kind it cannot be told.
fn details_len(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // An integer; a variable; a tag of a declaration.
        1 | 14 | 17 => 4,
        // A pointer, a forward declaration, a name for a type, `volatile`, `const`, `restrict`, a function, a float, a tag of a type.
        2 | 7..=12 | 16 | 18 => 0,
        // An array.
        3 => 12,
        // A structure, a union; a section of data; an enumeration of 64 bits.
        KIND_STRUCT | 5 | 15 | 19 => 12 * count,
        // An enumeration, the parameters of a function.
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.get(..4 * N)?.chunks_exact(4)) {
        *word = u32::from_ne_bytes(*bytes.first_chunk()?);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct task_struct { int usage; <a bit field of 3 at bit 32>; int pid at byte 12 }` behind one type of each other kind, as
    /// Documentation/bpf/btf.rst lays them out.
    fn sample() -> Vec<u8> {
        let names = b"\0task_struct\0pid\0usage\0task\0flag\0";
        let at = |name: &str| {
            names
                .windows(name.len() + 1)
                .position(|window| window == [name.as_bytes(), b"\0"].concat())
                .unwrap() as u32
        };
        let others: [(u32, u32, usize); 18] = [
            (1, 0, 1),
            (2, 0, 0),
            (3, 0, 3),
            (5, 2, 6),
            (6, 3, 6),
            (7, 0, 0),
            (8, 0, 0),
            (9, 0, 0),
            (10, 0, 0),
            (11, 0, 0),
            (12, 0, 0),
            (13, 2, 4),
            (14, 0, 1),
            (15, 1, 3),
            (16, 0, 0),
            (17, 0, 1),
            (18, 0, 0),
            (19, 2, 6),
        ];
        let mut types: Vec<u32> = Vec::new();
        for (kind, count, details) in others {
            // Of the same name: only a structure counts.
            types.extend([at("task_struct"), kind << 24 | count, 4]);
            types.extend(std::iter::repeat_n(at("pid"), details));
        }
        // A structure of a name that begins alike.
        types.extend([at("task"), 4 << 24 | 1, 4, at("pid"), 1, 64]);
        types.extend([at("task_struct"), 1 << 31 | 4 << 24 | 3, 16]);
        types.extend([at("usage"), 1, 0, at("flag"), 1, 3 << 24 | 32, at("pid"), 1, 96]);
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut btf = Vec::from(0xeb9f_u16.to_ne_bytes());
        btf.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            btf.extend(word.to_ne_bytes());
        }
        [btf, types, names.to_vec()].concat()
    }

    #[test]
    fn a_member_is_found_behind_types_of_every_kind() {
        assert_eq!(find(&sample(), b"task_struct", b"pid"), Some(12));
        assert_eq!(find(&sample(), b"task_struct", b"usage"), Some(0));
        assert_eq!(find(&sample(), b"task", b"pid"), Some(8));
    }

    #[test]
    fn bit_fields_and_unknown_names_are_not_found() {
        for (structure, member) in
            [("task_struct", "flag"), ("task_struct", "pi"), ("task_str", "pid"), ("", "pid")]
        {
            assert_eq!(
                find(&sample(), structure.as_bytes(), member.as_bytes()),
                None,
                "{structure}.{member}"
            );
        }
    }

    #[test]
    fn a_type_of_a_kind_yet_unknown_ends_the_search() {
        let mut btf = sample();
        // Of the first type.
        btf[24 + 7] = 20;
        assert_eq!(find(&btf, b"task_struct", b"pid"), None);
    }

    #[test]
    fn a_kernel_without_btf_says_so() {
        let empty = tempfile::tempdir().unwrap();
        let error = member_offset(empty.path(), "task_struct", "pid").unwrap_err();
        assert!(error.contains("sys/kernel/btf/vmlinux"), "{error}");
    }

    #[test]
    fn what_is_cut_off_is_no_answer() {
        let whole = sample();
        for len in 0..whole.len() {
            assert_eq!(find(&whole[..len], b"task_struct", b"pid"), None, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..900, byte: u8) {
            let mut btf = sample();
            let at = at % btf.len();
            btf[at] = byte;
            find(&btf, b"task_struct", b"pid");
        }
    }
}
