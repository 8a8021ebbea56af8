//! How far V8's heap of a process may grow, from what decides it: flags, else the memory of machine and container.
//!
//! Architecture invariant: no I/O in here.

#![forbid(unsafe_code)]

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// However little memory there is, V8 takes it that it may have so much.
const LEAST: u64 = 256 * MIB;

/// What decides the limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) host_bytes: u64,
    /// The limit of the container as far as this version of Node asks for it.
    pub(super) container_bytes: Option<u64>,
}

/// The limit of the old generation, bytes, where all lives that survives. `v8.getHeapStatistics().heap_size_limit` is the young
/// generation more: three semi-spaces, 48 MiB in Node.js 16 to 22, 192 MiB in 24, 96 MiB in 26, and less in small containers.
///
/// Flags are those of the command line in front of the script, then `NODE_OPTIONS`; of each the last counts.
/// `--max-heap-size` includes the young generation and is taken as it is. Without any, V8 takes half of the memory, at least
/// 256 MiB, at most 2 GiB, or 4 GiB from 15 GiB of memory on (measured with Node.js 20, 22, 24 and 26 in containers of
/// 128 MiB to 17 GiB).
///
/// `None`: it is a percentage of the memory, which is not followed here; or there is no flag, and the memory is not known.
pub(super) fn old_generation_bytes(
    args: &[Vec<u8>],
    node_options: &[u8],
    memory: Option<Memory>,
) -> Option<u64> {
    let from_options = node_options.split(u8::is_ascii_whitespace);
    let is_percentage = |arg: &[u8]| {
        String::from_utf8_lossy(arg).replace('_', "-").starts_with("--max-old-space-size-percentage")
    };
    if args.iter().any(|arg| is_percentage(arg)) || from_options.clone().any(is_percentage) {
        return None;
    }
    let last = |flag: &str| {
        let of_args = args.iter().filter_map(|arg| value_of(arg, flag)).next_back();
        of_args.or_else(|| from_options.clone().filter_map(|arg| value_of(arg, flag)).next_back())
    };
    if let Some(mib) = last("max-old-space-size").or_else(|| last("max-heap-size"))
        && mib > 0
    {
        return Some(mib.saturating_mul(MIB));
    }
    let memory = memory?;
    let memory_bytes = memory.container_bytes.map_or(memory.host_bytes, |bytes| bytes.min(memory.host_bytes));
    let most = if memory_bytes >= 15 * GIB { 4 * GIB } else { 2 * GIB };
    Some((memory_bytes / 2).clamp(LEAST, most))
}

/// The number of `--flag=N`, written with `-` or `_`.
fn value_of(arg: &[u8], flag: &str) -> Option<u64> {
    let text = std::str::from_utf8(arg).ok()?.strip_prefix("--")?;
    let (name, value) = text.split_once('=')?;
    let is_flag = name.len() == flag.len() && name.replace('_', "-") == flag;
    if is_flag { value.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_mib(args: &[&str], node_options: &str, host_gib: u64, container_mib: Option<u64>) -> u64 {
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let container_bytes = container_mib.map(|mib| mib * MIB);
        let memory = Memory { host_bytes: host_gib * GIB, container_bytes };
        old_generation_bytes(&args, node_options.as_bytes(), Some(memory)).map_or(0, |bytes| bytes / MIB)
    }

    #[test]
    fn without_flags_it_is_half_of_the_memory_between_two_bounds() {
        // `heap_size_limit` of Node.js 22 in a container of that size on a host of 24 GiB, less the young generation.
        for (container_mib, expected_mib) in [
            (128, 256),
            (384, 256),
            (512, 256),
            (1024, 512),
            (2048, 1024),
            (3072, 1536),
            (6144, 2048),
            (12288, 2048),
            (17000, 4096),
        ] {
            assert_eq!(limit_mib(&[], "", 23, Some(container_mib)), expected_mib, "{container_mib}");
        }
        assert_eq!(limit_mib(&[], "", 23, None), 4096);
        assert_eq!(limit_mib(&[], "", 2, Some(1 << 40)), 1024);
    }

    #[test]
    fn flags_decide_and_the_command_line_wins() {
        assert_eq!(limit_mib(&["--max-old-space-size=100"], "", 8, None), 100);
        assert_eq!(limit_mib(&["--max_old_space_size=100"], "--max-old-space-size=300", 8, None), 100);
        assert_eq!(limit_mib(&[], "--no-warnings --max-old-space-size=300", 8, None), 300);
        assert_eq!(limit_mib(&["--max-old-space-size=1", "--max-old-space-size=2"], "", 8, None), 2);
        assert_eq!(limit_mib(&["--max-heap-size=300"], "", 8, None), 300);
        for unusable in ["--max-old-space-size=x", "--max-old-space-size", "--max-old-space-sizes=5"] {
            assert_eq!(limit_mib(&[unusable], "", 8, None), 2048, "{unusable}");
        }
        assert_eq!(limit_mib(&["--max-old-space-size-percentage=75"], "", 8, None), 0, "not known");
        assert_eq!(limit_mib(&[], "--max_old_space_size_percentage=75", 8, None), 0, "not known");
    }

    #[test]
    fn a_flag_decides_also_where_the_memory_is_not_known() {
        let limit = |args: &[&[u8]], node_options: &[u8]| {
            let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.to_vec()).collect();
            old_generation_bytes(&args, node_options, None)
        };
        assert_eq!(limit(&[b"--max-old-space-size=100"], b""), Some(100 * MIB));
        assert_eq!(limit(&[], b"--max-old-space-size=300"), Some(300 * MIB));
        assert_eq!(limit(&[b"--max-old-space-size-percentage=75"], b""), None);
        assert_eq!(limit(&[], b""), None);
    }
}
