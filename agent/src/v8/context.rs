//! Where a loop thread keeps the async context of what it executes.
//!
//! With contexts that V8 keeps, in a word of the isolate, which [`environment`] leads to; the word is known by what stands there
//! without one.

use super::{
    environment,
    heap::is_pointer,
    memory::{Memory, ProcessMemory},
};

/// What is known of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextLayout {
    /// In `node::Environment`, the address of its async ids.
    pub ids_offset: u32,
    /// `None`: contexts follow async ids.
    pub frame: Option<FrameLayout>,
}

/// Of contexts that V8 keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// In the isolate.
    pub offset: u32,
    /// The instance type of `undefined`.
    pub oddball_type: u16,
}

/// Addresses in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextPlaces {
    /// Four doubles; see `ContextRecord::ids`.
    pub ids: u64,
    /// Counts of hooks, 32 bits each.
    pub hooks: u64,
    /// Where the frame is, and what stands there without one.
    pub frame: Option<(u64, u64)>,
}

/// Finds the places of the thread of `pid` whose stack is at `sp`. `None`: not found, or within a callback that has a context at
/// this moment; to be tried again.
pub fn find(pid: u32, sp: u64, layout: ContextLayout) -> Option<ContextPlaces> {
    find_in(&ProcessMemory::new(pid), sp, layout)
}

fn find_in(memory: &impl Memory, sp: u64, layout: ContextLayout) -> Option<ContextPlaces> {
    environment::find(memory, sp, layout.ids_offset, |memory, environment| {
        let frame = match layout.frame {
            Some(frame) => {
                Some(undefined_at(memory, environment.isolate.wrapping_add(frame.offset.into()), frame)?)
            }
            None => None,
        };
        Some(ContextPlaces { ids: environment.ids, hooks: environment.hooks, frame })
    })
}

/// The place of a frame and `undefined`, if that is what stands there.
fn undefined_at(memory: &impl Memory, place: u64, frame: FrameLayout) -> Option<(u64, u64)> {
    const TAG: u64 = 1;
    /// Of `undefined` as a number, which the other oddballs have too, but for those that no word outside of V8 ever holds.
    const NOT_A_NUMBER: u64 = 0x7ff8_0000_0000_0000;
    let [value] = memory.words::<1>(place)?;
    if !is_pointer(value) {
        return None;
    }
    let [map, number] = memory.words::<2>(value - TAG)?;
    if !is_pointer(map) || number != NOT_A_NUMBER {
        return None;
    }
    // The instance type is in the upper half of the second word of a map, as for `Layout`.
    let [_, word] = memory.words::<2>(map - TAG)?;
    ((word >> 32) as u16 == frame.oddball_type).then_some((place, value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::memory::Words, *};

    const SP: u64 = 0x7ffe_0000_1000;
    const ENVIRONMENT: u64 = 0x3c54_f1b0;
    const ISOLATE_AT: u64 = 0x3c4b_7000;
    const IDS: u64 = 0x3c62_0830;
    const HOOKS_AT: u64 = 0x3c54_9d50;
    const UNDEFINED: u64 = 0xbb_9865_0001;
    const NODE_24: ContextLayout =
        ContextLayout { ids_offset: 0x488, frame: Some(FrameLayout { offset: 0x278, oddball_type: 131 }) };

    /// What Node 24 had at these places, with its environment in the 500th word of the stack.
    fn image() -> Words {
        let mut words: BTreeMap<u64, u64> = (0..600).map(|n| (SP + 8 * n, 7 * n)).collect();
        words.insert(SP + 8 * 500, ENVIRONMENT);
        let ids = ENVIRONMENT + 0x488;
        for (at, word) in [(72, 9), (64, 0), (56, HOOKS_AT), (48, 1), (40, 0), (32, 0x322_6448)] {
            words.insert(ids - at, word);
        }
        for (at, word) in [(24, ISOLATE_AT), (16, 4), (8, 0), (0, IDS)] {
            words.insert(ids - at, word);
        }
        for n in 1..8 {
            words.insert(ids + 8 * n, 1);
        }
        for (n, id) in [0.0_f64, 0.0, 13.0, -1.0].into_iter().enumerate() {
            words.insert(IDS + 8 * n as u64, id.to_bits());
        }
        words.insert(ISOLATE_AT + 0x278, UNDEFINED);
        words.insert(UNDEFINED - 1, UNDEFINED + 0x800);
        words.insert(UNDEFINED + 7, 0x7ff8_0000_0000_0000);
        words.insert(UNDEFINED + 0x7ff, 1);
        words.insert(UNDEFINED + 0x807, 131 << 32);
        Words(words)
    }

    #[test]
    fn the_environment_on_the_stack_leads_to_ids_hooks_and_frame() {
        let expected =
            ContextPlaces { ids: IDS, hooks: HOOKS_AT, frame: Some((ISOLATE_AT + 0x278, UNDEFINED)) };
        assert_eq!(find_in(&image(), SP, NODE_24), Some(expected));
        let without = ContextLayout { frame: None, ..NODE_24 };
        assert_eq!(find_in(&image(), SP, without), Some(ContextPlaces { frame: None, ..expected }));
    }

    #[test]
    fn what_has_not_the_shape_is_not_taken() {
        let changed = |at: u64, word: u64| {
            let mut image = image();
            image.0.insert(at, word);
            find_in(&image, SP, NODE_24)
        };
        assert_eq!(changed(SP + 8 * 500, 8), None, "no environment on the stack");
        assert_eq!(changed(ENVIRONMENT + 0x488 - 16, 5), None, "five elements");
        assert_eq!(changed(IDS, 14.0_f64.to_bits()), None, "an id that was never given out");
        assert_eq!(changed(IDS + 16, 0.5_f64.to_bits()), None, "no id");
        assert_eq!(changed(ISOLATE_AT + 0x278, UNDEFINED + 0x100), None, "a context at this moment");
        assert_eq!(changed(UNDEFINED + 0x807, 132 << 32), None, "another type");
    }
}
