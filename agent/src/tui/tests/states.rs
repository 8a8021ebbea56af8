use std::collections::BTreeSet;

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::*;
use crate::{
    model::Signal,
    tui::{
        sort::Column,
        state::{Overlay, Page},
    },
};

/// Three processes: 1 is the busiest, 2 has the most memory, 3 the longest pauses; 2 has two workers.
fn three() -> Vec<ProcessInterval> {
    let mut busy = sample::process(1, "alpha");
    busy.threads[0].busy_ns = 900 * sample::MS;
    busy.threads[0].idle_ns = 100 * sample::MS;
    let mut large = sample::process(2, "beta");
    large.rss_bytes = Some(900 * sample::MIB);
    large.threads.push(sample::thread(21, crate::model::ThreadKind::Worker));
    large.threads.push(sample::thread(22, crate::model::ThreadKind::Worker));
    large.threads[2].busy_ns = 800 * sample::MS;
    let mut paused = sample::process(3, "gamma");
    paused.minor = sample::pauses([20 * sample::MS; 3], 50, 40);
    vec![busy, large, paused]
}

/// Pid and worker tid of each row.
fn order(app: &App) -> Vec<(u32, Option<u32>)> {
    app.rows().iter().map(|row| (row.key.process.pid, row.key.worker_tid)).collect()
}

fn pids(app: &App) -> Vec<u32> {
    order(app).into_iter().filter(|(_, tid)| tid.is_none()).map(|(pid, _)| pid).collect()
}

#[test]
fn the_busiest_process_stands_on_top() {
    assert_eq!(order(&running(1, &three())), [(1, None), (2, None), (2, Some(21)), (2, Some(22)), (3, None)]);
}

#[test]
fn letters_sort_by_their_column_and_r_reverses() {
    let mut app = running(1, &three());
    for (key, expected) in [("M", [2, 1, 3]), ("C", [3, 1, 2]), ("N", [1, 2, 3]), ("r", [3, 2, 1])] {
        press(&mut app, key);
        assert_eq!(pids(&app), expected, "after {key}");
    }
}

#[test]
fn arrows_move_the_sort_over_all_columns_and_around() {
    let mut app = running(1, &three());
    let mut seen = vec![app.sort.column];
    for _ in 1..Column::ALL.len() {
        press(&mut app, ">");
        seen.push(app.sort.column);
        // Each order has every row once.
        assert_eq!(order(&app).into_iter().collect::<BTreeSet<_>>().len(), 5);
    }
    assert!(Column::ALL.iter().all(|column| seen.contains(column)));
    press(&mut app, "><");
    assert_eq!(app.sort.column, *seen.last().unwrap());
}

#[test]
fn what_is_not_known_stands_last_in_either_direction() {
    let mut processes = three();
    processes[1].rss_bytes = None;
    processes[2].rss_bytes = Some(1);
    let mut app = running(1, &processes);
    press(&mut app, "M");
    assert_eq!(pids(&app), [1, 3, 2]);
    press(&mut app, "r");
    assert_eq!(pids(&app), [3, 1, 2]);
}

#[test]
fn versions_sort_by_number() {
    let mut processes = three();
    for (process, version) in processes.iter_mut().zip(["20.10.0", "20.9.0", "9.0.0"]) {
        let identity =
            crate::model::Identity { node_version: Some(version.to_owned()), ..Default::default() };
        process.identity = Arc::new(identity);
    }
    let mut app = running(1, &processes);
    app.sort.choose(Column::Node);
    app.refresh();
    assert_eq!(pids(&app), [3, 2, 1]);
}

#[test]
fn without_the_tree_every_thread_is_a_row_of_its_own() {
    let mut app = running(1, &three());
    press(&mut app, "t");
    assert_eq!(order(&app), [(1, None), (2, Some(22)), (2, None), (2, Some(21)), (3, None)]);
}

#[test]
fn a_chosen_row_is_followed_when_the_order_changes() {
    let mut app = running(1, &three());
    press(&mut app, "G");
    let chosen = app.rows()[app.selected()].key;
    assert_eq!(chosen.process.pid, 3);
    press(&mut app, "C");
    assert_eq!(app.selected(), 0);
    assert_eq!(app.rows()[app.selected()].key, chosen);
    // It ends: the cursor stays in the table.
    app.update(Arc::new(sample::interval(5, three()[..1].to_vec())));
    assert_eq!(app.selected(), 0);
    assert_eq!(pids(&app), [1]);
    app.update(Arc::new(sample::interval(6, Vec::new())));
    press(&mut app, "jkGg");
    press_code(&mut app, KeyCode::Enter);
    assert_eq!(app.page, Page::Table);
}

#[test]
fn the_cursor_stays_on_the_screen() {
    let processes: Vec<_> = (1..=100).map(|pid| sample::process(pid, "many")).collect();
    let mut app = running(1, &processes);
    app.set_viewport(10);
    for (keys, selected, offset) in [("jjj", 3, 0), ("G", 99, 90), ("k", 98, 90), ("g", 0, 0)] {
        press(&mut app, keys);
        assert_eq!((app.selected(), app.offset()), (selected, offset), "after {keys}");
    }
    press_code(&mut app, KeyCode::PageDown);
    press_code(&mut app, KeyCode::PageDown);
    assert_eq!((app.selected(), app.offset()), (20, 11));
    press_code(&mut app, KeyCode::PageUp);
    assert_eq!((app.selected(), app.offset()), (10, 10));
    app.set_viewport(200);
    assert_eq!(app.offset(), 0);
}

#[test]
fn a_filter_narrows_while_it_is_typed_and_escape_clears_it() {
    let mut app = running(1, &three());
    press(&mut app, "/^(alp|gam");
    // Not closed yet, hence no expression, and no name has these characters.
    assert_eq!(pids(&app), [0; 0]);
    press(&mut app, ")");
    assert_eq!(pids(&app), [1, 3]);
    // Keys with a meaning elsewhere are text here.
    press(&mut app, "q");
    assert_eq!(pids(&app), [0; 0]);
    press_code(&mut app, KeyCode::Backspace);
    press_code(&mut app, KeyCode::Enter);
    assert_eq!((pids(&app), &app.overlay), (vec![1, 3], &None));
    press_code(&mut app, KeyCode::Esc);
    assert_eq!(pids(&app), [1, 2, 3]);
}

#[test]
fn a_frozen_screen_stands_still_and_loses_nothing() {
    let mut app = running(1, &three());
    press(&mut app, " ");
    for second in 1..4 {
        let mut interval = sample::interval(second, three()[..1].to_vec());
        interval.lost.insert("ring_full", 1);
        app.update(Arc::new(interval));
    }
    assert_eq!(pids(&app), [1, 2, 3]);
    assert_eq!(app.readings().lost["ring_full"], 0);
    assert_eq!(app.readings().interval.as_ref().unwrap().time, sample::time(0));
    press(&mut app, "p");
    assert_eq!(pids(&app), [1]);
    assert_eq!(app.readings().lost["ring_full"], 3);
    let history = app.readings().history.process(three()[0].id).unwrap();
    assert_eq!(history.threads[&1].samples.values.len(), 4);
}

#[test]
fn the_page_of_a_process_that_ends_stays_until_it_is_left() {
    let mut app = running(1, &three());
    press_code(&mut app, KeyCode::Enter);
    assert!(matches!(app.page, Page::Detail(key) if key.process.pid == 1));
    app.update(Arc::new(sample::interval(1, three()[1..].to_vec())));
    assert!(matches!(app.page, Page::Detail(_)));
    assert!(screen(&mut app, 120, 30).contains("ENDED"));
    press_code(&mut app, KeyCode::Esc);
    app.update(Arc::new(sample::interval(2, three()[1..].to_vec())));
    assert_eq!((app.page, pids(&app)), (Page::Table, vec![2, 3]));
}

#[test]
fn a_pid_used_again_is_another_process() {
    let mut app = running(5, &three());
    let mut successor = sample::process(1, "alpha");
    successor.id.start_ticks += 1;
    app.update(Arc::new(sample::interval(5, vec![successor.clone()])));
    let history = app.readings().history.process(successor.id).unwrap();
    assert_eq!((history.threads[&1].samples.values.len(), history.stalls.len()), (1, 0));
}

#[test]
fn plus_and_minus_ask_for_another_delay_within_bounds() {
    let mut app = running(1, &three());
    assert_eq!(press(&mut app, "+"), Action::Delay(Duration::from_secs(2)));
    assert_eq!(press(&mut app, "--"), Action::Delay(Duration::from_millis(500)));
    assert_eq!(press(&mut app, "---"), Action::None);
    assert_eq!(app.delay, Duration::from_millis(250));
    press(&mut app, "++++++++++");
    assert_eq!(app.delay, Duration::from_mins(1));
}

#[test]
fn quitting_writing_and_help_answer_on_every_page() {
    for detail in [false, true] {
        let mut app = running(1, &three());
        if detail {
            press_code(&mut app, KeyCode::Enter);
        }
        assert_eq!(press(&mut app, "w"), Action::WriteSnapshot);
        press(&mut app, "?");
        assert!(matches!(app.overlay, Some(Overlay::Help { .. })));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.key(interrupt), Action::Quit);
        press(&mut app, "x");
        assert_eq!((press(&mut app, "q"), &app.overlay), (Action::Quit, &None));
    }
}

#[test]
fn a_click_sorts_selects_and_opens() {
    let mut app = running(1, &three());
    screen(&mut app, 150, 12);
    let click = |app: &mut App, column, row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        app.mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE });
    };
    let (begin, _, _) = *app.hits.columns.iter().find(|(_, _, column)| *column == Column::Rss).unwrap();
    let header_y = app.hits.header_y;
    click(&mut app, begin, header_y);
    assert_eq!(pids(&app), [2, 1, 3]);
    click(&mut app, begin, header_y);
    assert_eq!(pids(&app), [1, 3, 2]);
    let first_row_y = app.hits.first_row_y;
    click(&mut app, 3, first_row_y + 1);
    assert_eq!(app.rows()[app.selected()].key.process.pid, 3);
    click(&mut app, 3, first_row_y + 1);
    assert!(matches!(app.page, Page::Detail(key) if key.process.pid == 3));
    // Outside of all rows nothing happens.
    press_code(&mut app, KeyCode::Esc);
    click(&mut app, 3, first_row_y + 9);
    assert_eq!(app.page, Page::Table);
}

#[test]
fn a_signal_that_is_not_observed_is_not_shown_as_zero() {
    let mut process = sample::process(1, "blind");
    for signal in [Signal::EventLoop, Signal::Gc, Signal::Stdio] {
        process = sample::with_unavailable(process, signal, "no symbols");
    }
    let row = &running(1, &[process]).rows()[0].clone();
    for column in [Column::Utilization, Column::TurnP99, Column::Stalls, Column::GcRatio, Column::Blocked] {
        assert_eq!(column.cell(row), "-", "{column:?}");
    }
    // The same process with all signals shows numbers.
    let row = &running(1, &[sample::process(1, "seen")]).rows()[0].clone();
    for column in [Column::Utilization, Column::TurnP99, Column::Stalls, Column::GcRatio, Column::Blocked] {
        assert_ne!(column.cell(row), "-", "{column:?}");
    }
}

#[test]
fn names_of_any_size_and_direction_do_not_grow_the_state() {
    let app = running(2, &[sample::process(1, &hostile_name())]);
    assert!(app.rows()[0].name.len() < 500);
    assert!(!app.rows()[0].name.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn a_snapshot_is_written_once_and_follows_no_link() {
    let dir = tempfile::tempdir().unwrap();
    let app = running(1, &three());
    let path = dir.path().join("nodeprobe-20261123T203104.250Z.json");
    assert_eq!(crate::tui::write_snapshot(&app, dir.path()), format!("wrote {}", path.display()));
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(written["processes"].as_array().unwrap().len(), 3);
    assert!(crate::tui::write_snapshot(&app, dir.path()).starts_with("cannot write"));

    let target = dir.path().join("precious");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(crate::tui::write_snapshot(&app, dir.path()).starts_with("cannot write"));
    assert!(!target.exists());
}

#[test]
fn a_dumb_terminal_is_not_supported() {
    assert!(!crate::tui::is_supported(Some("dumb")));
    assert!(!crate::tui::is_supported(None));
    assert!(crate::tui::is_supported(Some("xterm-256color")));
}
