//! Many stacks as one picture: time by function, by owner and by category, and a tree of calls.
#![forbid(unsafe_code)]

mod flame;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

pub use self::flame::{FlameNode, flame};
use crate::model::{Category, Frame, FrameKind, StackTime};

/// What makes two frames the same function. Lines differ within one and are no part of it, so functions without a name
/// in the same script are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FunctionId<'frame> {
    kind: FrameKind,
    function: &'frame str,
    script: Option<&'frame str>,
}

impl<'frame> FunctionId<'frame> {
    pub(super) fn of(frame: &'frame Frame) -> Self {
        Self { kind: frame.kind, function: &frame.function, script: frame.script.as_deref() }
    }
}

/// Time by line of one function.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    executed: BTreeMap<u32, u64>,
    first: Option<u32>,
}

impl Lines {
    pub(super) fn add(&mut self, frame: &Frame, time_ns: u64) {
        match frame.line {
            Some(line) if frame.line_is_exact => {
                let sum = self.executed.entry(line).or_default();
                *sum = sum.saturating_add(time_ns);
            }
            line => self.first = self.first.or(line),
        }
    }

    /// The line that was executed for the longest time, else the first of the function.
    pub(super) fn most(&self) -> Option<u32> {
        let most = self.executed.iter().max_by_key(|(line, time_ns)| (**time_ns, Reverse(**line)));
        most.map(|(line, _)| *line).or(self.first)
    }
}

/// Time of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionTime {
    pub kind: FrameKind,
    pub function: Arc<str>,
    pub script: Option<Arc<str>>,
    /// The line executed for the longest time; the function's first line where that is not known.
    pub line: Option<u32>,
    pub package: Option<Arc<str>>,
    /// In the function itself.
    pub self_ns: u64,
    /// In the function and what it called, recursion counted once.
    pub total_ns: u64,
    /// Samples with the function on the stack.
    pub samples: u64,
}

/// By what the first functions of a list are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    SelfTime,
    TotalTime,
}

/// The `limit` functions with most time, in descending order.
pub fn functions(stacks: &[StackTime], order: Order, limit: usize) -> Vec<FunctionTime> {
    struct Sum<'a> {
        frame: &'a Frame,
        lines: Lines,
        self_ns: u64,
        total_ns: u64,
        samples: u64,
    }
    let mut sums: HashMap<FunctionId<'_>, Sum<'_>> = HashMap::new();
    for stack in stacks {
        let mut seen = HashSet::new();
        for (depth, frame) in stack.stack.frames.iter().enumerate() {
            let id = FunctionId::of(frame);
            if !seen.insert(id) {
                continue;
            }
            let sum = sums.entry(id).or_insert_with(|| Sum {
                frame,
                lines: Lines::default(),
                self_ns: 0,
                total_ns: 0,
                samples: 0,
            });
            sum.lines.add(frame, stack.time_ns);
            sum.total_ns = sum.total_ns.saturating_add(stack.time_ns);
            sum.samples = sum.samples.saturating_add(stack.samples);
            if depth == 0 {
                sum.self_ns = sum.self_ns.saturating_add(stack.time_ns);
            }
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(id, sum)| {
        let times = match order {
            Order::SelfTime => (sum.self_ns, sum.total_ns),
            Order::TotalTime => (sum.total_ns, sum.self_ns),
        };
        (Reverse(times), *id)
    });
    sums.into_iter()
        .take(limit)
        .map(|(_, Sum { frame, lines, self_ns, total_ns, samples })| FunctionTime {
            kind: frame.kind,
            function: frame.function.clone(),
            script: frame.script.clone(),
            line: lines.most(),
            package: frame.package.clone(),
            self_ns,
            total_ns,
            samples,
        })
        .collect()
}

/// Whose code time was spent for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Application,
    /// An npm package.
    Package(Arc<str>),
    /// Node's own JavaScript, called by nobody else.
    Node,
    /// Native code, called by no JavaScript that could be told.
    Native,
}

/// Time by the owner of the innermost function of the application or a package, in descending order: what Node and V8
/// do on behalf of a package is the package's.
pub fn owners(stacks: &[StackTime]) -> Vec<(Owner, u64)> {
    sums(stacks, |stack| {
        let frames = &stack.stack.frames;
        if let Some(frame) = frames.iter().find(|frame| frame.kind == FrameKind::JavaScript) {
            return frame.package.clone().map_or(Owner::Application, Owner::Package);
        }
        let node = frames.iter().any(|frame| frame.kind == FrameKind::NodeInternal);
        if node { Owner::Node } else { Owner::Native }
    })
}

/// Time by category, in descending order.
pub fn categories(stacks: &[StackTime]) -> Vec<(Category, u64)> {
    sums(stacks, |stack| stack.category)
}

fn sums<Key: Ord>(stacks: &[StackTime], key: impl Fn(&StackTime) -> Key) -> Vec<(Key, u64)> {
    let mut sums: BTreeMap<Key, u64> = BTreeMap::new();
    for stack in stacks {
        let sum = sums.entry(key(stack)).or_default();
        *sum = sum.saturating_add(stack.time_ns);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    // Stable: equal times keep the order of the keys.
    sums.sort_by_key(|(_, time_ns)| Reverse(*time_ns));
    sums
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Stack;

    /// `kind function`, innermost first: `n` native, `b` builtin, `i` Node's own, `j` application, `p` package.
    pub(in crate::stack) fn stack(time_ns: u64, frames: &[&str]) -> StackTime {
        let frames = frames.iter().map(|frame| {
            let (kind, function) = frame.split_once(' ').unwrap();
            let (kind, script, package) = match kind {
                "n" => (FrameKind::Native, None, None),
                "b" => (FrameKind::Builtin, None, None),
                "i" => (FrameKind::NodeInternal, Some("node:events"), None),
                "j" => (FrameKind::JavaScript, Some("/app/index.js"), None),
                "p" => (FrameKind::JavaScript, Some("/app/node_modules/x/i.js"), Some("x")),
                other => panic!("{other}"),
            };
            Frame {
                kind,
                function: Arc::from(function),
                script: script.map(Arc::from),
                line: None,
                column: None,
                line_is_exact: false,
                package: package.map(Arc::from),
            }
        });
        let stack = Stack { frames: frames.collect(), truncated: false, problem: None };
        StackTime { stack: Arc::new(stack), category: Category::Unknown, samples: 1, time_ns }
    }

    pub(in crate::stack) fn stack_at(time_ns: u64, frame: &str, line: u32, exact: bool) -> StackTime {
        let mut stack = stack(time_ns, &[frame]);
        let frame = &mut Arc::get_mut(&mut stack.stack).unwrap().frames[0];
        (frame.line, frame.line_is_exact) = (Some(line), exact);
        stack
    }

    #[test]
    fn functions_have_their_own_and_their_total_time() {
        let stacks = [
            stack(60, &["n sha", "j hash", "j main"]),
            stack(30, &["j main"]),
            stack(10, &["j hash", "j main"]),
        ];
        let of = |order| -> Vec<_> {
            functions(&stacks, order, 2)
                .into_iter()
                .map(|function| {
                    (function.function.to_string(), function.self_ns, function.total_ns, function.samples)
                })
                .collect()
        };
        assert_eq!(of(Order::SelfTime), [("sha".into(), 60, 60, 1), ("main".into(), 30, 100, 3)]);
        assert_eq!(of(Order::TotalTime), [("main".into(), 30, 100, 3), ("hash".into(), 10, 70, 2)]);
    }

    #[test]
    fn recursion_counts_once() {
        let found = functions(&[stack(10, &["j fib", "j fib", "j fib"])], Order::SelfTime, 9);
        assert_eq!((found.len(), found[0].self_ns, found[0].total_ns), (1, 10, 10));
    }

    #[test]
    fn functions_of_one_name_in_two_scripts_are_two() {
        let found = functions(&[stack(10, &["j get", "p get"])], Order::TotalTime, 9);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn time_belongs_to_whoever_asked_for_it() {
        let stacks = [
            stack(50, &["n deflate", "i write", "p compress", "j main"]),
            stack(30, &["j main"]),
            stack(15, &["n memcpy", "i emit"]),
            stack(5, &["n uv_run"]),
        ];
        assert_eq!(
            owners(&stacks),
            [
                (Owner::Package("x".into()), 50),
                (Owner::Application, 30),
                (Owner::Node, 15),
                (Owner::Native, 5)
            ]
        );
    }

    #[test]
    fn categories_add_up() {
        let mut stacks = [stack(1, &["j a"]), stack(5, &["j b"]), stack(2, &["j a"])];
        stacks[0].category = Category::Json;
        stacks[1].category = Category::Application;
        stacks[2].category = Category::Json;
        assert_eq!(categories(&stacks), [(Category::Application, 5), (Category::Json, 3)]);
        assert_eq!(categories(&[]), []);
    }
}
