//! Memory that lies: objects of every type with any contents, cycles and half-read tables among them. Decoding ends, reads
//! a bounded amount, and what it tells is clean.

use std::{cell::Cell, path::PathBuf, sync::Arc, time::Instant};

use nodeprobe_ebpf::RawFrame;
use proptest::prelude::*;

use super::{
    Decoded, Frame, Layout, Metadata, RawStack, V8File, decode::Decoder, memory::Memory, regions::Regions,
};
use crate::{
    binary::{CodeSegment, FileOffset, V8Version, VirtualAddress},
    clean::{NAME_MAX_CHARS, PATH_MAX_CHARS},
    procfs::Mapping,
};

/// Where the heap lies; it is executable as well, so that code is looked for in it.
const HEAP: u64 = 0x2000_0000;
const OBJECTS: u64 = 32;
const OBJECT_WORDS: u64 = 24;
/// Builtins, then other code of V8's file.
const FILE: u64 = 0x5000_0000;
const FILE_BYTES: u64 = 0x2000;
/// What one stack may cost: a source of 64 Mi units of two bytes is read whole, in 96 frames once.
const READ_MAX_BYTES: u64 = 1 << 30;

const STRING_FORMS: [i32; 8] = [0, 1, 2, 3, 5, 8, 9, 13];
const TYPES: [(&str, i32); 12] = [
    ("type_Map__MAP_TYPE", 240),
    ("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE", 241),
    ("type_ScopeInfo__SCOPE_INFO_TYPE", 242),
    ("type_Script__SCRIPT_TYPE", 243),
    ("type_BytecodeArray__BYTECODE_ARRAY_TYPE", 244),
    ("type_FixedArray__FIXED_ARRAY_TYPE", 245),
    ("type_ByteArray__BYTE_ARRAY_TYPE", 246),
    ("type_Code__CODE_TYPE", 247),
    ("type_InstructionStream__INSTRUCTION_STREAM_TYPE", 248),
    ("FirstContextType", 250),
    ("LastContextType", 252),
    ("FirstNonstringType", 128),
];
const FIELDS: [(&str, i32); 38] = [
    ("TaggedSize", 8),
    ("SmiShiftSize", 31),
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
    ("class_JSFunction__shared", 24),
    ("class_SharedFunctionInfo__name_or_scope_info", 16),
    ("class_SharedFunctionInfo__script", 32),
    ("class_Script__name", 16),
    ("class_Script__line_ends", 56),
    ("class_BytecodeArray__data", 40),
    ("class_InstructionStream__instruction_start", 32),
    ("CodeKindBaseline", 1),
    ("frametype_EntryFrame", 1),
    ("frametype_InternalFrame", 8),
    ("class_Code__instruction_size", 56),
    ("class_Code__flags", 48),
];

fn layout((major, minor): (u32, u32)) -> Layout {
    let metadata: Metadata =
        TYPES.iter().chain(&FIELDS).map(|(name, value)| ((*name).into(), *value)).collect();
    let version = V8Version { major, minor, build: 0, patch: 0 };
    Layout::new(&metadata, version, Some(&[1; 600])).expect("the metadata are complete")
}

/// Words from [`HEAP`] on; counts what is read.
#[derive(Debug)]
struct Heap {
    bytes: Vec<u8>,
    read_bytes: Cell<u64>,
}

impl Memory for &Heap {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.read_bytes.set(self.read_bytes.get() + buffer.len() as u64);
        let at = address.checked_sub(HEAP).and_then(|at| usize::try_from(at).ok());
        let bytes = at.and_then(|at| self.bytes.get(at..at.checked_add(buffer.len())?));
        bytes.inspect(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

/// Address of a map: they come first, two words each.
fn map_address(index: usize) -> u64 {
    HEAP + index as u64 * 16
}

/// The maps of some types, and room up to the first object.
fn maps(types: &[i32]) -> Vec<u64> {
    let mut words = vec![0; 0x400 / 8];
    for (index, instance_type) in types.iter().enumerate() {
        words[index * 2] = map_address(0) + 1;
        words[index * 2 + 1] = u64::from(instance_type.cast_unsigned()) << 32;
    }
    words
}

fn object_address(index: u64) -> u64 {
    HEAP + 0x400 + index * OBJECT_WORDS * 8
}

fn instance_types() -> Vec<i32> {
    TYPES[..11].iter().map(|(_, value)| *value).chain(STRING_FORMS).collect()
}

/// Makes a word of the heap of a random number: mostly pointers to objects and small integers.
fn field(random: u64) -> u64 {
    let (kind, value) = (random % 16, random / 16);
    match kind {
        0..6 => object_address(value % OBJECTS) + 1,
        6 => object_address(value % OBJECTS) + 3,
        7..10 => (value % 40) << 32,
        10 => value << 32,
        11 => object_address(0) + value % (OBJECTS * OBJECT_WORDS) * 8,
        12 => value % 4096,
        13 => value & 0x3f3f_3f3f_3f3f_3f3f,
        _ => value.rotate_right(4),
    }
}

fn heap() -> impl Strategy<Value = Heap> {
    let types = instance_types();
    let count = (OBJECTS * OBJECT_WORDS) as usize;
    prop::collection::vec(any::<u64>(), count).prop_map(move |random| {
        let mut words = maps(&types);
        for object in random.chunks(OBJECT_WORDS as usize) {
            words.push(map_address(object[0] as usize % types.len()) + 1);
            words.extend(object[1..].iter().copied().map(field));
        }
        Heap { bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(), read_bytes: Cell::new(0) }
    })
}

fn pc(random: u64) -> u64 {
    let (kind, value) = (random % 8, random / 8);
    match kind {
        0..4 => HEAP + value % (object_address(OBJECTS) - HEAP),
        4..7 => FILE + value % FILE_BYTES,
        _ => value,
    }
}

/// A tagged pointer to an object, now and then something else.
fn pointer(random: u64) -> u64 {
    if random.is_multiple_of(6) { field(random / 6) } else { object_address(random / 6 % OBJECTS) + 1 }
}

fn frame(random: [u64; 5]) -> RawFrame {
    let [at, marker, shared, bytecode, bytecode_offset] = random;
    RawFrame {
        pc: pc(at),
        marker: pointer(marker),
        shared: [pointer(shared); 2],
        bytecode: pointer(bytecode),
        bytecode_offset: field(bytecode_offset),
    }
}

fn regions(builtins: bool) -> Regions {
    let segment = CodeSegment { offset: FileOffset(0), address: VirtualAddress(0), size_bytes: FILE_BYTES };
    let mut regions = Regions::new(V8File {
        device: (8, 1),
        inode: 7,
        segments: vec![segment],
        builtins: builtins.then_some(VirtualAddress(0)..VirtualAddress(FILE_BYTES / 2)),
    });
    let mapping = |range, inode, path: &str| Mapping {
        range,
        executable: true,
        offset_bytes: 0,
        device: if inode == 0 { (0, 0) } else { (8, 1) },
        inode,
        path: PathBuf::from(path),
        deleted: false,
    };
    let heap = mapping(HEAP..object_address(OBJECTS), 0, "");
    regions.refresh(&[heap, mapping(FILE..FILE + FILE_BYTES, 7, "/usr/bin/node")], Instant::now());
    regions
}

fn assert_clean(decoded: &Decoded) -> Result<(), TestCaseError> {
    let is_clean =
        |text: &str, max_chars| text.chars().count() <= max_chars && !text.chars().any(char::is_control);
    for frame in &decoded.frames {
        let name = match frame {
            Frame::JavaScript(frame) => {
                let script = frame.script.as_deref().unwrap_or_default();
                // `eval at ` comes before the path.
                prop_assert!(is_clean(script, PATH_MAX_CHARS + 8), "{:?}", script);
                let url = frame.source_map_url.as_deref().unwrap_or_default();
                prop_assert!(!url.chars().any(char::is_control), "{:?}", url);
                frame.function.as_deref()
            }
            Frame::Builtin { name, .. } => name.as_deref(),
            Frame::Native { .. } | Frame::Generated { .. } => None,
        };
        prop_assert!(is_clean(name.unwrap_or_default(), NAME_MAX_CHARS), "{:?}", name);
    }
    Ok(())
}

fn config() -> ProptestConfig {
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if asked_for { default.cases } else { 500 },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn memory_that_lies_gives_clean_frames_or_none(
        heap in heap(),
        frames in prop::collection::vec(any::<[u64; 5]>(), 1..16),
        version in prop_oneof![Just((10, 2)), Just((11, 3)), Just((12, 4)), Just((13, 6)), Just((14, 6))],
        [at, sp, fp] in any::<[u64; 3]>(),
        image in prop::collection::vec(any::<u64>(), 0..256),
        builtins in any::<bool>(),
    ) {
        let image: Vec<u8> = image.into_iter().flat_map(|word| field(word).to_le_bytes()).collect();
        let frames: Vec<RawFrame> = frames.into_iter().map(frame).collect();
        let (pc, sp, fp) = (pc(at), field(sp), field(fp));
        let mut decoder = Decoder::new(&heap, Arc::new(layout(version)), regions(builtins));
        // Twice: what is remembered of the first must not make the second worse.
        for _ in 0..2 {
            assert_clean(&decoder.decode(&RawStack { pc, sp, fp, frames: &frames, image: &image }))?;
        }
        prop_assert!(heap.read_bytes.get() <= READ_MAX_BYTES, "{} bytes read", heap.read_bytes.get());
    }

    #[test]
    fn strings_of_any_form_end(heap in heap(), index in 0..OBJECTS, max_units in 0..5_000_u32) {
        let layout = Arc::new(layout((13, 6)));
        let mut decoder = Decoder::new(&heap, layout, regions(true));
        let pointer = object_address(index) + 1;
        let text = decoder.heap.text(pointer, max_units);
        prop_assert!(text.is_none_or(|text| text.encode_utf16().count() <= max_units as usize));
        let mut units = 0;
        let read = decoder.heap.source(pointer, max_units, &mut |piece| units += match piece {
            super::string::Units::OneByte(bytes) => bytes.len(),
            super::string::Units::TwoByte(bytes) => bytes.len() / 2,
        });
        prop_assert!(read.is_none() || units <= max_units as usize);
    }
}

/// A fuzzer that never gets anywhere would be content with anything: valid objects among the random ones are decoded.
#[test]
fn the_heap_of_the_fuzzer_can_be_decoded() {
    let types = instance_types();
    let index_of = |wanted| types.iter().position(|found| *found == wanted).expect("it is one of them");
    let mut words = maps(&types);
    let mut object = |instance_type, fields: &[u64]| {
        let mut object = vec![map_address(index_of(instance_type)) + 1];
        object.extend(fields);
        object.resize(OBJECT_WORDS as usize, 0);
        words.extend(object);
    };
    let text = u64::from_le_bytes(*b"hashAll\0");
    object(241, &[0, object_address(1) + 1, 0, object_address(2) + 1]);
    object(8, &[7 << 32, text]);
    object(243, &[0, object_address(3) + 1]);
    object(8, &[7 << 32, u64::from_le_bytes(*b"/app.js\0")]);
    let heap =
        Heap { bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(), read_bytes: Cell::new(0) };
    let mut decoder = Decoder::new(&heap, Arc::new(layout((13, 6))), regions(true));
    let frame = RawFrame {
        pc: FILE + 0x10,
        marker: object_address(5) + 1,
        shared: [object_address(0) + 1, 0],
        bytecode: 0,
        bytecode_offset: 0,
    };
    let frames = [RawFrame { pc: 1, ..RawFrame::ZERO }, frame];
    let stack = decoder.decode(&RawStack { pc: 1, sp: 0, fp: 0, frames: &frames, image: &[] });
    let names: Vec<_> =
        stack.javascript().map(|frame| (frame.function.as_deref(), frame.script.as_deref())).collect();
    assert_eq!(names, [(Some("hashAll"), Some("/app.js"))]);
}
