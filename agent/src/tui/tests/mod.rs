//! The screen as its reader sees it, and the state behind it.

mod live;
mod profiles;
mod screens;
mod stalls;
mod states;

use std::{sync::Arc, time::Duration};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};

use super::{
    palette::Palette,
    state::{Action, App},
    view,
};
use crate::{
    model::{Interval, interval::ProcessInterval},
    report::sample,
};

fn app(intervals: impl IntoIterator<Item = Interval>) -> App {
    let mut app = App::new(Duration::from_secs(1));
    for interval in intervals {
        app.update(Arc::new(interval));
    }
    app
}

/// `seconds` intervals of the same processes, with a stall of 182 ms each second in the first of them.
fn running(seconds: u64, processes: &[ProcessInterval]) -> App {
    app((0..seconds).map(|second| {
        let mut interval = sample::interval(second, processes.to_vec());
        interval.stalls = vec![sample::sampled_stall(&processes[0], second, 182 * sample::MS)];
        interval.pauses = vec![sample::long_pause(&processes[0], second)];
        interval.stacks = vec![sample::thread_stacks(&processes[0])];
        interval
    }))
}

fn press(app: &mut App, keys: &str) -> Action {
    keys.chars().fold(Action::None, |_, key| press_code(app, KeyCode::Char(key)))
}

fn press_code(app: &mut App, code: KeyCode) -> Action {
    app.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn drawn(app: &mut App, width: u16, height: u16, palette: &Palette) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, app, palette)).unwrap();
    terminal
}

/// The screen as text, without blanks at the ends of lines.
fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let lines = (0..buffer.area.height).map(|y| {
        let mut line = String::new();
        let mut covered = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            // The second cell of a wide character is its own.
            if covered > 0 {
                covered -= 1;
                continue;
            }
            covered = crate::report::printable::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn screen(app: &mut App, width: u16, height: u16) -> String {
    text(&drawn(app, width, height, &Palette::new(true, false)))
}

fn hostile_name() -> String {
    format!("\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}gpj\u{2066}\u{9b}1A\r\n{}", "日".repeat(3_400))
}
