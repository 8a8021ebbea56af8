//! Modules of JavaScript that V8 compiles: how many, and for how long.
//!
//! What is timed is the compilation of a module as a whole: its source is scanned, its outermost code compiled. Functions inside it
//! are compiled when they are first called, which is left to samples: there are thousands of them.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use nodeprobe_ebpf::thread::{MODULE_COMMONJS, MODULE_ESM, MODULE_KINDS};

use crate::{lifecycle, registers, target};

/// Node wraps a `CommonJS` module into a function of `exports`, `require`, `module`, `__filename` and `__dirname`. Node's own
/// modules, which come through the same function of V8, have other numbers of parameters: 6, or 4 and fewer.
const COMMONJS_PARAMETERS: u64 = 5;

/// `v8::ScriptCompiler::CompileFunction(Local<Context>, Source*, size_t arguments_count, ..)`, or what is behind it.
#[uprobe]
pub(crate) fn compile_function(ctx: ProbeContext) -> u32 {
    if ctx.arg::<u64>(2) == Some(COMMONJS_PARAMETERS) {
        begin(&ctx, MODULE_COMMONJS);
    }
    0
}

/// `v8::ScriptCompiler::CompileModule(Isolate*, Source*, ..)`.
#[uprobe]
pub(crate) fn compile_module(ctx: ProbeContext) -> u32 {
    begin(&ctx, MODULE_ESM);
    0
}

/// Where the two are left.
#[uprobe]
pub(crate) fn compile_end(ctx: ProbeContext) -> u32 {
    let Some(thread) = target::current() else { return 0 };
    // The stack pointer is where it was at the entry. A second attachment finds nothing begun.
    if thread.compile_start_ns == 0 || thread.compile_sp != registers::of_probe(&ctx).sp {
        return 0;
    }
    let now = target::now_ns();
    let start_ns = thread.compile_start_ns;
    thread.compile_start_ns = 0;
    let kind = thread.compile_kind as usize;
    if kind < MODULE_KINDS {
        thread.modules[kind] += 1;
        thread.module_ns[kind] += now - start_ns;
        lifecycle::started_with(thread, start_ns, now);
    }
    0
}

#[inline(always)]
fn begin(ctx: &ProbeContext, kind: usize) {
    if let Some(thread) = target::current() {
        thread.compile_kind = kind as u32;
        thread.compile_sp = registers::of_probe(ctx).sp;
        thread.compile_start_ns = target::now_ns();
    }
}
