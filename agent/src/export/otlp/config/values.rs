//! Reading one setting: flag before environment, empty means unset, a bad value is a warning that says what is
//! used instead.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{Compression, FileSetting, Headers, HistogramAggregation, Protocol, Temporality};

/// A flag of the command line and its value.
#[derive(Clone, Copy)]
pub(super) struct Flag<'a>(pub(super) &'static str, pub(super) Option<&'a str>);

pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { lookup, warnings: Vec::new() }
    }

    /// An environment variable, trimmed. The specification: an empty value is an unset one.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let Ok(text) = (self.lookup)(name)?.into_string() else {
            self.warnings.push(format!("{name} is not valid UTF-8 and is ignored"));
            return None;
        };
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// All that was given, in order of precedence.
    fn given(&mut self, flag: Flag<'_>, names: &[&'static str]) -> Vec<(&'static str, String)> {
        let from_flag = flag.1.map(str::trim).filter(|value| !value.is_empty());
        let mut given: Vec<_> = from_flag.map(|value| (flag.0, value.to_owned())).into_iter().collect();
        for name in names {
            given.extend(self.text(name).map(|value| (*name, value)));
        }
        given
    }

    pub(super) fn first(&mut self, flag: Flag<'_>, names: &[&'static str]) -> Option<(&'static str, String)> {
        self.given(flag, names).into_iter().next()
    }

    /// The first value that can be understood; `default` (`default_shown` in words) if there is none.
    pub(super) fn value<T>(
        &mut self,
        flag: Flag<'_>,
        names: &[&'static str],
        parse: impl Fn(&str) -> Result<T, &'static str>,
        default: impl Into<T>,
        default_shown: &str,
    ) -> T {
        let mut bad = Vec::new();
        let mut good = None;
        for (name, text) in self.given(flag, names) {
            match parse(&text) {
                Ok(value) => {
                    good = Some((value, text));
                    break;
                }
                Err(expected) => bad.push((name, text, expected)),
            }
        }
        let used = good.as_ref().map_or(default_shown, |(_, text)| text.as_str());
        for (name, text, expected) in bad {
            self.warnings.push(format!(
                "{name} is `{}`, which is not understood (expected {expected}); `{}` is used instead",
                shown(&text),
                shown(used),
            ));
        }
        good.map_or_else(|| default.into(), |(value, _)| value)
    }

    pub(super) fn file(&mut self, flag: Flag<'_>, names: &[&'static str]) -> Option<FileSetting> {
        self.first(flag, names).map(|(from, path)| FileSetting { path: PathBuf::from(path), from })
    }

    /// `key=value,key2=value2`, URL-encoded. A header that cannot be sent is left out, and its value is not
    /// shown.
    pub(super) fn headers(&mut self, flag: Flag<'_>, names: &[&'static str]) -> Headers {
        let Some((from, list)) = self.first(flag, names) else { return Headers::default() };
        let mut headers = Vec::new();
        for (position, pair) in list.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            match header(pair) {
                Ok(header) => headers.push(header),
                Err(why) => self.warnings.push(format!("{from}: entry {} is left out: {why}", position + 1)),
            }
        }
        Headers(headers)
    }

    /// `key=value,key2=value2`, URL-encoded. The specification: if anything in it is wrong, all of it is
    /// ignored.
    pub(super) fn attributes(&mut self, name: &str) -> BTreeMap<String, String> {
        let Some(list) = self.text(name) else { return BTreeMap::new() };
        let pairs: Option<BTreeMap<_, _>> = list
            .split(',')
            .filter(|pair| !pair.trim().is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=')?;
                let (key, value) = (decoded(key)?, decoded(value)?);
                (!key.is_empty()).then_some((key, value))
            })
            .collect();
        pairs.unwrap_or_else(|| {
            self.warnings.push(format!(
                "{name} is not of the form `key=value,key2=value2` (URL-encoded) and is ignored"
            ));
            BTreeMap::new()
        })
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned())
}

fn header(pair: &str) -> Result<(String, String), &'static str> {
    let (key, value) = pair.split_once('=').ok_or("it has no `=`")?;
    let key = decoded(key).ok_or("its key is not valid UTF-8")?.to_ascii_lowercase();
    let value = decoded(value).ok_or("its value is not valid UTF-8")?;
    reqwest::header::HeaderName::from_bytes(key.as_bytes()).or(Err("its key is no header name"))?;
    // gRPC metadata is narrower than HTTP headers: visible ASCII and blanks.
    if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err("its value holds characters that a header cannot carry");
    }
    Ok((key, value))
}

/// A value as it may be logged: no control characters, bounded.
pub(super) fn shown(text: &str) -> String {
    crate::export::otlp::error::excerpt(text, 80)
}

pub(super) fn protocol(text: &str) -> Result<Option<Protocol>, &'static str> {
    match text {
        "grpc" => Ok(Some(Protocol::Grpc)),
        "http/protobuf" => Ok(Some(Protocol::HttpProtobuf)),
        _ => Err("`grpc` or `http/protobuf`"),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("`true` or `false`"),
    }
}

pub(super) fn on_off(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("`on` or `off`"),
    }
}

pub(super) fn milliseconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        // A day: beyond it lies a slip of the pen, and sums of durations must not overflow.
        Ok(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("a whole number of milliseconds from 1 to 86400000"),
    }
}

pub(super) fn compression(text: &str) -> Result<Compression, &'static str> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "none" => Ok(Compression::None),
        _ => Err("`gzip` or `none`"),
    }
}

pub(super) fn temporality(text: &str) -> Result<Temporality, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "cumulative" => Ok(Temporality::Cumulative),
        "delta" => Ok(Temporality::Delta),
        "lowmemory" => Ok(Temporality::LowMemory),
        _ => Err("`cumulative`, `delta` or `lowmemory`"),
    }
}

pub(super) fn histogram_aggregation(text: &str) -> Result<HistogramAggregation, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "explicit_bucket_histogram" => Ok(HistogramAggregation::ExplicitBucket),
        "base2_exponential_bucket_histogram" => Ok(HistogramAggregation::Base2ExponentialBucket),
        _ => Err("`explicit_bucket_histogram` or `base2_exponential_bucket_histogram`"),
    }
}
