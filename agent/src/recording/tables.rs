//! What repeats in a recording gets a number when it first appears.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    MOST_FRAMES, SOFT,
    wire::{CulpritLine, FrameRow, IdentityLine, IntervalLine, StackLine, TimeRow},
};
use crate::model::{
    Availability, Culprit, Frame, Identity, ProcessId, Signal, Stack, StackTime, interval::ProcessInterval,
};

/// An identity as it was last written, with its number.
type Known = (usize, Arc<Identity>, Arc<BTreeMap<Signal, Availability>>);

/// The writer's side. Whatever is new is also put into the line that is being made.
#[derive(Debug, Default)]
pub(super) struct Tables {
    strings: HashMap<Arc<str>, usize>,
    frames: HashMap<Frame, usize>,
    stacks: HashMap<Arc<Stack>, usize>,
    stack_frames: usize,
    identities: HashMap<ProcessId, Known>,
    identities_written: usize,
}

impl Tables {
    /// Time to begin anew.
    pub(super) fn are_full(&self) -> bool {
        self.strings.len() >= SOFT.strings
            || self.frames.len() >= SOFT.frames
            || self.stacks.len() >= SOFT.stacks
            || self.stack_frames >= SOFT.stack_frames
            || self.identities_written >= SOFT.processes
    }

    fn string(&mut self, text: &Arc<str>, line: &mut IntervalLine) -> usize {
        if let Some(number) = self.strings.get(text) {
            return *number;
        }
        let number = self.strings.len();
        self.strings.insert(Arc::clone(text), number);
        line.strings.push(text.as_ref().to_owned());
        number
    }

    fn frame(&mut self, frame: &Frame, line: &mut IntervalLine) -> usize {
        if let Some(number) = self.frames.get(frame) {
            return *number;
        }
        let row = FrameRow(
            frame.kind.name().to_owned(),
            self.string(&frame.function, line),
            frame.script.as_ref().map(|script| self.string(script, line)),
            frame.line,
            frame.column,
            frame.line_is_exact,
            frame.package.as_ref().map(|package| self.string(package, line)),
        );
        let number = self.frames.len();
        self.frames.insert(frame.clone(), number);
        line.frames.push(row);
        number
    }

    pub(super) fn stack(&mut self, stack: &Arc<Stack>, line: &mut IntervalLine) -> usize {
        if let Some(number) = self.stacks.get(stack) {
            return *number;
        }
        let frames: Vec<usize> =
            stack.frames.iter().take(MOST_FRAMES).map(|frame| self.frame(frame, line)).collect();
        self.stack_frames += frames.len();
        let number = self.stacks.len();
        self.stacks.insert(Arc::clone(stack), number);
        line.stacks.push(StackLine {
            frames,
            truncated: stack.truncated || stack.frames.len() > MOST_FRAMES,
            problem: stack.problem.map(str::to_owned),
        });
        number
    }

    pub(super) fn times(&mut self, times: &[StackTime], line: &mut IntervalLine) -> Vec<TimeRow> {
        let row = |time: &StackTime| {
            let stack = self.stack(&time.stack, line);
            TimeRow(stack, time.category.name().to_owned(), time.samples, time.time_ns)
        };
        times.iter().map(row).collect()
    }

    pub(super) fn culprit(&mut self, culprit: &Culprit, line: &mut IntervalLine) -> CulpritLine {
        let Culprit { function, script, line: line_number, package } = culprit;
        CulpritLine {
            function: self.string(function, line),
            script: script.as_ref().map(|script| self.string(script, line)),
            line: *line_number,
            package: package.as_ref().map(|package| self.string(package, line)),
        }
    }

    pub(super) fn identity(&mut self, process: &ProcessInterval, line: &mut IntervalLine) -> usize {
        if let Some((number, identity, signals)) = self.identities.get(&process.id)
            && *identity == process.identity
            && *signals == process.signals
        {
            return *number;
        }
        let number = self.identities_written;
        self.identities_written += 1;
        let known = (number, Arc::clone(&process.identity), Arc::clone(&process.signals));
        self.identities.insert(process.id, known);
        line.identities.push(identity_line(process));
        number
    }

    /// Forgets processes that are not there any more; a number is never given twice.
    pub(super) fn keep_processes(&mut self, present: &[ProcessInterval]) {
        if self.identities.len() > 2 * present.len() + 16 {
            self.identities.retain(|id, _| present.iter().any(|process| process.id == *id));
        }
    }
}

fn identity_line(process: &ProcessInterval) -> IdentityLine {
    let Identity {
        name,
        service_name,
        service_version,
        service_namespace,
        service_instance_id,
        resource_attributes,
        node_version,
        v8_version,
        container_id,
        // For the names of a cluster, which only `run` asks for.
        pod_uid: _,
        says: _,
        executable_path,
        namespaced_pid,
        parent_pid,
        user_id,
        heap_limit_bytes,
    } = process.identity.as_ref().clone();
    let signals = process.signals.iter().map(|(signal, availability)| {
        let reason = match availability {
            Availability::Ok => None,
            Availability::Unavailable(reason) => Some(reason.as_ref().to_owned()),
        };
        (signal.name().to_owned(), reason)
    });
    IdentityLine {
        pid: process.id.pid,
        start_ticks: process.id.start_ticks,
        name,
        service_name,
        service_version,
        service_namespace,
        service_instance_id,
        resource_attributes,
        node_version,
        v8_version,
        container_id,
        executable_path,
        namespaced_pid,
        parent_pid,
        user_id,
        heap_limit_bytes,
        signals: signals.collect(),
    }
}
