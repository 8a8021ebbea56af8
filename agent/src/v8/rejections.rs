//! Where a loop thread notes that rejected promises wait to be dealt with.
//!
//! `node::Environment` has three arrays next to each other behind the async ids: counts of immediates, whether a timer keeps the
//! process alive, and the note with what `process.nextTick` has. Node 18 to 26 have them so.

use super::{
    environment::{self, Environment, is_aligned_address},
    memory::{Memory, ProcessMemory},
};

/// The begin of an array (`AliasedBuffer`), in words: isolate, count of elements, offset in bytes, elements.
const HEAD_WORDS: usize = 4;
/// Elements of the three arrays, and where the second and the third begin after the first, in words: structures with a table of
/// virtual functions each, but for the second.
const COUNTS: [u64; 3] = [3, 1, 2];
const BEGINS: [usize; 3] = [0, 7, 15];
/// So far behind the ids the first begins at most: 21 words have been seen.
const SEARCH_WORDS: usize = 64;
const READ_WORDS: usize = SEARCH_WORDS + BEGINS[2] + HEAD_WORDS;
/// Of `TickInfo`: whether something is to be done at the next tick, a byte, and the note.
const NOTE: u64 = 1;

/// Finds the note of the thread of `pid` whose stack is at `sp`, a byte. `None`: not found. `ids_offset`: in an environment, the
/// address of its async ids.
pub fn find_note(pid: u32, sp: u64, ids_offset: u32) -> Option<u64> {
    environment::find(&ProcessMemory::new(pid), sp, ids_offset, note_of)
}

fn note_of(memory: &impl Memory, environment: Environment) -> Option<u64> {
    let mut bytes = [0; READ_WORDS * 8];
    if !memory.read(environment.ids_place.checked_add(8)?, &mut bytes) {
        return None;
    }
    let (words, _) = bytes.as_chunks::<8>();
    let head_at = |word: usize| {
        let head = words.get(word..)?.first_chunk::<HEAD_WORDS>()?;
        Some(head.map(u64::from_le_bytes))
    };
    (0..SEARCH_WORDS).find_map(|first| {
        let mut address = 0;
        for (wanted, begin) in COUNTS.into_iter().zip(BEGINS) {
            let [isolate, count, offset, elements] = head_at(first + begin)?;
            if isolate != environment.isolate || count != wanted || offset != 0 {
                return None;
            }
            address = elements;
        }
        is_aligned_address(address).then_some(address + NOTE)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::memory::Words, *};

    const ISOLATE: u64 = 0x3c4b_7000;
    const IDS_PLACE: u64 = 0x39b3_e788;
    const TICK_INFO: u64 = 0x39b2_f5b0;

    /// What Node 24 had behind its async ids: another array of one element is not far behind.
    fn image() -> Words {
        let mut words: BTreeMap<u64, u64> = (0..128).map(|word| (IDS_PLACE + 8 * word, 0)).collect();
        let arrays = [(21, 3, 0x39b2_f620), (28, 1, 0x39b2_f690), (36, 2, TICK_INFO), (117, 3, 0x39b6_daf0)];
        for (word, count, elements) in arrays {
            let at = IDS_PLACE + 8 * word;
            words.extend([(at, ISOLATE), (at + 8, count), (at + 16, 0), (at + 24, elements)]);
        }
        Words(words)
    }

    fn found(image: &Words) -> Option<u64> {
        let environment =
            Environment { isolate: ISOLATE, ids: 0x39b3_0830, ids_place: IDS_PLACE, hooks: 0x39b3_0900 };
        note_of(image, environment)
    }

    #[test]
    fn the_note_is_the_second_byte_of_the_third_array() {
        assert_eq!(found(&image()), Some(TICK_INFO + 1));
    }

    #[test]
    fn what_has_not_the_shape_is_not_taken() {
        for (word, other) in [(21, 1), (22, 4), (29, 2), (30, 8), (37, 3), (39, TICK_INFO + 1)] {
            let mut image = image();
            image.0.insert(IDS_PLACE + 8 * word, other);
            assert_eq!(found(&image), None, "word {word}");
        }
        let mut short = image();
        short.0.remove(&(IDS_PLACE + 8 * 80));
        assert_eq!(found(&short), None, "it cannot be read to its end");
    }
}
