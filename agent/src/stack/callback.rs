//! The callback that a stack runs in, of the application if there is one.
#![forbid(unsafe_code)]

use crate::model::{Frame, FrameKind, Stack};

/// What a native function without a symbol is called.
const UNKNOWN: &str = "(unknown)";

/// A callback and who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback<'stack> {
    /// The outermost function of the application's own code; of its packages where it has none there.
    pub function: &'stack Frame,
    /// The package whose function calls it.
    pub caller: Option<&'stack str>,
}

/// `None`: no function of the application is on the stack, or it runs as a reaction of a promise. Those have the context of
/// where they were asked for, whoever settles the promise.
pub fn callback(stack: &Stack) -> Option<Callback<'_>> {
    if stack.frames.iter().any(is_drain) || may_be_reaction(stack) {
        return None;
    }
    let is_application = |frame: &&Frame| frame.kind == FrameKind::JavaScript;
    let own = stack.frames.iter().rposition(|frame| is_application(&frame) && frame.package.is_none());
    let Some(at) = own else {
        let function = stack.frames.iter().rfind(is_application)?;
        return Some(Callback { function, caller: None });
    };
    let caller = stack.frames[at + 1..].iter().find_map(|frame| frame.package.as_deref());
    Some(Callback { function: &stack.frames[at], caller })
}

/// Whether it is within `AsyncLocalStorage.run`, as Node does it without frames.
pub fn runs_in_context(stack: &Stack) -> bool {
    stack.frames.iter().any(|frame| {
        let script = frame.script.as_deref().unwrap_or("");
        let is_run = &*frame.function == "run" || frame.function.ends_with(".run");
        is_run && frame.kind == FrameKind::NodeInternal && script.contains("async_")
    })
}

/// Where native functions and builtins have no names (stripped builds of Node 24 and newer), all that does not come in by a function
/// of Node, and what its queue of ticks runs, which is emptied together with that of reactions.
fn may_be_reaction(stack: &Stack) -> bool {
    let is_script = |frame: &&Frame| matches!(frame.kind, FrameKind::JavaScript | FrameKind::NodeInternal);
    let is_hidden = |frame: &Frame| &*frame.function == UNKNOWN;
    stack.frames.iter().any(is_hidden)
        && stack.frames.iter().rfind(is_script).is_some_and(|frame| {
            frame.kind == FrameKind::JavaScript || &*frame.function == "processTicksAndRejections"
        })
}

/// Where V8 empties the queue of reactions.
fn is_drain(frame: &Frame) -> bool {
    frame.function.contains("RunMicrotasks") || frame.function.contains("PerformCheckpoint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::collapse::tests::stack;

    fn of(frames: &[&str]) -> Option<(String, Option<String>)> {
        let stack = stack(1, frames);
        let found = callback(&stack.stack)?;
        Some((found.function.function.to_string(), found.caller.map(str::to_owned)))
    }

    #[test]
    fn the_outermost_function_of_the_application_is_the_callback() {
        let direct = ["n writev", "i end", "j reply", "j onOrder", "i emit", "i onStreamRead", "n uv__read"];
        assert_eq!(of(&direct), Some(("onOrder".to_owned(), None)));
        assert_eq!(of(&["n writev", "i end"]), None);
    }

    #[test]
    fn the_package_that_calls_it_is_named_and_stands_in_where_there_is_no_other() {
        let mut taken = stack(1, &["j reply", "j onOrder", "j onData", "i emit"]);
        let packaged = |taken: &mut crate::model::StackTime, at: usize, name: &str| {
            std::sync::Arc::make_mut(&mut taken.stack).frames[at].package = Some(name.into());
        };
        packaged(&mut taken, 2, "old-driver");
        let found = callback(&taken.stack).unwrap();
        assert_eq!((&*found.function.function, found.caller), ("onOrder", Some("old-driver")));
        packaged(&mut taken, 0, "old-driver");
        packaged(&mut taken, 1, "old-driver");
        let found = callback(&taken.stack).unwrap();
        assert_eq!((&*found.function.function, found.caller), ("onData", None));
    }

    #[test]
    fn where_names_are_hidden_only_what_cannot_be_a_reaction_counts() {
        assert!(of(&["n (unknown)", "j onOrder", "i onStreamRead", "n (unknown)"]).is_some());
        assert_eq!(of(&["n (unknown)", "j answer", "n (unknown)"]), None);
        assert_eq!(of(&["n (unknown)", "j answer", "i processTicksAndRejections", "n (unknown)"]), None);
        assert!(of(&["n writev", "j answer", "n SomeAddon"]).is_some());
    }

    #[test]
    fn reactions_of_promises_are_none() {
        assert_eq!(of(&["n writev", "i end", "j answer", "n Builtins_RunMicrotasks", "j onData"]), None);
    }
}
