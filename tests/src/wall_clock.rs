//! Instants as seconds since 1970, the scale on which the agent's reports and Node's own notes are compared.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, seconds since 1970.
pub fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs_f64()
}

/// Parses an RFC 3339 instant in UTC with any number of fractional digits (`2026-11-23T20:38:48.613Z`).
pub fn parse_rfc3339_utc(text: &str) -> Option<f64> {
    let (date, rest) = text.split_once('T')?;
    let time = rest.strip_suffix('Z').or_else(|| rest.strip_suffix("+00:00"))?;
    let [year, month, day] = numbers(date, '-')?.map(|n| n as i64);
    let [hour, minute, second] = numbers(time, ':')?;
    let days = days_since_1970(year, month, day);
    Some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

fn numbers(text: &str, separator: char) -> Option<[f64; 3]> {
    let parts: Vec<f64> = text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Proleptic Gregorian calendar; the year is taken to begin in March so that the leap day is its last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_agree_with_date() {
        // `date -u -d 2026-11-23T20:38:48.613Z +%s.%3N` and the leap day of 2024.
        assert_eq!(parse_rfc3339_utc("2026-11-23T20:38:48.613Z"), Some(1_795_466_328.613));
        assert_eq!(parse_rfc3339_utc("2024-02-29T00:00:00+00:00"), Some(1_709_164_800.0));
    }

    #[test]
    fn other_zones_and_nonsense_are_refused() {
        for text in ["2026-11-23T20:38:48+01:00", "2026-11-23 20:38:48Z", "yesterday", ""] {
            assert_eq!(parse_rfc3339_utc(text), None, "{text}");
        }
    }
}
