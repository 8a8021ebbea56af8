//! The function to blame for the time of many stacks.
#![forbid(unsafe_code)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::collapse::{FunctionId, Lines};
use crate::model::{Culprit, Frame, FrameKind, StackTime};

/// Frames of the path that led to a culprit.
const PATH_MAX: usize = 128;

/// A culprit and what speaks against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    pub culprit: Culprit,
    /// Time with the culprit on the stack.
    pub time_ns: u64,
    /// Time of all stacks that were asked about, also of those without a function of the application.
    pub total_ns: u64,
    /// How the culprit was reached most of the time: functions of the application and of Node, outermost first, the
    /// culprit last.
    pub path: Vec<Frame>,
}

/// The innermost function of the application (or of its packages) that most of the time shares: of the functions that
/// are on the stack for more than half of the time, the one that most often is the innermost of them. So a loop
/// that calls ten helpers is to blame itself, and a helper that takes most of the time is to blame in its stead.
/// Where no function has more than half, the one that is innermost for the longest time.
///
/// `None`: no stack shows a function of the application.
pub fn culprit(stacks: &[StackTime]) -> Option<Blame> {
    let mut on_stack: HashMap<FunctionId<'_>, u64> = HashMap::new();
    let mut told_ns = 0_u64;
    for stack in stacks {
        let functions: HashSet<_> = application(stack).map(FunctionId::of).collect();
        if !functions.is_empty() {
            told_ns = told_ns.saturating_add(stack.time_ns);
        }
        for function in functions {
            let time_ns = on_stack.entry(function).or_default();
            *time_ns = time_ns.saturating_add(stack.time_ns);
        }
    }
    let shared: HashSet<_> = on_stack
        .iter()
        .filter(|(_, time_ns)| **time_ns > told_ns / 2)
        .map(|(function, _)| *function)
        .collect();
    let counts = |frame: &&Frame| shared.is_empty() || shared.contains(&FunctionId::of(frame));
    // Ordered, so that equal times give the same answer each time.
    let mut innermost: BTreeMap<FunctionId<'_>, u64> = BTreeMap::new();
    for stack in stacks {
        if let Some(frame) = application(stack).find(counts) {
            let time_ns = innermost.entry(FunctionId::of(frame)).or_default();
            *time_ns = time_ns.saturating_add(stack.time_ns);
        }
    }
    let (guilty, _) =
        innermost.into_iter().max_by_key(|&(function, time_ns)| (time_ns, Reverse(function)))?;
    let mut lines = Lines::default();
    let mut heaviest: Option<&StackTime> = None;
    for stack in stacks {
        let Some(frame) = application(stack).find(|frame| FunctionId::of(frame) == guilty) else { continue };
        lines.add(frame, stack.time_ns);
        if heaviest.is_none_or(|heaviest| stack.time_ns > heaviest.time_ns) {
            heaviest = Some(stack);
        }
    }
    let frames = &heaviest?.stack.frames;
    let at = frames.iter().position(|frame| is_application(frame) && FunctionId::of(frame) == guilty)?;
    let mut path: Vec<_> = frames[at..]
        .iter()
        .filter(|frame| matches!(frame.kind, FrameKind::JavaScript | FrameKind::NodeInternal))
        .take(PATH_MAX)
        .cloned()
        .collect();
    path.reverse();
    let frame = &frames[at];
    Some(Blame {
        culprit: Culprit {
            function: frame.function.clone(),
            script: frame.script.clone(),
            line: lines.most(),
            package: frame.package.clone(),
        },
        time_ns: on_stack.get(&guilty).copied().unwrap_or_default(),
        total_ns: stacks.iter().fold(0, |sum, stack| sum.saturating_add(stack.time_ns)),
        path,
    })
}

/// Functions of the application, innermost first.
fn application(stack: &StackTime) -> impl Iterator<Item = &Frame> {
    stack.stack.frames.iter().filter(|frame| is_application(frame))
}

fn is_application(frame: &Frame) -> bool {
    frame.kind == FrameKind::JavaScript
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::collapse::tests::{stack, stack_at};

    fn name(blame: &Blame) -> (&str, Option<u32>) {
        (&blame.culprit.function, blame.culprit.line)
    }

    #[test]
    fn a_function_that_takes_most_of_the_time_is_to_blame() {
        let blame = culprit(&[
            stack(60, &["n sha512", "j hash", "j handle", "i emit"]),
            stack(30, &["j parse", "j handle", "i emit"]),
            stack(10, &["n collect"]),
        ])
        .unwrap();
        assert_eq!(name(&blame), ("hash", None));
        assert_eq!((blame.time_ns, blame.total_ns), (60, 100));
        let path: Vec<_> = blame.path.iter().map(|frame| &*frame.function).collect();
        assert_eq!(path, ["emit", "handle", "hash"]);
    }

    #[test]
    fn a_function_whose_helpers_share_the_time_is_to_blame_itself() {
        let helpers = ["j a", "j b", "j c", "j d"];
        let stacks: Vec<_> = helpers.map(|helper| stack(25, &[helper, "j handle", "j main"])).into();
        assert_eq!(name(&culprit(&stacks).unwrap()).0, "handle");
    }

    #[test]
    fn it_does_not_matter_from_where_a_function_is_called() {
        let stacks: Vec<_> = ["j a", "j b", "j c"].map(|caller| stack(10, &["j hash", caller])).into();
        assert_eq!(name(&culprit(&stacks).unwrap()).0, "hash");
    }

    #[test]
    fn without_a_majority_the_longest_is_to_blame() {
        let blame = culprit(&[stack(40, &["j a"]), stack(30, &["j b"]), stack(30, &["j c"])]).unwrap();
        assert_eq!(name(&blame).0, "a");
        let tie = [stack(50, &["j b"]), stack(50, &["j a"])];
        assert_eq!(name(&culprit(&tie).unwrap()).0, "a", "the same each time");
    }

    #[test]
    fn recursion_counts_once() {
        let blame =
            culprit(&[stack(60, &["j fib", "j fib", "j fib", "j main"]), stack(40, &["j other", "j main"])]);
        let blame = blame.unwrap();
        assert_eq!((name(&blame).0, blame.time_ns), ("fib", 60));
    }

    #[test]
    fn the_line_is_the_one_with_most_time() {
        let blame = culprit(&[
            stack_at(20, "j hash", 7, true),
            stack_at(30, "j hash", 9, true),
            stack_at(50, "j hash", 1, false),
        ]);
        assert_eq!(
            name(&blame.unwrap()),
            ("hash", Some(9)),
            "the first line of the function is no line that ran"
        );
        let blame = culprit(&[stack_at(50, "j hash", 1, false)]);
        assert_eq!(name(&blame.unwrap()), ("hash", Some(1)));
    }

    #[test]
    fn without_a_function_of_the_application_nobody_is_to_blame() {
        assert_eq!(culprit(&[]), None);
        assert_eq!(culprit(&[stack(9, &["n uv_run", "i emit"]), stack(1, &[])]), None);
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let blame = culprit(&[stack(u64::MAX, &["j a"]), stack(u64::MAX, &["j a"])]).unwrap();
        assert_eq!((blame.time_ns, blame.total_ns), (u64::MAX, u64::MAX));
    }
}
