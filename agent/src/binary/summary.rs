//! One file in words, for `nodeprobe ps --verbose` and `nodeprobe debug analyze`.

use std::fmt::Write as _;

use super::{Architecture, Binary, Hook, Instruction, Rule};

/// Several lines, each ended; no control characters from the file.
pub fn summary(binary: &Binary) -> String {
    let mut text = String::new();
    let unknown = || "unknown".to_owned();
    let components = [(binary.has.node, "Node"), (binary.has.v8, "V8"), (binary.has.libuv, "libuv")];
    let components: Vec<&str> = components.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    let mut line = |label: &str, value: &str| {
        writeln!(text, "{label:<18}{value}").expect("a String takes everything");
    };
    line(
        "contains",
        &if components.is_empty() { "none of Node, V8, libuv".to_owned() } else { components.join(", ") },
    );
    line("architecture", binary.architecture.name());
    line("build id", binary.build_id.as_deref().unwrap_or("none"));
    if binary.has.node {
        line("Node version", &binary.node_version.clone().unwrap_or_else(unknown));
    }
    if binary.has.v8 {
        line("V8 version", &binary.v8_version.map_or_else(unknown, |version| version.to_string()));
    }
    line("symbols", if binary.stripped { "exported ones only (stripped)" } else { "all" });
    line("needs", &binary.needed.join(", "));
    if binary.has.libuv {
        let offset = binary.backend_fd_offset.map_or_else(unknown, |offset| offset.to_string());
        line("epoll descriptor", &format!("byte {offset} of uv_loop_t"));
    }
    if binary.has.node {
        let offset = binary.async_ids_offset.map_or_else(unknown, |offset| offset.to_string());
        line("async ids", &format!("byte {offset} of Environment"));
    }
    if binary.has.v8 {
        let sizes =
            binary.gc_sizes.map_or_else(unknown, |sizes| format!("{} and {}", sizes.before, sizes.after));
        line("heap sizes", &format!("bytes {sizes} of GCTracer"));
        if let Some(offset) = binary.context_frame_offset {
            line("async context", &format!("byte {offset} of Isolate"));
        }
    }
    for hook in Hook::ALL {
        match binary.missing.get(&hook) {
            Some(reason) => line(hook.name(), &format!("none: {reason}")),
            None if binary.points(hook).is_empty() => {}
            None => line(hook.name(), &points_in_words(binary, hook)),
        }
    }
    text
}

fn points_in_words(binary: &Binary, hook: Hook) -> String {
    let points = binary.points(hook).iter().map(|point| {
        let rule = match point.rule {
            Rule::Dynsym | Rule::Symtab => "",
            Rule::Decoded => " from its caller",
        };
        let instruction = match point.instruction {
            Instruction::Other if binary.architecture == Architecture::X86_64 => ", slow to probe",
            Instruction::Push | Instruction::Other | Instruction::Return => "",
            Instruction::TailJump => ", tail jump",
        };
        format!("{:#x} ({}{rule}{instruction})", point.offset.0, point.rule.name())
    });
    points.collect::<Vec<_>>().join(", ")
}
