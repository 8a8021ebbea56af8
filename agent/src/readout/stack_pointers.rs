//! Where the stacks of threads end that have not slept since the agent looked at them.

use aya::maps::{HashMap, MapData};

/// Asks the programs that sample stacks for the stack pointers of threads while these run: `/proc` tells them of sleeping threads only.
/// Without such programs no answer ever comes.
pub struct StackPointers(HashMap<MapData, u32, u64>);

impl StackPointers {
    pub(crate) const fn new(map: HashMap<MapData, u32, u64>) -> Self {
        Self(map)
    }

    /// Asks for that of a thread. In vain where the table cannot be written; then a thread is known once it sleeps.
    pub fn ask(&mut self, tid: u32) {
        drop(self.0.insert(tid, 0, 0));
    }

    /// The stack pointer that was met since; `None`: none was. It may be old, and the words above it dead, but a function that runs for
    /// the whole life of the thread has its frame above any pointer ever met on that stack.
    pub fn seen(&self, tid: u32) -> Option<u64> {
        self.0.get(&tid, 0).ok().filter(|stack_pointer| *stack_pointer != 0)
    }

    /// Ends the question. Those about processes that ended in between give way to later ones.
    pub fn forget(&mut self, tid: u32) {
        // Absent is as good as removed.
        drop(self.0.remove(&tid));
    }
}
