//! `node::Environment` of a loop thread, what Node keeps beside its isolate.
//!
//! It is found on the stack of its thread: whatever the loop calls, the function that runs the loop has it at hand, in a register
//! that its callees save. It is known by its shape: an array of four doubles, the last -1 or an id, behind one of counts.
//!
//! Limits: x86-64; the layout of `AliasedBuffer` is that of Node 16 to 26.

use super::memory::{Memory, PIECE_WORDS, Piece};

/// So much of a stack is searched. That of a thread in its loop is 15 KiB deep, most of it events of `uv__io_poll`.
const STACK_BYTES: u64 = 64 << 10;
/// Read at once.
const CHUNK_BYTES: usize = 4096;
/// What looks like an environment is looked into at most so often: there is one, and a process can make up thousands.
const ENVIRONMENTS_MAX: usize = 16;

/// `AliasedBuffer`: vtable, isolate, count of elements, offset in bytes, elements, and two more. From the elements of the ids
/// backwards, in words: their own head, then elements and count of the hooks, which stand before them.
const ISOLATE: u64 = 24;
const HOOKS: u64 = 56;
const HOOKS_COUNT: u64 = 72;
/// Execution, trigger, the last one given out, default trigger.
const IDS_LEN: u64 = 4;
/// Kinds of hooks and what else Node counts with them.
const HOOKS_LEN: std::ops::RangeInclusive<u64> = 8..=12;

/// What is known of an environment. Addresses in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) isolate: u64,
    /// Its async ids, four doubles, and the place in it that names them.
    pub(super) ids: u64,
    pub(super) ids_place: u64,
    /// Counts of hooks, 32 bits each.
    pub(super) hooks: u64,
}

/// The first of the environments on the stack at `sp` of which `check` makes something. `ids_offset`: in an environment, the
/// address of its async ids.
pub(super) fn find<M: Memory, T>(
    memory: &M,
    sp: u64,
    ids_offset: u32,
    check: impl Fn(&M, Environment) -> Option<T>,
) -> Option<T> {
    let mut tried = std::collections::BTreeSet::new();
    let mut seen = 0;
    let sp = sp & !7;
    for at in (sp..sp.checked_add(STACK_BYTES)?).step_by(CHUNK_BYTES) {
        let mut chunk = [0; CHUNK_BYTES];
        // At its end the stack is read word by word.
        let words: Vec<u64> = if memory.read(at, &mut chunk) {
            chunk.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect()
        } else {
            let words = (at..at + CHUNK_BYTES as u64).step_by(8);
            words.map_while(|at| memory.words::<1>(at)).map(|[word]| word).collect()
        };
        let candidates = words.iter().copied().filter(|word| is_aligned_address(*word));
        let new = candidates.filter(|word| tried.insert(*word));
        let mut pieces: Vec<Piece> = new
            .map(|environment| Piece {
                address: environment.wrapping_add(ids_offset.into()).wrapping_sub(ISOLATE),
                ..Piece::default()
            })
            .collect();
        memory.read_pieces(&mut pieces);
        let read = pieces.iter().filter(|piece| piece.read);
        for environment in read.filter_map(|piece| environment(memory, piece)) {
            let found = check(memory, environment);
            seen += 1;
            if found.is_some() || seen == ENVIRONMENTS_MAX {
                return found;
            }
        }
        if words.len() < CHUNK_BYTES / 8 {
            break;
        }
    }
    None
}

pub(super) fn is_aligned_address(word: u64) -> bool {
    word.is_multiple_of(8) && (0x1_0000..1 << 47).contains(&word)
}

/// `piece` begins with isolate, count, offset and elements of what may be the async ids.
fn environment(memory: &impl Memory, piece: &Piece) -> Option<Environment> {
    let [isolate, count, offset, ids, ..]: [u64; PIECE_WORDS] = piece.words;
    if count != IDS_LEN || offset != 0 || !is_aligned_address(isolate) || !is_aligned_address(ids) {
        return None;
    }
    let [executing, trigger, last, default_trigger] = memory.words::<4>(ids)?.map(f64::from_bits);
    let is_id = |id: f64| id >= 0.0 && id.fract() == 0.0 && id <= last;
    if !is_id(executing) || !is_id(trigger) || last < 1.0 || default_trigger < -1.0 {
        return None;
    }
    let ids_place = piece.address.wrapping_add(ISOLATE);
    let [hooks] = memory.words::<1>(ids_place.wrapping_sub(HOOKS))?;
    let [hooks_count] = memory.words::<1>(ids_place.wrapping_sub(HOOKS_COUNT))?;
    (HOOKS_LEN.contains(&hooks_count) && is_aligned_address(hooks)).then_some(Environment {
        isolate,
        ids,
        ids_place,
        hooks,
    })
}
