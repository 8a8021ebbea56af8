//! JavaScript stacks of another process, read from outside: from the words that the walk along frame pointers noted to
//! functions, scripts and the lines being executed, with the functions that V8 compiled into others.
//!
//! [`Layout`] knows where V8 keeps things, [`StackReader`] reads them, once per process. Nothing read is trusted: an
//! object is used only after its map has told its type, code only if header and description point at each other; what
//! does not agree is absent. So a stack may lack a name or a line, and does not have a wrong one.
//!
//! Limits: async callers are not on the stack; code of `WebAssembly` and of regular expressions has no function; a line of
//! the innermost interpreted function may be that of its last call; builtins copied into anonymous memory (V8 does so when
//! its file is gone) are taken for code without function.

mod code;
mod context;
mod decode;
mod environment;
mod function;
#[cfg(test)]
mod fuzz;
mod heap;
mod layout;
#[cfg(test)]
mod live;
mod memory;
mod position;
mod regions;
mod rejections;
mod rescue;
mod script;
mod string;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use nodeprobe_ebpf::RawFrame;

pub use self::{
    context::{ContextLayout, ContextPlaces, FrameLayout, find as find_context},
    layout::{Layout, LayoutError, Metadata},
    memory::read_memory,
    regions::V8File,
    rejections::find_note as find_rejection_note,
    script::Place,
};
use self::{decode::Decoder, memory::ProcessMemory, regions::Regions};
use crate::{binary::VirtualAddress, procfs::ProcessDir};

/// A stack as it was noted in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct RawStack<'a> {
    /// Registers of the thread: program counter, stack pointer, frame pointer.
    pub pc: u64,
    pub sp: u64,
    pub fp: u64,
    /// Innermost first.
    pub frames: &'a [RawFrame],
    /// The stack itself from `sp` on; empty unless the walk found nothing.
    pub image: &'a [u8],
}

/// One frame of a decoded stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    JavaScript(JavaScript),
    /// A builtin of V8.
    Builtin {
        pc: u64,
        /// Where the linker put the instruction; a symbol tells the name.
        address: Option<VirtualAddress>,
        /// Of a builtin that is a function of JavaScript: `sort`.
        name: Option<Arc<str>>,
        /// V8's type of the frame, see [`Layout::frame_type`].
        frame_type: Option<u64>,
    },
    /// C and C++.
    Native {
        pc: u64,
        /// In the file that V8 is in.
        address: Option<VirtualAddress>,
    },
    /// Code that V8 made and that is no function of a script: regular expressions, WebAssembly, stubs.
    Generated {
        pc: u64,
        frame_type: Option<u64>,
    },
}

/// A function of a script, being executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaScript {
    /// Cleaned. `None`: it has no name.
    pub function: Option<Arc<str>>,
    /// Path of the script without `file://`, `node:...`, `eval at ...`; cleaned.
    pub script: Option<Arc<str>>,
    /// What the script says of its source map (`//# sourceMappingURL=`), relative to the script; cleaned.
    pub source_map_url: Option<Arc<str>>,
    /// For [`StackReader::source_map_url`].
    pub script_ref: ScriptRef,
    /// Where the function begins.
    pub start: Option<Place>,
    /// In UTF-16 units from the begin of the script: tells functions of the same name apart.
    pub start_offset: Option<u32>,
    /// What is being executed. `None`: not known.
    pub position: Option<Place>,
    /// V8 compiled it into the next frame.
    pub inlined: bool,
}

/// A script of the process, until its next collection moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptRef(u64);

/// A decoded stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Outer frames are missing.
    pub truncated: bool,
    /// Found by searching the stack, because frame pointers led nowhere.
    pub rescued: bool,
}

impl Decoded {
    /// The functions of scripts.
    pub fn javascript(&self) -> impl Iterator<Item = &JavaScript> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::JavaScript(frame) => Some(frame),
            Frame::Builtin { .. } | Frame::Native { .. } | Frame::Generated { .. } => None,
        })
    }
}

/// Decodes the stacks of one process.
pub struct StackReader {
    process: ProcessDir,
    decoder: Decoder<ProcessMemory>,
}

impl StackReader {
    /// `file` is the one of `process` that V8 is in, `layout` that of its version.
    pub fn new(process: ProcessDir, layout: Arc<Layout>, file: V8File) -> Self {
        let memory = ProcessMemory::new(process.pid());
        Self { process, decoder: Decoder::new(memory, layout, Regions::new(file)) }
    }

    /// Names everything on a stack that can be named. Best within milliseconds of the sample, before the next collection
    /// moves what it points to.
    pub fn read(&mut self, stack: &RawStack<'_>) -> Decoded {
        let now = Instant::now();
        let unknown = std::iter::once(stack.pc)
            .chain(stack.frames.iter().map(|frame| frame.pc))
            .any(|pc| self.decoder.regions.place(pc).is_none());
        if unknown && self.decoder.regions.may_refresh(now) {
            // A process that has ended has no mappings and no memory: its frames stay addresses.
            let mappings = self.process.mappings(|mapping| mapping.executable).unwrap_or_default();
            self.decoder.regions.refresh(&mappings, now);
        }
        self.decoder.decode(stack)
    }

    /// Whether `pc` is in code that V8 made to be entered in a running loop (on-stack replacement). Such code knows nothing of
    /// what comes after the loop. Best soon after [`Self::read`].
    pub fn is_in_loop_code(&mut self, pc: u64) -> bool {
        self.decoder.is_in_loop_code(pc)
    }

    /// All of what a script says of its source map, of at most `max_units` characters: not cleaned. For those that hold
    /// the map itself and are too long for [`JavaScript::source_map_url`].
    pub fn source_map_url(&mut self, script: ScriptRef, max_units: u32) -> Option<String> {
        self.decoder.heap.source_mapping_url(script.0, max_units)
    }
}
