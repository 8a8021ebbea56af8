//! Culprits, the log of stalls and their stacks.

use insta::assert_snapshot;

use super::*;
use crate::{
    model::{Frame, FrameKind, Signal, Stack, StackTime},
    tui::{
        detail::Tab,
        sort::Column,
        stall_log::{Subject, entries},
        state::Page,
    },
};

/// A process that has been in one turn for five seconds.
fn wedged() -> ProcessInterval {
    let mut process = sample::process(512, "pdf-render");
    let thread = &mut process.threads[0];
    thread.current_turn_ns = Some(5_000 * sample::MS);
    thread.current_turn_causes = sample::causes(5_000 * sample::MS, &[]);
    thread.current_turn_culprit = Some(sample::culprit("layoutTable", "/srv/pdf/src/table.ts", 310));
    let frames = vec![
        sample::native(FrameKind::Builtin, "Array.prototype.sort"),
        sample::frame("layoutTable", "/srv/pdf/src/table.ts", 310),
        sample::frame("render", "/srv/pdf/src/render.ts", 44),
    ];
    thread.current_turn_stack = Some(Arc::new(Stack { frames, truncated: true, problem: None }));
    process
}

/// On the log of the stalls of `process`.
fn log_of(process: &ProcessInterval, seconds: u64) -> App {
    let mut app = running(seconds, std::slice::from_ref(process));
    press_code(&mut app, KeyCode::Enter);
    press(&mut app, "l");
    app
}

fn history(app: &App) -> &crate::tui::history::ProcessHistory {
    let Page::Detail(key) = app.page else { panic!("{:?}", app.page) };
    app.readings().history.process(key.process).unwrap()
}

/// Seconds after the first at which the stall on line `index` of the log began.
fn began(app: &App, index: usize) -> Option<u64> {
    match entries(history(app))[index] {
        crate::tui::stall_log::Entry::InProgress { .. } => None,
        crate::tui::stall_log::Entry::Ended(stall) => {
            Some(stall.began.duration_since(sample::time(0)).unwrap().as_secs())
        }
    }
}

fn next(app: &mut App, second: u64, process: &ProcessInterval, stalls: u64) {
    let mut interval = sample::interval(second, vec![process.clone()]);
    interval.stalls = (0..stalls).map(|_| sample::sampled_stall(process, second, 182 * sample::MS)).collect();
    app.update(Arc::new(interval));
}

#[test]
fn the_log_lists_a_turn_in_progress_and_the_stalls_before_it() {
    let mut app = log_of(&wedged(), 4);
    assert_snapshot!(screen(&mut app, 140, 14));
}

#[test]
fn a_narrow_log_keeps_time_duration_and_culprit() {
    let mut app = log_of(&wedged(), 4);
    let narrow = screen(&mut app, 60, 12);
    let narrowest = screen(&mut app, 40, 10);
    assert_snapshot!(format!("{narrow}\n{narrowest}"));
}

#[test]
fn a_log_without_stalls_says_why() {
    let mut app = app([sample::interval(0, vec![sample::process(1, "quiet")])]);
    press_code(&mut app, KeyCode::Enter);
    press(&mut app, "2");
    assert!(screen(&mut app, 100, 12).contains("No stall has been seen."));
    let blind = sample::with_unavailable(sample::process(1, "blind"), Signal::EventLoop, "no symbols");
    let mut app = running(0, &[]);
    app.update(Arc::new(sample::interval(0, vec![blind])));
    press_code(&mut app, KeyCode::Enter);
    press(&mut app, "2");
    let shown = screen(&mut app, 100, 12);
    assert!(shown.contains("the event loop is not observed") && shown.contains("no symbols"), "{shown}");
}

#[test]
fn a_stall_opens_its_stacks_the_heaviest_first() {
    let mut app = log_of(&sample::sick(301), 4);
    press_code(&mut app, KeyCode::Enter);
    assert_snapshot!(screen(&mut app, 110, 50));
}

#[test]
fn the_page_of_a_turn_in_progress_shows_the_stack_so_far() {
    let mut app = log_of(&wedged(), 4);
    press_code(&mut app, KeyCode::Enter);
    assert_snapshot!(screen(&mut app, 90, 20));
}

#[test]
fn a_stall_without_a_stack_says_why() {
    let opened = |process: &ProcessInterval, stacks: Vec<StackTime>| {
        let mut interval = sample::interval(0, vec![process.clone()]);
        let mut stall = sample::stall(process, 0, 90 * sample::MS);
        stall.stacks = stacks;
        interval.stalls = vec![stall];
        let mut app = app([interval]);
        press_code(&mut app, KeyCode::Enter);
        press(&mut app, "l");
        let log = screen(&mut app, 120, 20);
        press_code(&mut app, KeyCode::Enter);
        (log, screen(&mut app, 120, 20))
    };
    let process = sample::process(1, "quiet");
    let (log, stall) = opened(&process, Vec::new());
    assert!(
        log.contains("no stack sampled") && stall.contains("No stack was sampled in it."),
        "{log}{stall}"
    );
    // The last of these could not be read.
    let (log, stall) = opened(&process, sample::thread_stacks(&process).stacks.split_off(5));
    assert!(log.contains("no frame pointer"), "{log}");
    assert!(stall.contains("no JavaScript told: no frame pointer"), "{stall}");
    let blind = sample::with_unavailable(process, Signal::EventLoop, "no symbols");
    let (log, stall) = opened(&blind, Vec::new());
    assert!(log.contains("stacks not observed"), "{log}");
    assert!(
        stall.contains("the signal event_loop is not observed") && stall.contains("no symbols"),
        "{stall}"
    );
}

#[test]
fn causes_that_are_not_observed_are_not_drawn() {
    let blind = sample::with_unavailable(sample::process(1, "blind"), Signal::Sched, "no tracepoint");
    let mut app = log_of(&blind, 3);
    assert!(!screen(&mut app, 140, 20).contains("on_cpu"));
    press_code(&mut app, KeyCode::Enter);
    let stall = screen(&mut app, 140, 20);
    assert!(!stall.contains("on_cpu") && stall.contains("blamed on hashPassword"), "{stall}");
}

#[test]
fn ascii_logs_and_stacks_are_ascii_only() {
    let palette = Palette::new(false, true);
    let mut app = log_of(&wedged(), 4);
    let log = text(&drawn(&mut app, 100, 14, &palette));
    press(&mut app, "j");
    press_code(&mut app, KeyCode::Enter);
    let stall = text(&drawn(&mut app, 100, 24, &palette));
    assert!(log.is_ascii() && stall.is_ascii(), "{log}{stall}");
    assert_snapshot!(format!("{log}\n{stall}"));
}

#[test]
fn a_chosen_stall_is_followed_and_the_top_stays_on_top() {
    let process = sample::sick(301);
    let mut app = log_of(&process, 4);
    next(&mut app, 4, &process, 1);
    assert_eq!((app.detail.log.selected(), began(&app, 0)), (0, Some(4)));
    press(&mut app, "j");
    assert_eq!(began(&app, app.detail.log.selected()), Some(3));
    next(&mut app, 5, &process, 1);
    assert_eq!((app.detail.log.selected(), began(&app, 2)), (2, Some(3)));
    press(&mut app, "G");
    assert_eq!(began(&app, app.detail.log.selected()), Some(0));
    press(&mut app, "g");
    assert_eq!(app.detail.log.selected(), 0);
}

#[test]
fn the_cursor_of_the_log_stays_on_the_screen() {
    let mut app = log_of(&sample::sick(301), 100);
    for (height, keys) in [(24, "GGkkk"), (12, "g"), (9, "jjjjjjjj"), (40, "G"), (8, "kk")] {
        press(&mut app, keys);
        let shown = screen(&mut app, 120, height);
        let cursors = shown.lines().filter(|line| line.starts_with('▶')).count();
        assert_eq!(cursors, 1, "{shown}");
    }
}

#[test]
fn an_open_stall_outlasts_the_log_and_escape_goes_back_step_by_step() {
    let process = sample::sick(301);
    let mut app = log_of(&process, 4);
    press_code(&mut app, KeyCode::Enter);
    for second in 4..10 {
        next(&mut app, second, &process, 100);
    }
    let open = app.detail.open.as_ref().unwrap();
    assert!(matches!(&open.subject, Subject::Ended(stall) if stall.began == sample::time(3)));
    assert!(screen(&mut app, 110, 40).contains("Stall of 182.0 ms on main 301 at 20:31:07 UTC"));
    press_code(&mut app, KeyCode::Esc);
    assert!(app.detail.open.is_none());
    press_code(&mut app, KeyCode::Esc);
    assert_eq!(app.detail.tab, Tab::Overview);
    press_code(&mut app, KeyCode::Esc);
    assert_eq!(app.page, Page::Table);
}

#[test]
fn a_turn_in_progress_becomes_the_stall_it_ended_as() {
    let mut app = log_of(&wedged(), 1);
    press_code(&mut app, KeyCode::Enter);
    assert!(matches!(app.detail.open.as_ref().unwrap().subject, Subject::InProgress { tid: 512, .. }));
    // It ends between the readings: the clocks of age and begin differ a little.
    let calm = sample::process(512, "pdf-render");
    let mut interval = sample::interval(1, vec![calm.clone()]);
    let mut stall = sample::sampled_stall(&calm, 0, 5_900 * sample::MS);
    stall.began = sample::time(0) - Duration::from_millis(4_998);
    interval.stalls = vec![stall];
    app.update(Arc::new(interval));
    assert!(matches!(&app.detail.open.as_ref().unwrap().subject, Subject::Ended(stall)
        if stall.duration_ns == 5_900 * sample::MS));
    assert_eq!(app.detail.log.selected(), 0);
}

#[test]
fn a_turn_in_progress_that_ends_without_a_stall_closes_its_page() {
    let mut app = log_of(&wedged(), 1);
    press_code(&mut app, KeyCode::Enter);
    app.update(Arc::new(sample::interval(1, vec![sample::process(512, "pdf-render")])));
    assert!(app.detail.open.is_none());
}

#[test]
fn a_click_selects_a_stall_and_opens_it() {
    use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
    let mut app = log_of(&sample::sick(301), 4);
    screen(&mut app, 110, 20);
    let row = app.hits.first_row_y + 2;
    let click = |app: &mut App, row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        app.mouse(MouseEvent { kind, column: 20, row, modifiers: KeyModifiers::NONE });
    };
    click(&mut app, row + 9);
    assert_eq!(app.detail.log.selected(), 0);
    click(&mut app, row);
    assert_eq!((app.detail.log.selected(), app.detail.open.is_none()), (2, true));
    click(&mut app, row);
    assert!(app.detail.open.is_some());
}

#[test]
fn the_table_blames_the_turn_in_progress_before_those_that_ended() {
    let mut app = running(3, &[wedged()]);
    assert_eq!(Column::Culprit.cell(&app.rows()[0]), "layoutTable table.ts:310");
    let calm = sample::process(512, "pdf-render");
    app.update(Arc::new(sample::interval(3, vec![calm.clone()])));
    assert_eq!(Column::Culprit.cell(&app.rows()[0]), "hashPassword auth.js:42");
    // A minute later it is forgotten.
    for second in 4..64 {
        app.update(Arc::new(sample::interval(second, vec![calm.clone()])));
    }
    assert_eq!(Column::Culprit.cell(&app.rows()[0]), "");
}

#[test]
fn rows_sort_by_their_culprit_and_those_without_stand_last() {
    let mut processes: Vec<_> = (1..=3).map(|pid| sample::process(pid, "service")).collect();
    processes[2].threads[0].busy_ns = 999 * sample::MS;
    let mut interval = sample::interval(0, processes.clone());
    for (process, function) in processes.iter().zip(["render", "hash"]) {
        let mut stall = sample::stall(process, 0, 60 * sample::MS);
        stall.culprit = Some(sample::culprit(function, "/srv/a.js", 1));
        interval.stalls.push(stall);
    }
    let mut app = app([interval]);
    app.sort.choose(Column::Culprit);
    app.refresh();
    let pids = |app: &App| app.rows().iter().map(|row| row.key.process.pid).collect::<Vec<_>>();
    assert_eq!(pids(&app), [2, 1, 3]);
    press(&mut app, "r");
    assert_eq!(pids(&app), [1, 2, 3]);
}

/// A stall of which every string is hostile, and one whose stack could not be read.
fn hostile() -> Vec<StackTime> {
    let name = hostile_name();
    let frames = vec![
        Frame { package: Some(name.as_str().into()), ..sample::frame(&name, &name, u32::MAX) },
        sample::native(FrameKind::Native, &name),
        sample::frame("", "", 0),
    ];
    vec![sample::stack_time(frames, crate::model::Category::Application, 90 * sample::MS)]
}

#[test]
fn hostile_frames_stay_in_their_line() {
    let mut process = wedged();
    let culprit = sample::culprit(&hostile_name(), &hostile_name(), u32::MAX);
    process.threads[0].current_turn_culprit = Some(culprit.clone());
    process.threads[0].current_turn_stack = Some(Arc::clone(&hostile()[0].stack));
    let mut stall = sample::stall(&process, 0, 90 * sample::MS);
    stall.stacks = hostile();
    stall.culprit = Some(culprit);
    let mut interval = sample::interval(0, vec![process.clone()]);
    interval.stalls = vec![stall];
    interval.stacks = vec![crate::model::ThreadStacks { process: process.id, tid: 512, stacks: hostile() }];
    for (width, height) in [(150, 20), (60, 12), (33, 9), (5, 5)] {
        for keys in ["", "l", "lx", "lj", "f", "b"] {
            let mut app = app([interval.clone()]);
            if !keys.is_empty() {
                press_code(&mut app, KeyCode::Enter);
            }
            press(&mut app, keys);
            if keys.len() > 1 {
                press_code(&mut app, KeyCode::Enter);
            }
            for palette in [Palette::new(true, false), Palette::new(false, true)] {
                let shown = text(&drawn(&mut app, width, height, &palette));
                assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{2066}', '\u{9b}', '\r']), "{shown}");
            }
        }
    }
}
