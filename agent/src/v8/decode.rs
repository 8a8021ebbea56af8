//! From the words of frames to functions.
//!
//! Which frame is whose: V8 lays out a frame of JavaScript the same in all tiers, so the pc decides what its words mean.
//! In the innermost frame they may be the caller's, when the pc is in code that has not yet made a frame of its own, or
//! has none at all.

use std::{collections::HashMap, ops::Range, sync::Arc};

use nodeprobe_ebpf::{RawFrame, walk::MAX_FRAMES};

use super::{
    Decoded, Frame, JavaScript, RawStack, ScriptRef,
    code::{Bytecode, Code, Codes, Tier},
    heap::{Guard, Heap, is_pointer},
    layout::Layout,
    memory::{Memory, Piece},
    regions::{Place, Regions},
    rescue,
    script::{Script, Scripts},
};

/// Bytes between the frame pointer and the lowest word of a frame that is looked at: function, bytecode offset.
const FUNCTION_BYTES: u64 = 16;
const BYTECODE_BYTES: u64 = 40;

pub(super) struct Decoder<M> {
    pub(super) heap: Heap<M>,
    pub(super) regions: Regions,
    codes: Codes,
    scripts: Scripts,
    /// Frames met before: threads come by the same places again and again.
    known: HashMap<Key, Known>,
}

/// Frames remembered per process.
const FRAMES_MAX: usize = 16 << 10;

/// The words of a frame that decide what it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pc: u64,
    marker_is_pointer: bool,
    shared: u64,
    bytecode: u64,
    bytecode_offset: u64,
    context: Context,
}

/// What a frame was decoded to, as long as the objects it was read from are the same.
struct Known {
    guards: Vec<Guard>,
    frames: Vec<Frame>,
}

/// What is known of a raw frame besides its words.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Context {
    /// It is the innermost one: its pc is the instruction being executed.
    is_leaf: bool,
    /// Its words are on the stack: not below the stack pointer.
    has_function: bool,
    has_bytecode: bool,
}

impl<M: Memory> Decoder<M> {
    pub(super) fn new(memory: M, layout: Arc<Layout>, regions: Regions) -> Self {
        Self {
            heap: Heap::new(memory, layout),
            regions,
            codes: Codes::default(),
            scripts: Scripts::default(),
            known: HashMap::new(),
        }
    }

    pub(super) fn decode(&mut self, stack: &RawStack<'_>) -> Decoded {
        let decoded = self.frames(stack.frames, Some(stack));
        if stack.image.is_empty() || decoded.javascript().next().is_some() {
            return decoded;
        }
        rescue::decode(self, stack).unwrap_or(decoded)
    }

    /// Decodes the frames of one walk. Without `registers` none of them is the innermost one of its thread.
    pub(super) fn frames(&mut self, raw: &[RawFrame], registers: Option<&RawStack<'_>>) -> Decoded {
        let keys: Vec<Key> = raw
            .iter()
            .enumerate()
            .map(|(index, frame)| self.key(frame, registers.filter(|_| index == 0)))
            .collect();
        let current = self.current(&keys);
        let mut decoded = Decoded::default();
        for ((frame, key), is_current) in raw.iter().zip(keys).zip(current) {
            if is_current && let Some(known) = self.known.get(&key) {
                decoded.frames.extend_from_slice(&known.frames);
                continue;
            }
            let before = decoded.frames.len();
            self.heap.take_guards();
            let unreadable_before = self.heap.unreadable_count;
            self.frame(frame, key.context, &mut decoded.frames);
            let guards = self.heap.take_guards();
            // What was read from nothing costs nothing to decode again.
            if !guards.is_empty()
                && self.heap.unreadable_count == unreadable_before
                && let Some(frames) = decoded.frames.get(before..)
            {
                if self.known.len() >= FRAMES_MAX {
                    self.known.clear();
                }
                self.known.insert(key, Known { guards, frames: frames.to_vec() });
            }
        }
        decoded.truncated =
            raw.len() >= MAX_FRAMES || !matches!(decoded.frames.last(), None | Some(Frame::Native { .. }));
        decoded
    }

    fn key(&self, frame: &RawFrame, registers: Option<&RawStack<'_>>) -> Key {
        let on_stack = |bytes| {
            registers.is_none_or(|stack| stack.fp.checked_sub(bytes).is_some_and(|lowest| lowest >= stack.sp))
        };
        Key {
            pc: frame.pc,
            marker_is_pointer: is_pointer(frame.marker),
            shared: frame.shared.get(self.heap.layout.shared_index).copied().unwrap_or(0),
            bytecode: frame.bytecode,
            bytecode_offset: frame.bytecode_offset,
            context: Context {
                is_leaf: registers.is_some(),
                has_function: on_stack(FUNCTION_BYTES),
                has_bytecode: on_stack(BYTECODE_BYTES),
            },
        }
    }

    /// Which of the frames were met before and still are what they were: one look at all their objects together.
    fn current(&self, keys: &[Key]) -> Vec<bool> {
        let guards = |key: &Key| self.known.get(key).map_or(&[][..], |known| &known.guards);
        let mut pieces: Vec<Piece> = keys
            .iter()
            .flat_map(guards)
            .map(|guard| Piece { address: guard.address, ..Piece::default() })
            .collect();
        self.heap.memory.read_pieces(&mut pieces);
        let mut rest = &pieces[..];
        keys.iter()
            .map(|key| {
                let guards = guards(key);
                let (own, others) = rest.split_at(guards.len());
                rest = others;
                guards.iter().zip(own).all(|(guard, piece)| guard.holds(piece))
            })
            .collect()
    }

    /// Whether a frame's words and the code it runs tell the same function.
    pub(super) fn is_consistent(&mut self, raw: &RawFrame) -> bool {
        let context = Context { is_leaf: false, has_function: true, has_bytecode: true };
        let Some(shared) = self.shared(raw, context) else { return false };
        let instruction = raw.pc.saturating_sub(1);
        match self.regions.place(instruction) {
            Some(Place::Generated(region)) => {
                let Some(code) = self.codes.at(&mut self.heap, instruction, &region) else { return false };
                match code.tier {
                    Tier::Optimised => {
                        let functions = self.codes.inlined(&mut self.heap, &code, raw.pc, true);
                        functions.and_then(|functions| functions.last().map(|own| own.shared)) == Some(shared)
                    }
                    Tier::Baseline => raw.bytecode == code.data,
                    Tier::Other => false,
                }
            }
            Some(Place::Builtin(_)) => self.interpreted(raw, context).is_some(),
            _ => false,
        }
    }

    fn frame(&mut self, raw: &RawFrame, context: Context, frames: &mut Vec<Frame>) {
        let pc = raw.pc;
        // A return address may be the first byte after the code that called.
        let instruction = if context.is_leaf { pc } else { pc.saturating_sub(1) };
        match self.regions.place(instruction) {
            Some(Place::Generated(region)) => self.generated(raw, instruction, &region, context, frames),
            Some(Place::Builtin(address)) => {
                let builtin =
                    Frame::Builtin { pc, address: Some(address), name: None, frame_type: self.stub(raw) };
                self.builtin(raw, context, builtin, frames);
            }
            Some(Place::V8(address)) => {
                let native = Frame::Native { pc, address: Some(address) };
                if self.regions.builtins_known() {
                    self.native(raw, context, native, frames);
                } else {
                    self.perhaps_builtin(raw, context, native, frames);
                }
            }
            Some(Place::Elsewhere) | None => {
                self.native(raw, context, Frame::Native { pc, address: None }, frames);
            }
        }
    }

    /// Whether `pc`, a return address, is in code that was made to be entered in a running loop.
    pub(super) fn is_in_loop_code(&mut self, pc: u64) -> bool {
        let instruction = pc.saturating_sub(1);
        let Some(Place::Generated(region)) = self.regions.place(instruction) else { return false };
        let code = self.codes.at(&mut self.heap, instruction, &region);
        code.is_some_and(|code| self.codes.is_loop_code(&mut self.heap, &code))
    }

    /// The frame type of a stub.
    fn stub(&self, raw: &RawFrame) -> Option<u64> {
        let number = raw.marker >> 1;
        (raw.marker & 1 == 0 && self.heap.layout.frame_type(number).is_some()).then_some(number)
    }

    /// The function of a frame, if its words are those of JavaScript.
    fn shared(&self, raw: &RawFrame, context: Context) -> Option<u64> {
        let shared = *raw.shared.get(self.heap.layout.shared_index)?;
        (context.has_function && is_pointer(raw.marker) && is_pointer(shared)).then_some(shared)
    }

    fn generated(
        &mut self,
        raw: &RawFrame,
        instruction: u64,
        region: &Range<u64>,
        context: Context,
        frames: &mut Vec<Frame>,
    ) {
        let shared = self.shared(raw, context);
        let code = self.codes.at(&mut self.heap, instruction, region);
        match code {
            Some(code) if code.tier == Tier::Optimised => {
                if !self.optimised(raw, &code, context, shared, frames) {
                    frames.extend(shared.and_then(|shared| self.function(shared, None, false)));
                }
            }
            Some(code) if code.tier == Tier::Baseline => {
                let position = self.baseline_position(raw, &code, context);
                frames.extend(shared.and_then(|shared| self.function(shared, position, false)));
            }
            // Where no code is found there may still be a frame of JavaScript: its function names it.
            None if self.stub(raw).is_none() && shared.is_some() => {
                frames.extend(shared.and_then(|shared| self.function(shared, None, false)));
            }
            Some(_) | None => {
                frames.push(Frame::Generated { pc: raw.pc, frame_type: self.stub(raw) });
            }
        }
    }

    /// Whether it decoded the frame.
    fn optimised(
        &mut self,
        raw: &RawFrame,
        code: &Code,
        context: Context,
        shared: Option<u64>,
        frames: &mut Vec<Frame>,
    ) -> bool {
        let Some(functions) = self.codes.inlined(&mut self.heap, code, raw.pc, !context.is_leaf) else {
            return false;
        };
        let own = functions.last().map(|function| function.shared);
        if own != shared && !context.is_leaf {
            return false;
        }
        let last = functions.len().saturating_sub(1);
        for (index, function) in functions.into_iter().enumerate() {
            let position = function.position.filter(|position| {
                let is_call = function.is_call || !context.is_leaf;
                !is_call || !self.is_loop(function.shared, *position)
            });
            frames.extend(self.function(function.shared, position, index != last));
        }
        if own != shared {
            // Its own frame is not yet made, or is gone already: the words are the caller's.
            frames.extend(shared.and_then(|shared| self.function(shared, None, false)));
        }
        true
    }

    /// Whether a position is that of a loop that goes on over further lines. Maglev (as measured up to V8 14.6) notes the loop
    /// instead of a call within it when it has peeled off the first round; such a line would be wrong.
    fn is_loop(&mut self, shared: u64, position: u32) -> bool {
        const LINE_MAX_UNITS: u32 = 400;
        let script = self.heap.function(shared).map_or(0, |function| function.script);
        let before = u32::from(position > 0);
        let text = self.heap.source_text(script, position - before, position.saturating_add(LINE_MAX_UNITS));
        text.is_some_and(|text| begins_long_loop(&text, before == 1))
    }

    fn baseline_position(&mut self, raw: &RawFrame, code: &Code, context: Context) -> Option<u32> {
        if !context.has_bytecode || raw.bytecode != code.data {
            return None;
        }
        let bytecode = self.heap.bytecode(raw.bytecode)?;
        let bytes = self.heap.bytecode_bytes(&bytecode)?;
        let offset = self.codes.baseline_offset(&mut self.heap, code, &bytes, raw.pc, !context.is_leaf)?;
        self.heap.bytecode_position(&bytecode, offset)
    }

    /// The bytecode of an interpreter's frame, and where in it; `None`: it is none.
    fn interpreted(&mut self, raw: &RawFrame, context: Context) -> Option<(Bytecode, u32)> {
        if !context.has_bytecode {
            return None;
        }
        let bytecode = self.heap.bytecode(raw.bytecode)?;
        let offset = bytecode.offset(raw.bytecode_offset)?;
        Some((bytecode, offset))
    }

    fn builtin(&mut self, raw: &RawFrame, context: Context, builtin: Frame, frames: &mut Vec<Frame>) {
        let Some(shared) = self.shared(raw, context) else {
            frames.push(builtin);
            return;
        };
        if let Some((bytecode, offset)) = self.interpreted(raw, context) {
            let position = self.heap.bytecode_position(&bytecode, offset);
            let function = self.function(shared, position, false);
            frames.push(function.unwrap_or(builtin));
            return;
        }
        match (self.function(shared, None, false), builtin) {
            // A builtin that is a function, with a frame like one.
            (Some(Frame::Builtin { name, .. }), Frame::Builtin { pc, address, frame_type, .. }) => {
                frames.push(Frame::Builtin { pc, address, name, frame_type });
            }
            // A builtin without a frame of its own: the words are the caller's.
            (Some(caller), builtin) if context.is_leaf => frames.extend([builtin, caller]),
            (Some(function), _) => frames.push(function),
            (None, builtin) => frames.push(builtin),
        }
    }

    /// Where it is not known which code is V8's builtins, only what cannot be anything else is taken for JavaScript.
    fn perhaps_builtin(&mut self, raw: &RawFrame, context: Context, native: Frame, frames: &mut Vec<Frame>) {
        if let Some(shared) = self.shared(raw, context)
            && let Some((bytecode, offset)) = self.interpreted(raw, context)
            && self.heap.is_context(raw.marker)
        {
            let position = self.heap.bytecode_position(&bytecode, offset);
            frames.push(self.function(shared, position, false).unwrap_or(native));
        } else {
            self.native(raw, context, native, frames);
        }
    }

    /// Native code has a frame of its own, but for the innermost: parts of libc have none, and then the words are those of
    /// whoever called.
    fn native(&mut self, raw: &RawFrame, context: Context, native: Frame, frames: &mut Vec<Frame>) {
        frames.push(native);
        if !context.is_leaf {
            return;
        }
        let Some(shared) = self.shared(raw, context) else { return };
        // What happens to lie there must not name a function.
        if !self.heap.is_context(raw.marker) {
            return;
        }
        let interpreted = self.interpreted(raw, context);
        let position =
            interpreted.and_then(|(bytecode, offset)| self.heap.bytecode_position(&bytecode, offset));
        frames.extend(self.function(shared, position, false));
    }

    fn script(&mut self, shared: u64, pointer: u64) -> Option<Arc<Script>> {
        let unreadable_before = self.heap.unreadable_count;
        let script = self.scripts.get(&mut self.heap, pointer)?;
        if self.heap.unreadable_count == unreadable_before
            && let Some((_, known)) = self.heap.functions.get_mut(&shared)
        {
            known.script_facts = Some(Arc::clone(&script));
        }
        Some(script)
    }

    fn function(&mut self, shared: u64, position: Option<u32>, inlined: bool) -> Option<Frame> {
        let function = self.heap.function(shared)?;
        if function.script == 0 {
            return Some(Frame::Builtin { pc: 0, address: None, name: function.name, frame_type: None });
        }
        let script = match function.script_facts {
            Some(script) => script,
            None => self.script(shared, function.script)?,
        };
        Some(Frame::JavaScript(JavaScript {
            function: function.name,
            script: script.name.clone(),
            source_map_url: script.source_map_url.clone(),
            script_ref: ScriptRef(function.script),
            start: function.start.and_then(|start| script.place(start)),
            start_offset: function.start,
            position: position.and_then(|position| script.place(position)),
            inlined,
        }))
    }
}

/// Whether a loop begins at the begin of the text, or after its first character, whose body is not on the same line.
fn begins_long_loop(text: &str, has_character_before: bool) -> bool {
    // `registry.for("x")` is a call.
    let text = if has_character_before { text.strip_prefix(|before| before != '.') } else { Some(text) };
    let is_loop = text.is_some_and(|text| {
        ["for", "while", "do"].iter().any(|keyword| {
            let rest = text.strip_prefix(keyword);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$'))
        })
    });
    let line = text.and_then(|text| text.split_once(['\n', '\r'])).map(|(line, _)| line.trim_end());
    is_loop && line.is_none_or(|line| line.ends_with(['{', ')']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_over_several_lines_is_told_from_a_call_and_from_a_loop_on_one() {
        for text in [" for (;;) {\n", ";while(x)\n  f();", " do {\r\n", "\nfor(;;){f();g();"] {
            assert!(begins_long_loop(text, true), "{text:?}");
        }
        assert!(begins_long_loop("for (;;) {\n", false));
        for text in [".for('x') {\n", " format(x) {\n", " for (;;) f();\n", " done()\n", "", "f"] {
            assert!(!begins_long_loop(text, true), "{text:?}");
        }
    }
}
