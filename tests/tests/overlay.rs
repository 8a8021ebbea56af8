//! Containers of one image: each sees Node through an overlay mount of its own, and all of them are one file to the kernel.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use nodeprobe_tests::{
    Agent, Node, Workload,
    load::Load,
    node::target_tmp,
    on_one_node,
    report::{assert_nothing_lost, pauses, sum},
    workload::number,
};
use tempfile::TempDir;

on_one_node!(Node::of_major(24) => what_happens_in_containers_of_one_image_counts_once);

/// As many as replicas of a service on a node. A program that ran for each mount was noticed by what guards against two hits at once,
/// so two would not show it.
const CONTAINERS: usize = 4;
/// Two runs of a workload on a machine with few processors.
const RUN: Duration = Duration::from_secs(6);

/// Overlay mounts over one directory with a copy of Node in it.
struct Image {
    directory: TempDir,
    mounts: Vec<std::path::PathBuf>,
}

impl Image {
    fn of(node: &Node) -> Self {
        let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
        let layer = directory.path().join("layer");
        fs::create_dir(&layer).expect("our own directory");
        // A copy, because the original is a file that processes outside of containers run.
        fs::copy(&node.binary, layer.join("node")).expect("Node can be copied");
        Self { directory, mounts: Vec::new() }
    }

    /// Node as one more container has it.
    fn container(&mut self, node: &Node) -> Node {
        let place = self.directory.path().join(self.mounts.len().to_string());
        let [upper, work, root] = ["upper", "work", "root"].map(|name| place.join(name));
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory).expect("our own directory");
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.directory.path().join("layer").display(),
            upper.display(),
            work.display()
        );
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(&root);
        assert!(mount.status().expect("mount can be run").success(), "the overlay cannot be mounted");
        let binary = root.join("node");
        self.mounts.push(root);
        node.at(&binary)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for mount in &self.mounts {
            // Lazily: the agent may be gone only in a moment.
            drop(Command::new("umount").arg("--lazy").arg(mount).status());
        }
    }
}

fn what_happens_in_containers_of_one_image_counts_once(node: &Node) {
    let mut image = Image::of(node);
    let nodes: Vec<Node> = (0..CONTAINERS).map(|_| image.container(node)).collect();
    let device = |node: &Node| device(&node.binary);
    assert_ne!(device(&nodes[0]), device(&nodes[1]), "the mounts are two to whoever asks for the device");

    let idle: Vec<Workload> = nodes[1..].iter().map(Workload::idle).collect();
    let mut sick = Workload::plan(&nodes[0], "failure-modes/unhandled-rejections.js").start();
    let ready = sick.wait_for("ready");
    let agent = Agent::observing(idle.iter().chain([&sick]));
    // Exec'ed while probes are in the file already, through another mount.
    let directory = TempDir::new_in(target_tmp()).expect("a scratch directory can be made");
    let trace = directory.path().join("trace");
    let mut allocating = Workload::plan(&nodes[1], "allocate.js")
        .flag("--trace-gc")
        .flag("--single-threaded-gc")
        .args(["main", "20"])
        .stdout(fs::File::create(&trace).expect("the trace can be made"))
        .start_gated();
    let first = agent.mark();
    let path = ready["path"].as_str().expect("it says what to ask for");
    let port = number(&ready, "port") as u16;
    let load = Load::start(port, path, number(&ready, "rate"), number(&ready, "connections") as usize);
    allocating.go();
    thread::sleep(RUN);
    drop(load);
    sick.say("report");
    let expected = number(&sick.wait_for("report"), "unhandled_rejections") as u64;
    assert!(allocating.wait(Duration::from_mins(1)).success(), "the allocating workload failed");

    let everything = agent.reports_since(0);
    assert!(expected > 10, "{expected} rejections are too few");
    assert_eq!(sum(&everything, sick.pid(), "/rejections/unhandled"), expected, "rejections of the sick one");
    for other in &idle {
        assert_eq!(
            sum(&everything, other.pid(), "/rejections/unhandled"),
            0,
            "rejections of another container"
        );
    }
    let text = fs::read_to_string(&trace).expect("the trace is there");
    let traced = nodeprobe_tests::trace_gc::parse(&text).len() as u64;
    let since = agent.reports_since(first);
    let seen: u64 = ["minor", "major"].iter().map(|kind| pauses(&since, allocating.pid(), kind).count).sum();
    assert!(traced > 5, "{traced} collections are too few");
    assert_eq!(seen, traced, "collections of a process that was observed from its first instruction");
    assert_nothing_lost(&everything);
    agent.end();
}

fn device(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).expect("Node is there").dev()
}
