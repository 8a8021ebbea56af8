//! Where one is in a flame graph: the selected frame and what the screen is zoomed to.

use super::flame::{FlameNode, FrameKey};

/// Both are told by the path of their names, so that they outlast a tree that is built anew with each reading.
#[derive(Clone, Debug, Default)]
pub struct FlameCursor {
    /// From below the root to the selected frame; empty: the root.
    path: Vec<FrameKey>,
    /// Lengths of the parts of `path` that were zoomed to one after the other. The selection never leaves the last.
    zooms: Vec<usize>,
}

impl FlameCursor {
    pub fn path(&self) -> &[FrameKey] {
        &self.path
    }

    /// The frame that takes the whole width.
    pub fn zoom(&self) -> &[FrameKey] {
        &self.path[..self.zoomed()]
    }

    fn zoomed(&self) -> usize {
        self.zooms.last().copied().unwrap_or(0)
    }

    /// Falls back to what is left of the path in another tree.
    pub(super) fn settle(&mut self, root: &FlameNode) {
        self.path.truncate(root.along(&self.path).len() - 1);
        self.zooms.retain(|length| *length <= self.path.len());
    }

    /// To the heaviest callee.
    pub(super) fn down(&mut self, root: &FlameNode) {
        if let Some(child) = self.selected(root).children.first() {
            self.path.push(child.key.clone());
        }
    }

    /// To the caller.
    pub(super) fn up(&mut self) {
        if self.path.len() > self.zoomed() {
            self.path.pop();
        }
    }

    /// To the next frame of the same level, also of another caller; `by` is 1 or -1.
    pub(super) fn sideways(&mut self, root: &FlameNode, by: isize) {
        let zoom = root.along(self.zoom());
        let Some(top) = zoom.last() else { return };
        let mut level = Vec::new();
        let mut path = self.zoom().to_vec();
        collect(top, self.path.len() - self.zoomed(), &mut path, &mut level);
        let here = level.iter().position(|path| *path == self.path);
        if let Some(path) = here.and_then(|here| here.checked_add_signed(by)).and_then(|to| level.get(to)) {
            self.path.clone_from(path);
        }
    }

    /// Gives the selected frame the whole width.
    pub(super) fn zoom_in(&mut self) {
        if self.path.len() > self.zoomed() {
            self.zooms.push(self.path.len());
        }
    }

    /// Back to the zoom before; `false` when there was none.
    pub(super) fn zoom_out(&mut self) -> bool {
        self.zooms.pop().is_some()
    }

    /// The frame at the top of the screen.
    pub(super) fn select_top(&mut self) {
        self.path.truncate(self.zoomed());
    }

    fn selected<'a>(&self, root: &'a FlameNode) -> &'a FlameNode {
        root.along(&self.path).last().copied().unwrap_or(root)
    }
}

/// The paths of all nodes `levels` below `node`, which is at `path`, in the order of the screen.
fn collect(node: &FlameNode, levels: usize, path: &mut Vec<FrameKey>, found: &mut Vec<Vec<FrameKey>>) {
    if levels == 0 {
        found.push(path.clone());
        return;
    }
    for child in &node.children {
        path.push(child.key.clone());
        collect(child, levels - 1, path, found);
        path.pop();
    }
}
