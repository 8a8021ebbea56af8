//! The source map format, version 3 (ECMA-426), kept as text.

use std::{fmt, io::Read};

use serde::{
    Deserialize,
    de::{self, Deserializer, IgnoredAny, SeqAccess, Visitor},
};

use super::url::sextet;

/// Text between two entries.
const STEP_BYTES: usize = 1024;
/// Parts of an indexed map: each takes a few hundred bytes, however little its text.
const SECTIONS_MAX: usize = 4096;

/// A map, or the parts of an indexed one by ascending begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    sections: Vec<Section>,
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    /// Where in the script it begins: line and column, 0-based.
    begin: (u32, u32),
    source_root: Option<String>,
    sources: Texts,
    names: Texts,
    mappings: String,
    /// Every [`STEP_BYTES`] of `mappings`, by ascending place in the script.
    entries: Vec<Entry>,
}

/// A segment of `mappings` and where the next one begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    segment: Segment,
    next: u32,
}

/// All 0-based.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segment {
    line: u32,
    column: u32,
    source: u32,
    original_line: u32,
    original_column: u32,
    name: u32,
    /// 1: belongs to no source; 4: to one; 5: has a name, too. 0 stands for "none yet".
    fields: u8,
}

/// A place in an original; 0-based.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'map> {
    pub(super) source_root: Option<&'map str>,
    pub(super) source: &'map str,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) name: Option<&'map str>,
}

impl Map {
    /// `None`: it is no source map, or a broken one.
    pub(super) fn parse(json: impl Read) -> Option<Self> {
        let RawMap { version, sections, source_root, sources, names, mappings } =
            serde_json::from_reader(json).ok()?;
        if version.is_some_and(|version| version != 3) {
            return None;
        }
        let sections = if let Some(Sections(sections)) = sections {
            sections
        } else {
            let map = RawPlain { source_root, sources, names, mappings };
            vec![RawSection { offset: RawOffset::default(), map }]
        };
        let sections: Vec<Section> = sections.into_iter().map(Section::new).collect::<Option<_>>()?;
        let ascending = sections.is_sorted_by_key(|section| section.begin);
        (ascending && !sections.is_empty()).then_some(Self { sections })
    }

    /// The original of a place in the script, 0-based; `None` if there is none.
    pub(super) fn find(&self, line: u32, column: u32) -> Option<Place<'_>> {
        let after = self.sections.partition_point(|section| section.begin <= (line, column));
        let section = self.sections.get(after.checked_sub(1)?)?;
        let (begin_line, begin_column) = section.begin;
        let line = line - begin_line;
        // Only its first line is shifted.
        section.find(line, if line == 0 { column - begin_column } else { column })
    }

    /// Memory it takes.
    pub(super) fn size_bytes(&self) -> usize {
        self.sections
            .iter()
            .map(|section| {
                let Section { begin: _, source_root, sources, names, mappings, entries } = section;
                size_of::<Section>()
                    + source_root.as_ref().map_or(0, String::capacity)
                    + sources.size_bytes()
                    + names.size_bytes()
                    + mappings.capacity()
                    + entries.capacity() * size_of::<Entry>()
            })
            .sum()
    }
}

impl Section {
    fn new(RawSection { offset, map }: RawSection) -> Option<Self> {
        let mut mappings = map.mappings?;
        mappings.shrink_to_fit();
        let entries = entries(&mappings)?;
        Some(Self {
            begin: (offset.line, offset.column),
            source_root: map.source_root,
            sources: map.sources,
            names: map.names,
            mappings,
            entries,
        })
    }

    fn find(&self, line: u32, column: u32) -> Option<Place<'_>> {
        let at = |segment: &Segment| (segment.line, segment.column);
        let after = self.entries.partition_point(|entry| at(&entry.segment) <= (line, column));
        let entry = after.checked_sub(1).and_then(|at| self.entries.get(at)).copied().unwrap_or_default();
        let mut best = entry.segment;
        let text = self.mappings.as_bytes().get(entry.next as usize..)?;
        for found in Segments::after(text, entry.segment) {
            let (segment, _) = found?;
            if at(&segment) > (line, column) {
                break;
            }
            best = segment;
        }
        if best.line != line || best.fields < 4 {
            return None;
        }
        Some(Place {
            source_root: self.source_root.as_deref(),
            source: self.sources.get(best.source)?,
            line: best.original_line,
            column: best.original_column,
            name: if best.fields == 5 { self.names.get(best.name) } else { None },
        })
    }
}

/// Reads all of `mappings` once; `None`: they are broken.
fn entries(mappings: &str) -> Option<Vec<Entry>> {
    let text = mappings.as_bytes();
    let mut entries = Vec::with_capacity(text.len() / STEP_BYTES);
    let mut last = Segment::default();
    let mut due = STEP_BYTES;
    for found in Segments::after(text, last) {
        let (segment, next) = found?;
        // The search relies on the order. Of a place named twice the last segment counts.
        if (segment.line, segment.column) < (last.line, last.column) {
            return None;
        }
        last = segment;
        if next >= due {
            entries.push(Entry { segment, next: u32::try_from(next).ok()? });
            due = next + STEP_BYTES;
        }
    }
    entries.shrink_to_fit();
    Some(entries)
}

/// The segments of a text, each with the position behind it. `Some(None)` where the text is broken, and nothing after.
struct Segments<'text> {
    text: &'text [u8],
    at: usize,
    last: Segment,
    broken: bool,
}

impl<'text> Segments<'text> {
    /// `text` begins behind the segment `last`.
    fn after(text: &'text [u8], last: Segment) -> Self {
        Self { text, at: 0, last, broken: false }
    }

    /// One segment: up to five numbers, each the difference to the one before.
    fn segment(&mut self) -> Option<Segment> {
        let mut values = [0_i64; 5];
        let mut fields = 0;
        while self.text.get(self.at).is_some_and(|byte| !matches!(byte, b',' | b';')) {
            *values.get_mut(usize::from(fields))? = self.number()?;
            fields += 1;
        }
        let add = |to: u32, difference: i64| u32::try_from(i64::from(to) + difference).ok();
        let [column, source, original_line, original_column, name] = values;
        let last = self.last;
        let segment = Segment {
            line: last.line,
            column: add(last.column, column)?,
            source: add(last.source, source)?,
            original_line: add(last.original_line, original_line)?,
            original_column: add(last.original_column, original_column)?,
            name: add(last.name, name)?,
            fields,
        };
        matches!(fields, 1 | 4 | 5).then_some(segment)
    }

    /// A number in base 64, five bits each digit, the lowest ones first; the lowest bit of all is the sign.
    fn number(&mut self) -> Option<i64> {
        let mut value = 0_i64;
        // 35 bits: more than any number there can be.
        for shift in (0..35).step_by(5) {
            let digit = sextet(*self.text.get(self.at)?)?;
            self.at += 1;
            value |= i64::from(digit & 31) << shift;
            if digit & 32 == 0 {
                return Some(if value & 1 == 0 { value >> 1 } else { -(value >> 1) });
            }
        }
        None
    }
}

impl Iterator for Segments<'_> {
    type Item = Option<(Segment, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        loop {
            match self.text.get(self.at)? {
                b';' => {
                    self.last.line = self.last.line.checked_add(1)?;
                    self.last.column = 0;
                    self.at += 1;
                }
                b',' => self.at += 1,
                _ => break,
            }
        }
        let segment = self.segment();
        self.broken = segment.is_none();
        Some(segment.map(|segment| {
            self.last = segment;
            (segment, self.at)
        }))
    }
}

/// Many short texts in one: a vector of strings takes eight times what `["",""]` does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    fn get(&self, index: u32) -> Option<&str> {
        let index = index as usize;
        let end = *self.ends.get(index)? as usize;
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(begin..end)
    }

    fn size_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Texts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Texts::default();
                // A source may be null: it has no name.
                while let Some(text) = list.next_element::<Option<String>>()? {
                    texts.text.push_str(text.as_deref().unwrap_or_default());
                    let end = u32::try_from(texts.text.len());
                    texts.ends.push(end.map_err(|_too_long| de::Error::custom("too long"))?);
                }
                texts.text.shrink_to_fit();
                texts.ends.shrink_to_fit();
                Ok(texts)
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// Written out instead of flattened with [`RawPlain`]: serde keeps all that it does not know of a flattened structure.
#[derive(Deserialize)]
struct RawMap {
    version: Option<u64>,
    sections: Option<Sections>,
    #[serde(rename = "sourceRoot")]
    source_root: Option<String>,
    #[serde(default)]
    sources: Texts,
    #[serde(default)]
    names: Texts,
    mappings: Option<String>,
}

#[derive(Deserialize)]
struct RawSection {
    #[serde(default)]
    offset: RawOffset,
    map: RawPlain,
}

#[derive(Default, Deserialize)]
struct RawOffset {
    line: u32,
    column: u32,
}

/// The map of a section, which has no sections itself. The texts of the sources are passed over: they are most of a map.
#[derive(Deserialize)]
struct RawPlain {
    #[serde(rename = "sourceRoot")]
    source_root: Option<String>,
    #[serde(default)]
    sources: Texts,
    #[serde(default)]
    names: Texts,
    mappings: Option<String>,
}

struct Sections(Vec<RawSection>);

impl<'de> Deserialize<'de> for Sections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Sections;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of sections")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sections, A::Error> {
                let mut sections = Vec::new();
                while sections.len() < SECTIONS_MAX {
                    let Some(section) = list.next_element()? else { return Ok(Sections(sections)) };
                    sections.push(section);
                }
                if list.next_element::<IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom("too many sections"));
                }
                Ok(Sections(sections))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}
