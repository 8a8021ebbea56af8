//! What a stack was busy with.
//!
//! Frames are looked at from the innermost outwards until one tells: native code by its symbol, Node's own
//! JavaScript by its script. The walk ends at the first function of the application, because what lies outside of it
//! only called it.
//!
//! Limit: native code is known by the names its authors gave it, so a stripped binary (or a stripped addon) is
//! [`Category::Native`] at best.
#![forbid(unsafe_code)]

mod symbols;

use crate::model::{Category, Cause, Frame, FrameKind, Stack};

/// What is known of a thread besides its stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// V8 is collecting garbage on this thread.
    pub in_gc: bool,
    /// Inside a write to stdout or stderr.
    pub in_write: bool,
    /// Not running: asleep in a system call.
    pub blocked: bool,
}

/// What a thread with this stack is busy with.
///
/// What is known of the thread goes before what its stack shows; machinery of V8 that works on behalf of any code
/// (collection, compilation, inline caches) goes before the code that needed it; log lines go before the JSON or
/// regular expressions that format them.
pub fn classify(stack: &Stack, situation: Situation) -> Category {
    if situation.in_gc {
        return Category::Gc;
    }
    if situation.in_write {
        return Category::Logging;
    }
    if situation.blocked {
        return Category::Blocked;
    }
    let found = of_frames(&stack.frames);
    match found {
        // Frames are missing that might have told.
        Some(Category::Native) | None if stack.problem.is_some() && !has_script(&stack.frames) => {
            Category::Unknown
        }
        found => found.unwrap_or(Category::Unknown),
    }
}

/// The share of a turn's time that a sample of this category counts for.
pub fn cause(category: Category, situation: Situation) -> Cause {
    if situation.in_write && !situation.in_gc {
        return Cause::StdioWrite;
    }
    match category {
        Category::Application | Category::NodeInternal | Category::Logging | Category::Microtasks => {
            Cause::JavaScript
        }
        Category::Json
        | Category::Regexp
        | Category::Crypto
        | Category::Zlib
        | Category::IcMiss
        | Category::Native => Cause::Native,
        Category::Compile => Cause::Compile,
        Category::Gc => Cause::Gc,
        Category::Blocked => Cause::Unknown,
        Category::Unknown => Cause::OnCpu,
    }
}

/// Index of the innermost function of the application or one of its packages; `None`: there is none.
pub fn culprit_frame(frames: &[Frame]) -> Option<usize> {
    frames.iter().position(|frame| frame.kind == FrameKind::JavaScript)
}

fn has_script(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| matches!(frame.kind, FrameKind::JavaScript | FrameKind::NodeInternal))
}

/// What the frames tell; `None` without any.
fn of_frames(frames: &[Frame]) -> Option<Category> {
    let mut native = false;
    for (index, frame) in frames.iter().enumerate() {
        let library = match frame.kind {
            FrameKind::Native => {
                native = true;
                symbols::of_native(&frame.function)
            }
            FrameKind::Builtin => symbols::of_builtin(&frame.function),
            FrameKind::NodeInternal => Some(match symbols::of_script(frame.script.as_deref()) {
                Some(category) => category,
                None if native => Category::Native,
                None => Category::NodeInternal,
            }),
            FrameKind::JavaScript => {
                return Some(if native { Category::Native } else { Category::Application });
            }
        };
        match library {
            None => {}
            Some(machinery @ (Category::Gc | Category::Compile | Category::IcMiss)) => {
                return Some(machinery);
            }
            Some(library) => {
                return Some(if is_logging(&frames[index..]) { Category::Logging } else { library });
            }
        }
    }
    match frames.first()?.kind {
        _ if native => Some(Category::Native),
        // Builtins alone: JavaScript whose function could not be told.
        _ => Some(Category::Unknown),
    }
}

/// Whether Node's console or inspector of values called this, with no function of the application between.
fn is_logging(frames: &[Frame]) -> bool {
    frames.iter().take_while(|frame| frame.kind != FrameKind::JavaScript).any(is_of_console)
}

/// Whether this function belongs to the console: what formats and writes in JavaScript, and the inspector's in native code, which
/// keeps a copy of every line with its stack.
pub(super) fn is_of_console(frame: &Frame) -> bool {
    let library = match frame.kind {
        FrameKind::Native => symbols::of_native(&frame.function),
        FrameKind::NodeInternal => symbols::of_script(frame.script.as_deref()),
        FrameKind::Builtin | FrameKind::JavaScript => None,
    };
    library == Some(Category::Logging)
}

#[cfg(test)]
mod tests;
