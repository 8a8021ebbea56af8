//! How Node follows async contexts: by frames that V8 keeps, or along async ids.
//!
//! Architecture invariant: no I/O in here.

#![forbid(unsafe_code)]

/// From here on by frames unless told otherwise.
const FIRST_MAJOR_BY_DEFAULT: u32 = 24;
/// The name of the option without `--` and `no-`; the longer one is that of Node 22, and still understood.
const OPTIONS: [&str; 2] = ["async-context-frame", "experimental-async-context-frame"];

/// Whether contexts are kept in frames. Options of the command line count after those of `NODE_OPTIONS`, the last one decides.
pub(super) fn are_used(args: &[Vec<u8>], node_options: &[u8], major: u32) -> bool {
    let from_environment = node_options.split(u8::is_ascii_whitespace);
    let all = from_environment.chain(args.iter().map(Vec::as_slice));
    all.filter_map(choice).next_back().unwrap_or(major >= FIRST_MAJOR_BY_DEFAULT)
}

fn choice(arg: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(arg).ok()?.strip_prefix("--")?.replace('_', "-");
    if OPTIONS.contains(&text.as_str()) {
        return Some(true);
    }
    text.strip_prefix("no-").filter(|name| OPTIONS.contains(name)).map(|_| false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_unless_an_option_does() {
        let used = |args: &[&str], node_options: &str, major| {
            let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            are_used(&args, node_options.as_bytes(), major)
        };
        assert!(!used(&[], "", 22));
        assert!(used(&[], "", 24));
        assert!(used(&["--experimental-async-context-frame"], "", 22));
        assert!(!used(&["--no-async-context-frame"], "", 24));
        assert!(!used(&[], "--no-warnings --no_async_context_frame", 26));
        assert!(used(&["--async-context-frame"], "--no-async-context-frame", 24));
        assert!(used(&["--async-context-frames", "async-context-frame"], "", 24), "no such options");
    }
}
