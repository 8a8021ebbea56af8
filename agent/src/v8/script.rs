//! Scripts: where they come from, and the lines their positions are on.

use std::{collections::HashMap, sync::Arc};

use super::{
    heap::{Heap, is_pointer, small_integer},
    layout::HEAP_OBJECT_TAG,
    memory::Memory,
    string::Units,
};
use crate::clean::{self, clean};

/// Scripts remembered per process; a large service has some thousands.
const SCRIPTS_MAX: usize = 8192;
/// Sources longer than this have no lines. The largest bundles are some tens of MB.
const SOURCE_MAX_UNITS: u32 = 64 << 20;
/// Lines of one script at most.
const LINES_MAX: usize = 4 << 20;
/// Of a path as V8 keeps it.
const PATH_MAX_UNITS: u32 = 4096;
/// A longer link to a source map is one that holds the map itself; [`Heap::source_mapping_url`] reads it.
const URL_MAX_UNITS: u32 = 4096;
/// Words of a script that are compared when it is met again.
const WORDS: usize = 16;

/// What is known of a script.
#[derive(Debug)]
pub(super) struct Script {
    /// Path without `file://`, `node:...`, or what the script says of itself. `None`: it has no name.
    pub(super) name: Option<Arc<str>>,
    /// `None`: neither line ends nor source could be read.
    line_ends: Option<Vec<u32>>,
    line_offset: u32,
    column_offset: u32,
    /// What `//# sourceMappingURL=` says, if it is not too long.
    pub(super) source_map_url: Option<Arc<str>>,
}

/// A place in a script, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Script {
    /// Line and column of a position as V8 counts them in `Error.stack`.
    pub(super) fn place(&self, position: u32) -> Option<Place> {
        let ends = self.line_ends.as_ref()?;
        let line = ends.partition_point(|end| *end < position);
        if line >= ends.len() {
            return None;
        }
        let begin = match line.checked_sub(1) {
            Some(previous) => ends[previous] + 1,
            None => 0,
        };
        let column = position - begin + if line == 0 { self.column_offset } else { 0 };
        Some(Place {
            line: u32::try_from(line).ok()?.checked_add(self.line_offset)?.checked_add(1)?,
            column: column.checked_add(1)?,
        })
    }
}

/// The scripts met so far, by address. An address is used again after a collection, so the words that tell a script
/// from others are compared each time.
#[derive(Default)]
pub(super) struct Scripts {
    known: HashMap<u64, (Identity, Arc<Script>)>,
}

/// Source, name and number of a script.
type Identity = [u64; 3];

impl Scripts {
    pub(super) fn get<M: Memory>(&mut self, heap: &mut Heap<M>, pointer: u64) -> Option<Arc<Script>> {
        let expected = heap.layout.types.script;
        let words = heap.object::<WORDS>(pointer, |_, found| found == expected)?;
        let layout = &heap.layout.script;
        let word = |offset: u64| words.get((offset / 8) as usize).copied().unwrap_or(0);
        let identity = [word(layout.source), word(layout.name), word(layout.id)];
        if let Some((known, script)) = self.known.get(&pointer)
            && *known == identity
        {
            return Some(Arc::clone(script));
        }
        let unreadable_before = heap.unreadable_count;
        let script = Arc::new(heap.read_script(&words));
        if heap.unreadable_count == unreadable_before {
            if self.known.len() >= SCRIPTS_MAX {
                self.known.clear();
            }
            self.known.insert(pointer, (identity, Arc::clone(&script)));
        }
        Some(script)
    }
}

impl<M: Memory> Heap<M> {
    fn read_script(&mut self, words: &[u64; WORDS]) -> Script {
        let layout = self.layout.script.clone();
        let word = |offset: u64| words.get((offset / 8) as usize).copied().unwrap_or(0);
        let number = |offset| small_integer(word(offset)).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let name = self
            .path(word(layout.name))
            .or_else(|| self.path(word(layout.source_url)))
            .or_else(|| self.eval_origin(word(layout.eval_from_shared)));
        let line_ends = self
            .stored_line_ends(word(layout.line_ends))
            .or_else(|| self.counted_line_ends(word(layout.source)));
        let url = word(layout.source_mapping_url);
        let url_is_short = self.string_length(url).is_some_and(|length| length <= URL_MAX_UNITS);
        let url = if url_is_short { self.text(url, URL_MAX_UNITS) } else { None };
        Script {
            name: name.map(Into::into),
            line_ends,
            line_offset: number(layout.line_offset),
            column_offset: number(layout.column_offset),
            source_map_url: url.map(|url| clean(url.as_bytes(), URL_MAX_UNITS as usize).into()),
        }
    }

    fn path(&mut self, pointer: u64) -> Option<String> {
        let text = self.name(pointer, PATH_MAX_UNITS)?;
        // Node.js percent-encodes what a URL cannot hold; a path for people has it decoded.
        let path = match text.strip_prefix("file://") {
            Some(encoded) => percent_encoding::percent_decode_str(encoded).collect::<Vec<u8>>(),
            None => text.into_bytes(),
        };
        clean::clean_name(&path, clean::PATH_MAX_CHARS)
    }

    /// For code of `eval` and `new Function`: the script that made it.
    fn eval_origin(&mut self, shared: u64) -> Option<String> {
        let at = self.layout.shared.script;
        let [script] =
            is_pointer(shared).then(|| self.memory.words::<1>(shared - HEAP_OBJECT_TAG + at))??;
        let expected = self.layout.types.script;
        let words = self.object::<WORDS>(script, |_, found| found == expected)?;
        let name = words.get((self.layout.script.name / 8) as usize)?;
        self.path(*name).map(|path| format!("eval at {path}"))
    }

    /// V8 fills them in when something asks for a line, `Error.stack` for one.
    fn stored_line_ends(&mut self, array: u64) -> Option<Vec<u32>> {
        let elements = self.elements(array, LINES_MAX)?;
        let ends: Option<Vec<u32>> =
            elements.iter().map(|element| u32::try_from(small_integer(*element)?).ok()).collect();
        ends.filter(|ends| !ends.is_empty() && ends.is_sorted())
    }

    /// As V8's `String::CalculateLineEnds`: a line ends in `\n`, `\r`, both, or U+2028 and U+2029; the script's end ends the last.
    fn counted_line_ends(&mut self, source: u64) -> Option<Vec<u32>> {
        let mut ends = Vec::new();
        let mut at: u32 = 0;
        let mut after_return = false;
        let mut end_of = |unit: u16, at: u32| {
            if after_return && unit != u16::from(b'\n') {
                ends.push(at - 1);
            }
            after_return = unit == u16::from(b'\r');
            if matches!(unit, 0x0a | 0x2028 | 0x2029) {
                ends.push(at);
            }
        };
        self.source(source, SOURCE_MAX_UNITS, &mut |units| match units {
            Units::OneByte(bytes) => {
                for byte in bytes {
                    end_of(u16::from(*byte), at);
                    at += 1;
                }
            }
            Units::TwoByte(bytes) => {
                for pair in bytes.chunks_exact(2) {
                    end_of(u16::from_le_bytes([pair[0], pair[1]]), at);
                    at += 1;
                }
            }
        })?;
        if after_return {
            ends.push(at - 1);
        }
        ends.push(at);
        (ends.len() <= LINES_MAX).then_some(ends)
    }

    /// The UTF-16 units `from..to` of a script's source, as far as there are any.
    pub(super) fn source_text(&mut self, script: u64, from: u32, to: u32) -> Option<String> {
        let expected = self.layout.types.script;
        let words = self.object::<WORDS>(script, |_, found| found == expected)?;
        let source = *words.get((self.layout.script.source / 8) as usize)?;
        self.slice(source, from, to)
    }

    /// All of what `//# sourceMappingURL=` says in a script, of at most `max_units`.
    pub(super) fn source_mapping_url(&mut self, script: u64, max_units: u32) -> Option<String> {
        let expected = self.layout.types.script;
        let words = self.object::<WORDS>(script, |_, found| found == expected)?;
        let url = *words.get((self.layout.script.source_mapping_url / 8) as usize)?;
        self.string_length(url).filter(|length| *length <= max_units)?;
        self.text(url, max_units)
    }
}
