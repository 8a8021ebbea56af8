//! Sampled time by category and by npm package.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::model::{Category, Frame, FrameKind, StackTime};

/// Whose code it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Application,
    Package(Arc<str>),
    /// Node's own JavaScript, with no other below it.
    Node,
    /// No JavaScript at all.
    Native,
}

/// What ran in the name of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginTime {
    pub origin: Origin,
    /// Time in its functions, and in Node and native code that they called.
    pub self_ns: u64,
    /// And in what else they called.
    pub total_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    pub total_ns: u64,
    pub samples: u64,
    /// Those with time, most first.
    pub categories: Vec<(Category, u64)>,
    /// Most of their own first.
    pub origins: Vec<OriginTime>,
    /// Why JavaScript could not be told, with the time that stands for.
    pub problems: BTreeMap<&'static str, u64>,
}

impl Breakdown {
    pub fn of<'a>(stacks: impl IntoIterator<Item = &'a StackTime>) -> Self {
        let mut breakdown = Self::default();
        let mut categories: BTreeMap<Category, u64> = BTreeMap::new();
        let mut origins: BTreeMap<Origin, (u64, u64)> = BTreeMap::new();
        for StackTime { stack, category, samples, time_ns } in stacks {
            breakdown.total_ns += time_ns;
            breakdown.samples += samples;
            *categories.entry(*category).or_default() += time_ns;
            if let Some(problem) = stack.problem {
                *breakdown.problems.entry(problem).or_default() += time_ns;
            }
            let mut present: BTreeSet<Origin> = stack.frames.iter().filter_map(origin).collect();
            // Node works for those who call it; its own is what nobody asked for.
            let caller = stack.frames.iter().filter_map(origin).find(|origin| *origin != Origin::Node);
            let node = present.first().cloned();
            let innermost = caller.or(node).unwrap_or(Origin::Native);
            origins.entry(innermost.clone()).or_default().0 += time_ns;
            present.insert(innermost);
            for origin in present {
                origins.entry(origin).or_default().1 += time_ns;
            }
        }
        breakdown.categories = categories.into_iter().collect();
        breakdown.categories.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        breakdown.origins = origins
            .into_iter()
            .map(|(origin, (self_ns, total_ns))| OriginTime { origin, self_ns, total_ns })
            .collect();
        breakdown.origins.sort_by_key(|origin| std::cmp::Reverse((origin.self_ns, origin.total_ns)));
        breakdown
    }
}

/// `None`: a frame in the service of the JavaScript that called it.
fn origin(frame: &Frame) -> Option<Origin> {
    match (frame.kind, &frame.package) {
        (FrameKind::JavaScript, None) => Some(Origin::Application),
        (FrameKind::JavaScript, Some(package)) => Some(Origin::Package(Arc::clone(package))),
        (FrameKind::NodeInternal, _) => Some(Origin::Node),
        (FrameKind::Builtin | FrameKind::Native, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn time_belongs_to_the_innermost_function_outside_of_node_and_to_all_that_called_it() {
        let process = sample::sick(301);
        let stacks = sample::thread_stacks(&process).stacks;
        let breakdown = Breakdown::of(&stacks);
        assert_eq!(breakdown.total_ns, stacks.iter().map(|stack| stack.time_ns).sum::<u64>());
        assert_eq!(breakdown.origins.iter().map(|origin| origin.self_ns).sum::<u64>(), breakdown.total_ns);
        assert_eq!(breakdown.categories.iter().map(|(_, ns)| ns).sum::<u64>(), breakdown.total_ns);
        assert_eq!(breakdown.categories[0].0, Category::Crypto);
        let of = |wanted| breakdown.origins.iter().find(|origin| origin.origin == wanted).unwrap();
        // The router calls everything and takes nothing itself.
        let express = of(Origin::Package("express".into()));
        assert_eq!((express.self_ns, express.total_ns > breakdown.total_ns / 2), (0, true));
        // Node's formatting is pino's, its hashing the application's.
        assert_eq!(of(Origin::Package("pino".into())).self_ns, 80 * sample::MS);
        assert_eq!(of(Origin::Application).self_ns, 800 * sample::MS);
        assert_eq!((of(Origin::Node).self_ns, of(Origin::Native).self_ns), (0, 20 * sample::MS));
    }

    #[test]
    fn nothing_sampled_is_nothing() {
        assert_eq!(Breakdown::of([]), Breakdown::default());
    }
}
