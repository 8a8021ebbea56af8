//! Machine code that V8 made: which function a program counter is in, and at which position.
//!
//! `JSFunction.code` is of no use: since V8 13 it holds a handle of the dispatch table, and a frame may run code that its
//! function has replaced. So the code is found from the program counter itself: V8 begins each piece of code in its code
//! space at a multiple of 64 bytes, with a header before it that points to the description, `Code`, which must point back.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use super::{
    heap::{Heap, is_pointer, small_integer, strong},
    layout::{CodeLayout, HEAP_OBJECT_TAG},
    memory::Memory,
    position::{self, SourcePosition},
};

/// `kCodeAlignment` on x86-64 and arm64.
const ALIGNMENT: u64 = 64;
/// Code longer than this is not looked for. Functions of more than some 60 KB of bytecode are not optimised.
const SEARCH_MAX_BYTES: u64 = 2 << 20;
const CHUNK_BYTES: u64 = 4096;
/// Candidates whose first word is looked at to see whether it is the map that is not yet known.
const UNKNOWN_MAPS_MAX: usize = 64;
const CODES_MAX: usize = 4096;
const TABLE_MAX_BYTES: usize = 4 << 20;
const LITERALS_MAX: usize = 1 << 16;
/// V8's own limit of nested inlining is far below.
const INLINING_DEPTH_MAX: usize = 32;

/// What made a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// Sparkplug: one piece of machine code per bytecode.
    Baseline,
    /// Maglev and Turbofan.
    Optimised,
    /// Regular expressions, wrappers of `WebAssembly`: no function of a script.
    Other,
}

/// A piece of code, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) instructions: Range<u64>,
    pub(super) tier: Tier,
    /// Address of the object that begins with the instructions' header.
    header: u64,
    /// `DeoptimizationData`, of baseline code the bytecode array.
    pub(super) data: u64,
    source_positions: u64,
}

/// A function at a position in its script, of one frame of optimised code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inlined {
    pub(super) shared: u64,
    pub(super) position: Option<u32>,
    /// The position is that of a call which was replaced by the function called.
    pub(super) is_call: bool,
}

/// What optimised code was made of.
struct Details {
    /// The function that was compiled.
    own: u64,
    positions: Vec<u8>,
    inlining_positions: Vec<u8>,
    literals: Vec<u64>,
    is_loop_code: bool,
}

/// Code met so far.
#[derive(Default)]
pub(super) struct Codes {
    /// By first instruction.
    known: BTreeMap<u64, Code>,
    /// By first instruction; both as long as the code is the same.
    details: HashMap<u64, Arc<Details>>,
    tables: HashMap<u64, Arc<[u8]>>,
    /// Maps of headers: one per read-only space, so one, or one per isolate.
    header_maps: Vec<u64>,
}

impl Codes {
    /// The code that contains `pc`, which lies in the executable `region`.
    pub(super) fn at<M: Memory>(&mut self, heap: &mut Heap<M>, pc: u64, region: &Range<u64>) -> Option<Code> {
        let layout = heap.layout.code.clone()?;
        if let Some(known) = self.known.range(..=pc).next_back().map(|(_, code)| code.clone())
            && known.instructions.contains(&pc)
            && let Some(now) = heap.code(known.header, &layout)
            && now.instructions == known.instructions
        {
            if now != known {
                self.remember(now.clone());
            }
            return Some(now);
        }
        let found = self.search(heap, pc, region, &layout)?;
        self.remember(found.clone());
        Some(found)
    }

    /// Notes new code. What was derived from other code in its place is forgotten.
    fn remember(&mut self, code: Code) {
        if self.known.len() >= CODES_MAX {
            self.known.clear();
            self.tables.clear();
            self.details.clear();
        }
        let start = code.instructions.start;
        self.tables.remove(&start);
        self.details.remove(&start);
        self.known.insert(start, code);
    }

    /// Backwards from `pc`, first for the maps that are known, which is one comparison per place.
    fn search<M: Memory>(
        &mut self,
        heap: &mut Heap<M>,
        pc: u64,
        region: &Range<u64>,
        layout: &CodeLayout,
    ) -> Option<Code> {
        let lowest = pc.saturating_sub(SEARCH_MAX_BYTES).max(region.start);
        let mut unknown_maps = 0;
        let mut buffer = [0; CHUNK_BYTES as usize];
        // Where the words of headers lie, counted from a multiple of `ALIGNMENT`.
        let shift = layout.header_bytes % ALIGNMENT;
        let mut end = (pc & !(ALIGNMENT - 1)).checked_sub(shift)?.checked_add(ALIGNMENT)?;
        while end > lowest {
            let begin =
                end.saturating_sub(CHUNK_BYTES).max(lowest.next_multiple_of(ALIGNMENT).saturating_sub(shift));
            let chunk = buffer.get_mut(..usize::try_from(end.checked_sub(begin)?).ok()?)?;
            if chunk.is_empty() || !heap.memory.read(begin, chunk) {
                return None;
            }
            for at in (0..chunk.len()).step_by(ALIGNMENT as usize).rev() {
                let header = begin + at as u64;
                let word = word_at(chunk, at)?;
                if header + layout.header_bytes > pc || !is_pointer(word) {
                    continue;
                }
                if !self.header_maps.contains(&word) {
                    // A second pointer follows: the description, or before V8 11 the relocation information.
                    unknown_maps += 1;
                    if !is_pointer(word_at(chunk, at + 8)?) || unknown_maps > UNKNOWN_MAPS_MAX {
                        continue;
                    }
                    if heap.instance_type(word) != Some(heap.layout.types.instruction_stream) {
                        continue;
                    }
                }
                let Some(code) = heap.code(header, layout) else { continue };
                if !self.header_maps.contains(&word) && self.header_maps.len() < UNKNOWN_MAPS_MAX {
                    self.header_maps.push(word);
                }
                // The nearest code before `pc` is the one that contains it, or none does.
                return Some(code).filter(|code| code.instructions.contains(&pc));
            }
            end = begin;
        }
        None
    }

    /// The functions that `pc` stands for, innermost first: those inlined, then the one that was compiled.
    ///
    /// A return address belongs to the instruction before it.
    pub(super) fn inlined<M: Memory>(
        &mut self,
        heap: &mut Heap<M>,
        code: &Code,
        pc: u64,
        is_return_address: bool,
    ) -> Option<Vec<Inlined>> {
        let details = self.details(heap, code)?;
        let length = u32::try_from(code.instructions.end - code.instructions.start).ok()?;
        let offset =
            u32::try_from(pc - code.instructions.start).ok()?.checked_sub(u32::from(is_return_address));
        let format = heap.layout.position_format;
        let position =
            offset.and_then(|offset| position::source_position(&details.positions, format, length, offset));
        let Some(mut position) = position else {
            return Some(vec![Inlined { shared: details.own, position: None, is_call: false }]);
        };
        let mut functions: Vec<Inlined> = Vec::new();
        while position.inlining_id != 0 {
            if functions.len() >= INLINING_DEPTH_MAX {
                return None;
            }
            let (outer, function) = inlining_position(&details.inlining_positions, position.inlining_id)?;
            let shared = heap.unwrap_shared(strong(*details.literals.get(function)?))?;
            let is_call = !functions.is_empty();
            functions.push(Inlined { shared, position: Some(position.script_offset), is_call });
            position = outer;
        }
        let is_call = !functions.is_empty();
        functions.push(Inlined { shared: details.own, position: Some(position.script_offset), is_call });
        Some(functions)
    }

    /// Whether it is optimised code that was made to be entered in a running loop (on-stack replacement).
    pub(super) fn is_loop_code<M: Memory>(&mut self, heap: &mut Heap<M>, code: &Code) -> bool {
        let details = (code.tier == Tier::Optimised).then(|| self.details(heap, code)).flatten();
        details.is_some_and(|details| details.is_loop_code)
    }

    fn details<M: Memory>(&mut self, heap: &mut Heap<M>, code: &Code) -> Option<Arc<Details>> {
        if let Some(known) = self.details.get(&code.instructions.start) {
            return Some(Arc::clone(known));
        }
        let layout = heap.layout.code.clone()?.deoptimization;
        let own = heap.element(code.data, layout.shared)?;
        let own = heap.unwrap_shared(own)?;
        let mut array = |index| heap.element(code.data, index);
        let (positions, literals) = (array(layout.inlining_positions), array(layout.literals));
        let loop_offset = array(layout.loop_offset).and_then(small_integer);
        let details = Arc::new(Details {
            own,
            positions: heap.byte_array(code.source_positions, TABLE_MAX_BYTES).unwrap_or_default(),
            // Empty, or another object, where nothing is inlined.
            inlining_positions: positions
                .and_then(|array| heap.byte_array(array, TABLE_MAX_BYTES))
                .unwrap_or_default(),
            literals: literals.and_then(|array| heap.elements(array, LITERALS_MAX)).unwrap_or_default(),
            is_loop_code: loop_offset.is_some_and(|offset| offset >= 0),
        });
        self.details.insert(code.instructions.start, Arc::clone(&details));
        Some(details)
    }

    /// The offset in the bytecode that `pc` in baseline code belongs to.
    pub(super) fn baseline_offset<M: Memory>(
        &mut self,
        heap: &mut Heap<M>,
        code: &Code,
        bytecode: &[u8],
        pc: u64,
        is_return_address: bool,
    ) -> Option<u32> {
        let sizes = heap.layout.code.as_ref()?.bytecode_sizes.clone()?;
        let offset =
            u32::try_from(pc - code.instructions.start).ok()?.checked_sub(u32::from(is_return_address))?;
        let table = self.table(heap, code)?;
        position::baseline_bytecode_offset(&table, bytecode, &sizes, offset)
    }

    /// The lengths of machine code per bytecode of baseline code.
    fn table<M: Memory>(&mut self, heap: &mut Heap<M>, code: &Code) -> Option<Arc<[u8]>> {
        if let Some(known) = self.tables.get(&code.instructions.start) {
            return Some(Arc::clone(known));
        }
        let table: Arc<[u8]> = heap.byte_array(code.source_positions, TABLE_MAX_BYTES)?.into();
        self.tables.insert(code.instructions.start, Arc::clone(&table));
        Some(table)
    }
}

/// `InliningPosition` (`source-position.h`): where the call is, and the function as index of the literals.
fn inlining_position(table: &[u8], inlining_id: u16) -> Option<(SourcePosition, usize)> {
    const ENTRY_BYTES: usize = 16;
    let at = usize::from(inlining_id.checked_sub(1)?) * ENTRY_BYTES;
    let position = word_at(table, at)?.cast_signed();
    let function = word_at(table, at + 8)? as u32;
    Some((SourcePosition::unpack(position)?, usize::try_from(function.cast_signed()).ok()?))
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

impl<M: Memory> Heap<M> {
    /// The code whose header is at `header`, if header and description agree.
    fn code(&mut self, header: u64, layout: &CodeLayout) -> Option<Code> {
        const WORDS: usize = 9;
        let first_instruction = header.checked_add(layout.header_bytes)?;
        let pointer = match layout.code_of_stream {
            Some(offset) => {
                let words @ [map, code] = self.memory.words::<2>(header)?;
                self.depend(header, &words, &[0, 8]);
                if offset != 8 || self.instance_type(map)? != self.layout.types.instruction_stream {
                    return None;
                }
                code
            }
            None => header | HEAP_OBJECT_TAG,
        };
        let words = self.object::<WORDS>(pointer, |layout, found| found == layout.types.code)?;
        self.depend(
            pointer - HEAP_OBJECT_TAG,
            &words,
            &[0, layout.deoptimization_data_or_bytecode, layout.source_positions, layout.instruction_size],
        );
        let word = |offset: u64| words.get((offset / 8) as usize).copied();
        let half = |offset: u64| Some((word(offset)? >> (8 * (offset % 8))) as u32);
        if let Some(offset) = layout.instruction_start
            && word(offset)? != first_instruction
        {
            return None;
        }
        let kind = half(layout.flags)? & layout.kind_mask;
        let tier = match kind {
            kind if kind == layout.kind_baseline => Tier::Baseline,
            kind if kind > layout.kind_baseline => Tier::Optimised,
            _ => Tier::Other,
        };
        let size = u64::from(half(layout.instruction_size)?);
        if size > SEARCH_MAX_BYTES {
            return None;
        }
        Some(Code {
            instructions: first_instruction..first_instruction.checked_add(size)?,
            tier,
            header,
            data: word(layout.deoptimization_data_or_bytecode)?,
            source_positions: word(layout.source_positions)?,
        })
    }

    /// A `SharedFunctionInfo`, or the one in a wrapper.
    fn unwrap_shared(&mut self, pointer: u64) -> Option<u64> {
        let ([_, inner], found) = self.any_object::<2>(pointer)?;
        if found == self.layout.types.shared_function_info {
            return Some(pointer);
        }
        (Some(found) == self.layout.types.shared_function_info_wrapper).then_some(inner)
    }

    /// What a frame of the interpreter or of baseline code has at fp-32: the bytecode and its position table.
    pub(super) fn bytecode(&mut self, pointer: u64) -> Option<Bytecode> {
        const WORDS: usize = 6;
        let words = self.object::<WORDS>(pointer, |layout, found| found == layout.types.bytecode_array)?;
        let layout = self.layout.bytecode.clone();
        self.depend(pointer - HEAP_OBJECT_TAG, &words, &[0, layout.length, layout.source_positions]);
        let length = small_integer(*words.get((layout.length / 8) as usize)?)?;
        Some(Bytecode {
            data: pointer - HEAP_OBJECT_TAG + layout.data,
            data_offset: layout.data,
            length: u32::try_from(length).ok()?,
            source_positions: *words.get((layout.source_positions / 8) as usize)?,
        })
    }

    /// The position in the script of a bytecode.
    pub(super) fn bytecode_position(&mut self, bytecode: &Bytecode, offset: u32) -> Option<u32> {
        let table = self.byte_array(bytecode.source_positions, TABLE_MAX_BYTES)?;
        let position =
            position::source_position(&table, self.layout.position_format, bytecode.length, offset)?;
        (position.inlining_id == 0).then_some(position.script_offset)
    }

    /// The bytecode itself.
    pub(super) fn bytecode_bytes(&mut self, bytecode: &Bytecode) -> Option<Vec<u8>> {
        let length = bytecode.length as usize;
        if length > TABLE_MAX_BYTES {
            return None;
        }
        let mut bytes = vec![0; length];
        self.memory.read(bytecode.data, &mut bytes).then_some(bytes)
    }
}

/// A bytecode array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytecode {
    data: u64,
    data_offset: u64,
    length: u32,
    source_positions: u64,
}

impl Bytecode {
    /// The offset of a bytecode, from the word at fp-40 of an interpreter's frame: a small integer that counts from the
    /// tagged pointer. `None`: it is something else.
    pub(super) fn offset(&self, word: u64) -> Option<u32> {
        let from_tag = u64::try_from(small_integer(word)?).ok()?;
        let offset = (from_tag + HEAP_OBJECT_TAG).checked_sub(self.data_offset)?;
        u32::try_from(offset).ok().filter(|offset| *offset < self.length)
    }
}
