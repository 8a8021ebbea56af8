//! Makes strings that come from observed processes fit to be shown: on a terminal, in a log, as a label.

#![forbid(unsafe_code)]

/// Upper bounds, in characters, of what is kept of a string.
pub const NAME_MAX_CHARS: usize = 128;
/// `PATH_MAX` is 4096 bytes; nobody reads more than this of a path.
pub const PATH_MAX_CHARS: usize = 1024;
/// Longest attribute value that is exported.
pub const VALUE_MAX_CHARS: usize = 255;

/// Valid UTF-8 of at most `max_chars` characters without anything that moves the cursor, changes the direction
/// of the text or is invisible; each such character and each invalid byte sequence becomes U+FFFD. A longer
/// string ends in `…`.
///
/// Takes time proportional to `max_chars`, not to the input.
pub fn clean(bytes: &[u8], max_chars: usize) -> String {
    // A character has at most four bytes, so this prefix holds more than `max_chars` of them if it is cut at all.
    let prefix = &bytes[..bytes.len().min(max_chars.saturating_add(1).saturating_mul(4))];
    let text = String::from_utf8_lossy(prefix);
    let mut cleaned = String::with_capacity(text.len().min(max_chars.saturating_mul(4)));
    for (index, character) in text.chars().enumerate() {
        if index == max_chars {
            cleaned.pop();
            cleaned.push('…');
            break;
        }
        cleaned.push(if is_hostile(character) { char::REPLACEMENT_CHARACTER } else { character });
    }
    cleaned
}

/// As [`clean`], for a name: without white space around it; `None` if nothing visible is left.
pub fn clean_name(bytes: &[u8], max_chars: usize) -> Option<String> {
    let cleaned = clean(bytes.trim_ascii(), max_chars);
    let visible = cleaned.chars().any(|c| c != char::REPLACEMENT_CHARACTER && !c.is_whitespace());
    visible.then_some(cleaned)
}

/// Controls (C0, DEL, C1), and the format characters of Unicode's general category Cf that reorder or hide text,
/// with the line and paragraph separators.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{115f}'..='\u{1160}' // Hangul fillers: letters without a glyph
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' // Mongolian selectors and vowel separator
            | '\u{200b}'..='\u{200f}' // zero width, direction marks
            | '\u{2028}'..='\u{202e}' // separators, bidi embeddings and overrides
            | '\u{2060}'..='\u{206f}' // word joiner, bidi isolates, deprecated controls
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' // variation selectors
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}' // tags, more selectors
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_of_any_script_is_left_as_it_is() {
        for text in ["shop-api", "@acme/checkout", "größe 価格 цена", "a b", "🚀"] {
            assert_eq!(clean(text.as_bytes(), 80), text);
        }
    }

    #[test]
    fn escape_codes_cannot_reach_a_terminal() {
        // Red, set title, C1 CSI (U+009B), backspaces, newline, carriage return, DEL.
        let hostile = "\x1b[31mred\x1b]0;pwned\x07\u{9b}2J\x08\x08\n\r\x7f";
        let cleaned = clean(hostile.as_bytes(), 80);
        assert_eq!(
            cleaned,
            "\u{fffd}[31mred\u{fffd}]0;pwned\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
        assert!(!cleaned.chars().any(char::is_control));
    }

    #[test]
    fn text_cannot_be_reordered_or_hidden() {
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200b}d\u{2028}e\u{feff}".as_bytes(), 80), "a�b�c�d�e�");
    }

    #[test]
    fn invalid_utf8_becomes_the_replacement_character() {
        assert_eq!(clean(b"caf\xe9 \xff\xfe", 80), "caf� ��");
    }

    #[test]
    fn length_is_bounded_in_characters_with_an_ellipsis() {
        assert_eq!(clean(b"12345", 5), "12345");
        assert_eq!(clean(b"123456", 5), "1234…");
        assert_eq!(clean("ééééé".as_bytes(), 5), "ééééé");
        assert_eq!(clean("éééééé".as_bytes(), 5), "éééé…");
        assert_eq!(clean("🚀".repeat(1 << 18).as_bytes(), 3), "🚀🚀…");
        assert_eq!(clean(&vec![0xff; 1 << 20], 3), "��…");
        assert_eq!(clean(b"", 5), "");
    }

    #[test]
    fn a_name_without_anything_visible_is_no_name() {
        assert_eq!(clean_name(b"  api \n", 80).as_deref(), Some("api"));
        for nothing in [&b""[..], b"   ", b"\x1b\x07", "\u{200b}\u{202e} ".as_bytes()] {
            assert_eq!(clean_name(nothing, 80), None, "{nothing:?}");
        }
    }
}
