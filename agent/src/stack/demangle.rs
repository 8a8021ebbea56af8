//! Names of C++ functions as a person writes them.
#![forbid(unsafe_code)]

use std::fmt;

use cpp_demangle::{DemangleNodeType, DemangleOptions, DemangleWrite, Symbol};

use crate::clean::{NAME_MAX_CHARS, clean};

/// Work on one name ends here: a few bytes can refer back to others so that the text doubles with each.
const MAX_WRITTEN_BYTES: usize = 16 << 10;

/// The function that a symbol names, without parameters and return type, clean and of at most [`NAME_MAX_CHARS`]:
/// `node::crypto::PBKDF2Traits::DeriveBits`. Template arguments are left out where they would make it longer than
/// that. Parts that the compiler split off (`.cold`, `.part.0`) carry the name of their function.
///
/// A name of another language, or one that cannot be decoded, stays as it is.
pub(super) fn demangle(symbol: &[u8]) -> String {
    let plain = without_suffix(symbol);
    if !plain.starts_with(b"_Z") {
        return clean(plain, NAME_MAX_CHARS);
    }
    let mut text = Text::default();
    let options = DemangleOptions::new().no_params().no_return_type().hide_expression_literal_types();
    let done = Symbol::new(plain)
        .is_ok_and(|symbol| symbol.structured_demangle(&mut text, &options).is_ok() || text.full());
    let name = match (&text.whole, &text.short) {
        (whole, _) if done && whole.chars().count() <= NAME_MAX_CHARS && !text.full() => whole.as_str(),
        (_, short) if done && !short.is_empty() => short.as_str(),
        _ => return scope(plain).unwrap_or_else(|| clean(plain, NAME_MAX_CHARS)),
    };
    clean(name.replace("[abi:cxx11]", "").as_bytes(), NAME_MAX_CHARS)
}

/// Without what compilers (`.part.0`, `.constprop.1307`, `.cold.3`) and linkers (`@@LIBNODE_108`) append.
fn without_suffix(symbol: &[u8]) -> &[u8] {
    let end =
        symbol.iter().skip(1).position(|byte| matches!(byte, b'.' | b'@')).map_or(symbol.len(), |at| at + 1);
    &symbol[..end]
}

/// For what the demangler does not know, such as constraints of C++20: the scope as far as it is made of plain names,
/// `v8::internal::FastJsonStringifier::…`.
fn scope(symbol: &[u8]) -> Option<String> {
    let mut rest = symbol.strip_prefix(b"_ZN")?;
    // Qualifiers of methods.
    while let [b'K' | b'V' | b'r' | b'R' | b'O', after @ ..] = rest {
        rest = after;
    }
    let mut name = String::new();
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(length) =
            std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<usize>().ok())
        else {
            break;
        };
        let Some(part) = rest.get(digits..digits.checked_add(length)?) else { break };
        rest = &rest[digits + length..];
        name.push_str(&clean(part, NAME_MAX_CHARS / 2));
        name.push_str("::");
        if name.len() >= NAME_MAX_CHARS {
            break;
        }
    }
    (!name.is_empty()).then(|| clean(format!("{name}…").as_bytes(), NAME_MAX_CHARS))
}

/// The name as it is written, with and without what stands in angle brackets.
#[derive(Default)]
struct Text {
    whole: String,
    short: String,
    /// How deep inside of template arguments.
    depth: usize,
    written: usize,
    nodes: usize,
}

impl Text {
    fn full(&self) -> bool {
        self.written > MAX_WRITTEN_BYTES || self.nodes > MAX_WRITTEN_BYTES
    }
}

impl DemangleWrite for Text {
    fn push_demangle_node(&mut self, node: DemangleNodeType) {
        self.nodes += 1;
        if self.depth > 0 || matches!(node, DemangleNodeType::TemplateArgs) {
            self.depth += 1;
        }
    }

    fn pop_demangle_node(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn write_string(&mut self, text: &str) -> fmt::Result {
        self.written += text.len();
        if self.full() {
            return Err(fmt::Error);
        }
        self.whole.push_str(text);
        if self.depth == 0 {
            self.short.push_str(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn functions_lose_their_parameters() {
        for (symbol, name) in [
            (
                "_ZN4node6crypto12PBKDF2Traits10DeriveBitsEPNS_11EnvironmentERKNS0_12PBKDF2ConfigEPNS0_10ByteSourceE",
                "node::crypto::PBKDF2Traits::DeriveBits",
            ),
            (
                "_ZN2v88internal4Heap14CollectGarbageENS0_15AllocationSpaceENS0_23GarbageCollectionReasonENS_15GCCallbackFlagsE",
                "v8::internal::Heap::CollectGarbage",
            ),
            (
                "_ZN2v88internal10JsonParserIhE14ParseJsonValueEv",
                "v8::internal::JsonParser<unsigned char>::ParseJsonValue",
            ),
            ("_ZNK2v86String10Utf8LengthEPNS_7IsolateE", "v8::String::Utf8Length"),
            (
                "_ZN4node12_GLOBAL__N_111ZlibContext16DoThreadPoolWorkEv",
                "node::(anonymous namespace)::ZlibContext::DoThreadPoolWork",
            ),
            ("uv__io_poll", "uv__io_poll"),
            ("Builtins_JsonParse", "Builtins_JsonParse"),
            ("_start", "_start"),
        ] {
            assert_eq!(demangle(symbol.as_bytes()), name);
        }
    }

    #[test]
    fn split_parts_carry_the_name_of_their_function() {
        for suffix in ["", ".cold", ".part.0.constprop.12", "@@LIBNODE_108"] {
            assert_eq!(
                demangle(format!("_ZN4node5StartEiPPc{suffix}").as_bytes()),
                "node::Start",
                "{suffix}"
            );
        }
        assert_eq!(demangle(b"uv_run.part.0"), "uv_run");
        assert_eq!(demangle(b".L12"), ".L12");
    }

    #[test]
    fn long_template_arguments_are_left_out() {
        // From the symbol table of Node.js 24.
        let symbol = b"_ZN2v88internal12_GLOBAL__N_120ElementsAccessorBaseINS1_38FastPackedSealedObjectElementsAccessorENS1_18ElementsKindTraitsILNS0_12ElementsKindE8EEEE9SetLengthENS0_12DirectHandleINS0_7JSArrayEEEj";
        assert_eq!(
            demangle(symbol),
            "v8::internal::(anonymous namespace)::ElementsAccessorBase<>::SetLength"
        );
    }

    #[test]
    fn what_cannot_be_decoded_keeps_its_scope_or_stays_as_it_is() {
        assert_eq!(demangle(b"_ZN2v88internal19FastJson!"), "v8::internal::…");
        assert_eq!(demangle(b"_ZQQQ"), "_ZQQQ");
        assert_eq!(demangle(b"_ZN99999999999999999999x"), "_ZN99999999999999999999x");
        assert_eq!(demangle(b"_ZN4294967295xE"), "_ZN4294967295xE");
    }

    #[test]
    fn hostile_names_are_bounded_in_time_and_length_and_clean() {
        // Each parameter refers to the one before twice: the text doubles forty times.
        let mut doubling = String::from("_Z1f1AIiE");
        for seq in 0..36 {
            let at = char::from_digit(seq, 36).unwrap().to_ascii_uppercase().to_string();
            doubling.extend(["1BIS", &at, "_S", &at, "_E"]);
        }
        let nested = format!("_Z1f{}i", "P".repeat(1000));
        let brackets = format!("_Z1f{}", "1AI".repeat(300));
        let templates = format!("_ZN{}1xEv", "1aIJEE".repeat(150));
        for symbol in [
            doubling.as_bytes(),
            nested.as_bytes(),
            brackets.as_bytes(),
            templates.as_bytes(),
            &[0xff; 1024],
            b"_Z",
            b"_ZN",
            b"",
        ] {
            let begin = Instant::now();
            let name = demangle(symbol);
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
            assert!(name.chars().count() <= NAME_MAX_CHARS);
        }
        assert_eq!(demangle(b"a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert!(!demangle(b"_Z5\x1b[2Jbv").contains('\x1b'));
    }
}
