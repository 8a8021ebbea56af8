//! Starts what says when stacks are sampled: the kernel's tick beside a slow clock of our own on every processor, or a fast one alone.

use std::{thread, time::Duration};

use aya::{
    programs::{
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
        trace_point::TracePointLinkId,
    },
    util::online_cpus,
};
use nodeprobe_ebpf::{
    sample::{SAMPLE_PERIOD_NS, YOUNG_EVERY},
    tick::Tick,
};

use super::load::{CLOCK_PROGRAM, Kernel, TICK_PROGRAM, chain, perf_event, tracepoint};
use crate::collector::monotonic_ns;

/// So many ticks have to be seen of [`TICKS_TRIED`]. Other timers that expire just when ticks begin are rare.
const TICKS_SEEN: usize = 4;
const TICKS_TRIED: usize = 10;

impl Kernel {
    /// Attaches the programs that sample, or none. A thread is sampled from its first turn on, on whichever processor it runs.
    ///
    /// # Errors
    /// What the kernel refuses, in its words; then no stack is sampled by a clock.
    pub(super) fn attach_sampler(&mut self) -> Result<(), String> {
        match self.attach_tick() {
            Ok(tick) => {
                // As many of short turns as the fast clock takes.
                if let Err(reason) = self.attach_clock(SAMPLE_PERIOD_NS * u64::from(YOUNG_EVERY)) {
                    // Of long turns alone all shares would be wrong.
                    self.detach_tick(tick)?;
                    return Err(reason);
                }
                tracing::info!("stacks are sampled at the kernel's tick, those of short turns by a clock");
            }
            Err(reason) => {
                self.attach_clock(SAMPLE_PERIOD_NS)?;
                tracing::info!(
                    reason,
                    "stacks are sampled by a clock on every processor, not at the kernel's tick"
                );
            }
        }
        Ok(())
    }

    fn attach_tick(&mut self) -> Result<TracePointLinkId, String> {
        let tick = self.tick.clone()?;
        self.not_refused(TICK_PROGRAM)?;
        let program = tracepoint(&mut self.ebpf, TICK_PROGRAM).ok_or("the program is not in the object")?;
        let link = program.attach("timer", "hrtimer_expire_entry").map_err(|error| chain(&error))?;
        if self.sees_ticks(tick) {
            return Ok(link);
        }
        self.detach_tick(link)?;
        Err("no tick was seen at a multiple of its length: kernels before 6.4 begin them anywhere".to_owned())
    }

    fn detach_tick(&mut self, link: TracePointLinkId) -> Result<(), String> {
        tracepoint(&mut self.ebpf, TICK_PROGRAM)
            .map_or(Ok(()), |program| program.detach(link).map_err(|error| chain(&error)))
    }

    /// Whether the program is run by ticks, as the only sure way to know: kernels differ in when they begin. Takes some ticks, in
    /// which this thread must not sleep: an idle processor has none.
    fn sees_ticks(&self, tick: Tick) -> bool {
        let length_ns = tick.length_ns();
        let mut seen = 0;
        for _ in 0..TICKS_TRIED {
            let middle_ns = (monotonic_ns() / length_ns + 1) * length_ns + length_ns / 2;
            while monotonic_ns() < middle_ns {
                std::hint::spin_loop();
            }
            // Wherever and whenever this thread goes on: the tick before is what counts. Moved in between, it says nothing.
            let (cpu, now_ns) = (current_cpu(), monotonic_ns());
            let seen_ns = cpu.and_then(|cpu| self.tick_seen.get(&0, 0).ok()?.get(cpu).copied());
            let begin_ns = now_ns - now_ns % length_ns;
            // Half of how late it may be, so that those that come later are seen, too.
            let is_tick = |seen_ns: u64| seen_ns >= begin_ns && seen_ns - begin_ns <= tick.lateness_ns() / 2;
            seen += usize::from(cpu == current_cpu() && seen_ns.is_some_and(is_tick));
            if seen == TICKS_SEEN {
                return true;
            }
        }
        false
    }

    /// One after the other within a period, never at once: to wake a processor seems to be cheaper in the last 0.2 ms before a timer of
    /// it, as it is before a tick, which all have at once. Where all clocks were due at once, a service that woke others for each log
    /// line was met in its writes in 16 % of the samples, and spent 20 % of its time there (Linux 6.18 in a virtual machine, `haltpoll`).
    fn attach_clock(&mut self, period_ns: u64) -> Result<(), String> {
        self.not_refused(CLOCK_PROGRAM)?;
        let program = perf_event(&mut self.ebpf).ok_or("the program is not in the object")?;
        let processors = online_cpus().map_err(|(path, error)| format!("{path}: {error}"))?;
        let distance = Duration::from_nanos(period_ns / processors.len().max(1) as u64);
        let mut links = Vec::new();
        for cpu in processors {
            // The period begins now. Clocks do not drift: the next one is counted from when the last was due.
            thread::sleep(distance);
            let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
            let scope = PerfEventScope::AllProcessesOneCpu { cpu };
            match program.attach(clock, scope, SamplePolicy::Period(period_ns), false) {
                Ok(link) => links.push(link),
                Err(error) => {
                    for link in links {
                        program.detach(link).map_err(|error| chain(&error))?;
                    }
                    return Err(format!("processor {cpu}: {}", chain(&error)));
                }
            }
        }
        Ok(())
    }

    fn not_refused(&self, program: &str) -> Result<(), String> {
        match self.refused.get(program) {
            Some(refusal) => Err(format!("the program was refused: {refusal}")),
            None => Ok(()),
        }
    }
}

fn current_cpu() -> Option<usize> {
    // SAFETY: takes nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}
