//! A cgroup namespace as a container of Kubernetes has one: it begins at groups of its own, deep in the host's hierarchies.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cgroup::{self, hierarchies};

/// What a process in the namespace can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The hierarchies of the host, as the chart mounts them.
    Host,
    /// Only the groups of the namespace, as runtimes mount them.
    Own,
}

/// Groups for one process, in each hierarchy that accounts memory or processor time; removed when dropped.
pub struct CgroupNamespace {
    /// Where each hierarchy is mounted, and the group in it.
    groups: Vec<(PathBuf, PathBuf)>,
}

impl CgroupNamespace {
    /// Makes the groups.
    ///
    /// # Errors
    /// The host has no groups, or does not let us.
    pub fn make() -> io::Result<Self> {
        let path = format!("nodeprobe-pods-{}/pod/agent", std::process::id());
        let accounts = |mount: &PathBuf| {
            // The one of version 2 is all there is, or `unified` beside those of version 1.
            ["cgroup", "unified", "memory", "cpu,cpuacct", "cpu"].iter().any(|name| mount.ends_with(name))
        };
        let mut namespace = Self { groups: Vec::new() };
        for mount in hierarchies().into_iter().filter(accounts) {
            let group = mount.join(&path);
            fs::create_dir_all(&group)?;
            namespace.groups.push((mount, group));
        }
        if namespace.groups.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no hierarchy is mounted"));
        }
        Ok(namespace)
    }

    /// What enters the namespace and becomes what its last arguments name. Every step is an exec, so the pid stays.
    pub fn launcher(&self, view: View) -> Command {
        let each = |step: &dyn Fn(&Path, &Path) -> String| -> String {
            self.groups.iter().map(|(mount, group)| step(mount, group) + " && ").collect()
        };
        let enter = each(&|_, group| format!("echo $$ > {}/cgroup.procs", group.display()));
        let cover = each(&|mount, group| format!("mount --bind {} {}", group.display(), mount.display()));
        let script = match view {
            View::Host => format!(r#"{enter} exec unshare --cgroup "$@""#),
            View::Own => {
                format!(r#"{enter} exec unshare --cgroup --mount sh -c '{cover} exec "$@"' sh "$@""#)
            }
        };
        let mut launcher = Command::new("sh");
        launcher.args(["-c", &script, "sh"]);
        launcher
    }
}

impl Drop for CgroupNamespace {
    fn drop(&mut self) {
        for (mount, group) in &self.groups {
            cgroup::remove(group);
            for around in group.ancestors().skip(1).take_while(|around| *around != mount) {
                if let Err(error) = fs::remove_dir(around) {
                    eprintln!("{} stays behind: {error}", around.display());
                }
            }
        }
    }
}
