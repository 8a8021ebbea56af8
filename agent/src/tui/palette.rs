//! Colours and characters. Meaning never hangs on colour alone: without it, what matters is bold or underlined.

use clap::ValueEnum;
use ratatui::{
    style::{Color, Modifier, Style},
    symbols::border,
};

use super::row::Level;
use crate::report::printable;

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

#[derive(Clone, Debug)]
pub(super) struct Palette {
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
    micro: "us",
    unicode: false,
};

impl Palette {
    pub(super) fn new(color: bool, ascii: bool) -> Self {
        let plain = Style::new();
        let colored = |color_used: Color| if color { plain.fg(color_used) } else { plain };
        Self {
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
    fn ascii_draws_nothing_else() {
        let palette = Palette::new(true, true);
        assert_eq!(palette.text("naïve-日本", 20), "na?ve-??");
        assert!(palette.symbols.levels.iter().all(|level| level.is_ascii()));
    }
}
