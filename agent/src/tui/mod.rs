//! `nodeprobe top` on a terminal. Intervals and keys go into [`state::App`], which knows no widget; the view draws
//! it and changes nothing but where things are on the screen.
//!
//! While it runs, nothing else may write to the terminal: the caller sends logs elsewhere.
#![forbid(unsafe_code)]

mod breakdown;
mod culprit;
mod detail;
mod filter;
mod flame;
mod flame_cursor;
mod history;
mod input;
mod palette;
mod row;
mod sort;
mod stacks;
mod stall_log;
pub mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod view;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crossterm::event::{self, Event};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

pub use self::palette::ColorChoice;
use self::{
    palette::Palette,
    state::{Action, App},
    terminal::Screen,
};
use crate::{
    model::Interval,
    report::{self, timestamp},
};

/// How often the thread that reads keys looks whether it is still wanted.
const INPUT_POLL: Duration = Duration::from_millis(100);
/// Keys typed faster than they are handled wait here, then in the terminal.
const INPUT_QUEUE: usize = 64;

#[derive(Debug)]
pub struct Options {
    pub color: ColorChoice,
    pub ascii: bool,
    /// Off by default: capturing the mouse takes the selection of text from the terminal.
    pub mouse: bool,
    /// The filter to begin with, empty for none.
    pub filter: String,
    /// Where `w` writes.
    pub snapshot_dir: PathBuf,
    /// Its value is the delay to begin with; `+` and `-` send another.
    pub delay: watch::Sender<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the terminal cannot be used; `nodeprobe top --batch` prints plain text instead")]
    Terminal(#[source] io::Error),
    #[error("the terminal `{term}` cannot place text on the screen; use `nodeprobe top --batch`")]
    Dumb { term: String },
    #[error("termination signals cannot be received")]
    Signals(#[source] io::Error),
    #[error("a part of nodeprobe panicked; its message is above")]
    Panicked,
}

/// Whether [`run`] can work with a terminal of this type (the value of `TERM`). If not, print in batch mode.
pub fn is_supported(term: Option<&str>) -> bool {
    !matches!(term, None | Some("" | "dumb" | "unknown"))
}

/// Shows `intervals` until the user quits or a termination signal comes. Dropping the future gives the terminal back
/// as well, so a caller may race it against whatever produces the intervals. When their sender is dropped, the last
/// interval stays on the screen.
///
/// # Errors
/// [`Error::Dumb`] and [`Error::Terminal`] without a usable terminal, [`Error::Signals`] if the process may not
/// listen to signals, [`Error::Panicked`] after a panic in another thread, when the screen is no longer ours.
pub async fn run(mut intervals: mpsc::Receiver<Arc<Interval>>, options: Options) -> Result<(), Error> {
    let term = std::env::var("TERM").ok();
    if !is_supported(term.as_deref()) {
        return Err(Error::Dumb { term: term.unwrap_or_default() });
    }
    let color = options.color.is_enabled(std::env::var("NO_COLOR").ok().as_deref());
    let palette = Palette::new(color, options.ascii);
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let mut app = App::new(*options.delay.borrow());
    app.set_filter(&options.filter);
    let mut screen = Screen::enter(options.mouse, color).map_err(Error::Terminal)?;
    let mut input = read_input();
    loop {
        if screen.is_lost() {
            return Err(Error::Panicked);
        }
        screen.terminal.draw(|frame| view::draw(frame, &mut app, &palette)).map_err(Error::Terminal)?;
        tokio::select! {
            interval = intervals.recv(), if !app.ended => match interval {
                Some(interval) => app.update(interval),
                None => app.ended = true,
            },
            received = input.recv() => {
                let mut next = received;
                // Whatever else waits is handled before the next drawing: a wheel sends dozens at once.
                while let Some(event) = next {
                    if !handle(&mut app, &event.map_err(Error::Terminal)?, &options) {
                        return Ok(());
                    }
                    next = input.try_recv().ok();
                }
                if input.is_closed() && input.is_empty() {
                    // The thread ends on an error only, which it has sent, and we have returned.
                    return Ok(());
                }
            }
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

/// `false`: the user quits.
fn handle(app: &mut App, event: &Event, options: &Options) -> bool {
    let action = match event {
        Event::Key(key) => app.key(*key),
        Event::Mouse(mouse) => {
            app.mouse(*mouse);
            Action::None
        }
        // A new size takes effect with the next drawing; the rest is not asked for.
        Event::Resize(..) | Event::Paste(_) | Event::FocusGained | Event::FocusLost => Action::None,
    };
    match action {
        Action::None => {}
        Action::Quit => return false,
        Action::Delay(delay) => {
            options.delay.send_replace(delay);
        }
        Action::WriteSnapshot => app.message = Some(write_snapshot(app, &options.snapshot_dir)),
    }
    true
}

/// Writes what is on the screen and tells how it went.
fn write_snapshot(app: &App, dir: &Path) -> String {
    let Some(interval) = &app.readings().interval else { return "nothing to write yet".to_owned() };
    let path = dir.join(format!("nodeprobe-{}.json", timestamp::basic(interval.time)));
    // `create_new` follows no symbolic link: we run as root, perhaps in a directory where others can write.
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(&report::json(interval)?));
    match written {
        Ok(()) => format!("wrote {}", path.display()),
        Err(error) => format!("cannot write {}: {error}", path.display()),
    }
}

/// Reads keys on a thread of its own, since the terminal can only be read by blocking. It ends soon after the receiver
/// is dropped.
fn read_input() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(INPUT_QUEUE);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let next = match event::poll(INPUT_POLL) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = next.is_err();
            if sender.blocking_send(next).is_err() || failed {
                break;
            }
        }
    });
    receiver
}
