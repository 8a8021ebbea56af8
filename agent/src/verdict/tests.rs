//! Every mode is found in a history that shows it, and in no healthy one.

mod cpu_starved;

use nodeprobe_ebpf::thread::POOL_CRYPTO;

use super::*;
use crate::{
    model::{
        AsyncContext, Backlog, Category, Cause, FrameKind, GroupMemory, Notice, NoticeKind, Occasion,
        OccasionStack, PoolWork, Rejections, ThreadKind, ThreadStacks, interval::ProcessInterval,
    },
    report::sample::{self, MIB, MS},
};

/// Ten seconds of a process that each second is changed by `change`.
fn judged(seconds: u64, mut change: impl FnMut(u64, &mut ProcessInterval, &mut Interval)) -> Vec<Finding> {
    let mut judge = Judge::new(60.0);
    let mut id = None;
    for second in 0..seconds {
        let mut process = sample::process(301, "shop");
        let mut interval = sample::interval(second, Vec::new());
        change(second, &mut process, &mut interval);
        id = Some(process.id);
        interval.processes.push(process);
        judge.push(&interval);
    }
    judge.findings(id.unwrap()).to_vec()
}

fn evidence(finding: &Finding, wanted: &str) -> f64 {
    let found = finding.evidence.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("no {wanted} in {:?}", finding.evidence)).1
}

fn modes(findings: &[Finding]) -> Vec<(Mode, bool)> {
    findings.iter().map(|finding| (finding.mode, finding.is_primary())).collect()
}

fn stall(process: &ProcessInterval, duration_ms: u64, of: &[(Cause, u64)]) -> crate::model::Stall {
    let mut stall = sample::sampled_stall(process, 0, duration_ms * MS);
    stall.causes = of.iter().map(|(cause, ms)| (*cause, ms * MS)).collect();
    stall
}

#[test]
fn a_healthy_process_has_no_finding() {
    assert_eq!(judged(10, |_, _, _| {}), []);
}

#[test]
fn stalls_belong_to_the_mode_of_what_led_in_them() {
    for (cause, mode) in [
        (Cause::JavaScript, Mode::EventLoopStarvation),
        (Cause::ChildProcess, Mode::SyncChildProcess),
        (Cause::SyncIo, Mode::SyncIo),
    ] {
        let findings = judged(10, |_, process, interval| {
            interval.stalls.push(stall(process, 200, &[(cause, 190), (Cause::CpuWait, 10)]));
        });
        assert_eq!(modes(&findings), [(mode, true)], "{findings:#?}");
        assert!(findings[0].culprit.is_some());
    }
}

#[test]
fn one_stall_is_nothing_yet_and_a_turn_without_end_is() {
    let one = judged(5, |second, process, interval| {
        if second == 2 {
            interval.stalls.push(stall(process, 400, &[(Cause::JavaScript, 400)]));
        }
    });
    assert_eq!(one, []);
    let wedge = judged(3, |second, process, _| {
        let age_ns = (1 + second) * 2_000 * MS;
        process.threads[0].current_turn_ns = Some(age_ns);
        process.threads[0].current_turn_causes = [(Cause::OnCpu, age_ns)].into_iter().collect();
    });
    assert_eq!(modes(&wedge), [(Mode::EventLoopStarvation, true)]);
    assert_eq!(wedge[0].severity, Severity::Critical);
}

#[test]
fn a_heap_that_grows_is_told_from_a_cache_that_has_filled() {
    let grows = |second: u64, size_mib: u64| {
        move |now: u64, process: &mut ProcessInterval, _: &mut Interval| {
            let _ = (second, size_mib);
            let used_mib = if now < second { 20 + now * size_mib } else { 20 + second * size_mib };
            process.threads[0].major = sample::pauses([2 * MS], used_mib + 5, used_mib);
        }
    };
    let leak = judged(10, grows(100, 15));
    assert_eq!(modes(&leak), [(Mode::HeapGrowth, true)]);
    let slope = leak[0].evidence.iter().find(|(name, _)| *name == "heap_slope_bytes_per_s").unwrap().1;
    assert!((slope / MIB as f64 - 15.0).abs() < 0.01, "{slope}");
    assert_eq!(leak[0].severity, Severity::Critical, "it has minutes left: {}", leak[0].summary);
    assert_eq!(judged(12, grows(4, 15)), [], "a cache that has filled");
    assert_eq!(judged(3, grows(100, 15)), [], "too few collections to tell");
}

#[test]
fn three_collections_tell_growth_if_they_are_far_apart_and_in_a_line() {
    let collected = |sizes: [(u64, u64); 3]| {
        judged(10, move |now, process, _| {
            let of_now = sizes.iter().find(|(second, _)| *second == now);
            if let Some((_, used_mib)) = of_now {
                process.threads[0].major = sample::pauses([2 * MS], used_mib + 5, *used_mib);
            }
        })
    };
    assert_eq!(modes(&collected([(1, 26), (4, 56), (8, 96)])), [(Mode::HeapGrowth, true)]);
    assert_eq!(collected([(1, 26), (4, 76), (8, 96)]), [], "it slows down: a cache that fills");
    assert_eq!(collected([(1, 26), (2, 36), (4, 56)]), [], "within three seconds, as at a start");
    assert_eq!(collected([(1, 126), (4, 136), (8, 150)]), [], "little");
}

#[test]
fn the_limit_that_comes_first_counts() {
    // 10 MiB a second; 110 MiB after the last collection.
    let leak = |used_mib: u64, limit_mib: u64, heap_limit_mib: u64| {
        let findings = judged(10, move |now, process, _| {
            process.threads[0].major = sample::pauses([2 * MS], 25 + now * 10, 20 + now * 10);
            process.rss_bytes = Some((60 + now * 10) * MIB);
            process.heap_used_bytes = Some((20 + now * 10) * MIB);
            process.heap_limit_bytes = Some(heap_limit_mib * MIB);
            let used_bytes = Some(used_mib * MIB);
            process.group_memory = Some(GroupMemory { limit_bytes: limit_mib * MIB, used_bytes });
        });
        findings.into_iter().next().expect("it grows")
    };
    let container = leak(212, 512, 2048);
    assert!((evidence(&container, "time_to_limit_s") - 30.0).abs() < 0.1, "{:?}", container.evidence);
    assert!(container.summary.contains("its container"), "{}", container.summary);
    assert!((evidence(&container, "outside_heap_bytes") / MIB as f64 - 40.0).abs() < 0.1);
    let heap = leak(212, 8192, 256);
    assert!(evidence(&heap, "time_to_limit_s") < 20.0, "{:?}", heap.evidence);
    assert!(evidence(&heap, "time_to_memory_limit_s") > 700.0);
    assert!(!heap.summary.contains("its container"), "{}", heap.summary);
}

#[test]
fn what_v8_says_of_its_limit_is_critical_at_once() {
    let near = judged(1, |_, process, interval| {
        let kind = NoticeKind::NearHeapLimit;
        interval.notices.push(Notice { process: process.id, tid: 301, kind, time: interval.time });
    });
    assert_eq!((near[0].mode, near[0].severity), (Mode::HeapGrowth, Severity::Critical));
}

#[test]
fn collections_that_take_their_time_are_named_with_who_allocates() {
    let findings = judged(10, |_, process, interval| {
        process.threads[0].minor = sample::pauses([30 * MS; 6], 60, 40);
        process.allocated_bytes = Some(120 * MIB);
        interval.occasions.extend(sample::allocations(process));
    });
    assert_eq!(modes(&findings), [(Mode::GcPressure, true)]);
    assert!(findings[0].culprit.is_some());
    assert!((evidence(&findings[0], "pause_p99_s") - 0.03).abs() < 0.003);
    assert!((evidence(&findings[0], "allocated_by_culprit_ratio") - 0.75).abs() < 1e-9);
    assert!((evidence(&findings[0], "allocated_by_culprit_bytes_per_s") - 90.0 * MIB as f64).abs() < 1.0);
}

#[test]
fn without_the_sizes_of_the_heap_who_allocates_has_a_share_alone() {
    let findings = judged(10, |_, process, interval| {
        process.threads[0].minor = sample::pauses([30 * MS; 6], 60, 40);
        interval.occasions.extend(sample::allocations(process));
    });
    let is_told = |name: &str| findings[0].evidence.iter().any(|(known, _)| *known == name);
    assert!(is_told("allocated_by_culprit_ratio"));
    assert!(!is_told("allocated_by_culprit_bytes_per_s"));
}

#[test]
fn a_leak_explains_its_collections_and_is_blamed_on_who_allocates() {
    let findings = judged(10, |second, process, interval| {
        process.allocated_bytes = Some(20 * MIB);
        interval.occasions.extend(sample::allocations(process));
        process.threads[0].minor = sample::pauses([30 * MS; 6], 60, 40);
        process.threads[0].major = sample::pauses([20 * MS], 30 + second * 15, 20 + second * 15);
    });
    assert_eq!(modes(&findings), [(Mode::HeapGrowth, true), (Mode::GcPressure, false)]);
    assert_eq!(findings[1].because_of, Some(Mode::HeapGrowth));
    assert!((evidence(&findings[0], "allocated_by_culprit_bytes_per_s") - 15.0 * MIB as f64).abs() < 1.0);
    assert_eq!(findings[0].culprit, findings[1].culprit);
}

#[test]
fn one_rejection_is_a_warning_and_a_death_is_critical() {
    let rejected = judged(10, |second, process, _| {
        process.rejections = Rejections { unhandled: u64::from(second == 3), handled_late: 0 };
    });
    assert_eq!((rejected[0].mode, rejected[0].severity), (Mode::UnhandledRejections, Severity::Warning));
    let dead = judged(4, |second, process, interval| {
        process.rejections.unhandled = u64::from(second == 3);
        process.exited = second == 3;
        if second == 3 {
            let kind = NoticeKind::UncaughtRejection;
            interval.notices.push(Notice { process: process.id, tid: 301, kind, time: interval.time });
        }
    });
    assert_eq!((dead[0].mode, dead[0].severity), (Mode::UnhandledRejections, Severity::Critical));
    assert!(dead[0].summary.contains("died"), "{}", dead[0].summary);
}

#[test]
fn blocked_writes_and_refused_ones_are_backpressure() {
    let blocked = judged(10, |_, process, _| process.stdout.blocked_ns = 50 * MS);
    assert_eq!((blocked[0].mode, blocked[0].severity), (Mode::StdoutBackpressure, Severity::Warning));
    let refused = judged(10, |_, process, _| process.stdout.eagain = 2);
    assert_eq!((refused[0].mode, refused[0].severity), (Mode::StdoutBackpressure, Severity::Warning));
    assert_eq!(judged(10, |second, process, _| process.stdout.eagain = u64::from(second == 0)), []);
}

#[test]
fn inline_cache_misses_count_only_of_a_busy_loop() {
    let with_misses = |busy_ms: u64| {
        judged(10, move |_, process, interval| {
            let mut stack = sample::thread_stacks(process).stacks.remove(0);
            stack.category = Category::IcMiss;
            stack.time_ns = busy_ms * MS;
            interval.stacks.push(ThreadStacks { process: process.id, tid: 301, stacks: vec![stack] });
        })
    };
    assert_eq!(modes(&with_misses(600)), [(Mode::ShapeChurn, true)]);
    assert_eq!(with_misses(50), []);
}

#[test]
fn code_that_is_left_behind_its_loop_is_no_churn() {
    let deoptimised = |harmful, of_loops| {
        judged(10, move |_, process, interval| {
            process.deopts.eager = harmful + of_loops;
            let stack = sample::thread_stacks(process).stacks.remove(0).stack;
            for (occasion, count) in [(Occasion::Deopt, harmful), (Occasion::LoopExit, of_loops)] {
                let stack = stack.clone();
                interval.occasions.push(OccasionStack {
                    process: process.id,
                    tid: 301,
                    occasion,
                    stack,
                    count,
                });
            }
        })
    };
    assert_eq!(modes(&deoptimised(8, 0)), [(Mode::ShapeChurn, true)]);
    assert_eq!(deoptimised(0, 8), []);
    assert_eq!(deoptimised(2, 6), [], "two of eight per second");
    let findings = deoptimised(6, 2);
    assert_eq!(modes(&findings), [(Mode::ShapeChurn, true)]);
    assert_eq!(
        findings[0].evidence.iter().find(|(name, _)| *name == "loop_exit_ratio"),
        Some(&("loop_exit_ratio", 0.25))
    );
}

#[test]
fn inline_cache_misses_of_a_start_say_nothing_of_the_service() {
    let findings = judged(4, |second, process, interval| {
        process.uptime_s = 1.0 + second as f64;
        if second < 3 {
            process.threads[0].current_turn_ns = Some((900 + 1000 * second) * MS);
            let mut stack = sample::thread_stacks(process).stacks.remove(0);
            (stack.category, stack.time_ns) = (Category::IcMiss, 900 * MS);
            interval.stacks.push(ThreadStacks { process: process.id, tid: 301, stacks: vec![stack] });
        }
    });
    assert_eq!(findings, []);
}

#[test]
fn work_that_waits_for_the_pool_is_told_and_work_that_does_not_is_not() {
    let waits = |tasks: u64, each_ms: u64| {
        judged(10, move |_, process, _| {
            process.pool.kinds[POOL_CRYPTO] =
                PoolWork { tasks, waited_ns: tasks * each_ms * MS, busy_ns: 100 * MS };
            process.pool.max_wait_ns = Some(2 * each_ms * MS);
        })
    };
    let found = waits(10, 50);
    assert_eq!(modes(&found), [(Mode::ThreadpoolSaturation, true)]);
    assert!(found[0].summary.contains("crypto"), "{}", found[0].summary);
    assert_eq!(waits(1000, 1), []);
    let wedged = judged(3, |second, process, _| {
        (process.pool.waiting, process.pool.oldest_wait_ns) = (3, (1 + second) * 1000 * MS);
    });
    assert_eq!((wedged[0].mode, wedged[0].severity), (Mode::ThreadpoolSaturation, Severity::Warning));
}

#[test]
fn contexts_are_lost_if_enough_answers_say_so_and_not_by_promises() {
    let answers = |lost: u64, kept: u64, frames: &'static [&'static str]| {
        judged(10, move |second, process, interval| {
            // In windows of a quarter of a second.
            interval.answers_seen_ns = if second % 2 == 0 { 250 * MS } else { 0 };
            process.async_context = AsyncContext { kept, lost, none: 100 };
            let frames = frames.iter().map(|function| match function.split_once(' ') {
                Some((_, native)) => sample::native(FrameKind::Native, native),
                None => sample::frame(function, "/srv/orders.js", 7),
            });
            let stack = sample::stack_time(frames.collect(), Category::Application, MS).stack;
            let (process, occasion) = (process.id, Occasion::LostContext);
            let taken = OccasionStack { process, tid: 301, occasion, stack, count: lost.min(4) };
            interval.occasions.extend(Some(taken).filter(|_| lost > 0));
        })
    };
    let found = answers(5, 5, &["reply", "onOrder", "n MakeCallback"]);
    assert_eq!((modes(&found), found[0].severity), (vec![(Mode::AsyncContextLoss, true)], Severity::Warning));
    assert_eq!(&*found[0].culprit.as_ref().unwrap().function, "onOrder");
    assert!((evidence(&found[0], "seen_ratio") - 0.125).abs() < 1e-9);
    let few = answers(5, 1000, &["reply", "onOrder", "n MakeCallback"]);
    assert_eq!((few[0].mode, few[0].severity), (Mode::AsyncContextLoss, Severity::Info));
    assert_eq!(answers(5, 5, &["reply", "onOrder", "n Builtins_RunMicrotasks"]), []);
    assert_eq!(answers(0, 50, &[]), []);
}

#[test]
fn a_slow_reader_is_told_if_memory_grows_for_it() {
    let reads_slowly = |outside_mib: u64, heap_mib: u64| {
        judged(10, move |second, process, _| {
            process.heap_used_bytes = Some((20 + second * heap_mib) * MIB);
            process.rss_bytes = Some((60 + second * (outside_mib + heap_mib)) * MIB);
            process.backlogs = vec![Backlog {
                fd: 20,
                peer: Some("10.0.0.7:41000".into()),
                queued_bytes: Some(4 * MIB),
                libuv_queued_bytes: Some(MIB),
                age_ns: (1 + second) * 1000 * MS,
            }];
        })
    };
    let found = reads_slowly(5, 0);
    assert_eq!(modes(&found), [(Mode::StreamOverflow, true)]);
    assert!(found[0].summary.contains("10.0.0.7:41000"), "{}", found[0].summary);
    let mut rarely = Judge::new(60.0);
    let mut last = Vec::new();
    for export in 0..6 {
        let mut process = sample::process(301, "shop");
        let mut interval = sample::interval(15 * export, Vec::new());
        interval.duration_s = 15.0;
        process.rss_bytes = Some((60 + 75 * export) * MIB);
        let (queued_bytes, libuv_queued_bytes) = (Some(MIB), None);
        let age_ns = 15_000 * MS;
        process.backlogs = vec![Backlog { fd: 20, peer: None, queued_bytes, libuv_queued_bytes, age_ns }];
        let id = process.id;
        interval.processes.push(process);
        rarely.push(&interval);
        last = rarely.findings(id).to_vec();
    }
    assert_eq!(modes(&last), [(Mode::StreamOverflow, true)], "as `run` sees it, every 15 s");
    assert_eq!(reads_slowly(0, 0), [], "the writer waits for it");
    assert_eq!(reads_slowly(0, 5), [], "it is the heap that grows");
    let grows = judged(10, |second, process, _| process.rss_bytes = Some((60 + second * 5) * MIB));
    assert_eq!(grows, [], "nobody reads slowly");
}

#[test]
fn the_start_is_judged_by_its_own_turn() {
    let start = |duration_ms: u64| {
        judged(4, move |second, process, interval| {
            if second == 0 {
                let mut startup = stall(process, duration_ms, &[(Cause::JavaScript, duration_ms)]);
                startup.startup = true;
                interval.stalls.push(startup);
            }
        })
    };
    assert_eq!(modes(&start(2500)), [(Mode::SlowStartup, true)]);
    assert_eq!(start(300), []);
}

#[test]
fn a_finding_stays_until_it_is_well_below_its_threshold() {
    let mut judge = Judge::new(1.0);
    let mut blocked = |ms: u64| {
        let mut process = sample::process(301, "shop");
        process.stdout.blocked_ns = ms * MS;
        let id = process.id;
        judge.push(&sample::interval(0, vec![process]));
        !judge.findings(id).is_empty()
    };
    assert!(!blocked(9), "below 1 %");
    assert!(blocked(11));
    assert!(blocked(8), "within the hysteresis");
    assert!(!blocked(6));
    assert!(!blocked(9), "it has to come anew");
}

#[test]
fn workers_that_compute_keep_nobody_waiting() {
    let findings = judged(10, |_, process, interval| {
        let mut worker = process.threads[0].clone();
        (worker.tid, worker.kind) = (308, ThreadKind::Worker);
        worker.major = sample::pauses([200 * MS], 900, 800);
        process.threads.push(worker);
        let mut stall = stall(process, 900, &[(Cause::JavaScript, 900)]);
        (stall.tid, stall.thread) = (308, ThreadKind::Worker);
        interval.stalls.push(stall);
    });
    assert_eq!(findings, []);
}

#[test]
fn a_script_that_runs_and_ends_is_no_slow_start() {
    let findings = judged(2, |second, process, interval| {
        process.exited = second == 1;
        if second == 1 {
            let mut startup = stall(process, 6000, &[(Cause::JavaScript, 6000)]);
            startup.startup = true;
            interval.stalls.push(startup);
        }
    });
    assert_eq!(findings, []);
    let loading = judged(3, |second, process, _| {
        process.uptime_s = 1.0 + second as f64;
        let age_ns = (900 + 1000 * second) * MS;
        process.threads[0].current_turn_ns = Some(age_ns);
        process.threads[0].current_turn_causes = [(Cause::OnCpu, age_ns)].into_iter().collect();
    });
    assert_eq!(loading, [], "the start under way");
}

#[test]
fn what_a_process_survived_is_forgotten_with_the_window() {
    let mut judge = Judge::new(5.0);
    let mut last = Vec::new();
    for second in 0..12 {
        let mut process = sample::process(301, "shop");
        process.exited = second == 11;
        let id = process.id;
        let mut interval = sample::interval(second, Vec::new());
        if second == 1 {
            let kind = NoticeKind::UncaughtRejection;
            interval.notices.push(Notice { process: id, tid: 301, kind, time: interval.time });
        }
        interval.processes.push(process);
        judge.push(&interval);
        last = judge.findings(id).to_vec();
    }
    assert_eq!(last, []);
}

#[test]
fn a_chain_of_consequences_hangs_on_its_beginning() {
    let findings = judged(10, |second, process, interval| {
        process.threads[0].minor = sample::pauses([50 * MS; 6], 60, 40);
        process.threads[0].major = sample::pauses([20 * MS], 30 + second * 15, 20 + second * 15);
        interval.stalls.push(stall(process, 100, &[(Cause::JavaScript, 100)]));
    });
    let because: BTreeMap<_, _> = findings.iter().map(|finding| (finding.mode, finding.because_of)).collect();
    let root = Some(Mode::HeapGrowth);
    let expected = [(Mode::HeapGrowth, None), (Mode::GcPressure, root), (Mode::EventLoopStarvation, root)];
    assert_eq!(because, expected.into());
}
