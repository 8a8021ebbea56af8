//! Which names tell what code does. Checked against the symbol tables of Node.js 18, 22, 24 and 26.

use crate::model::Category;

/// Classes and namespaces below `v8::internal::`, each up to its `::` or `<`.
const V8_CLASSES: [(Category, &[&str]); 4] = [
    (
        Category::Gc,
        &[
            "ArrayBufferSweeper",
            "ConcurrentMarking",
            "CppHeap",
            "Evacuator",
            "GCTracer",
            "IncrementalMarking",
            "IncrementalMarkingJob",
            "IsolateSafepoint",
            "MainMarkingVisitor",
            "MarkCompactCollector",
            "MarkingVisitorBase",
            "MemoryReducer",
            "MinorMarkCompactCollector",
            "MinorMarkSweepCollector",
            "Scavenger",
            "ScavengerCollector",
            "Sweeper",
            "YoungGenerationMarkingVisitor",
        ],
    ),
    (
        Category::Compile,
        &[
            "AstValueFactory",
            "BackgroundCompileTask",
            "BaselineCompiler",
            "BytecodeGenerator",
            "CodeSerializer",
            "Compiler",
            "DeclarationScope",
            "OptimizedCompilationJob",
            "OptimizingCompileDispatcher",
            "Parser",
            "ParserBase",
            "PreParser",
            "PreparseDataBuilder",
            "Rewriter",
            "Scanner",
            "TieringManager",
            "TurbofanCompilationJob",
            "UnoptimizedCompilationJob",
            "baseline",
            "compiler",
            "interpreter",
            "maglev",
            "parsing",
        ],
    ),
    (
        Category::Regexp,
        &[
            "IrregexpInterpreter",
            "NativeRegExpMacroAssembler",
            "ExperimentalRegExp",
            "SMRegExpMacroAssembler",
        ],
    ),
    (Category::Json, &["FastJsonStringifier", "JSRawJson"]),
];

/// How methods of `v8::internal::Heap` that collect begin; the others allocate and account.
const HEAP_COLLECTS: [&str; 11] = [
    "CollectAll",
    "CollectGarbage",
    "CheckCollectionRequested",
    "FinalizeIncrementalMarking",
    "HandleGCRequest",
    "MarkCompact",
    "MinorMark",
    "PerformGarbageCollection",
    "PreciseCollectAllGarbage",
    "Scavenge",
    "StartIncrementalMarking",
];

/// Beginnings of names outside of `v8::internal::`.
const PREFIXES: [(Category, &[&str]); 6] = [
    (
        Category::Crypto,
        &[
            "node::crypto::",
            "ncrypto::",
            "AES_",
            "ASN1_",
            "BF_",
            "BIO_",
            "BN_",
            "Blowfish_",
            "CRYPTO_",
            "ChaCha20",
            "DH_",
            "DSA_",
            "ECDSA_",
            "EC_",
            "EVP_",
            "HMAC_",
            "MD5_",
            "OPENSSL_",
            "OSSL_",
            "PEM_",
            "PKCS5_",
            "RAND_",
            "RSA_",
            "SHA1",
            "SHA2",
            "SHA3",
            "SHA5",
            "SSL_",
            "X25519",
            "X509",
            "aes_",
            "aesni_",
            "argon2_",
            "bcrypt",
            "blake2",
            "bn_",
            "chacha20",
            "ec_",
            "ecp_",
            "ed25519",
            "gcm_",
            "i2d_",
            "kdf_",
            "keccak",
            "KeccakF1600",
            "md5_",
            "ml_dsa_",
            "ml_kem_",
            "ossl_",
            "pkcs5_",
            "poly1305",
            "rsa_",
            "rsaz_",
            "scrypt",
            "sha1_",
            "sha256_",
            "sha3_",
            "sha512_",
            "slh_",
            "ssl3_",
            "ssl_",
            "tls1_",
            "tls_",
            "vpaes_",
            "x25519",
        ],
    ),
    (
        Category::Zlib,
        &[
            "node::zlib",
            "node::(anonymous namespace)::Brotli",
            "node::(anonymous namespace)::CompressionStream",
            "node::(anonymous namespace)::ZlibContext",
            "node::(anonymous namespace)::ZlibStream",
            "node::(anonymous namespace)::Zstd",
            "Brotli",
            "Cr_z_",
            "FSE_",
            "HUF_",
            "ZSTD_",
            "_tr_",
            "adler32",
            "compress_block",
            "crc32",
            "crc_fold",
            "deflate",
            "fill_window",
            "inflate",
            "longest_match",
            "slide_hash",
        ],
    ),
    (Category::Json, &["simdjson::", "v8::JSON::"]),
    (
        Category::Logging,
        &["node::inspector::(anonymous namespace)::InspectorConsoleCall", "v8_inspector::V8Console"],
    ),
    (Category::Compile, &["v8::ScriptCompiler::", "v8::Script::Compile"]),
    (Category::Gc, &["cppgc::internal::Mark", "cppgc::internal::Sweep"]),
];

/// What native code with this name does. `None`: nothing special.
pub(super) fn of_native(name: &str) -> Option<Category> {
    match name.strip_prefix("v8::internal::") {
        Some(inside) => of_v8(inside),
        // The embedded builtins are functions of the file like any other.
        None if name.starts_with("Builtins_") => of_builtin(name),
        None => PREFIXES
            .into_iter()
            .find(|(_, prefixes)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(category, _)| category),
    }
}

fn of_v8(inside: &str) -> Option<Category> {
    let inside = inside.strip_prefix("(anonymous namespace)::").unwrap_or(inside);
    if let Some(function) = inside.strip_prefix("Runtime_") {
        return of_runtime(function);
    }
    // `Builtin_Impl_JsonParse` does the work of `Builtin_JsonParse`.
    if let Some(builtin) = inside.strip_prefix("Builtin_") {
        return of_builtin(builtin.strip_prefix("Impl_").unwrap_or(builtin));
    }
    let class = inside.split(['<', ':']).next().unwrap_or_default();
    if class == "Heap" {
        let method = inside.strip_prefix("Heap::")?;
        return HEAP_COLLECTS.iter().any(|begin| method.starts_with(begin)).then_some(Category::Gc);
    }
    if class.starts_with("Json") {
        return Some(Category::Json);
    }
    if class.starts_with("RegExp") {
        return Some(Category::Regexp);
    }
    // `LoadIC`, `KeyedStoreIC`, `StoreGlobalIC`, and `IC` below them all. They are entered from misses alone.
    if class.ends_with("IC") && inside.len() > class.len() {
        return Some(Category::IcMiss);
    }
    V8_CLASSES.into_iter().find(|(_, classes)| classes.contains(&class)).map(|(category, _)| category)
}

/// A function that V8's generated code calls, without `Runtime_`.
fn of_runtime(function: &str) -> Option<Category> {
    if function.contains("IC_Miss") || function.contains("IC_Slow") {
        return Some(Category::IcMiss);
    }
    if function.contains("RegExp") || function.contains("Regexp") {
        return Some(Category::Regexp);
    }
    // `BytecodeBudgetInterrupt` decides what to optimise; `BaselineOsr` and its like compile.
    let compiles = ["Compile", "BytecodeBudgetInterrupt", "BaselineOsr", "InstallBaselineCode"];
    compiles.iter().any(|begin| function.starts_with(begin)).then_some(Category::Compile)
}

/// What a builtin does: its symbol, `Builtins_JsonParse`, with or without the prefix, or what a user calls it,
/// `JSON.parse`.
pub(super) fn of_builtin(name: &str) -> Option<Category> {
    let name = name.strip_prefix("Builtins_").unwrap_or(name);
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if begins(&["JsonParse", "JsonStringify", "JsonRawJson", "JSON."]) {
        return Some(Category::Json);
    }
    if begins(&["RegExp", "(regexp)"]) {
        return Some(Category::Regexp);
    }
    if begins(&["CompileLazy", "InstantiateAsmJs"]) {
        return Some(Category::Compile);
    }
    // `AsyncFunctionConstructor` compiles; it calls the runtime for that, which is then the frame that tells.
    let microtasks = [
        "AsyncFromSyncIterator",
        "AsyncFunction",
        "AsyncGenerator",
        "AsyncAwait",
        "EnqueueMicrotask",
        "FulfillPromise",
        "NewPromiseCapability",
        "PerformPromiseThen",
        "Promise",
        "RejectPromise",
        "ResolvePromise",
        "RunMicrotasks",
    ];
    begins(&microtasks).then_some(Category::Microtasks)
}

/// What Node's own script with this path is for. `None`: nothing special.
pub(super) fn of_script(script: Option<&str>) -> Option<Category> {
    let module = script?.strip_prefix("node:")?;
    let module = module.strip_prefix("internal/").unwrap_or(module);
    let is = |names: &[&str]| {
        names.iter().any(|name| {
            module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    if is(&["util/inspect", "console", "util/colors", "util/debuglog"]) {
        return Some(Category::Logging);
    }
    if is(&["process/task_queues", "process/promises", "promise_hooks"]) {
        return Some(Category::Microtasks);
    }
    if is(&["crypto", "tls"]) {
        return Some(Category::Crypto);
    }
    is(&["zlib"]).then_some(Category::Zlib)
}
