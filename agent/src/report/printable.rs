//! The second wall before the terminal. Names are cleaned when they are read; whatever slips through there, or
//! comes on another way, must still not move the cursor, recolour the screen or reorder a line.

use unicode_width::UnicodeWidthChar as _;

/// Marks that combine with the character before them; more than this on one character is an attack on the eye.
const MAX_COMBINING: usize = 2;

/// `text` without what controls a terminal (C0, C1, line separators) or the direction of a line, cut to at most
/// `columns` columns of the screen; a cut is shown by `ellipsis` in the last column.
pub fn fit(text: &str, columns: usize, ellipsis: char) -> String {
    let mut fitted = String::new();
    let mut used = 0;
    let mut combining = 0;
    // Where to cut if an ellipsis has to go in: the end of what leaves its column free.
    let mut cut = 0;
    for character in text.chars().map(replace_control) {
        let width = character.width().unwrap_or(0);
        if width == 0 {
            combining += 1;
            if combining > MAX_COMBINING || used == 0 {
                continue;
            }
        } else {
            combining = 0;
        }
        if used + width > columns {
            fitted.truncate(cut);
            if columns > 0 {
                fitted.push(ellipsis);
            }
            return fitted;
        }
        used += width;
        fitted.push(character);
        if used < columns {
            cut = fitted.len();
        }
    }
    fitted
}

/// The width of `text` on the screen.
pub fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

fn replace_control(character: char) -> char {
    match character {
        // Marks, embeddings, overrides and isolates that change the direction of what follows; separators that
        // some terminals take as a line break; the byte order mark; tags, which are invisible.
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => '?',
        // C0, DEL and C1: Unicode category Cc.
        c if c.is_control() => '?',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_escape() {
        assert_eq!(fit("\u{1b}[2Jowned\u{9b}31m\r\n", 40, '…'), "?[2Jowned?31m??");
    }

    #[test]
    fn direction_overrides_are_replaced() {
        assert_eq!(fit("a\u{202e}gpj.exe\u{2066}", 40, '…'), "a?gpj.exe?");
    }

    #[test]
    fn text_is_cut_by_columns_of_the_screen() {
        // Each of these ideographs is two columns wide.
        assert_eq!(fit("日本語", 6, '…'), "日本語");
        assert_eq!(fit("日本語", 5, '…'), "日本…");
        assert_eq!(fit("日本語", 4, '…'), "日…");
        assert_eq!(fit("checkout", 5, '~'), "chec~");
        assert_eq!(fit("checkout", 1, '~'), "~");
        assert_eq!(fit("checkout", 0, '~'), "");
        assert_eq!(fit("checkout", 8, '~'), "checkout");
    }

    #[test]
    fn a_pile_of_combining_marks_is_cut() {
        let pile = format!("e{}x", "\u{301}".repeat(10_000));
        assert_eq!(fit(&pile, 40, '…'), "e\u{301}\u{301}x");
        assert_eq!(width(&fit(&pile, 40, '…')), 2);
    }
}
