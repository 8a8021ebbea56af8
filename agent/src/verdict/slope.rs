//! A slope that single odd values do not bend.

/// Median of the slopes between all pairs of points (Theil and Sen); `None` with fewer than two times.
pub(super) fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::new();
    for (index, (x, y)) in points.iter().enumerate() {
        for (later_x, later_y) in &points[index + 1..] {
            if later_x > x {
                slopes.push((later_y - y) / (later_x - x));
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let middle = slopes.len() / 2;
    match slopes.len() {
        0 => None,
        count if count % 2 == 1 => Some(slopes[middle]),
        _ => Some(f64::midpoint(slopes[middle - 1], slopes[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_value_does_not_bend_it() {
        let mut points: Vec<(f64, f64)> = (0..9).map(|n| (f64::from(n), 5.0 + 2.0 * f64::from(n))).collect();
        assert_eq!(theil_sen(&points), Some(2.0));
        points[4].1 = 500.0;
        assert_eq!(theil_sen(&points), Some(2.0));
        assert_eq!(theil_sen(&points[..1]), None);
        assert_eq!(theil_sen(&[(1.0, 2.0), (1.0, 9.0)]), None);
    }
}
