//! All services at once: which one needs somebody.

use super::{
    ROW_TO_SERVICE, TO_SERVICE,
    board::Board,
    metrics::{
        FINDING, GC, HEAP_LIMIT, HEAP_USED, MEMORY_LIMIT, RSS, SIGNAL_AVAILABLE, STALL_TIME, TURN, TURN_AGE,
        UTILIZATION,
    },
    panel::{
        Kind::{Bars, Lines, Stacked, Stat, States, Table},
        Panel, panel,
    },
    promql::{INSTANCE, MAIN, SELECTOR, SERVICE, by, max, quantile, select, share, share_by, sum},
    thresholds::{self, Threshold},
};

const LEGEND: &str = "{{k8s_namespace_name}} {{service_name}}";
const ONE_IS_TOO_MANY: Threshold = Threshold(1.0, None);

pub(super) fn board() -> Board {
    Board {
        uid: "nodeprobe-fleet",
        title: "Node.js / Fleet",
        description: "All Node.js services that nodeprobe observes. Start here; a row of the table or a line leads to the service.",
        source: UTILIZATION,
        selector: SELECTOR,
        rows: vec![
            ("Now", vec![services(), processes(), findings(), standing_still(), busiest(), stalled()]),
            ("Services", vec![table()]),
            ("Findings", vec![findings_by_id(), findings_over_time()]),
            ("Event loops", vec![utilization(), p99(), by_cause(), stalled_share(), gc_share(), heap()]),
            ("Memory", vec![container_memory(), memory()]),
        ],
    }
}

fn utilization_of(labels: &str) -> String {
    by("avg", labels, &select(UTILIZATION, MAIN))
}

fn heap_of_limit(labels: &str) -> String {
    max(labels, &format!("{} / {}", select(HEAP_USED, ""), select(HEAP_LIMIT, "")))
}

fn memory_of_limit(labels: &str) -> String {
    max(labels, &format!("{} / {}", select(RSS, ""), select(MEMORY_LIMIT, "")))
}

fn services() -> Panel {
    panel(Stat, "Services", "short", "Services with at least one process under observation.")
        .query("services", format!("count(count by ({SERVICE}) ({}))", select(SIGNAL_AVAILABLE, "")))
}

fn processes() -> Panel {
    panel(Stat, "Processes", "short", "Node.js processes under observation.")
        .query("processes", format!("count(count by ({INSTANCE}) ({}))", select(SIGNAL_AVAILABLE, "")))
}

fn findings() -> Panel {
    panel(
        Stat,
        "Findings",
        "short",
        "Failure modes that nodeprobe diagnose would report now, over all processes. docs/failure-modes.md explains each.",
    )
    .threshold(ONE_IS_TOO_MANY)
    .query("findings", sum("", &select(FINDING, "")))
}

fn standing_still() -> Panel {
    panel(
        Stat,
        "Oldest turn under way",
        "s",
        "Age of the oldest turn of an event loop that has not ended: a process that is blocked right now. No metric from inside the \
         process can tell this.",
    )
    .threshold(thresholds::TURN_UNDER_WAY_S)
    .query("age", max("", &select(TURN_AGE, MAIN)))
}

fn busiest() -> Panel {
    panel(
        Stat,
        "Busiest event loop",
        "percentunit",
        "Greatest utilization of a main event loop since the last export.",
    )
    .query("utilization", max("", &select(UTILIZATION, MAIN)))
}

fn stalled() -> Panel {
    panel(
        Stat,
        "Stalled",
        "percentunit",
        "Share of the time of all main event loops that went into turns of at least 50 ms.",
    )
    .threshold(thresholds::STALLED)
    .query("stalled", share("", STALL_TIME, MAIN))
}

fn table() -> Panel {
    let processes =
        format!("count by ({SERVICE}) (count by ({INSTANCE}) ({}))", select(SIGNAL_AVAILABLE, ""));
    panel(
        Table,
        "Every service",
        "short",
        "One row per service. Utilization is the mean over its processes, heap and container memory those of its fullest process. \
         Colours are the thresholds of nodeprobe diagnose; the worst come first. A click on its name leads to the service.",
    )
    .label("k8s_cluster_name", "Cluster", 90)
    .label("k8s_namespace_name", "Namespace", 120)
    .label("service_name", "Service", 180)
    .column("Processes", "short", None, processes)
    .column("Findings", "short", Some(ONE_IS_TOO_MANY), sum(SERVICE, &select(FINDING, "")))
    .column("Utilization", "percentunit", None, utilization_of(SERVICE))
    .column("p99 turn", "s", None, quantile("0.99", SERVICE, TURN, MAIN))
    .column("Stalled", "percentunit", Some(thresholds::STALLED), share(SERVICE, STALL_TIME, MAIN))
    .column("GC", "percentunit", Some(thresholds::GC), share(SERVICE, &format!("{GC}_sum"), ""))
    .column("Heap / limit", "percentunit", None, heap_of_limit(SERVICE))
    .column("Memory / limit", "percentunit", None, memory_of_limit(SERVICE))
    .link("Open the service", ROW_TO_SERVICE)
    .height(12)
}

fn findings_by_id() -> Panel {
    panel(
        Bars,
        "Processes with a finding, by failure mode",
        "short",
        "In how many processes each failure mode is found now.",
    )
    .threshold(ONE_IS_TOO_MANY)
    .query("{{nodeprobe_finding_id}}", sum("nodeprobe_finding_id", &select(FINDING, "")))
    .height(12)
}

fn findings_over_time() -> Panel {
    let found = max(&format!("{SERVICE}, nodeprobe_finding_id"), &select(FINDING, ""));
    panel(
        States,
        "Findings over time",
        "short",
        "When which failure mode was found in at least one process of a service. Empty when all is well.",
    )
    .words(["well", "found"])
    .threshold(ONE_IS_TOO_MANY)
    .query("{{service_name}}: {{nodeprobe_finding_id}}", format!("{found} == 1"))
    .link("Open the service", TO_SERVICE)
    .width(16)
    .height(12)
}

fn utilization() -> Panel {
    panel(
        Lines,
        "Event loop utilization",
        "percentunit",
        "Share of the time in which main event loops ran something, mean over the processes of each service. Near 100 % requests wait in \
         line, however short each turn is.",
    )
    .whole()
    .query(LEGEND, utilization_of(SERVICE))
    .link("Open the service", TO_SERVICE)
}

fn p99() -> Panel {
    panel(
        Lines,
        "p99 of turns",
        "s",
        "Of 100 turns of a main event loop one is longer. A request waits for at least one turn to end.",
    )
    .query(LEGEND, quantile("0.99", SERVICE, TURN, MAIN))
    .link("Open the service", TO_SERVICE)
}

fn by_cause() -> Panel {
    panel(
        Stacked,
        "Stalled share by cause",
        "percentunit",
        "What the turns of at least 50 ms were spent with, as a share of the time of all main event loops.",
    )
    .query("{{nodeprobe_stall_cause}}", share_by("", "nodeprobe_stall_cause", STALL_TIME, MAIN))
}

fn stalled_share() -> Panel {
    panel(
        Lines,
        "Stalled share by service",
        "percentunit",
        "Share of the time in turns of at least 50 ms. From 5 % on nodeprobe warns, 20 % are critical.",
    )
    .threshold(thresholds::STALLED)
    .query(LEGEND, share(SERVICE, STALL_TIME, MAIN))
    .link("Open the service", TO_SERVICE)
}

fn gc_share() -> Panel {
    panel(
        Lines,
        "Garbage collection share",
        "percentunit",
        "Share of the time in pauses of the garbage collector, over all threads. From 10 % on nodeprobe warns, 25 % are critical.",
    )
    .threshold(thresholds::GC)
    .query(LEGEND, share(SERVICE, &format!("{GC}_sum"), ""))
    .link("Open the service", TO_SERVICE)
}

fn heap() -> Panel {
    panel(
        Lines,
        "Heap against its limit",
        "percentunit",
        "Heap in use at the last collection against what V8 may take, in the fullest process of each service. At the limit the process \
         aborts with exit code 134.",
    )
    .whole()
    .query(LEGEND, heap_of_limit(SERVICE))
    .link("Open the service", TO_SERVICE)
}

fn container_memory() -> Panel {
    panel(
        Lines,
        "Memory against the container's limit",
        "percentunit",
        "Resident memory against the limit of the control group, in the fullest process of each service. At the limit the kernel kills: \
         exit code 137, OOMKilled. Absent where there is no limit.",
    )
    .whole()
    .width(12)
    .query(LEGEND, memory_of_limit(SERVICE))
    .link("Open the service", TO_SERVICE)
}

fn memory() -> Panel {
    let rss = format!(
        "({} and on (service_name, service_instance_id) {})",
        select(RSS, ""),
        select(SIGNAL_AVAILABLE, "")
    );
    panel(Stacked, "Resident memory", "bytes", "Physical memory of all processes of each service.")
        .width(12)
        .query(LEGEND, sum(SERVICE, &rss))
        .link("Open the service", TO_SERVICE)
}
