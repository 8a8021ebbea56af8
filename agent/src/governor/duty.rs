//! Probes that are hit often are in place for some of the time only: what that time may be is decided here.
//!
//! The promise is [`Budget::overhead`], the share of one processor that such probes may take from a process (`--max-overhead`,
//! 1 % by default). A hit costs the same on every hit of a host, and that is measured when the agent starts ([`super::cost`]); hits
//! are counted by the programs. So the cost is known while it arises:
//!
//! - Every process is looked at in windows, at least [`WINDOW_MIN_NS`] long and begun once in [`PERIOD_NS`]. A process with few
//!   hits gets longer ones, up to being looked at all the time, as long as its part of the budget ([`AIM`]) is enough for it.
//! - A probe that takes more than [`PEAK`] times the budget while it is in place is taken out at once, and tried again after a
//!   minute, then after two, up to [`RETRY_MAX_NS`]. The process then says so in place of the signal.
//!
//! Architecture invariant: no I/O and no clock in here; times are arguments. [`super::windows`] acts.
#![forbid(unsafe_code)]

const SECOND_NS: u64 = 1_000_000_000;
/// A window is begun so often, and the budget is that of this time.
pub const PERIOD_NS: u64 = 10 * SECOND_NS;
/// Holds a dozen turns of a service that is worth looking at.
pub const WINDOW_MIN_NS: u64 = SECOND_NS / 4;
/// What a probe may take while it is in place, in budgets: in the shortest window that is a third of the budget, and there are
/// three kinds of such probes.
pub const PEAK: f64 = 13.0;
/// There are three kinds of such probes, two in [`super::windows`] and one in [`super::host`], and one budget. A quarter of it is
/// aimed at: the promise holds where a hit costs four times what was measured (it depends on what else is in the caches), and where a
/// service gets busier before that is noticed. A server of 8000 requests a second still has its drains looked at for 0.35 s in ten: some
/// 2800 of them. Not where the shortest window decides, from three budgets on: see [`PEAK`].
const AIM: f64 = 0.08;
/// Before this, too few hits for a rate.
const RATE_OVER_NS: u64 = 50_000_000;
pub const RETRY_FIRST_NS: u64 = 60 * SECOND_NS;
pub const RETRY_MAX_NS: u64 = 16 * RETRY_FIRST_NS;

/// What probes may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Share of one processor, 0.01 for 1 %.
    pub overhead: f64,
}

/// What is to be done with the probes of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Keep,
    Open,
    Close,
    /// Take them out, and say why.
    TakeOut(Excess),
}

/// Why probes were taken out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    pub hits_per_s: f64,
    /// Share of one processor that they took.
    pub overhead: f64,
    /// How long until they are tried again.
    pub retry_ns: u64,
}

/// One group of probes in one process.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    budget: Budget,
    cost_ns: f64,
    state: State,
    retry_ns: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Out { until_ns: u64 },
    In { since: Mark, checked: Mark },
}

/// A number of hits at a time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    ns: u64,
    hits: u64,
}

impl Duty {
    /// Of a process whose first window is to begin at once. `cost_ns`: of one hit.
    pub fn new(budget: Budget, cost_ns: f64, now_ns: u64) -> Self {
        Self { budget, cost_ns, state: State::Out { until_ns: now_ns }, retry_ns: RETRY_FIRST_NS }
    }

    /// Decides, at `now_ns`. `hits`: since a window was opened, any number that never falls while it is open.
    pub fn step(&mut self, now_ns: u64, hits: u64) -> Step {
        let now = Mark { ns: now_ns, hits };
        match self.state {
            State::Out { until_ns } if self.budget.overhead <= 0.0 || now_ns < until_ns => Step::Keep,
            State::Out { .. } => {
                self.state = State::In { since: now, checked: now };
                Step::Open
            }
            State::In { since, checked } => self.step_in(since, checked, now),
        }
    }

    fn step_in(&mut self, since: Mark, mut checked: Mark, now: Mark) -> Step {
        if now.ns - checked.ns >= RATE_OVER_NS {
            let overhead = self.overhead(checked, now);
            if overhead > PEAK * self.budget.overhead {
                return self.take_out(checked, now);
            }
            checked = now;
        }
        let window_ns = self.window_ns(self.overhead(since, now));
        if now.ns - since.ns < WINDOW_MIN_NS.max(window_ns.min(PERIOD_NS)) {
            self.state = State::In { since, checked };
            return Step::Keep;
        }
        self.retry_ns = RETRY_FIRST_NS;
        if window_ns >= PERIOD_NS {
            // It may stay. What it costs from here on is looked at anew.
            self.state = State::In { since: now, checked };
            return Step::Keep;
        }
        self.state = State::Out { until_ns: since.ns + PERIOD_NS.max(now.ns - since.ns + WINDOW_MIN_NS) };
        Step::Close
    }

    fn take_out(&mut self, from: Mark, to: Mark) -> Step {
        let excess = Excess {
            hits_per_s: (to.hits - from.hits) as f64 * SECOND_NS as f64 / (to.ns - from.ns) as f64,
            overhead: self.overhead(from, to),
            retry_ns: self.retry_ns,
        };
        self.state = State::Out { until_ns: to.ns + self.retry_ns };
        self.retry_ns = (self.retry_ns * 2).min(RETRY_MAX_NS);
        Step::TakeOut(excess)
    }

    /// Share of one processor that the hits between took.
    fn overhead(&self, from: Mark, to: Mark) -> f64 {
        let elapsed_ns = to.ns.saturating_sub(from.ns).max(1);
        to.hits.saturating_sub(from.hits) as f64 * self.cost_ns / elapsed_ns as f64
    }

    /// How much of a period the probes may be in place when they take so much.
    fn window_ns(&self, overhead: f64) -> u64 {
        let share = AIM * self.budget.overhead / overhead.max(f64::MIN_POSITIVE);
        // Far beyond a period is all the same.
        (share.min(2.0) * PERIOD_NS as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    /// 1 % of one processor, and a hit that takes a microsecond.
    const BUDGET: Budget = Budget { overhead: 0.01 };
    const COST_NS: f64 = 1000.0;

    /// Looks every 25 ms for `seconds` at a process with so many hits a second. Returns how much of the time the probes were in,
    /// how often they were put in, what of a processor they took over all, and the excesses.
    fn run(duty: &mut Duty, seconds: u64, hits_per_s: impl Fn(u64) -> u64) -> (f64, usize, f64, Vec<Excess>) {
        let (mut hits, mut in_ns, mut opened, mut excesses, mut is_in) = (0, 0, 0, Vec::new(), false);
        for tick in 0..seconds * 40 {
            let now_ns = tick * 25 * MS;
            if is_in {
                hits += hits_per_s(tick / 40) / 40;
                in_ns += 25 * MS;
            }
            match duty.step(now_ns, hits) {
                Step::Keep => {}
                Step::Open => (opened, is_in) = (opened + 1, true),
                Step::Close => is_in = false,
                Step::TakeOut(excess) => {
                    is_in = false;
                    excesses.push(excess);
                }
            }
        }
        let total_ns = (seconds * SECOND_NS) as f64;
        (in_ns as f64 / total_ns, opened, hits as f64 * COST_NS / total_ns, excesses)
    }

    fn duty() -> Duty {
        Duty::new(BUDGET, COST_NS, 0)
    }

    #[test]
    fn a_process_with_few_hits_is_looked_at_all_the_time() {
        let (share, opened, _, excesses) = run(&mut duty(), 600, |_| 500);
        assert!(share > 0.999, "{share}");
        assert_eq!((opened, excesses), (1, Vec::new()));
    }

    #[test]
    fn a_busy_process_is_looked_at_in_windows_that_cost_its_part_of_the_budget() {
        // 2 % while they are in.
        let (share, opened, overhead, excesses) = run(&mut duty(), 600, |_| 20_000);
        assert!((0.037..=0.043).contains(&share), "{share}");
        assert_eq!(opened, 60);
        assert!((0.00075..=0.00085).contains(&overhead), "{overhead}");
        assert_eq!(excesses, []);
        // 12 %: no window is shorter than the least.
        let (share, opened, overhead, excesses) = run(&mut duty(), 600, |_| 120_000);
        assert!((0.024..=0.026).contains(&share), "{share}");
        assert_eq!(opened, 60);
        assert!(overhead <= 0.01 / 3.0, "{overhead}");
        assert_eq!(excesses, []);
    }

    #[test]
    fn a_storm_is_noticed_at_once_and_tried_again_less_and_less_often() {
        let mut duty = duty();
        let (share, opened, overhead, excesses) = run(&mut duty, 3600, |_| 400_000);
        // After 60, 120, 240, 480, 960 s, and then every 960 s.
        assert_eq!(opened, excesses.len());
        assert_eq!(opened, 7);
        assert!(share < 0.0002 && overhead < 0.0001, "{share} {overhead}");
        assert!((excesses[0].hits_per_s - 400_000.0).abs() < 1.0, "{:?}", excesses[0]);
        assert!((excesses[0].overhead - 0.4).abs() < 1e-9);
        assert_eq!(excesses[0].retry_ns, RETRY_FIRST_NS);
        assert_eq!(excesses[6].retry_ns, RETRY_MAX_NS);
    }

    #[test]
    fn a_storm_that_has_passed_is_forgotten() {
        let (share, _, _, excesses) = run(&mut duty(), 600, |second| if second < 70 { 400_000 } else { 500 });
        assert_eq!(excesses.len(), 2);
        assert!(share > 0.6, "{share}");
    }

    #[test]
    fn probes_that_stay_are_taken_out_when_the_process_gets_busy() {
        let (_, _, overhead, excesses) =
            run(&mut duty(), 300, |second| if second < 103 { 500 } else { 400_000 });
        assert!(!excesses.is_empty());
        assert!(overhead < BUDGET.overhead, "{overhead}");
        let (_, _, overhead, excesses) =
            run(&mut duty(), 300, |second| if second < 103 { 500 } else { 60_000 });
        assert_eq!(excesses, []);
        assert!(overhead < BUDGET.overhead, "{overhead}");
    }

    #[test]
    fn without_a_budget_nothing_is_put_in() {
        let (share, opened, ..) = run(&mut Duty::new(Budget { overhead: 0.0 }, COST_NS, 0), 60, |_| 1);
        assert_eq!((share, opened), (0.0, 0));
    }
}
