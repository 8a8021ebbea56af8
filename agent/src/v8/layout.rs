//! Where V8 keeps what a stack is decoded with: offsets, instance types and indices of one version.
//!
//! Most of it every Node binary says itself, in the integers `v8dbg_*` that V8 exports for debuggers (`gen-postmortem-metadata.py`).
//! What they leave out stands in [`GAPS`], by version, with its source. A version that is not known is tried with the newest row:
//! everything read with it is checked for its type, so that a wrong offset costs names and never gives wrong ones.
//!
//! Architecture invariant: no I/O, no clock.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use thiserror::Error;

use super::position::EntryFormat;
use crate::binary::V8Version;

/// The integers of a binary, by name without `v8dbg_`.
pub type Metadata = BTreeMap<Box<str>, i32>;

/// Why stacks of a version of V8 cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    #[error("the binary has no debugging metadata of V8 (`v8dbg_*`)")]
    NoMetadata,
    #[error(
        "V8 {version} is older than the oldest whose stacks are understood, {OLDEST_MAJOR}.{OLDEST_MINOR} (Node.js 18)"
    )]
    TooOld { version: V8Version },
    #[error("V8 {version} compresses pointers, which is not understood")]
    CompressedPointers { version: V8Version },
    #[error("the metadata of V8 {version} does not tell `{name}`")]
    Missing { version: V8Version, name: &'static str },
    #[error("the metadata of V8 {version} says {value} for `{name}`, which cannot be")]
    Implausible { version: V8Version, name: &'static str, value: i32 },
}

const OLDEST_MAJOR: u32 = 10;
const OLDEST_MINOR: u32 = 2;

/// Offsets count from the start of the object, that is the tagged pointer less [`HEAP_OBJECT_TAG`], in bytes.
#[derive(Clone, Debug)]
pub struct Layout {
    pub version: V8Version,
    pub types: Types,
    /// Which of the two words of `RawFrame::shared` is the function's `SharedFunctionInfo`.
    pub shared_index: usize,
    pub shared: SharedLayout,
    pub scope_info: ScopeInfoLayout,
    pub script: ScriptLayout,
    pub bytecode: BytecodeLayout,
    /// `None`: lines of optimised and baseline code are not known.
    pub code: Option<CodeLayout>,
    pub(super) position_format: EntryFormat,
    /// Of each frame type, its name.
    pub frame_types: Vec<(u64, Box<str>)>,
}

/// Tag of a pointer to a heap object; a weak one has another bit set.
pub(super) const HEAP_OBJECT_TAG: u64 = 1;
pub(super) const TAG_MASK: u64 = 3;

/// Instance types: what a map says an object is.
#[derive(Clone, Debug)]
pub struct Types {
    pub map: u16,
    pub shared_function_info: u16,
    pub scope_info: u16,
    pub script: u16,
    pub bytecode_array: u16,
    pub contexts: RangeInclusive<u16>,
    pub first_non_string: u16,
    /// `FixedArray` and the arrays that begin like it: length, then elements.
    pub arrays: Vec<u16>,
    /// `ByteArray` and `TrustedByteArray`.
    pub byte_arrays: Vec<u16>,
    pub code: u16,
    pub instruction_stream: u16,
    pub shared_function_info_wrapper: Option<u16>,
    pub interpreter_data: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct SharedLayout {
    pub name_or_scope_info: u64,
    pub script: u64,
}

#[derive(Clone, Debug)]
pub struct ScopeInfoLayout {
    /// Index of the first slot after the fixed ones.
    pub first_variable: u64,
    /// Index of the slot with the start of the function; `None`: the slots follow the name.
    pub start_position: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct ScriptLayout {
    pub source: u64,
    pub name: u64,
    pub line_offset: u64,
    pub column_offset: u64,
    pub line_ends: u64,
    pub id: u64,
    pub eval_from_shared: u64,
    pub source_url: u64,
    pub source_mapping_url: u64,
}

#[derive(Clone, Debug)]
pub struct BytecodeLayout {
    pub length: u64,
    pub source_positions: u64,
    pub data: u64,
}

/// Machine code that V8 made. Where `InstructionStream` exists (V8 11.1), `Code` is the description beside it.
#[derive(Clone, Debug)]
pub struct CodeLayout {
    /// From the start of the object that holds the instructions to the first one.
    pub header_bytes: u64,
    /// In that object, the pointer to `Code`; `None`: it is `Code`.
    pub code_of_stream: Option<u64>,
    /// In `Code`, the address of the first instruction.
    pub instruction_start: Option<u64>,
    pub instruction_size: u64,
    pub flags: u64,
    pub deoptimization_data_or_bytecode: u64,
    pub source_positions: u64,
    pub kind_mask: u32,
    pub kind_baseline: u32,
    /// Elements of `DeoptimizationData`.
    pub deoptimization: DeoptimizationLayout,
    /// Lengths of bytecodes with operands of one, two and four bytes; `None`: lines of baseline code are not known.
    pub bytecode_sizes: Option<BytecodeSizes>,
}

#[derive(Clone, Debug)]
pub struct DeoptimizationLayout {
    pub shared: u64,
    pub literals: u64,
    /// Of the loop that the code was made to be entered in, as an offset in the bytecode; -1 of other code. It follows the
    /// literals (`deoptimization-data.h`, V8 10 to 14) and is not exported.
    pub loop_offset: u64,
    pub inlining_positions: u64,
}

/// V8's `Bytecodes::kBytecodeSizes`: three rows, one per operand scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytecodeSizes(Arc<[u8]>);

impl BytecodeSizes {
    /// `None`: not such a table.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let rows = bytes.len() / 3;
        // Wide and ExtraWide are the first two bytecodes and have no operands.
        let plausible = bytes.len().is_multiple_of(3)
            && (100..=256).contains(&rows)
            && bytes.iter().all(|size| (1..=32).contains(size))
            && bytes.starts_with(&[1, 1]);
        plausible.then(|| Self(bytes.into()))
    }

    /// Length of the bytecode at the begin of `code`, with its prefix.
    pub fn size(&self, code: &[u8]) -> Option<usize> {
        let row = self.0.len() / 3;
        let (prefix, scale, bytecode) = match *code {
            // Wide, ExtraWide, and their forms under a debugger.
            [0 | 2, bytecode, ..] => (1, 1, bytecode),
            [1 | 3, bytecode, ..] => (1, 2, bytecode),
            [bytecode, ..] => (0, 0, bytecode),
            [] => return None,
        };
        let size = *self.0[scale * row..][..row].get(usize::from(bytecode))?;
        Some(prefix + usize::from(size))
    }
}

/// A value that the metadata of some versions leave out. The first row that fits counts.
struct Gap {
    name: &'static str,
    /// Versions from this one on.
    since: (u32, u32),
    value: i32,
}

/// Measured in the memory of running Node.js 18, 20, 22, 24 and 26 on x86-64; `class_*` rows agree with
/// `src/objects/*.tq` of those versions. Newest first.
#[rustfmt::skip]
const GAPS: [Gap; 27] = [
    // Function data, then name: their order is that of `SharedFunctionInfo` in every version.
    Gap { name: "class_BytecodeArray__length", since: (10, 2), value: 8 },
    // The wrapper took the place of the constant pool's former neighbours in V8 12.
    Gap { name: "class_BytecodeArray__source_position_table", since: (12, 0), value: 24 },
    Gap { name: "class_BytecodeArray__source_position_table", since: (10, 2), value: 32 },
    Gap { name: "class_Script__source", since: (10, 2), value: 8 },
    Gap { name: "class_Script__line_offset", since: (10, 2), value: 24 },
    Gap { name: "class_Script__column_offset", since: (10, 2), value: 32 },
    Gap { name: "class_Script__id", since: (10, 2), value: 64 },
    Gap { name: "class_Script__eval_from_shared_or_wrapped_arguments", since: (10, 2), value: 72 },
    // After `flags`; `compiled_lazy_function_positions` came before it in V8 11.
    Gap { name: "class_Script__source_url", since: (11, 0), value: 112 },
    Gap { name: "class_Script__source_url", since: (10, 2), value: 104 },
    Gap { name: "class_Script__source_mapping_url", since: (11, 0), value: 120 },
    Gap { name: "class_Script__source_mapping_url", since: (10, 2), value: 112 },
    // `Code` shrank to what trusted space holds in V8 12.
    Gap { name: "class_Code__deoptimization_data", since: (12, 0), value: 8 },
    Gap { name: "class_Code__deoptimization_data", since: (10, 2), value: 16 },
    Gap { name: "class_Code__source_position_table", since: (12, 0), value: 16 },
    Gap { name: "class_Code__source_position_table", since: (10, 2), value: 24 },
    // V8 11.3 exports offsets of `Code` only as far as the tables.
    Gap { name: "class_Code__instruction_start", since: (11, 0), value: 40 },
    Gap { name: "class_Code__flags", since: (11, 0), value: 48 },
    Gap { name: "class_Code__instruction_size", since: (11, 0), value: 56 },
    Gap { name: "class_InstructionStream__code", since: (11, 0), value: 8 },
    // Indices are exported since V8 11; before, `deoptimization-data.h` had the same.
    Gap { name: "DeoptimizationDataSharedFunctionInfoIndex", since: (10, 2), value: 6 },
    Gap { name: "DeoptimizationDataLiteralArrayIndex", since: (10, 2), value: 2 },
    Gap { name: "DeoptimizationDataInliningPositionsIndex", since: (10, 2), value: 7 },
    Gap { name: "CodeKindFieldMask", since: (10, 2), value: 15 },
    Gap { name: "HeapObjectTag", since: (10, 2), value: 1 },
    Gap { name: "scopeinfo_idx_first_vars", since: (12, 9), value: 5 },
    Gap { name: "scopeinfo_idx_first_vars", since: (10, 2), value: 3 },
];

/// Names of the metadata, so that a lookup is short.
struct Source<'a> {
    metadata: &'a Metadata,
    version: V8Version,
}

impl Source<'_> {
    /// A class's field or a plain constant: the former end in the type of the field, which changes.
    fn find(&self, name: &'static str) -> Option<i32> {
        let exact = self.metadata.get(name).copied();
        let by_prefix = || {
            let rest = self.metadata.range::<str, _>((Bound::Included(name), Bound::Unbounded));
            let mut fields = rest.take_while(|(full, _)| full.starts_with(name));
            fields.find(|(full, _)| full[name.len()..].starts_with("__")).map(|(_, value)| *value)
        };
        let gap = || {
            let version = (self.version.major, self.version.minor);
            GAPS.iter().find(|gap| gap.name == name && version >= gap.since).map(|gap| gap.value)
        };
        exact.or_else(by_prefix).or_else(gap)
    }

    fn value(&self, name: &'static str) -> Result<i32, LayoutError> {
        self.find(name).ok_or(LayoutError::Missing { version: self.version, name })
    }

    /// An offset of a word in an object.
    fn offset(&self, name: &'static str) -> Result<u64, LayoutError> {
        // No object that is looked at has more fixed fields.
        const MAX_BYTES: i32 = 256;
        let value = self.value(name)?;
        if (0..MAX_BYTES).contains(&value) {
            return Ok(u64::from(value.cast_unsigned()));
        }
        Err(LayoutError::Implausible { version: self.version, name, value })
    }

    /// An offset of a tagged word: aligned, and after the map.
    fn slot(&self, name: &'static str) -> Result<u64, LayoutError> {
        match self.offset(name)? {
            offset if offset >= 8 && offset % 8 == 0 => Ok(offset),
            offset => Err(LayoutError::Implausible { version: self.version, name, value: offset as i32 }),
        }
    }

    fn instance_type(&self, name: &'static str) -> Result<u16, LayoutError> {
        let value = self.value(name)?;
        u16::try_from(value).ok().ok_or(LayoutError::Implausible { version: self.version, name, value })
    }

    fn optional_type(&self, name: &'static str) -> Option<u16> {
        self.instance_type(name).ok()
    }
}

impl Layout {
    /// Puts together what is known of a version. `bytecode_sizes` is V8's table of that name, if the binary has it.
    ///
    /// # Errors
    /// What is needed to name functions is neither in the metadata nor known for the version, or cannot be.
    pub fn new(
        metadata: &Metadata,
        version: V8Version,
        bytecode_sizes: Option<&[u8]>,
    ) -> Result<Self, LayoutError> {
        if metadata.is_empty() {
            return Err(LayoutError::NoMetadata);
        }
        if (version.major, version.minor) < (OLDEST_MAJOR, OLDEST_MINOR) {
            return Err(LayoutError::TooOld { version });
        }
        let source = Source { metadata, version };
        // The frame walk in the kernel reads 64-bit words at these places.
        if source.value("TaggedSize")? != 8 || source.value("SmiShiftSize")? != 31 {
            return Err(LayoutError::CompressedPointers { version });
        }
        for (name, expected) in [
            ("HeapObjectTag", 1),
            ("off_fp_context_or_frame_type", -8),
            ("off_fp_function", -16),
            ("off_fp_bytecode_array", -32),
            ("off_fp_bytecode_offset", -40),
            ("class_HeapObject__map", 0),
            ("class_Map__instance_type", 12),
            ("class_String__length", 12),
            ("class_SeqOneByteString__chars", 16),
            ("class_SeqTwoByteString__chars", 16),
            ("class_ConsString__first", 16),
            ("class_ConsString__second", 24),
            ("class_ThinString__actual", 16),
            ("class_SlicedString__parent", 16),
            ("class_SlicedString__offset", 24),
            ("class_ExternalString__resource", 16),
            ("class_FixedArray__data", 16),
            ("StringRepresentationMask", 7),
            ("OneByteStringTag", 8),
            ("ConsStringTag", 1),
            ("ExternalStringTag", 2),
            ("SlicedStringTag", 3),
            ("ThinStringTag", 5),
            ("scopeinfo_idx_ncontextlocals", 2),
        ] {
            let value = source.value(name)?;
            if value != expected {
                return Err(LayoutError::Implausible { version, name, value });
            }
        }
        let shared_index = match source.slot("class_JSFunction__shared")? {
            24 => 0,
            32 => 1,
            other => {
                let name = "class_JSFunction__shared";
                return Err(LayoutError::Implausible { version, name, value: other as i32 });
            }
        };
        Ok(Self {
            version,
            types: Types::new(&source)?,
            shared_index,
            shared: SharedLayout {
                name_or_scope_info: source.slot("class_SharedFunctionInfo__name_or_scope_info")?,
                script: source
                    .slot("class_SharedFunctionInfo__script")
                    .or_else(|_| source.slot("class_SharedFunctionInfo__script_or_debug_info"))?,
            },
            scope_info: ScopeInfoLayout::new(&source)?,
            script: ScriptLayout::new(&source)?,
            bytecode: BytecodeLayout {
                length: source.slot("class_BytecodeArray__length")?,
                source_positions: source.slot("class_BytecodeArray__source_position_table")?,
                data: source.offset("class_BytecodeArray__data")?,
            },
            code: CodeLayout::new(&source, bytecode_sizes).ok(),
            // Measured on 14.1 and 14.6; 13.6 has the older.
            position_format: if version.major >= 14 { EntryFormat::Flags } else { EntryFormat::Signed },
            frame_types: frame_types(metadata),
        })
    }

    /// The name of a frame type, `InternalFrame` and the like.
    pub fn frame_type(&self, number: u64) -> Option<&str> {
        self.frame_types.iter().find(|(known, _)| *known == number).map(|(_, name)| &**name)
    }
}

impl Types {
    fn new(source: &Source<'_>) -> Result<Self, LayoutError> {
        let present =
            |names: &[&'static str]| names.iter().filter_map(|name| source.optional_type(name)).collect();
        let code = source.instance_type("type_Code__CODE_TYPE")?;
        Ok(Self {
            map: source.instance_type("type_Map__MAP_TYPE")?,
            shared_function_info: source
                .instance_type("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE")?,
            scope_info: source.instance_type("type_ScopeInfo__SCOPE_INFO_TYPE")?,
            script: source.instance_type("type_Script__SCRIPT_TYPE")?,
            bytecode_array: source.instance_type("type_BytecodeArray__BYTECODE_ARRAY_TYPE")?,
            contexts: source.instance_type("FirstContextType")?..=source.instance_type("LastContextType")?,
            first_non_string: source.instance_type("FirstNonstringType")?,
            arrays: present(&[
                "type_FixedArray__FIXED_ARRAY_TYPE",
                "type_TrustedFixedArray__TRUSTED_FIXED_ARRAY_TYPE",
                "type_ProtectedFixedArray__PROTECTED_FIXED_ARRAY_TYPE",
                "type_WeakFixedArray__WEAK_FIXED_ARRAY_TYPE",
                "type_TrustedWeakFixedArray__TRUSTED_WEAK_FIXED_ARRAY_TYPE",
                "type_ProtectedWeakFixedArray__PROTECTED_WEAK_FIXED_ARRAY_TYPE",
            ]),
            byte_arrays: present(&[
                "type_ByteArray__BYTE_ARRAY_TYPE",
                "type_TrustedByteArray__TRUSTED_BYTE_ARRAY_TYPE",
            ]),
            code,
            // Before V8 11.1 `Code` held its instructions itself.
            instruction_stream: source
                .optional_type("type_InstructionStream__INSTRUCTION_STREAM_TYPE")
                .unwrap_or(code),
            shared_function_info_wrapper: source
                .optional_type("type_SharedFunctionInfoWrapper__SHARED_FUNCTION_INFO_WRAPPER_TYPE"),
            interpreter_data: source.optional_type("type_InterpreterData__INTERPRETER_DATA_TYPE"),
        })
    }
}

impl ScopeInfoLayout {
    fn new(source: &Source<'_>) -> Result<Self, LayoutError> {
        let name = "scopeinfo_idx_first_vars";
        let first_variable = source.offset(name)?;
        // Flags, parameters, context locals; since V8 12.9 start and end of the function too.
        let start_position = match first_variable {
            3 => None,
            5 => Some(3),
            other => {
                return Err(LayoutError::Implausible { version: source.version, name, value: other as i32 });
            }
        };
        Ok(Self { first_variable, start_position })
    }
}

impl ScriptLayout {
    fn new(source: &Source<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            source: source.slot("class_Script__source")?,
            name: source.slot("class_Script__name")?,
            line_offset: source.slot("class_Script__line_offset")?,
            column_offset: source.slot("class_Script__column_offset")?,
            line_ends: source.slot("class_Script__line_ends")?,
            id: source.slot("class_Script__id")?,
            eval_from_shared: source.slot("class_Script__eval_from_shared_or_wrapped_arguments")?,
            source_url: source.slot("class_Script__source_url")?,
            source_mapping_url: source.slot("class_Script__source_mapping_url")?,
        })
    }
}

impl CodeLayout {
    fn new(source: &Source<'_>, bytecode_sizes: Option<&[u8]>) -> Result<Self, LayoutError> {
        let has_stream = source.find("class_InstructionStream__instruction_start").is_some();
        let header_bytes = source.slot(if has_stream {
            "class_InstructionStream__instruction_start"
        } else {
            "class_Code__instruction_start"
        })?;
        Ok(Self {
            header_bytes,
            code_of_stream: if has_stream {
                Some(source.slot("class_InstructionStream__code")?)
            } else {
                None
            },
            instruction_start: if has_stream {
                Some(source.slot("class_Code__instruction_start")?)
            } else {
                None
            },
            instruction_size: source.offset("class_Code__instruction_size")?,
            flags: source.offset("class_Code__flags")?,
            deoptimization_data_or_bytecode: source.slot("class_Code__deoptimization_data")?,
            source_positions: source.slot("class_Code__source_position_table")?,
            kind_mask: source.value("CodeKindFieldMask")?.cast_unsigned(),
            kind_baseline: source.value("CodeKindBaseline")?.cast_unsigned(),
            deoptimization: DeoptimizationLayout {
                // Since V8 13 the element is a wrapper, and the index has another name.
                shared: source.find("DeoptimizationDataWrappedSharedFunctionInfoIndex").map_or_else(
                    || source.offset("DeoptimizationDataSharedFunctionInfoIndex"),
                    |index| Ok(u64::from(index.cast_unsigned())),
                )?,
                literals: source.offset("DeoptimizationDataLiteralArrayIndex")?,
                loop_offset: source.offset("DeoptimizationDataLiteralArrayIndex")? + 1,
                inlining_positions: source.offset("DeoptimizationDataInliningPositionsIndex")?,
            },
            bytecode_sizes: bytecode_sizes.and_then(BytecodeSizes::new),
        })
    }
}

fn frame_types(metadata: &Metadata) -> Vec<(u64, Box<str>)> {
    const PREFIX: &str = "frametype_";
    metadata
        .range::<str, _>((Bound::Included(PREFIX), Bound::Unbounded))
        .map_while(|(name, value)| Some((u64::try_from(*value).ok()?, name.strip_prefix(PREFIX)?.into())))
        .collect()
}
