//! The flame graph and the breakdown.

use insta::assert_snapshot;
use ratatui::style::{Color, Modifier};

use super::*;
use crate::{
    model::Signal,
    tui::{detail::Tab, state::Page},
};

/// On the page of a sick process, with `keys` typed.
fn page(keys: &str) -> App {
    let mut app = running(90, &[sample::sick(301)]);
    press_code(&mut app, KeyCode::Enter);
    press(&mut app, keys);
    app
}

fn selected(app: &App) -> Vec<&str> {
    app.detail.flame.path().iter().map(|key| &*key.function).collect()
}

const HANDLE: [&str; 4] = ["parserOnHeadersComplete", "parserOnIncoming", "next", "handle"];

#[test]
fn the_flame_graph_hangs_callees_below_their_callers() {
    assert_snapshot!(screen(&mut page("fjjjjjj"), 120, 20));
}

#[test]
fn a_zoomed_frame_takes_the_whole_width() {
    let mut app = page("fjjjj");
    press_code(&mut app, KeyCode::Enter);
    press(&mut app, "j");
    press_code(&mut app, KeyCode::Right);
    assert_snapshot!(screen(&mut app, 100, 16));
}

#[test]
fn without_colour_kinds_differ_by_their_filling() {
    let palette = Palette::new(false, true);
    let mut app = page("fjj");
    let flame = text(&drawn(&mut app, 100, 20, &palette));
    press(&mut app, "b");
    let breakdown = text(&drawn(&mut app, 100, 20, &palette));
    assert!(flame.is_ascii() && breakdown.is_ascii(), "{flame}{breakdown}");
    assert_snapshot!(format!("{flame}\n{breakdown}"));
}

#[test]
fn the_breakdown_tells_categories_and_packages() {
    let wide = screen(&mut page("b"), 130, 18);
    let narrow = screen(&mut page("b"), 50, 24);
    assert_snapshot!(format!("{wide}\n{narrow}"));
}

#[test]
fn a_narrow_flame_graph_keeps_the_selected_frame_in_sight() {
    assert_snapshot!(screen(&mut page("fjjjjjjjj"), 44, 12));
}

#[test]
fn kinds_have_colours_and_the_selected_frame_is_reversed() {
    let mut app = page("f");
    let terminal = drawn(&mut app, 120, 20, &Palette::new(true, false));
    let shown = text(&terminal);
    let y = |name: &str| shown.lines().position(|line| line.starts_with(name)).unwrap() as u16;
    let cell = |name: &str| terminal.backend().buffer()[(1, y(name))].clone();
    assert!(cell("▏all").modifier.contains(Modifier::REVERSED));
    assert_eq!(cell("▏parserOnIncoming").bg, Color::Cyan);
    assert_eq!(cell("▏handle").bg, Color::Green);
    assert_eq!(cell("▏login").bg, Color::Yellow);
}

#[test]
fn arrows_walk_the_graph_and_enter_zooms() {
    let mut app = page("f");
    assert_eq!(selected(&app), [""; 0]);
    press(&mut app, "kjjjj");
    assert_eq!(selected(&app), HANDLE);
    press(&mut app, "j");
    assert_eq!(selected(&app)[4..], ["login"]);
    press_code(&mut app, KeyCode::Right);
    assert_eq!(selected(&app)[4..], ["serializeCart"]);
    press_code(&mut app, KeyCode::Right);
    press_code(&mut app, KeyCode::Right);
    assert_eq!(selected(&app)[4..], ["audit"]);
    press(&mut app, "j");
    // To a callee of another caller, and back.
    press_code(&mut app, KeyCode::Left);
    assert_eq!(selected(&app)[4..], ["serializeCart", "v8::internal::Heap::CollectGarbage"]);
    press(&mut app, "k");
    press_code(&mut app, KeyCode::Enter);
    assert_eq!(app.detail.flame.zoom().len(), 5);
    // The caller is out of the picture now, as are other callees of it.
    press(&mut app, "kkg");
    press_code(&mut app, KeyCode::Left);
    assert_eq!(selected(&app)[4..], ["serializeCart"]);
    press_code(&mut app, KeyCode::Backspace);
    assert_eq!((app.detail.flame.zoom().len(), app.detail.tab), (0, Tab::Flame));
    press_code(&mut app, KeyCode::Esc);
    assert_eq!(app.detail.tab, Tab::Overview);
}

#[test]
fn zooms_are_left_one_after_the_other() {
    let mut app = page("fjj");
    press_code(&mut app, KeyCode::Enter);
    press_code(&mut app, KeyCode::Enter);
    press(&mut app, "jj");
    press_code(&mut app, KeyCode::Enter);
    let mut lengths = Vec::new();
    for _ in 0..3 {
        lengths.push(app.detail.flame.zoom().len());
        press_code(&mut app, KeyCode::Esc);
    }
    assert_eq!((lengths, app.detail.tab), (vec![4, 2, 0], Tab::Overview));
}

#[test]
fn the_selection_outlasts_new_readings_and_falls_back_when_its_frame_has_gone() {
    let process = sample::sick(301);
    let mut app = page("fjjjjj");
    press_code(&mut app, KeyCode::Enter);
    let before: Vec<String> = selected(&app).into_iter().map(str::to_owned).collect();
    let mut interval = sample::interval(91, vec![process.clone()]);
    interval.stacks = vec![sample::thread_stacks(&process)];
    app.update(Arc::new(interval));
    assert_eq!(selected(&app), before);
    // A minute without the login: what is left of its path is selected.
    for second in 92..160 {
        let mut interval = sample::interval(second, vec![process.clone()]);
        let mut stacks = sample::thread_stacks(&process);
        stacks.stacks.remove(0);
        interval.stacks = vec![stacks];
        app.update(Arc::new(interval));
    }
    assert_eq!((selected(&app), app.detail.flame.zoom().len()), (HANDLE.to_vec(), 0));
}

#[test]
fn another_thread_and_a_frozen_screen_have_their_own_profile() {
    let mut app = page("fjjj");
    press_code(&mut app, KeyCode::Tab);
    // The worker has no samples.
    assert!(selected(&app).is_empty());
    let shown = screen(&mut app, 100, 16);
    assert!(shown.contains("No stack was sampled in the last 1m00s"), "{shown}");
    assert!(shown.contains("which it was 40.2 % of the time"), "{shown}");
    press_code(&mut app, KeyCode::Tab);
    let before = screen(&mut app, 100, 16);
    press(&mut app, " ");
    for second in 91..200 {
        app.update(Arc::new(sample::interval(second, vec![sample::sick(301)])));
    }
    assert_eq!(before.lines().nth(8), screen(&mut app, 100, 16).lines().nth(8));
    press(&mut app, " ");
    assert!(screen(&mut app, 100, 16).contains("No stack was sampled"));
}

#[test]
fn a_missing_signal_is_the_reason_given() {
    let blind = sample::with_unavailable(sample::process(1, "blind"), Signal::EventLoop, "no symbols");
    for key in ["f", "b"] {
        let mut app = app([sample::interval(0, vec![blind.clone()])]);
        press_code(&mut app, KeyCode::Enter);
        press(&mut app, key);
        let shown = screen(&mut app, 100, 12);
        assert!(shown.contains("No stacks: the signal event_loop is not observed."), "{shown}");
        assert!(shown.contains("no symbols"), "{shown}");
    }
}

#[test]
fn keys_of_tabs_open_and_close_them() {
    let mut app = page("");
    for (key, tab) in [
        ("l", Tab::Stalls),
        ("f", Tab::Flame),
        ("f", Tab::Overview),
        ("b", Tab::Breakdown),
        ("3", Tab::Flame),
        ("1", Tab::Overview),
    ] {
        press(&mut app, key);
        assert_eq!(app.detail.tab, tab, "after {key}");
    }
    press_code(&mut app, KeyCode::Enter);
    assert_eq!(app.detail.tab, Tab::Stalls);
    // The next page begins with its overview.
    press_code(&mut app, KeyCode::Esc);
    press_code(&mut app, KeyCode::Esc);
    assert_eq!(app.page, Page::Table);
    press_code(&mut app, KeyCode::Enter);
    assert_eq!(app.detail.tab, Tab::Overview);
}

#[test]
fn a_long_breakdown_scrolls_to_its_end_and_not_beyond() {
    let mut app = page("bjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj");
    let shown = screen(&mut app, 60, 14);
    assert!(shown.contains("SELF with the Node"), "{shown}");
    press(&mut app, "g");
    assert!(screen(&mut app, 60, 14).contains("CATEGORY"));
}

#[test]
fn no_size_of_the_screen_panics() {
    let palette = Palette::new(true, false);
    let sizes = [(0, 0), (1, 1), (2, 8), (3, 6), (7, 7), (10, 100), (200, 5), (200, 6), (200, 9), (400, 120)];
    for keys in ["l", "lG", "f", "fjjjjjjj", "b", "bjjj"] {
        for enter in [false, true] {
            let mut app = page(keys);
            if enter {
                press_code(&mut app, KeyCode::Enter);
            }
            // The same state through all sizes, as a terminal that is resized.
            for (width, height) in sizes.into_iter().chain(sizes.into_iter().rev()) {
                drawn(&mut app, width, height, &palette);
            }
        }
    }
}
