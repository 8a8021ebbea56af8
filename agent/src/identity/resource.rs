//! `OTEL_RESOURCE_ATTRIBUTES`: `key=value,key=value`, values percent-encoded, see the OpenTelemetry specification,
//! "Resource SDK", "Specifying resource information via an environment variable".

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::clean::{VALUE_MAX_CHARS, clean, clean_name};

/// More than these of one process are not kept: each goes out with every export.
const ATTRIBUTES_MAX: usize = 64;
const KEY_MAX_BYTES: usize = 128;

/// The attributes in the value of the variable. A pair that is no pair is left out and the others stay, as in
/// the SDK for JavaScript.
pub(super) fn attributes(value: &[u8]) -> BTreeMap<String, String> {
    value.split(|&byte| byte == b',').filter_map(pair).take(ATTRIBUTES_MAX).collect()
}

fn pair(pair: &[u8]) -> Option<(String, String)> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    let key = pair[..equals].trim_ascii();
    // Keys are names like `service.name`: printable ASCII without what the format itself uses.
    let is_key = !key.is_empty() && key.len() <= KEY_MAX_BYTES && key.iter().all(u8::is_ascii_graphic);
    if !is_key {
        return None;
    }
    let value = percent_decoded(pair[equals + 1..].trim_ascii());
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(&value);
    let key = clean(key, KEY_MAX_BYTES);
    // An empty name of a service counts as none, as an empty environment variable does.
    if key.starts_with("service.") {
        return Some((key, clean_name(value, VALUE_MAX_CHARS)?));
    }
    Some((key, clean(value, VALUE_MAX_CHARS)))
}

/// A `%` without two digits behind it stands for itself.
fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let encoded = after.get(..2).filter(|_| byte == b'%').and_then(hex_byte);
        decoded.push(encoded.unwrap_or(byte));
        rest = if encoded.is_some() { &after[2..] } else { after };
    }
    decoded
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` would take a sign, too.
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Vec<(String, String)> {
        attributes(value.as_bytes()).into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pairs_are_separated_trimmed_and_decoded() {
        assert_eq!(
            of("service.name=shop%2Dapi, deployment.environment.name = prod ,team=a%20b=c%2C"),
            pairs(&[
                ("deployment.environment.name", "prod"),
                ("service.name", "shop-api"),
                ("team", "a b=c,")
            ])
        );
        assert_eq!(of("a=\"quoted\",b=%zz%4,c=%+1"), pairs(&[("a", "quoted"), ("b", "%zz%4"), ("c", "%+1")]));
    }

    #[test]
    fn what_is_no_pair_is_left_out_alone() {
        assert_eq!(of("a=1,,nonsense,=x, =y,k\u{e9}y=z,b=2"), pairs(&[("a", "1"), ("b", "2")]));
        assert_eq!(of(""), []);
        assert_eq!(of("service.name=,service.namespace=%00"), []);
    }

    #[test]
    fn hostile_values_are_cleaned_and_bounded() {
        assert_eq!(of("a=%1b[31m%ff"), pairs(&[("a", "\u{fffd}[31m\u{fffd}")]));
        let long = of(&format!("a={}", "x".repeat(100_000)));
        assert_eq!(long[0].1.chars().count(), VALUE_MAX_CHARS);
        let many: Vec<String> = (0..10_000).map(|n| format!("k{n}=v")).collect();
        assert_eq!(of(&many.join(",")).len(), ATTRIBUTES_MAX);
        assert_eq!(of(&format!("{}=v", "k".repeat(129))), []);
    }
}
