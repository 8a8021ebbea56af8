use std::sync::Arc;

use super::*;

/// `kind function[@script]`, innermost first: `n` native, `b` builtin, `i` Node's own, `j` application.
fn stack(frames: &[&str]) -> Stack {
    let frames = frames.iter().map(|frame| {
        let (kind, rest) = frame.split_at(2);
        let (function, script) =
            rest.split_once('@').map_or((rest, None), |(function, script)| (function, Some(script)));
        Frame {
            kind: match kind {
                "n " => FrameKind::Native,
                "b " => FrameKind::Builtin,
                "i " => FrameKind::NodeInternal,
                "j " => FrameKind::JavaScript,
                other => panic!("{other}"),
            },
            function: Arc::from(function),
            script: script.map(Arc::from),
            line: None,
            column: None,
            line_is_exact: false,
            package: None,
        }
    });
    Stack { frames: frames.collect(), truncated: false, problem: None }
}

fn category(frames: &[&str]) -> Category {
    classify(&stack(frames), Situation::default())
}

const APP: &str = "j handle@/app/server.js";

#[test]
fn functions_of_the_application_are_application() {
    assert_eq!(category(&[APP]), Category::Application);
    assert_eq!(category(&["b Builtins_ArrayPrototypeSort", APP]), Category::Application);
    // Inline caches that hit, and the interpreter, are how JavaScript runs.
    for builtin in ["LoadIC", "KeyedLoadIC_Megamorphic", "InterpreterEntryTrampoline", "CallHandler"] {
        assert_eq!(category(&[&format!("b Builtins_{builtin}"), APP]), Category::Application, "{builtin}");
    }
}

#[test]
fn native_code_is_told_by_its_symbol() {
    for (symbol, expected) in [
        ("sha512_block_data_order_avx2", Category::Crypto),
        ("SHA512_Update", Category::Crypto),
        ("EVP_DigestUpdate", Category::Crypto),
        ("bn_mul_mont", Category::Crypto),
        ("ossl_sha3_update", Category::Crypto),
        ("aesni_ctr32_encrypt_blocks", Category::Crypto),
        ("scryptBlockMix", Category::Crypto),
        ("node::crypto::PBKDF2Traits::DeriveBits", Category::Crypto),
        ("node::crypto::Hash::HashUpdate", Category::Crypto),
        ("deflate_slow", Category::Zlib),
        ("Cr_z_inflate", Category::Zlib),
        ("crc32_z", Category::Zlib),
        ("node::(anonymous namespace)::ZlibContext::DoThreadPoolWork", Category::Zlib),
        ("BrotliEncoderCompressStream", Category::Zlib),
        ("ZSTD_compressBlock_fast", Category::Zlib),
        ("v8::internal::JsonParser<unsigned char>::ParseJsonValue", Category::Json),
        (
            "v8::internal::JsonStringifier::SerializeString_<unsigned char, unsigned char, false>",
            Category::Json,
        ),
        ("v8::internal::FastJsonStringifier<unsigned char>::ResumeFrom", Category::Json),
        ("v8::internal::Builtin_Impl_JsonParse", Category::Json),
        ("v8::internal::IrregexpInterpreter::MatchInternal", Category::Regexp),
        ("v8::internal::RegExpImpl::IrregexpExec", Category::Regexp),
        ("v8::internal::NativeRegExpMacroAssembler::Execute", Category::Regexp),
        ("v8::internal::Runtime_RegExpExecMultiple", Category::Regexp),
        ("v8::internal::Runtime_LoadIC_Miss", Category::IcMiss),
        ("v8::internal::Runtime_KeyedStoreIC_Slow", Category::IcMiss),
        ("v8::internal::Runtime_CloneObjectIC_Miss", Category::IcMiss),
        ("v8::internal::LoadIC::Load", Category::IcMiss),
        ("v8::internal::IC::UpdatePolymorphicIC", Category::IcMiss),
        ("v8::internal::Compiler::Compile", Category::Compile),
        ("v8::internal::ParserBase<v8::internal::PreParser>::ParseStatementList", Category::Compile),
        ("v8::internal::interpreter::BytecodeGenerator::VisitCall", Category::Compile),
        ("v8::internal::baseline::BaselineCompiler::GenerateCode", Category::Compile),
        ("v8::internal::compiler::PipelineImpl::OptimizeTurbofanGraph", Category::Compile),
        ("v8::internal::maglev::MaglevCompiler::Compile", Category::Compile),
        ("v8::internal::Runtime_CompileLazy", Category::Compile),
        ("v8::internal::Runtime_BytecodeBudgetInterrupt_Ignition", Category::Compile),
        ("v8::ScriptCompiler::CompileFunction", Category::Compile),
        ("v8::internal::Heap::CollectGarbage", Category::Gc),
        ("v8::internal::ScavengerCollector::CollectGarbage", Category::Gc),
        ("v8::internal::MarkCompactCollector::MarkLiveObjects", Category::Gc),
        ("v8::internal::IncrementalMarking::Step", Category::Gc),
        ("uv_fs_read", Category::Native),
        ("v8::internal::Heap::AllocateRaw", Category::Native),
        ("v8::internal::Runtime_ICsAreEnabled", Category::Native),
        ("v8::internal::String::SlowFlatten", Category::Native),
        ("compare_all", Category::Native),
        ("[better_sqlite3.node]", Category::Native),
    ] {
        assert_eq!(category(&[&format!("n {symbol}"), APP]), expected, "{symbol}");
    }
}

#[test]
fn plain_native_code_takes_the_kind_of_what_called_it() {
    assert_eq!(
        category(&[
            "n __memmove_avx_unaligned_erms",
            "n EVP_DigestUpdate",
            "n node::crypto::Hash::HashUpdate",
            APP
        ]),
        Category::Crypto
    );
    assert_eq!(
        category(&["n v8::internal::Map::Update", "n v8::internal::LoadIC::Load", APP]),
        Category::IcMiss
    );
    // But not beyond the application, which is called from everywhere.
    assert_eq!(category(&["n memcpy", APP, "n v8::internal::Compiler::Compile"]), Category::Native);
    assert_eq!(
        category(&[APP, "b Builtins_JsonStringify", "j outer@/app/a.js"]),
        Category::Application,
        "toJSON"
    );
}

#[test]
fn collection_goes_before_what_asked_for_memory() {
    let parse = "n v8::internal::JsonParser<unsigned short>::ParseJsonValue";
    assert_eq!(category(&["n v8::internal::Heap::CollectGarbage", parse, APP]), Category::Gc);
    assert_eq!(category(&["n v8::internal::Heap::AllocateRaw", parse, APP]), Category::Json);
}

#[test]
fn formatting_of_log_lines_is_logging_whatever_it_is_made_of() {
    let inspect = "i formatValue@node:internal/util/inspect";
    let log = "i log@node:internal/console/constructor";
    assert_eq!(category(&[inspect, log, APP]), Category::Logging);
    assert_eq!(category(&["b Builtins_RegExpPrototypeExec", inspect, log, APP]), Category::Logging);
    assert_eq!(
        category(&["n writev", "i writeGeneric@node:internal/stream_base_commons", log, APP]),
        Category::Logging
    );
    assert_eq!(category(&["n v8::internal::Heap::CollectGarbage", inspect, APP]), Category::Gc);
    // `console.log` hands each line to the inspector, which takes the stack: more than the line itself costs.
    let inspector = "n node::inspector::(anonymous namespace)::InspectorConsoleCall";
    assert_eq!(
        category(&[
            "n v8::internal::Isolate::CaptureDetailedStackTrace",
            "n v8_inspector::V8Console::Log",
            inspector,
            APP
        ]),
        Category::Logging
    );
    assert_eq!(category(&["n v8_inspector::V8InspectorImpl::idleStarted", APP]), Category::Native);
    // A getter of the application that inspect calls.
    assert_eq!(category(&[APP, inspect, log]), Category::Application);
}

#[test]
fn node_internal_code_is_told_by_its_script() {
    for (script, expected) in [
        ("node:internal/streams/readable", Category::NodeInternal),
        ("node:events", Category::NodeInternal),
        ("node:internal/process/task_queues", Category::Microtasks),
        ("node:internal/crypto/hash", Category::Crypto),
        ("node:zlib", Category::Zlib),
        ("node:internal/util/inspector", Category::NodeInternal),
        ("node:consolex", Category::NodeInternal),
    ] {
        assert_eq!(category(&[&format!("i f@{script}"), APP]), expected, "{script}");
    }
    assert_eq!(category(&["n uv_fs_read", "i readSync@node:fs", APP]), Category::Native);
}

#[test]
fn microtasks_are_their_machinery_without_what_it_runs() {
    for builtin in [
        "RunMicrotasks",
        "PromiseFulfillReactionJob",
        "AsyncFunctionAwaitResolveClosure",
        "PromisePrototypeThen",
    ] {
        let frame = format!("b Builtins_{builtin}");
        assert_eq!(category(&[&frame, APP]), Category::Microtasks, "{builtin}");
        assert_eq!(category(&[APP, &frame]), Category::Application, "{builtin}");
    }
}

#[test]
fn what_is_known_of_the_thread_goes_first() {
    let json = stack(&["n v8::internal::JsonParser<unsigned char>::ParseJson", APP]);
    let of = |in_gc, in_write, blocked| {
        let situation = Situation { in_gc, in_write, blocked };
        let category = classify(&json, situation);
        (category, cause(category, situation))
    };
    assert_eq!(of(true, true, true), (Category::Gc, Cause::Gc));
    assert_eq!(of(false, true, true), (Category::Logging, Cause::StdioWrite));
    assert_eq!(of(false, false, true), (Category::Blocked, Cause::Unknown));
    assert_eq!(of(false, false, false), (Category::Json, Cause::Native));
}

#[test]
fn a_stack_that_could_not_be_read_is_unknown() {
    assert_eq!(category(&[]), Category::Unknown);
    assert_eq!(category(&["b Builtins_CallFunction"]), Category::Unknown);
    assert_eq!(category(&["n uv__io_poll", "n node::Start"]), Category::Native);
    let mut partial = stack(&["n memcpy", "n node::Start"]);
    partial.problem = Some("no layout");
    assert_eq!(classify(&partial, Situation::default()), Category::Unknown);
    partial.frames.insert(1, stack(&["n deflate"]).frames.remove(0));
    assert_eq!(classify(&partial, Situation::default()), Category::Zlib);
}

#[test]
fn the_culprit_is_the_innermost_function_of_application_or_package() {
    let frames = stack(&[
        "n memcpy",
        "b Builtins_ArrayMap",
        "i emit@node:events",
        "j f@/app/node_modules/x/i.js",
        APP,
    ]);
    assert_eq!(culprit_frame(&frames.frames), Some(3));
    assert_eq!(culprit_frame(&frames.frames[..3]), None);
}

#[test]
fn every_category_has_a_cause() {
    for category in Category::ALL {
        let found = cause(category, Situation::default());
        assert!(matches!(
            found,
            Cause::JavaScript | Cause::Native | Cause::Compile | Cause::Gc | Cause::OnCpu | Cause::Unknown
        ));
    }
}
