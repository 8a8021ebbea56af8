//! Where the stacks of threads end that have not slept since the agent looked at them.

use aya::maps::{HashMap, MapData};

/// Asks the programs that sample stacks for the stack pointers of threads while these run: `/proc` tells them of sleeping threads only.
/// Without such programs no answer ever comes.
pub struct StackPointers(HashMap<MapData, u32, u64>);

impl StackPointers {
    pub(crate) const fn new(map: HashMap<MapData, u32, u64>) -> Self {
        Self(map)
    }

    /// The stack pointer that was seen since the thread was first asked for; `None`: it has not run where a sample was taken, or this is
    /// the first time. Further up the stack of a thread that runs nothing changes but what its functions return from.
    pub fn ask(&mut self, tid: u32) -> Option<u64> {
        match self.0.get(&tid, 0) {
            Ok(0) => None,
            Ok(seen) => Some(seen),
            Err(_absent) => {
                // In vain where it cannot be written; then the thread is known once it sleeps.
                self.0.insert(tid, 0, 0).ok();
                None
            }
        }
    }

    /// Ends the question. Those of processes that ended in between give way to later ones.
    pub fn forget(&mut self, tid: u32) {
        // Absent is as good as removed.
        drop(self.0.remove(&tid));
    }
}
