//! What a thread was executing: decoded stacks, and who is to blame for the time they stand for.

use std::sync::Arc;

/// What kind of code a frame runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameKind {
    /// A function of a script: application or package.
    JavaScript,
    /// A function of Node's own JavaScript, `node:...`.
    NodeInternal,
    /// A builtin of V8 (`Array.prototype.sort`, `JSON.parse`), told by its symbol.
    Builtin,
    /// C and C++: Node, V8, libuv, OpenSSL, addons, libc.
    Native,
}

impl FrameKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::JavaScript => "javascript",
            Self::NodeInternal => "node_internal",
            Self::Builtin => "builtin",
            Self::Native => "native",
        }
    }
}

/// What a thread's time was spent with, as its stack tells. The first that fits a stack, innermost frame first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Functions of the application and its packages.
    Application,
    /// Node's own JavaScript (`node:internal/...`) outside of the kinds below.
    NodeInternal,
    /// Formatting and writing log lines: `console`, `util.inspect`.
    Logging,
    /// `JSON.parse`, `JSON.stringify`.
    Json,
    /// Regular expressions.
    Regexp,
    /// OpenSSL, and Node's `crypto` around it.
    Crypto,
    /// zlib, brotli, zstd.
    Zlib,
    /// Garbage collection.
    Gc,
    /// Parsing and compiling JavaScript.
    Compile,
    /// Misses of inline caches: objects whose shapes change.
    IcMiss,
    /// The machinery of promises and `await`, without the functions it runs.
    Microtasks,
    /// Other native code.
    Native,
    /// Asleep in a system call.
    Blocked,
    /// The stack could not be read.
    Unknown,
}

impl Category {
    pub const ALL: [Self; 14] = [
        Self::Application,
        Self::NodeInternal,
        Self::Logging,
        Self::Json,
        Self::Regexp,
        Self::Crypto,
        Self::Zlib,
        Self::Gc,
        Self::Compile,
        Self::IcMiss,
        Self::Microtasks,
        Self::Native,
        Self::Blocked,
        Self::Unknown,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::NodeInternal => "node_internal",
            Self::Logging => "logging",
            Self::Json => "json",
            Self::Regexp => "regexp",
            Self::Crypto => "crypto",
            Self::Zlib => "zlib",
            Self::Gc => "gc",
            Self::Compile => "compile",
            Self::IcMiss => "ic_miss",
            Self::Microtasks => "microtasks",
            Self::Native => "native",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }
}

/// One frame. Strings come from the process and are cleaned: valid UTF-8, no control characters, bounded length.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub kind: FrameKind,
    /// Name of the function; `(anonymous)` where it has none.
    pub function: Arc<str>,
    /// Path of the script without `file://`, or `node:...`; after source maps, the original source.
    pub script: Option<Arc<str>>,
    /// 1-based.
    pub line: Option<u32>,
    /// 1-based; only where the line is the one being executed.
    pub column: Option<u32>,
    /// `line` is the one being executed; else the first of the function.
    pub line_is_exact: bool,
    /// The npm package of the script; `None` for the application's own code and for native code.
    pub package: Option<Arc<str>>,
}

/// A stack, innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stack {
    pub frames: Vec<Frame>,
    /// Outer frames are missing.
    pub truncated: bool,
    /// Why no JavaScript frame could be told although there should be some.
    pub problem: Option<&'static str>,
}

/// The function to blame: the innermost frame of the application that most of the time shares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Culprit {
    pub function: Arc<str>,
    pub script: Option<Arc<str>>,
    /// The line that most of the samples executed; the function's first line where that is not known.
    pub line: Option<u32>,
    pub package: Option<Arc<str>>,
}

impl Culprit {
    /// The function of one frame, at the line that it executes.
    pub fn of_frame(frame: &Frame) -> Self {
        Self {
            function: Arc::clone(&frame.function),
            script: frame.script.clone(),
            line: frame.line,
            package: frame.package.clone(),
        }
    }

    /// The function with most of the time; the line is the one with most of the function's time.
    pub fn of_most<'a>(times: impl Iterator<Item = (&'a Self, u64)>) -> Option<Self> {
        struct Function<'a> {
            culprit: &'a Culprit,
            time_ns: u64,
            lines: Vec<(Option<u32>, u64)>,
        }
        let mut functions: Vec<Function<'_>> = Vec::new();
        for (culprit, time_ns) in times {
            let index = functions.iter().position(|Function { culprit: known, .. }| {
                (&known.function, &known.script) == (&culprit.function, &culprit.script)
            });
            let index = index.unwrap_or_else(|| {
                functions.push(Function { culprit, time_ns: 0, lines: Vec::new() });
                functions.len() - 1
            });
            let function = &mut functions[index];
            function.time_ns += time_ns;
            match function.lines.iter_mut().find(|(line, _)| *line == culprit.line) {
                Some((_, line_ns)) => *line_ns += time_ns,
                None => function.lines.push((culprit.line, time_ns)),
            }
        }
        let Function { culprit, lines, .. } =
            functions.into_iter().max_by_key(|function| function.time_ns)?;
        let line = lines.into_iter().max_by_key(|(_, ns)| *ns).and_then(|(line, _)| line);
        Some(Self { line, ..culprit.clone() })
    }
}

/// A stack and the time it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackTime {
    pub stack: Arc<Stack>,
    pub category: Category,
    pub samples: u64,
    pub time_ns: u64,
}

/// What one thread was sampled executing since the previous snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadStacks {
    pub process: super::ProcessId,
    pub tid: u32,
    pub stacks: Vec<StackTime>,
}

impl ThreadStacks {
    /// Whether they are those of the main thread of `process`.
    pub fn is_main_of(&self, process: super::ProcessId) -> bool {
        (self.process, self.tid) == (process, process.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_time_decides_over_the_function_then_over_its_line() {
        let culprit = |function: &str, line| Culprit {
            function: function.into(),
            script: Some("/app/a.js".into()),
            line: Some(line),
            package: None,
        };
        let (a1, a2, b) = (culprit("a", 1), culprit("a", 2), culprit("b", 9));
        let most = Culprit::of_most([(&b, 50), (&a1, 30), (&a2, 25), (&a2, 6)].into_iter());
        assert_eq!(most, Some(a2));
        assert_eq!(Culprit::of_most(std::iter::empty()), None);
    }
}
