//! Stacks as a tree of calls, for flame graphs.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use super::{FunctionId, Lines};
use crate::model::{Frame, FrameKind, StackTime};

/// Deeper frames count for the one at this depth.
const MAX_DEPTH: usize = 256;
/// Frames that would be further nodes count for their caller.
const MAX_NODES: usize = 20_000;

/// A function as called by its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlameNode {
    pub name: Arc<str>,
    /// `None`: no function, but the root, or what stands for missing frames.
    pub kind: Option<FrameKind>,
    pub script: Option<Arc<str>>,
    /// The line executed for the longest time; the function's first line where that is not known.
    pub line: Option<u32>,
    /// In the function and what it called.
    pub time_ns: u64,
    /// In the function itself.
    pub self_ns: u64,
    /// By descending time.
    pub children: Vec<FlameNode>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Child<'a> {
    Function(FunctionId<'a>),
    /// Of a stack that was cut.
    OuterFramesMissing,
}

struct Building<'a> {
    parent: usize,
    frame: Option<&'a Frame>,
    lines: Lines,
    time_ns: u64,
    self_ns: u64,
}

/// The tree of all stacks. The root is no function and has the time of them all; its own time is that of stacks without
/// frames. Depth and number of nodes are bounded; heavy stacks come first.
pub fn flame(stacks: &[StackTime]) -> FlameNode {
    let mut by_weight: Vec<_> = stacks.iter().collect();
    by_weight.sort_by_key(|stack| Reverse(stack.time_ns));
    let mut nodes = vec![Building::new(0, None)];
    let mut known: HashMap<(usize, Child<'_>), usize> = HashMap::new();
    for stack in by_weight {
        let cut = stack.stack.truncated.then_some((Child::OuterFramesMissing, None));
        let outermost_first = stack.stack.frames.iter().rev();
        let steps = outermost_first.map(|frame| (Child::Function(FunctionId::of(frame)), Some(frame)));
        let mut at = 0;
        nodes[at].add(stack.time_ns);
        for (child, frame) in cut.into_iter().chain(steps).take(MAX_DEPTH) {
            at = match known.get(&(at, child)) {
                Some(&node) => node,
                None if nodes.len() < MAX_NODES => {
                    known.insert((at, child), nodes.len());
                    nodes.push(Building::new(at, frame));
                    nodes.len() - 1
                }
                None => break,
            };
            nodes[at].add(stack.time_ns);
            if let Some(frame) = frame {
                nodes[at].lines.add(frame, stack.time_ns);
            }
        }
        nodes[at].self_ns = nodes[at].self_ns.saturating_add(stack.time_ns);
    }
    tree(&nodes)
}

/// Children stand behind their parents, so going backwards each node is complete when it is handed to its parent:
/// no recursion, however deep the stacks.
fn tree(nodes: &[Building<'_>]) -> FlameNode {
    let mut children: Vec<Vec<FlameNode>> = nodes.iter().map(|_| Vec::new()).collect();
    for (index, node) in nodes.iter().enumerate().skip(1).rev() {
        let finished = node.finish(std::mem::take(&mut children[index]), "(outer frames missing)");
        children[node.parent].push(finished);
    }
    let root = std::mem::take(&mut children[0]);
    nodes[0].finish(root, "(all)")
}

impl<'a> Building<'a> {
    fn new(parent: usize, frame: Option<&'a Frame>) -> Self {
        Self { parent, frame, lines: Lines::default(), time_ns: 0, self_ns: 0 }
    }

    fn add(&mut self, time_ns: u64) {
        self.time_ns = self.time_ns.saturating_add(time_ns);
    }

    /// `stand_in`: the name of what is no function.
    fn finish(&self, mut children: Vec<FlameNode>, stand_in: &str) -> FlameNode {
        // They came in the reverse order of their first sight; equal times keep that order.
        children.reverse();
        children.sort_by_key(|child| Reverse(child.time_ns));
        FlameNode {
            name: self.frame.map_or_else(|| Arc::from(stand_in), |frame| frame.function.clone()),
            kind: self.frame.map(|frame| frame.kind),
            script: self.frame.and_then(|frame| frame.script.clone()),
            line: self.lines.most(),
            time_ns: self.time_ns,
            self_ns: self.self_ns,
            children,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::collapse::tests::{stack, stack_at};

    /// `name:time:self(children)`
    fn show(node: &FlameNode) -> String {
        let children: Vec<_> = node.children.iter().map(show).collect();
        let children = if children.is_empty() { String::new() } else { format!("({})", children.join(" ")) };
        format!("{}:{}:{}{children}", node.name, node.time_ns, node.self_ns)
    }

    fn count(node: &FlameNode) -> usize {
        1 + node.children.iter().map(count).sum::<usize>()
    }

    #[test]
    fn common_callers_are_one_node() {
        let tree = flame(&[
            stack(10, &["j b", "j main"]),
            stack(20, &["n sha", "j a", "j main"]),
            stack(5, &["j main"]),
            stack(7, &["j a", "j main"]),
            stack(3, &[]),
        ]);
        assert_eq!(show(&tree), "(all):45:3(main:42:5(a:27:7(sha:20:20) b:10:10))");
    }

    #[test]
    fn recursion_is_as_deep_as_it_was() {
        let tree = flame(&[stack(2, &["j f", "j f"]), stack(1, &["j f"])]);
        assert_eq!(show(&tree), "(all):3:0(f:3:1(f:2:2))");
    }

    #[test]
    fn cut_stacks_do_not_pretend_to_begin_where_they_were_cut() {
        let mut cut = stack(2, &["j a"]);
        Arc::get_mut(&mut cut.stack).unwrap().truncated = true;
        assert_eq!(
            show(&flame(&[cut, stack(1, &["j a"])])),
            "(all):3:0((outer frames missing):2:0(a:2:2) a:1:1)"
        );
    }

    #[test]
    fn a_node_has_the_line_with_most_time() {
        let tree = flame(&[stack_at(1, "j a", 3, true), stack_at(2, "j a", 4, true)]);
        assert_eq!((tree.children[0].line, tree.children[0].kind), (Some(4), Some(FrameKind::JavaScript)));
    }

    #[test]
    fn depth_and_size_are_bounded_and_no_time_is_lost() {
        let deep: Vec<String> = (0..5000).map(|depth| format!("j f{depth}")).collect();
        let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
        let tree = flame(&[stack(9, &deep)]);
        assert_eq!((count(&tree), tree.time_ns), (MAX_DEPTH + 1, 9));
        let many: Vec<_> = (0..30_000).map(|name| stack(1, &[&format!("j f{name}"), "j main"])).collect();
        let tree = flame(&many);
        assert_eq!((count(&tree), tree.time_ns), (MAX_NODES, 30_000));
        assert_eq!(tree.children[0].self_ns, 30_000 - (MAX_NODES as u64 - 2));
    }
}
