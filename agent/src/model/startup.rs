//! How a process started: when it reached what, and who took the time.

use std::{collections::BTreeMap, sync::Arc};

use nodeprobe_ebpf::thread::{MODULE_COMMONJS, MODULE_ESM, MODULE_KINDS};

use super::{Category, FrameKind, Stack, StackTime};

/// Kinds of modules by their place in [`Modules::kinds`].
pub const MODULE_NAMES: [&str; MODULE_KINDS] = {
    let mut names = [""; MODULE_KINDS];
    names[MODULE_COMMONJS] = "commonjs";
    names[MODULE_ESM] = "esm";
    names
};

/// Phases by the names they have everywhere, in the order in which most processes come by them.
pub const PHASES: [&str; 4] = ["environment", "first_turn", "listening", "steady"];

/// Modules that V8 has compiled; those of Node itself do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// By kind: how many, and the time it took.
    pub kinds: [Compiled; MODULE_KINDS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    pub modules: u64,
    pub time_ns: u64,
}

impl Modules {
    pub fn total(&self) -> Compiled {
        let mut total = Compiled::default();
        for kind in &self.kinds {
            total.modules += kind.modules;
            total.time_ns += kind.time_ns;
        }
        total
    }

    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let mut since = self;
        for (kind, before) in since.kinds.iter_mut().zip(earlier.kinds) {
            kind.modules = kind.modules.saturating_sub(before.modules);
            kind.time_ns = kind.time_ns.saturating_sub(before.time_ns);
        }
        since
    }

    pub fn merge(&mut self, other: Self) {
        for (kind, more) in self.kinds.iter_mut().zip(other.kinds) {
            kind.modules += more.modules;
            kind.time_ns += more.time_ns;
        }
    }
}

/// The start of a process that was observed from its `exec` on. Times are from that `exec`; `None`: not reached yet, or not
/// seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// To the first line of JavaScript: what the dynamic linker, V8 and Node themselves take.
    pub environment_ns: Option<u64>,
    /// To the end of the first turn of the event loop, in which the main script and all it requires runs.
    pub first_turn_ns: Option<u64>,
    /// To the first `listen`.
    pub listening_ns: Option<u64>,
    /// To the end of the first turn, of the last later one of at least the stall threshold, or of the last compilation of a module,
    /// whichever comes last, when nothing of the kind has followed for 5 s. What is told of a start ends there. Unknown where such
    /// things still go on 30 s after the first turn.
    pub steady_ns: Option<u64>,
    /// Modules that the main thread compiled while it started; `None`: not observed.
    pub modules: Option<Compiled>,
    /// Who took the time of the first turn, the costliest first. Empty where it is shorter than the stall threshold.
    pub packages: Arc<[PackageTime]>,
}

impl Startup {
    /// In the order of [`PHASES`].
    pub fn phases(&self) -> [Option<u64>; PHASES.len()] {
        [self.environment_ns, self.first_turn_ns, self.listening_ns, self.steady_ns]
    }
}

/// What a package took, with all that it loads and calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageTime {
    /// Of npm; [`APPLICATION`] or [`NODE`] where there is none.
    pub name: Arc<str>,
    pub cpu_ns: u64,
    /// Asleep in system calls.
    pub wait_ns: u64,
}

/// The application's own code, outside of any package.
pub const APPLICATION: &str = "application";
/// No script but Node's own.
pub const NODE: &str = "node";

/// Packages that are told.
const PACKAGES_MAX: usize = 10;

/// The package that a stack is to be charged to: the outermost one, because what a package loads in turn is its doing.
pub fn package_of(stack: &Stack) -> Option<&Arc<str>> {
    stack.frames.iter().rev().find_map(|frame| frame.package.as_ref())
}

/// How the time of some stacks divides by package, the costliest first; the application and Node are told besides.
pub fn packages(stacks: &[StackTime]) -> Vec<PackageTime> {
    let mut by_name: BTreeMap<&str, PackageTime> = BTreeMap::new();
    for time in stacks {
        let own = if time.stack.frames.iter().any(|frame| frame.kind == FrameKind::JavaScript) {
            APPLICATION
        } else {
            NODE
        };
        let name = package_of(&time.stack).map_or(own, AsRef::as_ref);
        let known = by_name.entry(name);
        let sum = known.or_insert_with(|| PackageTime { name: name.into(), cpu_ns: 0, wait_ns: 0 });
        let part = if time.category == Category::Blocked { &mut sum.wait_ns } else { &mut sum.cpu_ns };
        *part += time.time_ns;
    }
    let mut packages: Vec<PackageTime> =
        by_name.into_values().filter(|package| package.cpu_ns + package.wait_ns > 0).collect();
    packages.sort_by_key(|package| std::cmp::Reverse(package.cpu_ns + package.wait_ns));
    let mut room = PACKAGES_MAX;
    packages.retain(|package| {
        let is_of_npm = ![APPLICATION, NODE].contains(&&*package.name);
        let is_told = !is_of_npm || room > 0;
        room -= usize::from(is_of_npm && is_told);
        is_told
    });
    packages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Frame;

    fn frame(kind: FrameKind, package: Option<&str>) -> Frame {
        Frame {
            kind,
            function: "f".into(),
            script: None,
            line: None,
            column: None,
            line_is_exact: false,
            package: package.map(Into::into),
        }
    }

    fn time(frames: Vec<Frame>, category: Category, time_ns: u64) -> StackTime {
        let stack = Arc::new(Stack { frames, ..Stack::default() });
        StackTime { stack, category, samples: 1, time_ns }
    }

    fn of_package(name: &str, category: Category, time_ns: u64) -> StackTime {
        time(vec![frame(FrameKind::JavaScript, Some(name))], category, time_ns)
    }

    fn in_words(packages: &[PackageTime]) -> Vec<(&str, u64, u64)> {
        packages.iter().map(|package| (&*package.name, package.cpu_ns, package.wait_ns)).collect()
    }

    #[test]
    fn what_a_package_loads_is_its_doing_and_sleep_is_told_apart() {
        let script = |package| frame(FrameKind::JavaScript, package);
        let node = frame(FrameKind::NodeInternal, None);
        // Innermost first: the application requires aws-sdk, which requires xml2js.
        let nested = vec![node.clone(), script(Some("xml2js")), script(Some("aws-sdk")), script(None)];
        let stacks = [
            time(nested, Category::Compile, 50),
            of_package("aws-sdk", Category::Blocked, 7),
            of_package("xml2js", Category::Application, 9),
            time(vec![node.clone(), script(None)], Category::Application, 20),
            time(vec![node], Category::NodeInternal, 5),
            time(Vec::new(), Category::Unknown, 0),
        ];
        let expected = [("aws-sdk", 50, 7), ("application", 20, 0), ("xml2js", 9, 0), ("node", 5, 0)];
        assert_eq!(in_words(&packages(&stacks)), expected);
    }

    #[test]
    fn the_ten_costliest_packages_are_told_and_the_application_besides() {
        let names: Vec<String> = (0..20).map(|n| format!("package-{n:02}")).collect();
        let mut stacks: Vec<StackTime> =
            names.iter().zip(100..).map(|(name, ns)| of_package(name, Category::Application, ns)).collect();
        stacks.push(time(vec![frame(FrameKind::JavaScript, None)], Category::Application, 1));
        let packages = packages(&stacks);
        assert_eq!(packages.len(), 11);
        assert_eq!((&*packages[0].name, &*packages[9].name), ("package-19", "package-10"));
        assert_eq!(&*packages[10].name, "application");
    }

    #[test]
    fn counts_of_an_interval_are_differences() {
        let of = |modules, time_ns| Modules { kinds: [Compiled { modules, time_ns }, Compiled::default()] };
        assert_eq!(of(7, 70).since(of(5, 50)), of(2, 20));
        let mut sum = of(7, 70);
        sum.merge(of(1, 1));
        assert_eq!(sum.total(), Compiled { modules: 8, time_ns: 71 });
    }
}
