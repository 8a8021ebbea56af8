//! Which of the two formats a scraper wants.

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    pub(super) const ALL: [Self; 2] = [Self::Text, Self::OpenMetrics];

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for: `OpenMetrics` where it is named and nothing else is liked better. Who wants
    /// neither gets text, as from Prometheus' own libraries, and not an error that helps nobody.
    pub fn accepted(accept: &str) -> Self {
        let best = |format| accept.split(',').map(|range| quality(range, format)).fold(0.0, f64::max);
        let open_metrics = best(Self::OpenMetrics);
        if open_metrics > 0.0 && open_metrics >= best(Self::Text) { Self::OpenMetrics } else { Self::Text }
    }
}

/// Whether an `Accept-Encoding` header names gzip.
pub(super) fn takes_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// How much one media range likes a format, 0 to 1.
fn quality(range: &str, format: Format) -> f64 {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let (mut version, mut quality) = (None, 1.0);
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("version", value)) => version = Some(value.trim_matches('"')),
            Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
            _ => {}
        }
    }
    let fits = match format {
        Format::OpenMetrics => {
            media_type == "application/openmetrics-text" && matches!(version, None | Some("1.0.0"))
        }
        Format::Text => match media_type.as_str() {
            "text/plain" => matches!(version, None | Some("0.0.4")),
            "text/*" | "*/*" => true,
            _ => false,
        },
    };
    if fits { quality } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_what_it_likes_best() {
        // What Prometheus 2.53 and 3.5 send.
        let two = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                     text/plain;version=0.0.4;q=0.2,/;q=0.1";
        for accept in
            [two, three, "application/openmetrics-text", "Application/OpenMetrics-Text; version=\"1.0.0\""]
        {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn only_who_names_gzip_gets_it() {
        assert!(["gzip", "gzip;q=1.0, identity; q=0.5", "br, GZIP"].into_iter().all(takes_gzip));
        assert!(!["", "identity", "gzip;q=0", "gzip; q=0.0", "xgzip", "*"].into_iter().any(takes_gzip));
    }

    #[test]
    fn everybody_else_gets_text() {
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            "application/json",
        ] {
            assert_eq!(Format::accepted(accept), Format::Text, "{accept}");
        }
    }
}
