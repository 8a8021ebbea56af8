//! Stacks merged into a tree of calls.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use crate::model::{Category, Frame, FrameKind, StackTime};

/// Deeper frames count for the one at this depth: a runaway recursion has thousands, which no screen shows.
const MAX_DEPTH: usize = 256;

static ALL: LazyLock<Arc<str>> = LazyLock::new(|| "all".into());
static OUTER_MISSING: LazyLock<Arc<str>> = LazyLock::new(|| "(outer frames missing)".into());

/// What makes two frames the same function. The line is not part of it: one function is sampled at many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameKey {
    pub function: Arc<str>,
    pub script: Option<Arc<str>>,
    pub kind: FrameKind,
}

/// A function, called in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlameNode {
    pub key: FrameKey,
    pub package: Option<Arc<str>>,
    /// The line that most of the time was spent at.
    pub line: Option<u32>,
    pub samples: u64,
    pub time_ns: u64,
    /// Time in the function itself.
    pub self_ns: u64,
    /// All of the time, in the order of [`Category::ALL`].
    pub categories_ns: [u64; Category::ALL.len()],
    /// Those that took most come first.
    pub children: Vec<Self>,
}

impl FlameNode {
    /// The tree of `stacks` under a node `all`.
    pub fn of<'a>(stacks: impl IntoIterator<Item = &'a StackTime>) -> Self {
        let key = FrameKey { function: Arc::clone(&ALL), script: None, kind: FrameKind::Native };
        let mut root = Building::default();
        for stack in stacks {
            root.add(stack);
        }
        root.finish(key)
    }

    /// The nodes along `path`, this one first, as far as they exist.
    pub fn along<'a>(&'a self, path: &[FrameKey]) -> Vec<&'a Self> {
        let mut nodes = vec![self];
        let mut here = self;
        for key in path {
            let Some(next) = here.children.iter().find(|child| child.key == *key) else { break };
            nodes.push(next);
            here = next;
        }
        nodes
    }

    /// Levels below this node.
    pub fn depth(&self) -> usize {
        self.children.iter().map(|child| child.depth() + 1).max().unwrap_or(0)
    }

    /// The category that took most of the time, and its share.
    pub fn leading_category(&self) -> Option<(Category, f64)> {
        let (category, ns) =
            Category::ALL.into_iter().zip(self.categories_ns).rev().max_by_key(|(_, ns)| *ns)?;
        (ns > 0).then(|| (category, ns as f64 / self.categories_ns.iter().sum::<u64>() as f64))
    }
}

/// A node while stacks are added.
#[derive(Default)]
struct Building {
    package: Option<Arc<str>>,
    lines: BTreeMap<u32, u64>,
    samples: u64,
    time_ns: u64,
    self_ns: u64,
    categories_ns: [u64; Category::ALL.len()],
    children: BTreeMap<FrameKey, Self>,
}

impl Building {
    fn add(&mut self, stack: &StackTime) {
        self.count(stack);
        let mut here = self;
        if stack.stack.truncated {
            let key =
                FrameKey { function: Arc::clone(&OUTER_MISSING), script: None, kind: FrameKind::Native };
            here = here.children.entry(key).or_default();
            here.count(stack);
        }
        if stack.stack.frames.is_empty() {
            // Time of which no frame is known still has a name.
            let function = format!("({})", stack.category.name()).into();
            let key = FrameKey { function, script: None, kind: FrameKind::Native };
            here = here.children.entry(key).or_default();
            here.count(stack);
        }
        for frame in stack.stack.frames.iter().rev().take(MAX_DEPTH) {
            let Frame { kind, function, script, line, package, column: _, line_is_exact: _ } = frame;
            let key = FrameKey { function: Arc::clone(function), script: script.clone(), kind: *kind };
            here = here.children.entry(key).or_default();
            here.count(stack);
            here.package.clone_from(package);
            if let Some(line) = line {
                *here.lines.entry(*line).or_default() += stack.time_ns;
            }
        }
        here.self_ns += stack.time_ns;
    }

    fn count(&mut self, stack: &StackTime) {
        self.samples += stack.samples;
        self.time_ns += stack.time_ns;
        self.categories_ns[stack.category as usize] += stack.time_ns;
    }

    fn finish(self, key: FrameKey) -> FlameNode {
        let Self { package, lines, samples, time_ns, self_ns, categories_ns, children } = self;
        let mut children: Vec<FlameNode> =
            children.into_iter().map(|(key, child)| child.finish(key)).collect();
        // Equals stay in the order of their names, so that they do not change places with every reading.
        children.sort_by_key(|child| std::cmp::Reverse(child.time_ns));
        let line = lines.into_iter().max_by_key(|(_, ns)| *ns).map(|(line, _)| line);
        FlameNode { key, package, line, samples, time_ns, self_ns, categories_ns, children }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Stack, report::sample};

    fn named(node: &FlameNode) -> (&str, u64, u64) {
        (&node.key.function, node.time_ns, node.self_ns)
    }

    #[test]
    fn stacks_that_begin_alike_share_their_nodes() {
        let stack = |names: &[&str], time_ns, line| {
            let frames = names.iter().rev().map(|name| sample::frame(name, "/a.js", line)).collect();
            sample::stack_time(frames, Category::Application, time_ns)
        };
        let stacks = [
            stack(&["a", "b"], 30, 1),
            stack(&["a"], 20, 2),
            stack(&["a", "c"], 40, 3),
            stack(&["d"], 10, 4),
        ];
        let root = FlameNode::of(&stacks);
        assert_eq!(named(&root), ("all", 100, 0));
        assert_eq!(root.children.iter().map(named).collect::<Vec<_>>(), [("a", 90, 20), ("d", 10, 10)]);
        let a = &root.children[0];
        assert_eq!(a.children.iter().map(named).collect::<Vec<_>>(), [("c", 40, 40), ("b", 30, 30)]);
        assert_eq!((a.line, root.depth()), (Some(3), 2));
        assert_eq!(root.leading_category(), Some((Category::Application, 1.0)));
        assert_eq!(root.along(&[a.key.clone(), a.children[1].key.clone(), a.key.clone()]).len(), 3);
    }

    #[test]
    fn time_without_frames_and_without_outer_frames_is_named() {
        let unknown = sample::stack_time(Vec::new(), Category::Unknown, 5);
        let mut cut = sample::stack_time(vec![sample::frame("inner", "/a.js", 1)], Category::Application, 7);
        cut.stack = Arc::new(Stack { truncated: true, ..Stack::clone(&cut.stack) });
        let root = FlameNode::of([&unknown, &cut]);
        let names: Vec<_> = root.children.iter().map(named).collect();
        assert_eq!(names, [("(outer frames missing)", 7, 0), ("(unknown)", 5, 5)]);
        assert_eq!(FlameNode::of([]).leading_category(), None);
    }

    #[test]
    fn a_runaway_recursion_does_not_grow_the_tree() {
        let frames = (0..100_000).map(|_| sample::frame("again", "/a.js", 1)).collect();
        let root = FlameNode::of(&[sample::stack_time(frames, Category::Application, 9)]);
        assert_eq!(root.depth(), MAX_DEPTH);
        assert_eq!(root.time_ns, 9);
    }
}
