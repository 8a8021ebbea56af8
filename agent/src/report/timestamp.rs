//! Wall-clock times as text. UTC only: the reader of a log rarely sits in the time zone of the machine.

use std::time::SystemTime;

/// Days from 0000-03-01, where the calendar of the computation starts, to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;
const DAYS_PER_ERA: i64 = 146_097;

/// RFC 3339 in UTC with milliseconds: `2026-11-23T20:31:04.250Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let Civil { year, month, day, hour, minute, second, millisecond } = civil(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// Time of day in UTC: `20:31:04`.
pub fn time_of_day(time: SystemTime) -> String {
    let Civil { hour, minute, second, .. } = civil(time);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// For file names, ISO 8601 basic format with milliseconds: `20261123T203104.250Z`.
pub fn basic(time: SystemTime) -> String {
    let Civil { year, month, day, hour, minute, second, millisecond } = civil(time);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{millisecond:03}Z")
}

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    millisecond: i64,
}

/// `days_to_civil` of Howard Hinnant, <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
fn civil(time: SystemTime) -> Civil {
    let since_epoch_ms = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    let days = since_epoch_ms.div_euclid(86_400_000) + DAYS_TO_EPOCH;
    let of_day_ms = since_epoch_ms.rem_euclid(86_400_000);
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / (DAYS_PER_ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        hour: of_day_ms / 3_600_000,
        minute: of_day_ms / 60_000 % 60,
        second: of_day_ms / 1000 % 60,
        millisecond: of_day_ms % 1000,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_gnu_date() {
        // date -u -d @SECONDS +%FT%T
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_465_864_250, "2026-11-23T20:31:04.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(rfc3339(time), expected);
        }
    }

    #[test]
    fn a_clock_before_1970_does_not_panic() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(rfc3339(time), "1969-12-31T23:59:59.999Z");
    }
}
