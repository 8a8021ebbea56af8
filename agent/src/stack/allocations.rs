//! Who allocates: stacks that were taken where the young generation is used up, by their innermost function of the application.
//!
//! A stack tells a share, the sizes of the heap around collections tell how much was allocated in all; the bytes of a function are
//! their product. Pages used up would tell bytes as well, but they are looked at for some of the time only, and what V8 allocates
//! in its old generation uses none.
//!
//! Limits: objects that V8 allocates in its old generation at once are in the bytes and not in the shares. What lies outside of
//! the heap, the contents of Buffers, is in neither.
#![forbid(unsafe_code)]

use std::{cmp::Reverse, collections::BTreeMap};

use crate::model::{Culprit, FrameKind, OccasionStack};

/// Functions that are told at most.
pub const ALLOCATIONS_MAX: usize = 10;

/// What one function allocates, with all that Node and V8 allocate for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The line is the one that allocates most.
    pub culprit: Culprit,
    /// Of all that was sampled, also of what no function of the application allocates.
    pub ratio: f64,
    /// Estimated; `None`: how much was allocated in all is not known.
    pub bytes: Option<f64>,
}

/// Its name and its script.
type Function<'a> = (&'a str, Option<&'a str>);

/// The functions that allocate most, most first. `taken`: stacks of allocations alone; `allocated_bytes`: in the same time.
pub fn allocations<'a>(
    taken: impl Iterator<Item = &'a OccasionStack>,
    allocated_bytes: Option<u64>,
) -> Vec<Allocation> {
    let mut all = 0_u64;
    let mut by_function: BTreeMap<Function<'_>, Vec<(Culprit, u64)>> = BTreeMap::new();
    for OccasionStack { stack, count, .. } in taken {
        all = all.saturating_add(*count);
        if let Some(frame) = stack.frames.iter().find(|frame| frame.kind == FrameKind::JavaScript) {
            let function = by_function.entry((&frame.function, frame.script.as_deref())).or_default();
            function.push((Culprit::of_frame(frame), *count));
        }
    }
    let sum =
        |lines: &[(Culprit, u64)]| lines.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let mut functions: Vec<_> = by_function.into_values().map(|lines| (sum(&lines), lines)).collect();
    functions.sort_by_key(|(count, _)| Reverse(*count));
    functions.truncate(ALLOCATIONS_MAX);
    let allocation = |(count, lines): &(u64, Vec<(Culprit, u64)>)| {
        let ratio = *count as f64 / all.max(1) as f64;
        Some(Allocation {
            culprit: Culprit::of_most(lines.iter().map(|(culprit, count)| (culprit, *count)))?,
            ratio,
            bytes: allocated_bytes.map(|bytes| bytes as f64 * ratio),
        })
    };
    functions.iter().filter_map(allocation).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{Occasion, ProcessId, Stack},
        stack::collapse::tests::stack_at,
    };

    fn taken(count: u64, frames: &[(&str, u32)]) -> OccasionStack {
        let frames = frames.iter().flat_map(|(frame, line)| {
            let one = stack_at(1, frame, *line, true);
            one.stack.frames.clone()
        });
        let stack = Stack { frames: frames.collect(), ..Stack::default() };
        OccasionStack {
            process: ProcessId { pid: 7, start_ticks: 1 },
            tid: 7,
            occasion: Occasion::Allocation,
            stack: Arc::new(stack),
            count,
        }
    }

    fn told(stacks: &[OccasionStack], bytes: Option<u64>) -> Vec<(String, Option<u32>, f64, Option<f64>)> {
        let told = allocations(stacks.iter(), bytes).into_iter();
        told.map(|told| (told.culprit.function.to_string(), told.culprit.line, told.ratio, told.bytes))
            .collect()
    }

    #[test]
    fn each_function_has_its_share_of_all_that_was_allocated() {
        let stacks = [
            taken(2, &[("n Builtins_ArrayMap", 0), ("j view", 9), ("j handle", 3)]),
            taken(4, &[("j view", 12), ("j handle", 3)]),
            taken(1, &[("j handle", 4)]),
            taken(1, &[("n v8::internal::Heap::CollectGarbage", 0)]),
        ];
        let expected = |bytes: Option<f64>| {
            let part = |eighths: f64| bytes.map(|bytes| bytes * eighths / 8.0);
            vec![
                ("view".to_owned(), Some(12), 0.75, part(6.0)),
                ("handle".to_owned(), Some(4), 0.125, part(1.0)),
            ]
        };
        assert_eq!(told(&stacks, Some(800)), expected(Some(800.0)));
        assert_eq!(told(&stacks, None), expected(None));
    }

    #[test]
    fn those_with_most_are_told_and_no_more() {
        let names: Vec<String> = (0..30).map(|n| format!("j f{n:02}")).collect();
        let stacks: Vec<OccasionStack> =
            names.iter().zip(1..).map(|(name, n)| taken(n, &[(name, 1)])).collect();
        let told = told(&stacks, None);
        assert_eq!(told.len(), ALLOCATIONS_MAX);
        assert_eq!((told[0].0.as_str(), told[9].0.as_str()), ("f29", "f20"));
    }

    #[test]
    fn without_a_stack_nobody_allocates() {
        assert_eq!(allocations([].iter(), Some(5)), []);
        assert_eq!(told(&[taken(0, &[("j f", 1)])], Some(5)), [("f".to_owned(), Some(1), 0.0, Some(0.0))]);
    }
}
