//! Numbers as people read them in a table.

/// What stands where a value is not known.
pub const UNKNOWN: &str = "-";

/// Milliseconds from seconds: one decimal, two below 1 ms, none from 10 s on.
pub fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms == 0.0 {
        "0".to_owned()
    } else if ms < 0.995 {
        format!("{ms:.2}")
    } else if ms < 9_999.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

/// A duration with its unit, at most six columns up to 9999 days: `0`, `350ms`, `5.2s`, `2m03s`, `3h12m`, `4d07h`.
pub fn duration(seconds: f64) -> String {
    let ms = (seconds.max(0.0) * 1e3).round() as u64;
    match ms {
        0 => "0".to_owned(),
        1..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
        3_600_000..86_400_000 => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d{:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// Bytes in binary units with three digits: `0`, `812`, `1.50K`, `48.2M`, `153G`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    if bytes < 1000 {
        return bytes.to_string();
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be printed with four digits.
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    digits + UNITS[unit]
}

/// A ratio as a percentage with one decimal and without the sign: `0`, `4.5`, `100.0`.
pub fn percent(ratio: f64) -> String {
    if ratio == 0.0 { "0".to_owned() } else { format!("{:.1}", ratio * 100.0) }
}

/// `show` of a known value, a dash for an unknown one.
pub fn or_unknown<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_keep_the_digits_that_matter() {
        for (seconds, expected) in [
            (0.0, "0"),
            (0.000_02, "0.02"),
            (0.000_999, "1.0"),
            (0.012_34, "12.3"),
            (9.999_94, "9999.9"),
            (12.5, "12500"),
        ] {
            assert_eq!(milliseconds(seconds), expected);
        }
    }

    #[test]
    fn durations_name_their_two_largest_units() {
        for (seconds, expected) in [
            (0.0, "0"),
            (0.35, "350ms"),
            (0.999_6, "1.0s"),
            (59.96, "59.9s"),
            (123.0, "2m03s"),
            (11_520.0, "3h12m"),
            (370_800.0, "4d07h"),
            (-1.0, "0"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn bytes_never_take_more_than_five_columns() {
        for (value, expected) in [
            (0, "0"),
            (999, "999"),
            (1000, "0.98K"),
            (1536, "1.50K"),
            (1_048_575, "1.00M"),
            (50_541_363, "48.2M"),
            (u64::MAX, "16.0E"),
        ] {
            assert_eq!(bytes(value), expected);
        }
        for shift in 0..64 {
            let just_below = (1_u64 << shift) - 1;
            assert!(bytes(just_below).len() <= 5, "{}", bytes(just_below));
        }
    }
}
