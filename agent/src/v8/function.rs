//! Functions: their names and where they begin, from `SharedFunctionInfo` and `ScopeInfo`.

use std::sync::Arc;

use super::{
    heap::{Heap, small_integer},
    layout::HEAP_OBJECT_TAG,
    memory::Memory,
    script::Script,
};
use crate::clean::{NAME_MAX_CHARS, clean_name};

/// Functions remembered per process.
const FUNCTIONS_MAX: usize = 16 << 10;
/// V8 keeps names of any length; those of people are shorter.
const NAME_MAX_UNITS: u32 = 512;
/// With this many context locals and more, their names are in a table beside (`kScopeInfoMaxInlinedLocalNamesSize`).
const INLINED_LOCALS_MAX: u64 = 75;
/// No function has more context locals; V8's own limit is lower.
const LOCALS_MAX: u64 = 1 << 20;

/// What a `SharedFunctionInfo` tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    /// `None`: it has no name.
    pub(super) name: Option<Arc<str>>,
    /// Of its parameters or body in the script, in UTF-16 units.
    pub(super) start: Option<u32>,
    /// The script's address; 0: none, as for V8's builtins.
    pub(super) script: u64,
    /// What is known of the script, once it was asked for.
    pub(super) script_facts: Option<Arc<Script>>,
}

/// Words of a `SharedFunctionInfo` that are looked at: up to the script.
pub(super) const SHARED_WORDS: usize = 6;

impl<M: Memory> Heap<M> {
    /// `None`: there is no `SharedFunctionInfo` at `shared`.
    pub(super) fn function(&mut self, shared: u64) -> Option<Function> {
        let expected = self.layout.types.shared_function_info;
        let words = self.object::<SHARED_WORDS>(shared, |_, found| found == expected)?;
        let layout = self.layout.shared.clone();
        self.depend(shared - HEAP_OBJECT_TAG, &words, &[0, layout.name_or_scope_info, layout.script]);
        let word = |offset: u64| words.get((offset / 8) as usize).copied().unwrap_or(0);
        let identity = [word(layout.name_or_scope_info), word(layout.script)];
        if let Some((known, function)) = self.functions.get(&shared)
            && *known == identity
        {
            return Some(function.clone());
        }
        let unreadable_before = self.unreadable_count;
        let function = self.read_function(words);
        if self.unreadable_count == unreadable_before {
            if self.functions.len() >= FUNCTIONS_MAX {
                self.functions.clear();
            }
            self.functions.insert(shared, (identity, function.clone()));
        }
        Some(function)
    }

    fn read_function(&mut self, words: [u64; SHARED_WORDS]) -> Function {
        let word = |offset: u64| words.get((offset / 8) as usize).copied().unwrap_or(0);
        let script = self.script_of(word(self.layout.shared.script)).unwrap_or(0);
        let name_or_scope_info = word(self.layout.shared.name_or_scope_info);
        if let Some(function) = self.scope_info(name_or_scope_info) {
            return Function { script, ..function };
        }
        Function { name: self.function_name(name_or_scope_info), script, ..Function::default() }
    }

    /// A script, or a debugger's information with the script behind it.
    fn script_of(&mut self, pointer: u64) -> Option<u64> {
        let expected = self.layout.types.script;
        self.object::<1>(pointer, |_, found| found == expected).map(|_| pointer)
    }

    fn function_name(&mut self, pointer: u64) -> Option<Arc<str>> {
        let text = self.name(pointer, NAME_MAX_UNITS)?;
        clean_name(text.as_bytes(), NAME_MAX_CHARS).map(Into::into)
    }

    /// Name and start of the function whose scope it describes (`scope-info.tq`): after the fixed slots come names and
    /// properties of the context's locals, then what the flags announce.
    fn scope_info(&mut self, pointer: u64) -> Option<Function> {
        let expected = self.layout.types.scope_info;
        let words = self.object::<6>(pointer, |_, found| found == expected)?;
        let flags = Flags::of(words[1]);
        let locals = u64::try_from(small_integer(words[3])?).ok().filter(|locals| *locals < LOCALS_MAX)?;
        let locals_slots = if locals < INLINED_LOCALS_MAX { 2 * locals } else { 1 + locals };
        let layout = self.layout.scope_info.clone();
        let first = layout.first_variable + locals_slots + u64::from(flags.has_saved_class_variable());
        let slots = self.memory.object_words::<4>(pointer - HEAP_OBJECT_TAG + 8 * (1 + first))?;
        let mut rest = slots.iter().copied();
        let name = if flags.has_function_variable() {
            let name = rest.next()?;
            // The place of the variable that holds the function.
            small_integer(rest.next()?)?;
            Some(name)
        } else {
            None
        };
        let inferred = if flags.has_inferred_function_name() { rest.next() } else { None };
        let start = match layout.start_position {
            // After the map and as many fixed slots.
            Some(slot) => words[1 + slot as usize],
            None => rest.next()?,
        };
        let start = small_integer(start).and_then(|start| u32::try_from(start).ok());
        let name = name.and_then(|name| self.function_name(name));
        let inferred = inferred.and_then(|inferred| self.function_name(inferred));
        Some(Function { name: best_name(name, inferred), start, ..Function::default() })
    }
}

/// V8's parser infers `Class.method` and `object.property` for functions from where they stand.
fn best_name(name: Option<Arc<str>>, inferred: Option<Arc<str>>) -> Option<Arc<str>> {
    let Some(name) = name else { return inferred };
    let qualifies = |inferred: &Arc<str>| {
        inferred.strip_suffix(&*name).is_some_and(|path| path.ends_with('.') && path.len() > 1)
    };
    Some(inferred.filter(qualifies).unwrap_or(name))
}

/// `ScopeFlags` of `scope-info.tq`, the same from V8 9 to 14.
#[derive(Clone, Copy)]
struct Flags(u32);

impl Flags {
    /// A small integer, or the number itself.
    fn of(word: u64) -> Self {
        Self(small_integer(word).map_or(word as u32, i32::cast_unsigned))
    }

    fn has_saved_class_variable(self) -> bool {
        self.0 >> 10 & 1 != 0
    }

    /// Two bits: none, on the stack, in the context, unused. Functions have it even without a name.
    fn has_function_variable(self) -> bool {
        (self.0 >> 12) & 3 > 0
    }

    fn has_inferred_function_name(self) -> bool {
        self.0 >> 14 & 1 != 0
    }
}
