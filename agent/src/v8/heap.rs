//! Objects on V8's heap: every pointer is followed only after the object behind it has shown, by its map, that it is of
//! the type expected.

use std::{collections::HashMap, sync::Arc};

use super::{
    function::Function,
    layout::{HEAP_OBJECT_TAG, Layout, TAG_MASK},
    memory::{Memory, PIECE_WORDS, Piece},
};

/// Maps that are remembered: V8 has one of each of the types asked for, per isolate at most.
const MAPS_MAX: usize = 1024;
/// Instance types of maps lie here in a map (checked by `Layout`).
const INSTANCE_TYPE_SHIFT: u32 = 32;

/// Memory and layout of one process, and the maps met so far.
pub(super) struct Heap<M> {
    pub(super) memory: M,
    pub(super) layout: Arc<Layout>,
    /// Instance types by map. Maps of the types asked for are in V8's read-only space: they neither move nor change.
    maps: HashMap<u64, u16>,
    /// Functions by address, with the words that tell one from another in its place.
    pub(super) functions: HashMap<u64, ([u64; 2], Function)>,
    /// What the frame being decoded was read from.
    guards: Vec<Guard>,
    /// Names that were not readable at their moment, so far. What was read while it grew must not be remembered.
    pub(super) unreadable_count: u64,
}

/// Words of an object that, as long as they are the same, mean the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub(super) address: u64,
    words: [u64; PIECE_WORDS],
    /// Bit per word that counts.
    counted: u8,
}

impl Guard {
    /// Whether the object is still the same.
    pub(super) fn holds(&self, piece: &Piece) -> bool {
        let differs =
            |index: usize| self.counted >> index & 1 == 1 && self.words[index] != piece.words[index];
        piece.read && !(0..PIECE_WORDS).any(differs)
    }
}

/// The value of a small integer; `None` for a pointer, or when the other half is in use.
pub(super) fn small_integer(word: u64) -> Option<i32> {
    (word as u32 == 0).then_some((word >> 32) as i32)
}

/// Whether a word is a pointer to a heap object, by its tag and by being an address of user space.
pub(super) fn is_pointer(word: u64) -> bool {
    const USER_SPACE_END: u64 = 1 << 57;
    word % 8 == HEAP_OBJECT_TAG && (0x1000..USER_SPACE_END).contains(&word)
}

impl<M: Memory> Heap<M> {
    pub(super) fn new(memory: M, layout: Arc<Layout>) -> Self {
        Self {
            memory,
            layout,
            maps: HashMap::new(),
            functions: HashMap::new(),
            guards: Vec::new(),
            unreadable_count: 0,
        }
    }

    /// Notes that what is being decoded depends on the words at these offsets of an object.
    pub(super) fn depend(&mut self, address: u64, words: &[u64], offsets: &[u64]) {
        let mut guard = Guard { address, words: [0; PIECE_WORDS], counted: 0 };
        for (place, word) in guard.words.iter_mut().zip(words) {
            *place = *word;
        }
        for offset in offsets {
            guard.counted |= 1_u8.checked_shl((offset / 8) as u32).unwrap_or(0);
        }
        self.guards.push(guard);
    }

    /// What was depended on since the last call.
    pub(super) fn take_guards(&mut self) -> Vec<Guard> {
        std::mem::take(&mut self.guards)
    }

    /// A name or path of at most `max_units`, not cleaned. `None`: there is none, or it is not readable, which is counted.
    pub(super) fn name(&mut self, pointer: u64, max_units: u32) -> Option<String> {
        if is_pointer(pointer) && self.any_object::<1>(pointer).is_none() {
            self.unreadable_count += 1;
            return None;
        }
        self.text(pointer, max_units)
    }

    /// The first `N` words of an object, the map being the first, if its type is `expected`.
    pub(super) fn object<const N: usize>(
        &mut self,
        pointer: u64,
        expected: impl FnOnce(&Layout, u16) -> bool,
    ) -> Option<[u64; N]> {
        let (words, instance_type) = self.any_object(pointer)?;
        expected(&self.layout, instance_type).then_some(words)
    }

    /// As [`Self::object`], of any type, which is told. Words behind an object that ends with its page are 0.
    pub(super) fn any_object<const N: usize>(&mut self, pointer: u64) -> Option<([u64; N], u16)> {
        if !is_pointer(pointer) {
            return None;
        }
        let words = self.memory.object_words::<N>(pointer - HEAP_OBJECT_TAG)?;
        let map = self.map(*words.first()?)?;
        let instance_type = self.instance_type(map)?;
        Some((words, instance_type))
    }

    /// The map of an object by its first word. While a collection moves objects, the word of one that has moved is the
    /// address of its copy, without tag (`MapWord::ToForwardingAddress`), and pointers still lead to the old place; its
    /// other words are whole there.
    fn map(&mut self, first: u64) -> Option<u64> {
        if is_pointer(first | HEAP_OBJECT_TAG) && first & TAG_MASK == 0 {
            return self.memory.words::<1>(first).map(|[map]| map);
        }
        Some(first)
    }

    /// What a map says; `None`: it is no map.
    ///
    /// A map shows to be one by its own map, which is a map's, too. Stale memory does not pass.
    pub(super) fn instance_type(&mut self, map: u64) -> Option<u16> {
        if let Some(known) = self.maps.get(&map) {
            return Some(*known);
        }
        if !is_pointer(map) {
            return None;
        }
        let [meta, fields] = self.memory.words::<2>(map - HEAP_OBJECT_TAG)?;
        if !is_pointer(meta) {
            return None;
        }
        let [_, meta_fields] = self.memory.words::<2>(meta - HEAP_OBJECT_TAG)?;
        if (meta_fields >> INSTANCE_TYPE_SHIFT) as u16 != self.layout.types.map {
            return None;
        }
        let instance_type = (fields >> INSTANCE_TYPE_SHIFT) as u16;
        if self.maps.len() >= MAPS_MAX {
            self.maps.clear();
        }
        // Maps of JavaScript's own objects come and go and are not remembered.
        let types = &self.layout.types;
        if instance_type < types.shared_function_info.max(types.scope_info).max(types.first_non_string) + 1 {
            self.maps.insert(map, instance_type);
        }
        Some(instance_type)
    }

    /// Whether the object at `pointer` is a context: what a JavaScript frame has at fp-8.
    pub(super) fn is_context(&mut self, pointer: u64) -> bool {
        self.object::<1>(pointer, |layout, found| layout.types.contexts.contains(&found)).is_some()
    }

    /// The elements `range` of an array that begins as `FixedArray` does.
    pub(super) fn element(&mut self, array: u64, index: u64) -> Option<u64> {
        let [_, length] = self.object::<2>(array, |layout, found| layout.types.arrays.contains(&found))?;
        let length = u64::try_from(small_integer(length)?).ok()?;
        if index >= length {
            return None;
        }
        let [element] = self.memory.words::<1>(array - HEAP_OBJECT_TAG + 16 + index * 8)?;
        Some(element)
    }

    /// All elements of such an array, of at most `limit`.
    pub(super) fn elements(&mut self, array: u64, limit: usize) -> Option<Vec<u64>> {
        let [_, length] = self.object::<2>(array, |layout, found| layout.types.arrays.contains(&found))?;
        let length = usize::try_from(small_integer(length)?).ok().filter(|length| *length <= limit)?;
        let mut bytes = vec![0; length * 8];
        self.memory.read(array - HEAP_OBJECT_TAG + 16, &mut bytes).then(|| {
            bytes
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
                .collect()
        })
    }

    /// The bytes of a `ByteArray` of at most `limit`.
    pub(super) fn byte_array(&mut self, array: u64, limit: usize) -> Option<Vec<u8>> {
        let [_, length] =
            self.object::<2>(array, |layout, found| layout.types.byte_arrays.contains(&found))?;
        let length = usize::try_from(small_integer(length)?).ok().filter(|length| *length <= limit)?;
        let mut bytes = vec![0; length];
        self.memory.read(array - HEAP_OBJECT_TAG + 16, &mut bytes).then_some(bytes)
    }
}

/// A weak pointer made strong.
pub(super) fn strong(word: u64) -> u64 {
    if word & TAG_MASK == TAG_MASK { word & !2 } else { word }
}
