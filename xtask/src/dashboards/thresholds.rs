//! From where on a line is drawn: the verdicts' own numbers, so that a board and `nodeprobe diagnose` agree.

/// Warning and critical.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold(pub f64, pub Option<f64>);

pub(crate) const STALLED: Threshold = Threshold(0.05, Some(0.20));
pub(crate) const TURN_UNDER_WAY_S: Threshold = Threshold(1.0, Some(5.0));
pub(crate) const STDIO_BLOCKED: Threshold = Threshold(0.01, Some(0.10));
pub(crate) const STDIO_REFUSED_PER_S: Threshold = Threshold(1.0, None);
pub(crate) const REJECTIONS_PER_S_CRITICAL: Threshold = Threshold(1.0, None);
pub(crate) const DEOPTS_PER_S: Threshold = Threshold(5.0, None);
/// The less, the worse.
pub(crate) const HEAP_TIME_TO_LIMIT_S: Threshold = Threshold(21_600.0, Some(900.0));
pub(crate) const STARTUP_S: Threshold = Threshold(1.0, Some(5.0));
pub(crate) const GC: Threshold = Threshold(0.10, Some(0.25));
pub(crate) const RUN_DELAY: Threshold = Threshold(0.10, Some(0.30));
pub(crate) const POOL_WAIT_S: Threshold = Threshold(0.02, Some(0.2));
pub(crate) const CONTEXTS_LOST: Threshold = Threshold(0.05, None);

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of `pub const NAME: … = at(a, b);` or `… = a;` in the agent's table.
    fn of_the_agent(name: &str) -> Vec<f64> {
        let table = include_str!("../../../agent/src/verdict/thresholds.rs");
        let (_, rest) =
            table.split_once(&format!("pub const {name}: ")).expect("the agent has this threshold");
        let (_, value) = rest.split_once(" = ").expect("a constant has a value");
        let value = value.split(';').next().expect("a constant ends");
        let numbers = value.trim_start_matches("at(").trim_end_matches(')').split(", ");
        let product = |factors: &str| {
            factors.split(" * ").map(|factor| factor.parse::<f64>().expect("a number")).product()
        };
        numbers.map(product).collect()
    }

    #[test]
    fn they_equal_those_of_the_verdicts() {
        for (name, Threshold(warning, critical)) in [
            ("STALLED", STALLED),
            ("TURN_UNDER_WAY_S", TURN_UNDER_WAY_S),
            ("STDIO_BLOCKED", STDIO_BLOCKED),
            ("STDIO_REFUSED_PER_S", STDIO_REFUSED_PER_S),
            ("REJECTIONS_PER_S_CRITICAL", REJECTIONS_PER_S_CRITICAL),
            ("DEOPTS_PER_S", DEOPTS_PER_S),
            ("HEAP_TIME_TO_LIMIT_S", HEAP_TIME_TO_LIMIT_S),
            ("STARTUP_S", STARTUP_S),
            ("GC", GC),
            ("RUN_DELAY", RUN_DELAY),
            ("POOL_WAIT_S", POOL_WAIT_S),
            ("CONTEXTS_LOST", CONTEXTS_LOST),
        ] {
            let ours: Vec<f64> = [Some(warning), critical].into_iter().flatten().collect();
            assert_eq!(ours, of_the_agent(name), "{name}");
        }
    }
}
