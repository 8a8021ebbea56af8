//! The invariants of ARCHITECTURE.md, checked on the text of the sources. A rule that only a reader keeps is broken
//! within a month; these are few and cheap.

/// A crate that only some paths under `agent/src/` may use.
struct OnlyIn {
    /// How a path to the crate begins. A trailing `*` covers crates with a common prefix.
    krate: &'static str,
    allowed: &'static [&'static str],
    why: &'static str,
}

const ONLY_IN: [OnlyIn; 5] = [
    OnlyIn {
        krate: "aya",
        allowed: &["bpf.rs", "bpf/", "readout.rs", "readout/"],
        why: "the rest must build and be tested without a kernel",
    },
    OnlyIn { krate: "aya_obj", allowed: &["bpf/"], why: "as of aya itself" },
    OnlyIn {
        krate: "object",
        allowed: &["binary.rs", "binary/"],
        why: "everything else asks `binary` about a file, which caches the answer",
    },
    OnlyIn {
        krate: "opentelemetry*",
        allowed: &["export/otlp.rs", "export/otlp/", "self_metrics.rs"],
        why: "the model knows no wire format",
    },
    OnlyIn { krate: "ratatui", allowed: &["tui.rs", "tui/"], why: "the model knows no widget" },
];

/// Modules whose result is a function of their arguments alone.
const PURE: [&str; 6] = ["plan", "model", "stall", "verdict", "v8/layout", "cgroup"];
const IMPURE: [&str; 9] = [
    "std::fs",
    "fs::read",
    "std::net",
    "std::process",
    "std::thread",
    "File::open",
    "TcpStream",
    "SystemTime::now",
    "Instant::now",
];

/// A sentence for each line of `text` that breaks a rule. `path` counts from the root of the repository.
pub(super) fn violations(path: &str, text: &str) -> Vec<String> {
    let Some(module) = path.strip_prefix("agent/src/") else {
        return Vec::new();
    };
    let pure = PURE.iter().find(|pure| is_in(module, &[&format!("{pure}.rs"), &format!("{pure}/")]));
    let mut in_tests = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        in_tests |= line.trim() == "#[cfg(test)]";
        // What is only spoken of is not used.
        let code = line.split("//").next().unwrap_or_default();
        let at = format!("{path}:{}", index + 1);
        for rule in &ONLY_IN {
            if uses_crate(code, rule.krate) && !is_in(module, rule.allowed) {
                let allowed = rule.allowed.join(", ");
                found.push(format!("{at}: `{}` is used outside {allowed}: {}", rule.krate, rule.why));
            }
        }
        // A test may read its fixture.
        if let Some(pure) = pure.filter(|_| !in_tests) {
            for word in IMPURE.iter().filter(|word| code.contains(*word) || imports(code, word)) {
                found.push(format!(
                    "{at}: `{word}` in `{pure}`, which does no I/O and reads no clock: pass it in"
                ));
            }
        }
    }
    found
}

fn is_in(module: &str, places: &[impl AsRef<str>]) -> bool {
    places
        .iter()
        .map(AsRef::as_ref)
        .any(|place| if place.ends_with('/') { module.starts_with(place) } else { module == place })
}

/// Whether the line has a path that begins with the crate: `aya::Ebpf`, `use aya;`, `::aya::maps`.
fn uses_crate(code: &str, krate: &str) -> bool {
    let (name, prefix) = match krate.strip_suffix('*') {
        Some(name) => (name, true),
        None => (krate, false),
    };
    code.match_indices(name).any(|(start, _)| {
        let before = &code[..start];
        // `::aya` is the crate again; `super::aya` would be a module of ours, and `my_aya` another word.
        let before = before.strip_suffix("::").filter(|rest| !rest.ends_with(is_word)).unwrap_or(before);
        let starts = !before.ends_with(|c| is_word(c) || c == '.' || c == ':');
        let rest = &code[start + name.len()..];
        let rest = if prefix { rest.trim_start_matches(is_word) } else { rest };
        let used =
            rest.starts_with("::") || (before.trim_end().ends_with("use") && rest.starts_with([';', ' ']));
        starts && used
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `use std::{fs, path::Path}` names `std::fs` in two pieces.
fn imports(code: &str, path: &str) -> bool {
    let Some((krate, item)) = path.split_once("::") else { return false };
    let Some(list) =
        code.trim_start().strip_prefix("use ").and_then(|rest| rest.strip_prefix(&format!("{krate}::{{")))
    else {
        return false;
    };
    list.split([',', '{', '}', ';']).any(|name| {
        let name = name.trim();
        name == item || name.starts_with(&format!("{item}::"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_outside_its_place_is_named_with_file_and_line() {
        let found = violations("agent/src/plan.rs", "//! Pure.\nuse aya::programs::UProbe;\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("agent/src/plan.rs:2: `aya` is used outside"), "{found:?}");
    }

    #[test]
    fn every_crate_is_welcome_in_its_place() {
        for (path, line) in [
            ("agent/src/bpf/attach.rs", "use aya::programs::UProbe;"),
            ("agent/src/readout/ring.rs", "    aya::maps::RingBuf::try_from(map)"),
            ("agent/src/binary/elf.rs", "use object::read::elf::FileHeader;"),
            ("agent/src/export/otlp/mod.rs", "use opentelemetry_proto::tonic::metrics::v1::Metric;"),
            ("agent/src/self_metrics.rs", "use opentelemetry::metrics::Meter;"),
            ("agent/src/tui/table.rs", "use ratatui::widgets::Table;"),
        ] {
            assert_eq!(violations(path, line), Vec::<String>::new());
        }
    }

    #[test]
    fn every_crate_is_refused_elsewhere() {
        for line in [
            "use aya;",
            "    let map: &aya::maps::Map = x;",
            "use object::File;",
            "use opentelemetry_sdk::Resource;",
            "fn draw(frame: &mut ratatui::Frame<'_>) {}",
        ] {
            assert_eq!(violations("agent/src/discovery.rs", line).len(), 1, "{line}");
        }
    }

    #[test]
    fn words_that_only_look_like_a_crate_are_not_one() {
        for line in [
            "// aya::Ebpf would be wrong here",
            "use crate::binary::object::Thing;",
            "use nodeprobe_aya::x;",
            "let object = parse();",
            "self.object::<T>()",
            "serde_json::Value::as_object::<T>()",
        ] {
            assert_eq!(violations("agent/src/discovery.rs", line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn pure_modules_may_neither_read_a_file_nor_a_clock() {
        for line in [
            "use std::fs;",
            "use std::{collections::HashMap, fs, path::Path};",
            "let now = Instant::now();",
            "std::time::SystemTime::now()",
            "std::fs::read(path)",
            "let text = fs::read_to_string(path)?;",
            "use std::net::TcpStream;",
        ] {
            for module in ["plan.rs", "model/histogram.rs", "stall/cause.rs", "v8/layout.rs", "cgroup.rs"] {
                let found = violations(&format!("agent/src/{module}"), line);
                assert!(!found.is_empty(), "{module}: {line}");
            }
        }
    }

    #[test]
    fn pure_modules_may_take_a_clock_reading_as_an_argument() {
        for line in [
            "fn age(now: Instant) -> Duration {",
            "use std::{fmt, time::Instant};",
            "use std::collections::HashMap;",
        ] {
            assert_eq!(violations("agent/src/model/mod.rs", line), Vec::<String>::new(), "{line}");
        }
        assert_eq!(
            violations("agent/src/plan.rs", "#[cfg(test)]\nmod tests {\n use std::fs;"),
            Vec::<String>::new()
        );
        assert_eq!(violations("agent/src/procfs.rs", "std::fs::read(path)"), Vec::<String>::new());
    }

    #[test]
    fn other_crates_of_the_workspace_are_free() {
        assert_eq!(violations("xtask/src/main.rs", "use std::fs;"), Vec::<String>::new());
    }
}
