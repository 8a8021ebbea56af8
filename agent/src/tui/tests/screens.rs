use insta::assert_snapshot;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::{
    model::{AsyncContext, Backlog, CpuPeriods, Deopts, HostCpu, PoolWork, Rejections, Signal},
    tui::sort::Column,
};

fn fleet() -> Vec<ProcessInterval> {
    let mut blocked = sample::process(512, "pdf-render");
    blocked.threads[0].busy_ns = 1_000 * sample::MS;
    blocked.threads[0].idle_ns = 0;
    blocked.threads[0].turns = crate::model::Histogram::default();
    blocked.threads[0].current_turn_ns = Some(5_000 * sample::MS);
    blocked.threads[0].current_turn_causes =
        sample::causes(5_000 * sample::MS, &[(nodeprobe_ebpf::part::PART_CHILD_PROCESS, 4_990 * sample::MS)]);
    blocked.cpu_ratio = Some(0.998);
    blocked.rss_bytes = Some(203 * sample::MIB);
    blocked.heap_used_bytes = Some(88 * sample::MIB);
    blocked.uptime_s = 2_460.0;
    let mut mailer = sample::process(344, "@acme/mailer");
    mailer.threads[0].turns = sample::turns([sample::MS / 2, sample::MS, 3 * sample::MS]);
    mailer.minor = sample::pauses([sample::MS / 2], 14, 11);
    mailer.uptime_s = 370_800.0;
    let without_gc = sample::with_unavailable(
        sample::process(388, "legacy-batch"),
        Signal::Gc,
        "the GC entry points are in no symbol table of /usr/bin/node",
    );
    vec![sample::sick(301), mailer, without_gc, blocked]
}

/// The picture in the README.
#[test]
fn a_table_shows_sick_and_healthy_processes_and_a_worker() {
    assert_snapshot!(screen(&mut running(90, &fleet()), 150, 10));
}

#[test]
fn the_page_of_a_process_shows_its_loop_gc_streams_and_stalls() {
    let mut app = running(90, &fleet());
    press(&mut app, "N");
    press_code(&mut app, KeyCode::Enter);
    assert_snapshot!(screen(&mut app, 140, 36));
}

#[test]
fn who_allocates_stands_beside_the_collections() {
    let mut sick = sample::sick(301);
    sick.allocated_bytes = Some(80 * sample::MIB);
    let mut interval = sample::interval(0, vec![sick.clone()]);
    interval.occasions.extend(sample::allocations(&sick));
    let mut app = app([interval]);
    press_code(&mut app, KeyCode::Enter);
    let shown = screen(&mut app, 140, 40);
    let lines: Vec<&str> = shown.lines().collect();
    let at = lines.iter().position(|line| line.contains("Allocations  80.0M/s")).expect(&shown);
    assert!(lines[at + 1].contains(" 75.0 %  60.0M/s  "), "{shown}");
    assert!(lines[at + 2].contains(" 25.0 %  20.0M/s  "), "{shown}");
    let mut calm = running(3, &fleet());
    press_code(&mut calm, KeyCode::Enter);
    assert!(!screen(&mut calm, 140, 40).contains("Allocations"));
}

#[test]
fn what_happens_and_what_waits_has_a_line_each() {
    let mut process = sample::process(301, "shop");
    process.rejections = Rejections { unhandled: 3, handled_late: 1 };
    process.deopts = Deopts { eager: 11, lazy: 1 };
    process.pool.kinds[0] = PoolWork { tasks: 40, waited_ns: 1_000 * sample::MS, busy_ns: 0 };
    (process.pool.max_wait_ns, process.pool.waiting) = (Some(90 * sample::MS), 5);
    process.pool.oldest_wait_ns = 1_200 * sample::MS;
    process.sockets_refused = 37;
    let full = |fd: u32| Backlog {
        fd,
        peer: (fd != 23).then(|| format!("10.0.0.{fd}:443").into()),
        queued_bytes: Some(2 * sample::MIB),
        libuv_queued_bytes: (fd == 21).then_some(sample::MIB),
        age_ns: 3_000 * sample::MS,
    };
    process.backlogs = [21, 23, 24, 25, 26, 27].map(full).to_vec();
    process.async_context = AsyncContext { kept: 30, lost: 10, none: 2 };
    let mut interval = sample::interval(0, vec![process]);
    interval.answers_seen_ns = 250 * sample::MS;
    let mut app = app([interval]);
    press_code(&mut app, KeyCode::Enter);
    let shown = screen(&mut app, 160, 60);
    let begins =
        shown.lines().position(|line| line.contains("Events and queues  of the last 1.0s")).expect(&shown);
    let column = shown.lines().nth(begins).unwrap().split("Events and").next().unwrap().chars().count();
    let lines: Vec<String> =
        shown.lines().skip(begins + 1).take(10).map(|line| line.chars().skip(column).collect()).collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    assert_eq!(
        lines,
        [
            "rejections     3 unhandled, 1 handled late",
            "deopts         12, 12.0 per second",
            "thread pool    40 tasks, waited 25.0 ms on average, at most 90.0 ms",
            "thread pool    5 in the queue now, the first for 1.2s",
            "sockets        37 writes refused",
            "full socket    10.0.0.21:443 full for 3.0s, 3.00M in its queue",
            "full socket    descriptor 23 full for 3.0s, 2.00M in its queue",
            "full socket    10.0.0.24:443 full for 3.0s, 2.00M in its queue",
            "full socket    10.0.0.25:443 full for 3.0s, 2.00M in its queue",
            "full socket    and 2 more",
        ]
    );
    assert!(
        shown.contains("async context  10 of 40 answers without theirs, followed 25.0 % of the time"),
        "{shown}"
    );
    let mut healthy = running(3, &fleet());
    press(&mut healthy, "Njj");
    press_code(&mut healthy, KeyCode::Enter);
    assert!(!screen(&mut healthy, 160, 60).contains("Events and queues"));
}

#[test]
fn the_page_tells_what_keeps_a_process_off_a_processor() {
    let waiting = |change: fn(&mut ProcessInterval)| {
        let mut process = sample::process(301, "checkout-api");
        change(&mut process);
        let mut interval = sample::interval(0, vec![process]);
        let (busy_ns, idle_ns) = (1_400 * sample::MS, 500 * sample::MS);
        interval.host_cpu = Some(HostCpu { busy_ns, idle_ns, stolen_ns: 100 * sample::MS });
        let mut app = app([interval]);
        press_code(&mut app, KeyCode::Enter);
        let shown = screen(&mut app, 140, 36);
        // Of the right half.
        let right: Vec<String> = shown.lines().map(|line| line.chars().skip(71).collect()).collect();
        let lines = right.iter().skip_while(|line| !line.contains("Waiting for CPU"));
        lines
            .take_while(|line| !line.trim().is_empty())
            .map(|line| line.trim())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let all = waiting(|process| {
        process.run_delay_ns = Some(312 * sample::MS);
        process.cpu_throttled_ns = Some(240 * sample::MS);
        process.cpu_periods = Some(CpuPeriods { elapsed: 10, throttled: 4 });
        process.nice = Some(5);
    });
    assert_snapshot!(all, @r"
    Waiting for CPU  main thread 31.2 %, nice 5, steal 5.0 % of the host
    throttled 24.0 %, in 4 of 10 periods of its quota
    ");
    assert_snapshot!(waiting(|_| {}), @"Waiting for CPU  main thread 0 %, steal 5.0 % of the host");
    let silent =
        |process: &mut ProcessInterval| (process.run_delay_ns, process.cpu_throttled_ns) = (None, None);
    assert_snapshot!(waiting(silent), @"Waiting for CPU  steal 5.0 % of the host");
}

#[test]
fn the_page_of_a_worker_shows_its_own_loop() {
    let mut app = running(90, &fleet());
    press(&mut app, "N");
    press_code(&mut app, KeyCode::Enter);
    press_code(&mut app, KeyCode::Tab);
    let shown = screen(&mut app, 80, 24);
    assert!(shown.contains("worker thread 308 (one of 2)  util % 40.2"), "{shown}");
    press_code(&mut app, KeyCode::Tab);
    assert!(screen(&mut app, 80, 24).contains("main thread 301"));
}

#[test]
fn a_missing_signal_is_named_with_its_reason_and_shows_no_zero() {
    let mut app = running(3, &fleet());
    press(&mut app, "Njjj");
    press_code(&mut app, KeyCode::Enter);
    assert_snapshot!(screen(&mut app, 80, 40));
}

#[test]
fn without_a_process_the_screen_says_how_to_try() {
    assert_snapshot!(screen(&mut app([sample::interval(0, Vec::new())]), 100, 12));
    let before_the_first = screen(&mut app([]), 60, 8);
    assert!(before_the_first.contains("Looking for Node.js processes"), "{before_the_first}");
}

#[test]
fn help_names_every_key_and_column() {
    let mut app = running(1, &fleet());
    press(&mut app, "?");
    let shown = screen(&mut app, 90, 60);
    // Popup lines end with a blank before the border, unless a text is cut off.
    let cut = |line: &&str| line.contains("│ ") && !line.contains(" │");
    assert_eq!(shown.lines().find(cut), None);
    assert_snapshot!(shown);
}

#[test]
fn the_sort_menu_lists_the_columns() {
    let mut app = running(1, &fleet());
    press(&mut app, "sjj");
    assert_snapshot!(screen(&mut app, 80, 24));
}

#[test]
fn a_narrow_screen_keeps_what_says_most() {
    assert_snapshot!(screen(&mut running(90, &fleet()), 60, 10));
    let usual = screen(&mut running(90, &fleet()), 80, 10);
    assert!(usual.contains("hashPassword auth.js:42"), "{usual}");
}

#[test]
fn ascii_mode_draws_ascii_only() {
    let mut processes = fleet();
    processes.push(sample::process(600, "über-日本"));
    let mut app = running(90, &processes);
    let palette = Palette::new(false, true);
    let table = text(&drawn(&mut app, 150, 12, &palette));
    press(&mut app, "N");
    press_code(&mut app, KeyCode::Enter);
    let detail = text(&drawn(&mut app, 140, 36, &palette));
    press(&mut app, "?");
    let help = text(&drawn(&mut app, 90, 40, &palette));
    for shown in [&table, &detail, &help] {
        assert!(shown.is_ascii(), "{shown}");
    }
    assert_snapshot!(format!("{table}\n{detail}"));
}

#[test]
fn a_turn_in_progress_stands_out_and_a_short_one_is_not_shown() {
    let mut app = running(1, &fleet());
    let terminal = drawn(&mut app, 150, 10, &Palette::new(true, false));
    let shown = text(&terminal);
    let line = |name: &str| shown.lines().position(|line| line.contains(name)).unwrap();
    let (blocked, healthy) = (line("pdf-render"), line("checkout-api"));
    let shown_line = shown.lines().nth(blocked).unwrap();
    assert!(shown_line.contains("5.0s"), "{shown_line}");
    // Its turn of 12 ms is none of note.
    assert!(!shown.lines().nth(healthy).unwrap().contains("12ms"));
    let (_, end, _) = *app.hits.columns.iter().find(|(_, _, column)| *column == Column::Current).unwrap();
    // The last cell before the gap.
    let cell = &terminal.backend().buffer()[(end - 2, blocked as u16)];
    assert_eq!((cell.symbol(), cell.fg), ("s", Color::Red));
}

#[test]
fn without_colour_what_matters_is_still_marked() {
    let mut app = running(1, &fleet());
    let terminal = drawn(&mut app, 150, 10, &Palette::new(false, false));
    let buffer = terminal.backend().buffer();
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(buffer.content.iter().any(|cell| cell.modifier.contains(Modifier::UNDERLINED | Modifier::BOLD)));
}

#[test]
fn lost_events_are_counted_in_the_header_from_the_first_on() {
    let mut interval = sample::interval(0, fleet());
    let mut app = app([interval.clone()]);
    assert!(screen(&mut app, 150, 8).contains("lost 0"));
    interval.lost.insert("ring_full", 12);
    app.update(Arc::new(interval));
    app.update(Arc::new(sample::interval(2, fleet())));
    let terminal = drawn(&mut app, 150, 8, &Palette::new(true, false));
    let header = text(&terminal).lines().next().unwrap().to_owned();
    let begin = header.find("LOST EVENTS 12 (ring_full 12)").expect(&header) as u16;
    assert_eq!(terminal.backend().buffer()[(begin, 0)].fg, Color::Red);
}

#[test]
fn an_invalid_filter_says_how_it_is_taken() {
    let mut app = running(1, &fleet());
    press(&mut app, "/mail(");
    let shown = screen(&mut app, 100, 8);
    assert!(shown.contains("filter: mail(_  (not a regular expression: looked for as it stands)"), "{shown}");
    assert!(shown.contains("No process matches the filter"), "{shown}");
}

#[test]
fn hostile_names_stay_in_their_cell() {
    let mut calm = fleet();
    calm[0] = sample::process(301, "x");
    let mut hostile = fleet();
    hostile[0] = sample::process(301, &hostile_name());
    let palette = Palette::new(true, false);
    let open = |app: &mut App| {
        press(app, "N");
        press_code(app, KeyCode::Enter);
    };
    for (width, height) in [(150, 10), (60, 10), (20, 5)] {
        for detail in [false, true] {
            let (mut one, mut other) = (running(2, &calm), running(2, &hostile));
            if detail {
                open(&mut one);
                open(&mut other);
            }
            let (one, other) =
                (drawn(&mut one, width, height, &palette), drawn(&mut other, width, height, &palette));
            let shown = text(&other);
            assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{2066}', '\u{9b}', '\r']), "{shown}");
            // No other line is touched.
            let differing = text(&one).lines().zip(shown.lines()).filter(|(one, other)| one != other).count();
            assert!(differing <= 1, "{shown}");
        }
    }
}

#[test]
fn no_size_of_the_screen_panics() {
    let palette = Palette::new(true, false);
    let sizes =
        [(0, 0), (1, 1), (2, 1), (1, 2), (3, 3), (7, 4), (20, 2), (200, 1), (1, 100), (104, 9), (400, 120)];
    for (width, height) in sizes {
        for keys in ["", "?", "s", "/x", "t"] {
            let mut table = running(3, &fleet());
            press(&mut table, keys);
            drawn(&mut table, width, height, &palette);
            let mut detail = running(3, &fleet());
            press_code(&mut detail, KeyCode::Enter);
            press(&mut detail, keys);
            press(&mut detail, "jjjjjjjj");
            drawn(&mut detail, width, height, &palette);
            drawn(&mut app([sample::interval(0, Vec::new())]), width, height, &palette);
        }
    }
}
