//! Takes the terminal and gives it back: at the end, on an error, when the future is dropped and on a panic.

use std::{
    io::{self, Stdout},
    panic::{self, PanicHookInfo},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor,
    event::{DisableMouseCapture, EnableMouseCapture},
    execute, style,
    terminal::{self as tty, ClearType, EnterAlternateScreen, LeaveAlternateScreen},
};
use ratatui::{Terminal, backend::CrosstermBackend};

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send + 'static>;

/// The terminal while `top` has it.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
    panicked: Arc<AtomicBool>,
    previous_hook: Arc<Hook>,
}

impl Screen {
    /// Raw mode, alternate screen, no cursor. A panic anywhere in the program gives the terminal back before its
    /// message is printed.
    pub(super) fn enter(mouse: bool, color: bool) -> io::Result<Self> {
        // crossterm reads NO_COLOR itself; the palette has already decided, with --color in mind.
        style::force_color_output(color);
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        let panicked = Arc::new(AtomicBool::new(false));
        let previous_hook: Arc<Hook> = Arc::new(panic::take_hook());
        let (flag, previous) = (Arc::clone(&panicked), Arc::clone(&previous_hook));
        panic::set_hook(Box::new(move |info| {
            if !flag.swap(true, Ordering::SeqCst) {
                restore();
            }
            previous(info);
        }));
        // From here on dropping `screen` undoes whatever of the following was done.
        let screen = Self { terminal, panicked, previous_hook };
        tty::enable_raw_mode()?;
        // Not `Terminal::clear`: it asks the terminal where its cursor is and fails after two seconds on those that do
        // not answer.
        execute!(io::stdout(), EnterAlternateScreen, tty::Clear(ClearType::All), cursor::Hide)?;
        if mouse {
            execute!(io::stdout(), EnableMouseCapture)?;
        }
        Ok(screen)
    }

    /// Another thread panicked and the terminal was given back: it must not be drawn on any more.
    pub(super) fn is_lost(&self) -> bool {
        self.panicked.load(Ordering::SeqCst)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !self.panicked.swap(true, Ordering::SeqCst) {
            restore();
        }
        // The hook cannot be changed by a thread that is panicking; it does nothing any more but call the previous.
        if !std::thread::panicking() {
            let previous = Arc::clone(&self.previous_hook);
            panic::set_hook(Box::new(move |info| previous(info)));
        }
    }
}

/// Gives the terminal back. Errors have nowhere to go: the terminal itself may be what failed.
fn restore() {
    drop(execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, cursor::Show));
    drop(tty::disable_raw_mode());
}
