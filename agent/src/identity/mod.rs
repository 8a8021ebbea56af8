//! Who a Node.js process is: the name people know it by, and the resource its telemetry belongs to.
//!
//! Everything here comes from the observed process and is cleaned; nothing proves who it is. That it is Node.js at
//! all is known from its executable, never from this.

mod argv;
mod context_frames;
mod heap_limit;
pub mod instances;
mod package;
mod resource;
#[cfg(test)]
mod tests;

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use uuid::Uuid;

use self::{argv::Entry, heap_limit::Memory, package::Package};
use crate::{
    cgroup,
    clean::{NAME_MAX_CHARS, PATH_MAX_CHARS, VALUE_MAX_CHARS, clean, clean_name},
    model::{Identity, Says},
    procfs::{self, CMDLINE_MAX_BYTES, Cmdline, Error, ProcessDir, Procfs, Stat, cgroups},
};

/// What a service without any name is called, by OpenTelemetry's semantic conventions for `service.name`.
pub const UNKNOWN_SERVICE: &str = "unknown_service:node";

/// The namespace OpenTelemetry's semantic conventions prescribe for a `service.instance.id` of version 5.
const INSTANCE_NAMESPACE: Uuid = Uuid::from_u128(0x4d63009a_8d0f_11ee_aad7_4c796ed8e320);

/// The host in this boot; with pid and start time it makes an instance unique in the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub machine_id: String,
    pub boot_id: String,
}

impl Host {
    /// That of the machine, also from inside of a container that shares its pids.
    pub fn of_machine() -> Self {
        let seen_by_init = Self::read(Path::new("/proc/1/root"));
        if seen_by_init.machine_id.is_empty() { Self::read(Path::new("/")) } else { seen_by_init }
    }

    /// Reads `/etc/machine-id` and the boot id below `root`. What is not there stays empty: instances of two such
    /// hosts could then share an id, if pid and start agree to 10 ms.
    pub fn read(root: &Path) -> Self {
        let read = |path: &str| {
            let text = std::fs::read(root.join(path)).unwrap_or_default();
            clean(text.trim_ascii(), VALUE_MAX_CHARS)
        };
        Self { machine_id: read("etc/machine-id"), boot_id: read("proc/sys/kernel/random/boot_id") }
    }
}

/// What the executable tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Without the leading `v`.
    pub node: Option<String>,
    pub v8: Option<String>,
}

/// Finds out who a process is. Facts that cannot be read are left out; reads files below the process's root.
///
/// # Errors
/// [`Error::Gone`] if it has ended before it could be told who it was.
pub fn identify(process: &ProcessDir, host: &Host, versions: Versions) -> Result<Identity, Error> {
    let (stat, executable) = after_exec(process)?;
    let status = process.status()?;
    let groups = process.cgroup().unwrap_or_default();
    let container_id = cgroup::container_id(&groups).map(str::to_owned);
    let environment = Environment::read(process);
    let cwd = process.cwd().ok().filter(|cwd| !cwd.deleted).map(|cwd| cwd.path);
    let cmdline = process.cmdline(CMDLINE_MAX_BYTES).unwrap_or_default();
    let entry = environment.entry(&cmdline, &executable);
    let heap_limit_bytes = heap_limit(process, &cmdline, &environment.node_options, versions.node.as_deref());
    let package = package_of(process, &entry, cwd.as_deref());
    let names = environment.names(&entry, package, cwd.as_deref());
    // Arguments and environment of a process on its way out are empty, without an error: better no name than a
    // wrong one.
    process.exe()?;

    let mut attributes = environment.resource_attributes;
    let says = Says {
        service_name: environment.otel_service_name.is_some() || attributes.contains_key("service.name"),
        service_version: attributes.contains_key("service.version"),
        service_instance_id: attributes.contains_key("service.instance.id"),
    };
    let service_instance_id = attributes
        .remove("service.instance.id")
        .unwrap_or_else(|| instance_id(host, container_id.as_deref(), process.pid(), &stat));
    attributes.remove("service.name");
    attributes.remove("service.version");
    Ok(Identity {
        name: names.name,
        service_name: names.service_name,
        service_version: names.version,
        service_namespace: attributes.remove("service.namespace"),
        service_instance_id,
        resource_attributes: attributes,
        node_version: versions.node,
        v8_version: versions.v8,
        container_id,
        pod_uid: cgroup::pod_uid(&groups),
        says,
        executable_path: clean(executable.as_os_str().as_bytes(), PATH_MAX_CHARS),
        namespaced_pid: status.namespaced_pid,
        parent_pid: stat.ppid,
        user_id: status.user_id,
        heap_limit_bytes,
    })
}

/// Whether Node keeps the async contexts of a process in frames of V8. Where a title has overwritten its arguments, what its version
/// does without them.
pub fn uses_context_frames(process: &ProcessDir, node_version: Option<&str>) -> bool {
    let major = node_version.and_then(|version| version.split('.').next()?.parse().ok()).unwrap_or(0);
    let [node_options] = process.environ(["NODE_OPTIONS"]).unwrap_or_default();
    let args = process.cmdline(CMDLINE_MAX_BYTES).map(|cmdline| argv::options(&cmdline)).unwrap_or_default();
    context_frames::are_used(&args, &node_options.unwrap_or_default(), major)
}

/// `None` where the arguments, and with them the flags, have been overwritten by a title; and where no flag decides and the group that
/// limits the memory cannot be looked at.
fn heap_limit(
    process: &ProcessDir,
    cmdline: &Cmdline,
    node_options: &[u8],
    node_version: Option<&str>,
) -> Option<u64> {
    // A title leaves no argument behind.
    if cmdline.args.len() < 2 {
        return None;
    }
    let memory = memory_that_limits(process, node_version);
    heap_limit::old_generation_bytes(&argv::options(cmdline), node_options, memory)
}

fn memory_that_limits(process: &ProcessDir, node_version: Option<&str>) -> Option<Memory> {
    /// From here on Node finds the group it is in; before, it looks only at where a container sees its own.
    const FIRST_MAJOR_WITH_GROUPS: u32 = 20;
    let major: u32 = node_version?.split('.').next()?.parse().ok()?;
    let container_bytes = if major >= FIRST_MAJOR_WITH_GROUPS {
        cgroups::memory_limit_bytes(process)?
    } else {
        let path = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        let text = process.read_in_root(path, 64).ok().flatten().unwrap_or_default();
        std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok())
    };
    Some(Memory { host_bytes: procfs::memory_bytes()?, container_bytes })
}

/// The state and the executable once its arguments and environment are in place: within an exec there is a moment
/// when the program is the new one and both are empty still. Waits for 20 ms at most.
fn after_exec(process: &ProcessDir) -> Result<(Stat, PathBuf), Error> {
    const TRIES: usize = 20;
    for _ in 1..TRIES {
        let stat = process.stat()?;
        let executable = process.exe()?.path;
        if stat.exec_done {
            return Ok((stat, executable));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // Held up in there, or it has taken its environment away (prctl with PR_SET_MM_ENV_END).
    Ok((process.stat()?, process.exe()?.path))
}

/// The variables that name a service. Raw values; the rest of the environment is never kept.
#[derive(Debug, Default)]
struct Environment {
    otel_service_name: Option<String>,
    resource_attributes: std::collections::BTreeMap<String, String>,
    npm_package: Package,
    /// PM2's name for the application and the script it runs, set only below PM2.
    pm2_name: Option<String>,
    pm2_script: Option<PathBuf>,
    /// Only for the flags that decide how far the heap may grow.
    node_options: Vec<u8>,
}

impl Environment {
    fn read(process: &ProcessDir) -> Self {
        let values = process.environ([
            "OTEL_SERVICE_NAME",
            "OTEL_RESOURCE_ATTRIBUTES",
            "npm_package_name",
            "npm_package_version",
            "pm_id",
            "name",
            "pm_exec_path",
            "NODE_OPTIONS",
        ]);
        let [service_name, attributes, npm_name, npm_version, pm_id, pm_name, pm_script, node_options] =
            values.unwrap_or_default();
        let name = |value: Option<Vec<u8>>| clean_name(&value?, NAME_MAX_CHARS);
        // `name` is too common a word to mean anything without PM2's own variable beside it.
        let under_pm2 = pm_id.is_some();
        Self {
            otel_service_name: service_name.and_then(|value| clean_name(&value, VALUE_MAX_CHARS)),
            resource_attributes: resource::attributes(&attributes.unwrap_or_default()),
            npm_package: Package { name: name(npm_name), version: name(npm_version) },
            pm2_name: name(pm_name).filter(|_| under_pm2),
            pm2_script: pm_script
                .filter(|_| under_pm2)
                .map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(&path)))
                .filter(|path| path.is_absolute()),
            node_options: node_options.unwrap_or_default(),
        }
    }

    /// PM2 runs scripts from a container of its own and rewrites the title: its variable is the better witness.
    fn entry(&self, cmdline: &Cmdline, executable: &Path) -> Entry {
        match &self.pm2_script {
            Some(script) => Entry::Script(script.clone()),
            None => argv::entry(cmdline, executable),
        }
    }

    fn names(&self, entry: &Entry, package: Package, cwd: Option<&Path>) -> Names {
        // A package manager is not the application it starts.
        let inherited = !matches!(entry, Entry::PackageManager { .. });
        let package = if package.name.is_none() && inherited { self.npm_package.clone() } else { package };
        let attribute = |key: &str| self.resource_attributes.get(key).cloned();
        // PM2's default name is the script's: that says less than the package.
        let pm2_name = self.pm2_name.clone().filter(|name| Some(name) != entry.base_name().as_ref());
        let given = self.otel_service_name.clone().or_else(|| attribute("service.name"));
        let known = given.or(pm2_name).or(package.name);
        Names {
            name: known.clone().unwrap_or_else(|| entry.shown(cwd)),
            // A title may change with every request; as the name of a service it would be a new series each time.
            service_name: known.or_else(|| entry.base_name()).unwrap_or_else(|| UNKNOWN_SERVICE.to_owned()),
            version: attribute("service.version").or(package.version),
        }
    }
}

struct Names {
    name: String,
    service_name: String,
    version: Option<String>,
}

/// The package the process's entry point belongs to.
fn package_of(process: &ProcessDir, entry: &Entry, cwd: Option<&Path>) -> Package {
    let script = match entry {
        Entry::Script(script) => script,
        Entry::PackageManager { .. } => return Package::default(),
        // Code from the command line or stdin loads modules from the working directory; a process with a title
        // has hidden its script, and is mostly where it was started.
        Entry::Eval | Entry::Stdin | Entry::Mode(_) | Entry::Title(_) => {
            return cwd.and_then(|cwd| package::nearest(process, cwd)).unwrap_or_default();
        }
    };
    let absolute = match cwd {
        _ if script.is_absolute() => script.clone(),
        Some(cwd) => cwd.join(script),
        None => return Package::default(),
    };
    package::of_script(process, &absolute).unwrap_or_default()
}

/// The same for the same process whenever it is asked, another one for every other process.
fn instance_id(host: &Host, container_id: Option<&str>, pid: u32, stat: &Stat) -> String {
    let Host { machine_id, boot_id } = host;
    let container_id = container_id.unwrap_or_default();
    let facts = format!("{machine_id}/{boot_id}/{container_id}/{pid}/{}", stat.start_ticks);
    Uuid::new_v5(&INSTANCE_NAMESPACE, facts.as_bytes()).to_string()
}

/// The `service.instance.id` of this process, for the agent's own metrics; empty facts where `/proc` cannot be read.
pub fn own_instance_id() -> String {
    let pid = std::process::id();
    let start_ticks =
        Procfs::default().process(pid).and_then(|process| process.stat()).map_or(0, |stat| stat.start_ticks);
    let Host { machine_id, boot_id } = Host::of_machine();
    Uuid::new_v5(&INSTANCE_NAMESPACE, format!("{machine_id}/{boot_id}//{pid}/{start_ticks}").as_bytes())
        .to_string()
}
