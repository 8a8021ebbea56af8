//! Decoding of recorded pieces of memory: strings and functions of a made-up heap, laid out as V8 13.6 does.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    heap::{Heap, is_pointer, small_integer},
    layout::{Layout, LayoutError, Metadata},
    memory::Memory,
};
use crate::binary::V8Version;

const NODE_24: V8Version = V8Version { major: 13, minor: 6, build: 233, patch: 17 };

/// What Node.js 24.21 says of itself, as far as it is asked for.
fn metadata() -> Metadata {
    let values = [
        ("TaggedSize", 8),
        ("SmiShiftSize", 31),
        ("HeapObjectTag", 1),
        ("off_fp_context_or_frame_type", -8),
        ("off_fp_function", -16),
        ("off_fp_bytecode_array", -32),
        ("off_fp_bytecode_offset", -40),
        ("class_HeapObject__map__Map", 0),
        ("class_Map__instance_type__uint16_t", 12),
        ("class_String__length__int32_t", 12),
        ("class_SeqOneByteString__chars__char", 16),
        ("class_SeqTwoByteString__chars__char", 16),
        ("class_ConsString__first__String", 16),
        ("class_ConsString__second__String", 24),
        ("class_ThinString__actual__String", 16),
        ("class_SlicedString__parent__String", 16),
        ("class_SlicedString__offset__SMI", 24),
        ("class_ExternalString__resource__Object", 16),
        ("class_FixedArray__data__uintptr_t", 16),
        ("StringRepresentationMask", 7),
        ("OneByteStringTag", 8),
        ("ConsStringTag", 1),
        ("ExternalStringTag", 2),
        ("SlicedStringTag", 3),
        ("ThinStringTag", 5),
        ("scopeinfo_idx_ncontextlocals", 2),
        ("scopeinfo_idx_first_vars", 5),
        ("FirstNonstringType", 128),
        ("FirstContextType", 220),
        ("LastContextType", 229),
        ("class_JSFunction__shared__SharedFunctionInfo", 32),
        ("class_SharedFunctionInfo__name_or_scope_info__Tagged_NameOrScopeInfoT_", 24),
        ("class_SharedFunctionInfo__script__Tagged_HeapObject_", 40),
        ("class_Script__source__Object", 8),
        ("class_Script__name__Object", 16),
        ("class_Script__line_ends__Object", 56),
        ("class_BytecodeArray__data__uintptr_t", 64),
        ("type_Map__MAP_TYPE", 272),
        ("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE", 282),
        ("type_ScopeInfo__SCOPE_INFO_TYPE", 280),
        ("type_Script__SCRIPT_TYPE", 167),
        ("type_BytecodeArray__BYTECODE_ARRAY_TYPE", 186),
        ("type_Code__CODE_TYPE", 187),
        ("type_FixedArray__FIXED_ARRAY_TYPE", 205),
        ("type_ByteArray__BYTE_ARRAY_TYPE", 217),
        ("frametype_EntryFrame", 1),
    ];
    values.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn layout() -> Layout {
    Layout::new(&metadata(), NODE_24, None).unwrap()
}

/// Words at addresses; the rest of a page with words is 0, other pages are not mapped.
#[derive(Default)]
struct Image(BTreeMap<u64, u64>);

impl Memory for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        (address..).zip(buffer).all(|(at, place)| {
            let page = at & !4095;
            let word = self.0.get(&(at & !7)).copied().unwrap_or(0);
            *place = word.to_le_bytes()[(at & 7) as usize];
            self.0.range(page..page + 4096).next().is_some()
        })
    }
}

/// The map of maps; the map of type `t` lies at `MAPS + 0x100 t`.
const META_MAP: u64 = 0x2000;
const MAPS: u64 = 0x10_0000;

impl Image {
    fn put(&mut self, address: u64, words: &[u64]) {
        self.0.extend((address..).step_by(8).zip(words.iter().copied()));
    }

    /// An object of an instance type; returns the pointer to it.
    fn object(&mut self, address: u64, instance_type: u64, fields: &[u64]) -> u64 {
        let map = MAPS + 0x100 * instance_type;
        self.put(META_MAP, &[META_MAP | 1, 272 << 32]);
        self.put(map, &[META_MAP | 1, instance_type << 32]);
        self.put(address, &[map | 1]);
        self.put(address + 8, fields);
        address | 1
    }

    fn string(&mut self, address: u64, text: &str) -> u64 {
        let mut fields = vec![(text.len() as u64) << 32];
        fields.extend(text.as_bytes().chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        }));
        self.object(address, 40, &fields)
    }
}

fn smi(value: u64) -> u64 {
    value << 32
}

fn text(image: Image, pointer: u64) -> Option<String> {
    Heap::new(image, Arc::new(layout())).text(pointer, 64)
}

#[test]
fn strings_of_every_form_are_read() {
    let mut image = Image::default();
    let hello = image.string(0x5000, "hello, ");
    // Two-byte, with the tag of the form 0: UTF-16 of `größe`.
    let two_byte = image.object(0x5100, 32, &[5 << 32, 0x00df_00f6_0072_0067, 0x65]);
    let cons = image.object(0x5200, 33, &[12 << 32, hello, two_byte]);
    let sliced = image.object(0x5300, 35, &[4 << 32, cons, smi(5)]);
    let thin = image.object(0x5400, 45, &[12 << 32, cons]);
    image.put(0x9000, &[u64::from_le_bytes(*b"external")]);
    let external = image.object(0x5500, 42, &[8 << 32, 0xdead, 0x9000]);
    let uncached = image.object(0x5600, 58, &[8 << 32, 0xdead, 0x9000]);
    let mut heap = Heap::new(image, Arc::new(layout()));
    for (pointer, expected) in [
        (hello, Some("hello, ")),
        (two_byte, Some("größe")),
        (cons, Some("hello, größe")),
        (sliced, Some(", gr")),
        (thin, Some("hello, größe")),
        (external, Some("external")),
        (uncached, None),
        // No pointer, no object, no memory.
        (0, None),
        (smi(3), None),
        (0x7771, None),
        (META_MAP | 1, None),
    ] {
        assert_eq!(heap.text(pointer, 64).as_deref(), expected, "{pointer:#x}");
    }
    assert_eq!(heap.text(cons, 3).as_deref(), Some("hel"));
    assert_eq!(heap.slice(cons, 7, 100).as_deref(), Some("größe"));
}

#[test]
fn a_string_that_contains_itself_ends() {
    let mut image = Image::default();
    let cons = image.object(0x5000, 33, &[u64::from(u32::MAX) << 32, 0x5001, 0x5001]);
    let thin = image.object(0x5100, 45, &[9 << 32, 0x5101]);
    let sliced = image.object(0x5200, 35, &[9 << 32, 0x5201, smi(0)]);
    let mut heap = Heap::new(image, Arc::new(layout()));
    for pointer in [cons, thin, sliced] {
        assert_eq!(heap.text(pointer, 64), None);
    }
}

#[test]
fn what_has_no_map_of_a_map_is_no_object() {
    let mut image = Image::default();
    let name = image.string(0x5000, "name");
    // Its map's map is a string now.
    image.put(MAPS + 0x100 * 40, &[name]);
    assert_eq!(text(image, name), None);
}

/// `SharedFunctionInfo` with a `ScopeInfo`: flags, parameters, locals, start, end, then as given.
fn function(image: &mut Image, flags: u64, locals: u64, rest: &[u64]) -> u64 {
    let mut fields = vec![flags, smi(0), smi(locals), smi(120), smi(400)];
    fields.extend_from_slice(rest);
    let scope = image.object(0x6000, 280, &fields);
    image.object(0x7000, 282, &[0, 0, scope, 0, 0])
}

/// `ScopeFlags`: a function variable, and an inferred name.
const NAMED: u64 = 3 << 12;
const INFERRED: u64 = 1 << 14;

#[test]
fn a_name_is_found_after_any_number_of_locals() {
    for (locals, slots) in [(0, 0), (1, 2), (74, 148), (75, 76), (300, 301)] {
        let mut image = Image::default();
        let name = image.string(0x5000, "handle");
        let other = image.string(0x5100, "a local");
        let mut rest = vec![other; slots];
        rest.extend([name, smi(0), other, 0, 0, 0, 0]);
        let shared = function(&mut image, smi(NAMED), locals, &rest);
        let found = Heap::new(image, Arc::new(layout())).function(shared).unwrap();
        assert_eq!((found.name.as_deref(), found.start), (Some("handle"), Some(120)), "{locals}");
    }
}

#[test]
fn an_inferred_name_stands_in_and_qualifies() {
    let mut image = Image::default();
    let name = image.string(0x5000, "handle");
    let qualified = image.string(0x5100, "Service.handle");
    let shared = function(&mut image, smi(NAMED | INFERRED), 0, &[name, smi(0), qualified, 0, 0, 0, 0]);
    let found = Heap::new(image, Arc::new(layout())).function(shared).unwrap();
    assert_eq!(found.name.as_deref(), Some("Service.handle"));

    let mut image = Image::default();
    let empty = image.string(0x5000, "");
    let inferred = image.string(0x5100, "module.exports.run");
    let shared = function(&mut image, smi(NAMED | INFERRED), 0, &[empty, smi(0), inferred, 0, 0, 0, 0]);
    let found = Heap::new(image, Arc::new(layout())).function(shared).unwrap();
    assert_eq!(found.name.as_deref(), Some("module.exports.run"));
}

#[test]
fn a_function_of_another_layout_has_no_name_and_none_of_something_else() {
    let mut image = Image::default();
    let text = image.string(0x5000, "use strict");
    // The slot after the name is no place of a variable.
    let shared = function(&mut image, smi(NAMED), 0, &[text, text, 0, 0, 0, 0, 0]);
    let found = Heap::new(image, Arc::new(layout())).function(shared).unwrap();
    assert_eq!(found.name, None);
    let mut image = Image::default();
    let text = image.string(0x5000, "no function");
    assert!(Heap::new(image, Arc::new(layout())).function(text).is_none());
}

/// V8 has given the copy its map and put its address where the map of the original was.
#[test]
fn an_object_that_a_collection_has_moved_is_read_where_it_was() {
    let mut image = Image::default();
    let name = image.string(0x5000, "handle");
    let shared = function(&mut image, smi(NAMED), 0, &[name, smi(0), 0, 0]);
    for (moved, copy) in [(0x5000, 0x8000), (0x6000, 0x8100), (0x7000, 0x8200)] {
        let map = image.0[&moved];
        image.put(copy, &[map]);
        image.put(moved, &[copy]);
    }
    let found = Heap::new(image, Arc::new(layout())).function(shared).unwrap();
    assert_eq!((found.name.as_deref(), found.start), (Some("handle"), Some(120)));
}

#[test]
fn a_name_that_is_not_readable_now_is_read_the_next_time() {
    let mut image = Image::default();
    let name = image.string(0x5000, "handle");
    let map = image.0[&0x5000];
    image.put(0x5000, &[7]);
    let shared = function(&mut image, smi(NAMED), 0, &[name, smi(0), 0, 0]);
    let mut heap = Heap::new(image, Arc::new(layout()));
    assert_eq!(heap.function(shared).unwrap().name, None);
    heap.memory.put(0x5000, &[map]);
    assert_eq!(heap.function(shared).unwrap().name.as_deref(), Some("handle"));
}

#[test]
fn an_object_at_the_end_of_mapped_memory_is_read() {
    let mut image = Image::default();
    let name = image.string(0x4ff0 - 8, "handle");
    // Map, five fields, the name and the place of its variable: the next page is not there.
    let fields = [smi(NAMED), smi(0), smi(0), smi(120), smi(400), name, smi(0)];
    let scope = image.object(0x7000 - 8 * 8, 280, &fields);
    let shared = image.object(0x8000, 282, &[0, 0, scope, 0, 0]);
    let found = Heap::new(image, Arc::new(layout())).function(shared).unwrap();
    assert_eq!((found.name.as_deref(), found.start), (Some("handle"), Some(120)));
}

#[test]
fn a_layout_is_refused_with_a_reason() {
    let refused = |change: &dyn Fn(&mut Metadata), version| {
        let mut metadata = metadata();
        change(&mut metadata);
        Layout::new(&metadata, version, None).unwrap_err().to_string()
    };
    assert_eq!(Layout::new(&Metadata::new(), NODE_24, None).unwrap_err(), LayoutError::NoMetadata);
    let old = V8Version { major: 9, minor: 4, ..NODE_24 };
    assert!(refused(&|_| (), old).contains("older than the oldest"));
    let compressed = |metadata: &mut Metadata| {
        metadata.insert("TaggedSize".into(), 4);
    };
    assert!(refused(&compressed, NODE_24).contains("compresses pointers"));
    let missing = |metadata: &mut Metadata| {
        metadata.remove("type_ScopeInfo__SCOPE_INFO_TYPE");
    };
    assert!(refused(&missing, NODE_24).contains("`type_ScopeInfo__SCOPE_INFO_TYPE`"));
    let moved = |metadata: &mut Metadata| {
        metadata.insert("class_Script__name__Object".into(), 3);
    };
    assert!(refused(&moved, NODE_24).contains("says 3 for `class_Script__name`"));
}

#[test]
fn small_integers_and_pointers_are_told_apart() {
    assert_eq!(small_integer(smi(7)), Some(7));
    assert_eq!(small_integer(smi(u64::from(u32::MAX))), Some(-1));
    assert_eq!(small_integer(0x1234_5679), None);
    assert!(is_pointer(0x1234_5679));
    for word in [0, 1, 9, 0x1234_5678, 0x1234_567b, u64::MAX, 0xffff_8000_0000_0001] {
        assert!(!is_pointer(word), "{word:#x}");
    }
}
