//! Colours and characters. Meaning never hangs on colour alone: without it, what matters is bold or underlined.

use clap::ValueEnum;
use ratatui::{
    style::{Color, Modifier, Style},
    symbols::border,
};

use super::row::Level;
use crate::{
    model::{Cause, FrameKind},
    report::printable,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// Colours unless `NO_COLOR` is set
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// `no_color` is the value of `NO_COLOR`, which counts when it is not empty: <https://no-color.org>.
    pub fn is_enabled(self, no_color: Option<&str>) -> bool {
        match self {
            Self::Auto => no_color.is_none_or(str::is_empty),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Paths are cut there before their begin is.
const MAX_TAIL_COLUMNS: usize = 1_024;

/// Kinds of code in a flame graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    Application,
    Package,
    Node,
    Builtin,
    Native,
}

impl Shade {
    pub(super) const ALL: [Self; 5] =
        [Self::Application, Self::Package, Self::Node, Self::Builtin, Self::Native];

    pub(super) fn of(kind: FrameKind, package: Option<&str>) -> Self {
        match kind {
            FrameKind::JavaScript if package.is_some() => Self::Package,
            FrameKind::JavaScript => Self::Application,
            FrameKind::NodeInternal => Self::Node,
            FrameKind::Builtin => Self::Builtin,
            FrameKind::Native => Self::Native,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Package => "package",
            Self::Node => "node",
            Self::Builtin => "builtin",
            Self::Native => "native",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Palette {
    color: bool,
    pub title: Style,
    pub dim: Style,
    pub key: Style,
    pub column: Style,
    pub sorted: Style,
    pub selected: Style,
    pub accent: Style,
    pub warning: Style,
    pub critical: Style,
    pub symbols: Symbols,
}

/// What is drawn with more than letters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbols {
    /// From empty to full.
    pub levels: [&'static str; 9],
    pub border: border::Set<'static>,
    pub cursor: &'static str,
    pub branch: &'static str,
    pub last_branch: &'static str,
    pub descending: &'static str,
    pub ascending: &'static str,
    pub arrow: &'static str,
    pub ellipsis: char,
    /// Between two frames of a flame graph.
    pub separator: char,
    pub micro: &'static str,
    /// Names may hold anything; without this, what is not ASCII is shown as `?`.
    pub unicode: bool,
}

const UNICODE: Symbols = Symbols {
    levels: [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    border: border::PLAIN,
    cursor: "▶",
    branch: "├─ ",
    last_branch: "└─ ",
    descending: "▼",
    ascending: "▲",
    arrow: "→",
    ellipsis: '…',
    separator: '▏',
    micro: "µs",
    unicode: true,
};

const ASCII: Symbols = Symbols {
    levels: [" ", ".", ".", ":", "-", "=", "+", "*", "#"],
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
    cursor: ">",
    branch: "|- ",
    last_branch: "`- ",
    descending: "v",
    ascending: "^",
    arrow: "->",
    ellipsis: '~',
    separator: '|',
    micro: "us",
    unicode: false,
};

impl Palette {
    pub(super) fn new(color: bool, ascii: bool) -> Self {
        let plain = Style::new();
        let colored = |color_used: Color| if color { plain.fg(color_used) } else { plain };
        Self {
            color,
            title: colored(Color::Cyan).add_modifier(Modifier::BOLD),
            // Dim text is unreadable on some terminals, grey is not; without colour it stays plain.
            dim: colored(Color::DarkGray),
            key: colored(Color::Cyan).add_modifier(Modifier::BOLD),
            column: plain.add_modifier(Modifier::BOLD),
            sorted: colored(Color::Cyan).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            selected: plain.add_modifier(Modifier::REVERSED),
            accent: colored(Color::Cyan),
            warning: colored(Color::Yellow).add_modifier(Modifier::BOLD),
            critical: colored(Color::Red).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            symbols: if ascii { ASCII } else { UNICODE },
        }
    }

    pub(super) fn level(&self, level: Level) -> Style {
        match level {
            Level::Normal => Style::new(),
            Level::Warning => self.warning,
            Level::Critical => self.critical,
        }
    }

    /// A string that came from a process, safe to draw in `columns` columns.
    pub(super) fn text(&self, text: &str, columns: usize) -> String {
        let ellipsis = self.symbols.ellipsis;
        if self.symbols.unicode {
            return printable::fit(text, columns, ellipsis);
        }
        let ascii: String = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        printable::fit(&ascii, columns, ellipsis)
    }

    /// As [`Self::text`], but what does not fit is cut at the begin: the end of a path says most.
    pub(super) fn tail(&self, text: &str, columns: usize) -> String {
        let text = self.text(text, MAX_TAIL_COLUMNS);
        let width = printable::width(&text);
        if width <= columns {
            return text;
        }
        // The ellipsis takes a column.
        let mut over = (width + 1).saturating_sub(columns);
        let mut rest = text.chars();
        while over > 0
            && let Some(character) = rest.next()
        {
            over = over.saturating_sub(printable::width(character.encode_utf8(&mut [0; 4])));
        }
        let kept: String = std::iter::once(self.symbols.ellipsis).chain(rest).collect();
        self.text(&kept, columns)
    }

    /// The letter and the colour of a cause. The letters alone are enough.
    pub(super) fn cause(&self, cause: Cause) -> (char, Style) {
        let (letter, color) = match cause {
            Cause::JavaScript => ('J', Color::Yellow),
            Cause::Compile => ('C', Color::LightYellow),
            Cause::Native => ('N', Color::Magenta),
            Cause::OnCpu => ('R', Color::Green),
            Cause::Gc => ('G', Color::Red),
            Cause::StdioWrite => ('W', Color::Blue),
            Cause::SyncIo => ('I', Color::Cyan),
            Cause::ChildProcess => ('P', Color::LightBlue),
            Cause::Lock => ('L', Color::LightMagenta),
            Cause::CpuWait => ('Q', Color::LightRed),
            Cause::Unknown => ('?', Color::Gray),
        };
        (letter, self.on(color))
    }

    /// How frames of a kind are filled and coloured. Without colour the filling tells them apart.
    pub(super) fn shade(&self, shade: Shade) -> (char, Style) {
        let (fill, color) = match shade {
            Shade::Application => ('=', Color::Yellow),
            Shade::Package => ('-', Color::Green),
            Shade::Node => ('.', Color::Cyan),
            Shade::Builtin => (':', Color::LightBlue),
            Shade::Native => ('_', Color::Magenta),
        };
        (if self.color { ' ' } else { fill }, self.on(color))
    }

    /// Black on `color`, which is readable on all of those above whatever the terminal makes of them.
    fn on(&self, color: Color) -> Style {
        if self.color { Style::new().bg(color).fg(Color::Black) } else { Style::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_counts_when_it_is_not_empty_and_nothing_else_was_asked_for() {
        assert!(ColorChoice::Auto.is_enabled(None));
        assert!(ColorChoice::Auto.is_enabled(Some("")));
        assert!(!ColorChoice::Auto.is_enabled(Some("1")));
        assert!(ColorChoice::Always.is_enabled(Some("1")));
        assert!(!ColorChoice::Never.is_enabled(None));
    }

    #[test]
    fn a_path_keeps_its_end() {
        let palette = Palette::new(true, false);
        assert_eq!(palette.tail("/srv/app/auth.js:42", 19), "/srv/app/auth.js:42");
        assert_eq!(palette.tail("/srv/app/auth.js:42", 11), "…auth.js:42");
        assert_eq!(palette.tail("/日本/a.js", 7), "…/a.js");
        assert_eq!(palette.tail("/srv", 1), "…");
        assert_eq!(palette.tail("/srv", 0), "");
        assert_eq!(Palette::new(true, true).tail("/日本/a.js", 7), "~?/a.js");
    }

    #[test]
    fn causes_have_letters_of_their_own() {
        let palette = Palette::new(false, true);
        let letters: std::collections::BTreeSet<char> =
            Cause::ALL.into_iter().map(|cause| palette.cause(cause).0).collect();
        assert_eq!(letters.len(), Cause::ALL.len());
    }

    #[test]
    fn ascii_draws_nothing_else() {
        let palette = Palette::new(true, true);
        assert_eq!(palette.text("naïve-日本", 20), "na?ve-??");
        assert!(palette.symbols.levels.iter().all(|level| level.is_ascii()));
    }
}
