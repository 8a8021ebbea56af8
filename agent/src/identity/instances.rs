//! Keeps processes apart that would be the same instance of a service: workers of a cluster, applications below PM2, whatever
//! shares a container or the variable that names the instance.
//!
//! `service.instance.id` has to be unique among the instances of a service (semantic conventions); series of two processes under one
//! id would be one series with nonsense in it.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use crate::model::ProcessId;

/// Which process has which instance id.
#[derive(Debug, Default)]
pub struct Instances {
    /// By process: what it asked for, and what it got.
    held: HashMap<ProcessId, (String, String)>,
    taken: HashSet<String>,
}

impl Instances {
    /// The id for a process that would be `wanted`: that, while no other process has it, else with the pid the process knows itself
    /// by behind it. The same every time it is asked, until another one is wanted.
    pub fn distinct(&mut self, process: ProcessId, wanted: &str, own_pid: u32) -> String {
        if let Some((asked, got)) = self.held.get(&process) {
            if asked == wanted {
                return got.clone();
            }
            self.taken.remove(got);
        }
        // The second one for two containers of one name; the host's pid is unique.
        let others = [format!("{wanted}-{own_pid}"), format!("{wanted}-{own_pid}-{}", process.pid)];
        let free = std::iter::once(wanted.to_owned()).chain(others).find(|id| !self.taken.contains(id));
        let got = free.unwrap_or_else(|| format!("{wanted}-{}-{}", process.pid, process.start_ticks));
        self.taken.insert(got.clone());
        self.held.insert(process, (wanted.to_owned(), got.clone()));
        got
    }

    /// Gives back what the processes had that are not among `live`.
    pub fn retain(&mut self, live: &HashSet<ProcessId>) {
        let taken = &mut self.taken;
        self.held.retain(|process, (_, got)| {
            let lives = live.contains(process);
            if !lives {
                taken.remove(got);
            }
            lives
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> ProcessId {
        ProcessId { pid, start_ticks: u64::from(pid) }
    }

    #[test]
    fn the_first_is_plain_and_the_others_are_told_apart() {
        let mut instances = Instances::default();
        assert_eq!(instances.distinct(process(100), "shop.web-0.api", 1), "shop.web-0.api");
        assert_eq!(instances.distinct(process(107), "shop.web-0.api", 8), "shop.web-0.api-8");
        assert_eq!(instances.distinct(process(200), "shop.web-0.api", 8), "shop.web-0.api-8-200");
        assert_eq!(instances.distinct(process(300), "shop.web-1.api", 1), "shop.web-1.api");
        // Asked again.
        assert_eq!(instances.distinct(process(107), "shop.web-0.api", 8), "shop.web-0.api-8");
        assert_eq!(instances.distinct(process(100), "shop.web-0.api", 1), "shop.web-0.api");
    }

    #[test]
    fn an_id_is_free_again_when_its_process_has_ended_or_is_named_anew() {
        let mut instances = Instances::default();
        instances.distinct(process(1), "a", 1);
        // The API has answered: who it really is.
        assert_eq!(instances.distinct(process(1), "shop.web-0.api", 1), "shop.web-0.api");
        assert_eq!(instances.distinct(process(2), "a", 2), "a");
        instances.retain(&HashSet::from([process(2)]));
        assert_eq!(instances.distinct(process(3), "shop.web-0.api", 3), "shop.web-0.api");
        assert_eq!(instances.held.len(), 2);
        assert_eq!(instances.taken.len(), 2);
    }
}
