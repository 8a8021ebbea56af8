//! Where a map is, and where the sources it names are. Text only.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

const COMMENTS: [&[u8]; 2] = [b"//# sourceMappingURL=", b"//@ sourceMappingURL="];
/// A path longer than this does not exist on Linux.
const PATH_MAX_BYTES: usize = 4096;

/// The URL of the last such comment, if nothing but white space and comments follow.
pub(super) fn in_tail(tail: &[u8]) -> Option<String> {
    let (at, comment) = COMMENTS
        .iter()
        .filter_map(|comment| Some((memchr::memmem::rfind(tail, comment)?, comment)))
        .max_by_key(|(at, _)| *at)?;
    let mut lines = tail[at + comment.len()..].split(|byte| matches!(byte, b'\n' | b'\r'));
    let url = lines.next()?.trim_ascii();
    if lines.any(|line| !(line.trim_ascii().is_empty() || line.trim_ascii_start().starts_with(b"//"))) {
        return None;
    }
    let url = std::str::from_utf8(url).ok()?;
    (!url.is_empty() && !url.contains([' ', '"', '\'', '`'])).then(|| url.to_owned())
}

pub(super) fn is_base64(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

/// What a `data:` URL holds.
pub(super) fn data(url: &str) -> Option<Vec<u8>> {
    let (kind, payload) = url.get(5..)?.split_once(',')?;
    if kind.to_ascii_lowercase().ends_with(";base64") {
        return base64(payload.as_bytes());
    }
    Some(percent_decode_str(payload).collect())
}

/// The standard alphabet; ends at the padding. `None`: another character.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for &digit in text.iter().take_while(|digit| **digit != b'=') {
        bits = bits << 6 | u32::from(sextet(digit)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    Some(decoded)
}

/// The value of a digit of base 64.
pub(super) fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// The path of the map that `url` names in `script`; `None`: it is not in the file system.
pub(super) fn map_path(script: &str, url: &str) -> Option<String> {
    if url.len() > PATH_MAX_BYTES || script.len() > PATH_MAX_BYTES {
        return None;
    }
    let path = match (url.strip_prefix("file://"), has_scheme(url)) {
        (Some(path), _) => path,
        (None, true) => return None,
        (None, false) => url,
    };
    let path = percent_decode_str(path.split(['?', '#']).next()?).decode_utf8().ok()?;
    let joined = if path.starts_with('/') { path } else { join(directory(script), &path) };
    joined.starts_with('/').then(|| normalize(&joined))
}

/// The path of an original source, with the root the map tells for all of them.
pub(super) fn source(base: &str, root: Option<&str>, source: &str) -> Option<String> {
    if source.is_empty() || source.len() > PATH_MAX_BYTES {
        return None;
    }
    let root = root.unwrap_or_default();
    let whole = if root.is_empty() || source.starts_with('/') || has_scheme(source) {
        Cow::Borrowed(source)
    } else {
        join(root, source)
    };
    if let Some(path) = whole.strip_prefix("file://") {
        return Some(normalize(&percent_decode_str(path).decode_utf8_lossy()));
    }
    // `webpack://name/./src/a.ts?12ab`: a path in the project, wherever that was. The same for `webpack-internal`, `rsc`.
    if let Some((_, inside)) = whole.strip_prefix("webpack").and_then(|rest| rest.split_once("://")) {
        let (_, path) = inside.split_once('/')?;
        return Some(normalize(path.split('?').next()?));
    }
    if has_scheme(&whole) {
        return Some(whole.into_owned());
    }
    Some(normalize(&if whole.starts_with('/') { whole } else { join(base, &whole) }))
}

/// Without the last component.
pub(super) fn directory(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at.max(1)])
}

fn join<'a>(directory: &str, path: &'a str) -> Cow<'a, str> {
    match directory {
        "" => Cow::Borrowed(path),
        directory => Cow::Owned(format!("{}/{path}", directory.strip_suffix('/').unwrap_or(directory))),
    }
}

/// Whether a URL begins with `scheme:` (RFC 3986, section 3.1).
fn has_scheme(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// Takes `.`, `..` and empty components out; a path that begins at the root stays below it.
fn normalize(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if components.last().is_some_and(|last| *last != "..") => {
                components.pop();
            }
            ".." if absolute => {}
            component => components.push(component),
        }
    }
    let joined = components.join("/");
    if absolute { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_is_found_at_the_end_alone() {
        let found = |tail: &str| in_tail(tail.as_bytes());
        assert_eq!(found("f();\n//# sourceMappingURL=a.js.map").as_deref(), Some("a.js.map"));
        assert_eq!(found("//@ sourceMappingURL=a.map\r\n\n// end\n").as_deref(), Some("a.map"));
        let twice = "//# sourceMappingURL=a.map\n//# sourceMappingURL=b.map\n";
        assert_eq!(found(twice).as_deref(), Some("b.map"));
        assert_eq!(found("//# sourceMappingURL=a.map\nf();"), None, "code behind it");
        assert_eq!(found("'//# sourceMappingURL=' + x"), None, "a string of a bundler");
        assert_eq!(found("//# sourceMappingURL="), None);
        assert_eq!(in_tail(b"//# sourceMappingURL=\xff\xfe"), None);
    }

    #[test]
    fn data_urls_are_decoded() {
        let text = |url: &str| data(url).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(
            text("data:application/json;charset=utf-8;base64,eyJhIjoxfQ==").as_deref(),
            Some("{\"a\":1}")
        );
        assert_eq!(text("data:application/json,%7B%22a%22:1%7D").as_deref(), Some("{\"a\":1}"));
        assert_eq!(text("data:application/json;base64,e*J"), None);
        assert_eq!(text("data:"), None);
    }

    #[test]
    fn maps_are_looked_for_where_the_script_says() {
        for (url, path) in [
            ("a.js.map", Some("/app/dist/a.js.map")),
            ("../maps/a%20b.map?v=1", Some("/app/maps/a b.map")),
            ("/maps/a.map", Some("/maps/a.map")),
            ("file:///maps/a.map", Some("/maps/a.map")),
            ("../../../../etc/x", Some("/etc/x")),
            ("https://example.org/a.map", None),
            ("%ff", None),
        ] {
            assert_eq!(map_path("/app/dist/a.js", url).as_deref(), path, "{url}");
        }
        assert_eq!(map_path("evalmachine.<anonymous>", "a.map"), None, "no directory to begin from");
    }

    #[test]
    fn sources_are_paths_where_they_can_be() {
        for (root, name, path) in [
            (None, "../src/a.ts", "/app/src/a.ts"),
            (Some(""), "a.ts", "/app/dist/a.ts"),
            (Some("../src/"), "a.ts", "/app/src/a.ts"),
            (Some("/build"), "a.ts", "/build/a.ts"),
            (Some("/build"), "/src/a.ts", "/src/a.ts"),
            (None, "file:///src/a%20b.ts", "/src/a b.ts"),
            (None, "webpack://shop/./src/a.ts?12ab", "src/a.ts"),
            (None, "webpack:///./node_modules/x/i.js", "node_modules/x/i.js"),
            (None, "webpack:///../shared/a.ts", "../shared/a.ts"),
            (Some("webpack://shop/"), "./src/a.ts", "src/a.ts"),
            (None, "webpack://shop/webpack/bootstrap", "webpack/bootstrap"),
            (None, "https://example.org/a.ts", "https://example.org/a.ts"),
        ] {
            assert_eq!(source("/app/dist", root, name).as_deref(), Some(path), "{root:?} {name}");
        }
        assert_eq!(source("/app", None, ""), None);
        assert_eq!(source("", None, "a.ts").as_deref(), Some("a.ts"), "a script without a file");
        assert_eq!(directory("/a.js"), "/");
        assert_eq!(directory("a.js"), "");
    }
}
