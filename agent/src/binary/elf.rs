//! Reading an ELF file that may lie: headers, address conversion, dynamic symbols, symbol tables, build id.
//!
//! With its part `dynamic` the only user of `object`, for its definitions of the format. The file belongs to an observed process and may
//! be truncated, hostile or changing: it is never mapped (a mapping of a file that shrinks kills the reader with
//! `SIGBUS`) but read with `pread` into buffers whose sizes are bounded here.
//!
//! Limits: 64-bit little-endian x86-64 and aarch64; files without section headers yield no symbol tables.

mod dynamic;

use std::{fs::File, io, os::unix::fs::FileExt};

use object::{
    LittleEndian as Le, elf,
    elf::{FileHeader64, ProgramHeader64, SectionHeader64, Sym64},
    pod::{self, Pod},
};

use super::{Architecture, BinaryError, FileOffset, VirtualAddress};

/// Linux itself refuses executables with more than 64 KiB of program headers.
const MAX_PROGRAM_HEADERS: u64 = 1024;
/// The largest Node build has 41.
const MAX_SECTION_HEADERS: u64 = 4096;
/// 24 MiB of symbols; the largest Node build has 168 000.
const MAX_SYMBOLS: u64 = 1 << 20;
/// String tables are read in windows, so this bounds time, not memory. The largest Node build has 19 MB.
const MAX_STRING_TABLE_BYTES: u64 = 256 << 20;
const STRING_WINDOW_BYTES: u64 = 4 << 20;
/// A mangled name longer than this is passed over; those nodeprobe looks for are below 300 bytes.
const MAX_NAME_BYTES: u64 = 1024;
const MAX_NOTE_BYTES: u64 = 64 << 10;

/// A piece of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What a segment puts where. Only `PT_LOAD`.
#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    offset: u64,
    /// Bytes that come from the file; what memory has beyond is zero.
    file_size: u64,
    executable: bool,
    writable: bool,
}

impl Segment {
    /// Distance of `address` from the segment's start, if the file has this byte.
    fn position(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.address).filter(|position| *position < self.file_size)
    }
}

/// Headers of one file, and how to read from it.
pub(super) struct Elf<'file> {
    file: &'file File,
    file_size: u64,
    pub(super) architecture: Architecture,
    segments: Vec<Segment>,
    dynamic: Option<Region>,
    notes: Vec<Region>,
    /// Address and size of `.eh_frame_hdr`.
    pub(super) eh_frame_hdr: Option<(VirtualAddress, u64)>,
    section_headers: Region,
    section_names: u64,
}

/// The sections that matter, found by name and kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sections {
    pub(super) dynsym: Option<SymbolTable>,
    pub(super) symtab: Option<SymbolTable>,
    pub(super) rodata: Option<Region>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SymbolTable {
    pub(super) symbols: Region,
    pub(super) strings: Region,
}

/// A symbol that is defined in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub(super) address: VirtualAddress,
    /// Zero when the compiler or assembler gave none.
    pub(super) size_bytes: u64,
    pub(super) is_function: bool,
}

impl<'file> Elf<'file> {
    /// Reads the file header and the program headers.
    pub(super) fn open(file: &'file File) -> Result<Self, BinaryError> {
        let metadata =
            file.metadata().map_err(|source| BinaryError::Read { what: "the size of the file", source })?;

        if !metadata.is_file() {
            return Err(BinaryError::NotARegularFile);
        }
        let file_size = metadata.len();
        let mut header = [0; size_of::<FileHeader64<Le>>()];
        if file_size < header.len() as u64 {
            return Err(BinaryError::NotElf);
        }
        read_exact(file, &mut header, 0, "the ELF header")?;
        let header: &FileHeader64<Le> = pod_of(&header, "the ELF header")?;
        if header.e_ident.magic != elf::ELFMAG {
            return Err(BinaryError::NotElf);
        }
        if header.e_ident.class != elf::ELFCLASS64 || header.e_ident.data != elf::ELFDATA2LSB {
            return Err(BinaryError::Unsupported { what: "not 64-bit little-endian".into() });
        }
        let architecture = match header.e_machine.get(Le) {
            elf::EM_X86_64 => Architecture::X86_64,
            elf::EM_AARCH64 => Architecture::Aarch64,
            machine => return Err(BinaryError::Unsupported { what: format!("for machine type {machine}") }),
        };
        let mut this = Self {
            file,
            file_size,
            architecture,
            segments: Vec::new(),
            dynamic: None,
            notes: Vec::new(),
            eh_frame_hdr: None,
            section_headers: Region {
                offset: header.e_shoff.get(Le),
                size: u64::from(header.e_shnum.get(Le)) * size_of::<SectionHeader64<Le>>() as u64,
            },
            section_names: u64::from(header.e_shstrndx.get(Le)),
        };
        this.read_program_headers(header)?;
        Ok(this)
    }

    fn read_program_headers(&mut self, header: &FileHeader64<Le>) -> Result<(), BinaryError> {
        const WHAT: &str = "the program headers";
        if usize::from(header.e_phentsize.get(Le)) != size_of::<ProgramHeader64<Le>>() {
            return Err(BinaryError::Malformed { what: WHAT });
        }
        let count = u64::from(header.e_phnum.get(Le));
        let bytes =
            self.read_array::<ProgramHeader64<Le>>(header.e_phoff.get(Le), count, MAX_PROGRAM_HEADERS, WHAT)?;
        for program_header in pods::<ProgramHeader64<Le>>(&bytes) {
            let region =
                Region { offset: program_header.p_offset.get(Le), size: program_header.p_filesz.get(Le) };
            match program_header.p_type.get(Le) {
                elf::PT_LOAD => {
                    let flags = program_header.p_flags.get(Le);
                    self.segments.push(Segment {
                        address: program_header.p_vaddr.get(Le),
                        offset: region.offset,
                        file_size: region.size,
                        executable: flags & elf::PF_X != 0,
                        writable: flags & elf::PF_W != 0,
                    });
                }
                elf::PT_DYNAMIC => self.dynamic = Some(region),
                elf::PT_NOTE => self.notes.push(region),
                elf::PT_GNU_EH_FRAME => {
                    self.eh_frame_hdr = Some((VirtualAddress(program_header.p_vaddr.get(Le)), region.size));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Segments of code: file offset, address and length of each.
    pub(super) fn code_segments(&self) -> impl Iterator<Item = (FileOffset, VirtualAddress, u64)> {
        self.segments
            .iter()
            .filter(|segment| segment.executable)
            .map(|segment| (FileOffset(segment.offset), VirtualAddress(segment.address), segment.file_size))
    }

    /// Where the instruction at `address` lies in the file. `None`: not in an executable segment, so that a probe
    /// could never fire.
    pub(super) fn executable_offset(&self, address: VirtualAddress) -> Option<FileOffset> {
        let (offset, _) = self.locate(address, |segment| segment.executable)?;
        Some(FileOffset(offset))
    }

    /// The one conversion of addresses. File offset of `address`, and number of bytes from there to the end of the segment's part of the file.
    fn locate(
        &self,
        VirtualAddress(address): VirtualAddress,
        accept: impl Fn(&Segment) -> bool,
    ) -> Option<(u64, u64)> {
        self.segments.iter().filter(|segment| accept(segment)).find_map(|segment| {
            let position = segment.position(address)?;
            let offset = segment.offset.checked_add(position)?;
            (offset < self.file_size).then_some((offset, segment.file_size - position))
        })
    }

    /// Fills `buffer` from `address`.
    pub(super) fn read_at(
        &self,
        address: VirtualAddress,
        buffer: &mut [u8],
        what: &'static str,
    ) -> Result<(), BinaryError> {
        let (offset, available) = self.locate(address, |_| true).ok_or(BinaryError::Malformed { what })?;
        if (buffer.len() as u64) > available {
            return Err(BinaryError::Malformed { what });
        }
        read_exact(self.file, buffer, offset, what)
    }

    /// Up to `limit` bytes from `address` to the end of its segment.
    pub(super) fn read_rest(
        &self,
        address: VirtualAddress,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, BinaryError> {
        let (offset, available) = self.locate(address, |_| true).ok_or(BinaryError::Malformed { what })?;
        self.read(Region { offset, size: available.min(limit).min(self.file_size - offset) }, limit, what)
    }

    /// The instructions of a function, which must lie in one executable segment.
    pub(super) fn code(
        &self,
        address: VirtualAddress,
        size: u64,
        limit: u64,
    ) -> Result<Vec<u8>, BinaryError> {
        const WHAT: &str = "the instructions of a function";
        let (offset, available) = self
            .locate(address, |segment| segment.executable)
            .ok_or(BinaryError::NotExecutable { address })?;
        if size > available {
            return Err(BinaryError::Malformed { what: WHAT });
        }
        self.read(Region { offset, size }, limit, WHAT)
    }

    /// Reads a region of the file in one piece.
    pub(super) fn read(
        &self,
        region: Region,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, BinaryError> {
        if region.size > limit {
            return Err(BinaryError::TooLarge { what, size: region.size, limit });
        }
        self.check_inside(region, what)?;
        let mut bytes = vec![0; region.size as usize];
        read_exact(self.file, &mut bytes, region.offset, what)?;
        Ok(bytes)
    }

    /// A region that ends beyond the file is refused before memory is set aside for it.
    fn check_inside(&self, region: Region, what: &'static str) -> Result<(), BinaryError> {
        match region.offset.checked_add(region.size) {
            Some(end) if end <= self.file_size => Ok(()),
            _ => Err(BinaryError::Truncated { what }),
        }
    }

    fn read_array<T: Pod>(
        &self,
        offset: u64,
        count: u64,
        max_count: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, BinaryError> {
        let entry = size_of::<T>() as u64;
        let size = count.checked_mul(entry).ok_or(BinaryError::Malformed { what })?;
        self.read(Region { offset, size }, max_count * entry, what)
    }

    /// Visits `region` in overlapping windows until `visit` is done (returns `true`).
    pub(super) fn windows(
        &self,
        region: Region,
        window: u64,
        overlap: u64,
        what: &'static str,
        mut visit: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), BinaryError> {
        self.check_inside(region, what)?;
        let mut buffer = vec![0; (window + overlap).min(region.size) as usize];
        let mut start = 0;
        while start < region.size {
            let length = (window + overlap).min(region.size - start);
            let bytes = &mut buffer[..length as usize];
            read_exact(self.file, bytes, region.offset + start, what)?;
            if visit(start, bytes) {
                break;
            }
            start += window;
        }
        Ok(())
    }

    /// The GNU build id in lower-case hexadecimal. `None`: the linker wrote none.
    pub(super) fn build_id(&self) -> Result<Option<String>, BinaryError> {
        const WHAT: &str = "the notes";
        for region in &self.notes {
            // Notes of a single-executable application hold the application; the build id is in a small segment.
            if region.size > MAX_NOTE_BYTES {
                continue;
            }
            let bytes = self.read(*region, MAX_NOTE_BYTES, WHAT)?;
            if let Some(id) = find_build_id(&bytes) {
                return Ok(Some(hexadecimal(id)));
            }
        }
        Ok(None)
    }

    /// Looks the sections up. A file without section headers has none.
    pub(super) fn sections(&self) -> Result<Sections, BinaryError> {
        const WHAT: &str = "the section headers";
        let entry = size_of::<SectionHeader64<Le>>() as u64;
        if self.section_headers.size == 0 {
            return Ok(Sections::default());
        }
        let bytes = self.read(self.section_headers, MAX_SECTION_HEADERS * entry, WHAT)?;
        let headers: Vec<&SectionHeader64<Le>> = pods(&bytes).collect();
        let region = |header: &SectionHeader64<Le>| Region {
            offset: header.sh_offset.get(Le),
            size: header.sh_size.get(Le),
        };
        let names = match headers.get(self.section_names as usize) {
            Some(header) => self.read(region(header), MAX_NOTE_BYTES, "the section names")?,
            None => Vec::new(),
        };
        let table = |header: &SectionHeader64<Le>| {
            let strings = headers.get(header.sh_link.get(Le) as usize)?;
            Some(SymbolTable { symbols: region(header), strings: region(strings) })
        };
        let mut sections = Sections::default();
        for header in &headers {
            match header.sh_type.get(Le) {
                elf::SHT_DYNSYM => sections.dynsym = table(header),
                elf::SHT_SYMTAB => sections.symtab = table(header),
                elf::SHT_PROGBITS => {
                    let name = names.get(header.sh_name.get(Le) as usize..).unwrap_or_default();
                    if name.starts_with(b".rodata\0") {
                        sections.rodata = Some(region(header));
                    }
                }
                _ => {}
            }
        }
        Ok(sections)
    }

    /// Parts of the file that are loaded but not writable, for files that do not say where `.rodata` is.
    pub(super) fn read_only_regions(&self) -> impl Iterator<Item = Region> {
        self.segments
            .iter()
            .filter(|segment| !segment.writable)
            .map(|segment| Region { offset: segment.offset, size: segment.file_size })
    }

    /// Calls `visit` for every defined symbol whose name `wanted` accepts. `wanted` sees at least the first
    /// [`MAX_NAME_BYTES`] bytes from the begin of the name, with what follows it in the table.
    ///
    /// Names are read in windows and the symbols are passed over once per window, which keeps the peak at a few
    /// MiB where a whole string table takes 19 MB.
    pub(super) fn symbols(
        &self,
        table: SymbolTable,
        wanted: impl Fn(&[u8]) -> bool,
        mut visit: impl FnMut(&[u8], Symbol),
    ) -> Result<(), BinaryError> {
        let entry = size_of::<Sym64<Le>>() as u64;
        let count = table.symbols.size / entry;
        let bytes =
            self.read_array::<Sym64<Le>>(table.symbols.offset, count, MAX_SYMBOLS, "the symbol table")?;
        if table.strings.size > MAX_STRING_TABLE_BYTES {
            return Err(BinaryError::TooLarge {
                what: "the string table",
                size: table.strings.size,
                limit: MAX_STRING_TABLE_BYTES,
            });
        }
        self.windows(
            table.strings,
            STRING_WINDOW_BYTES,
            MAX_NAME_BYTES,
            "the string table",
            |start, strings| {
                for symbol in pods::<Sym64<Le>>(&bytes) {
                    let name = u64::from(symbol.st_name.get(Le)).wrapping_sub(start);
                    // Names in the overlap belong to the next window.
                    if name >= STRING_WINDOW_BYTES || symbol.st_shndx.get(Le) == elf::SHN_UNDEF {
                        continue;
                    }
                    let tail = strings.get(name as usize..).unwrap_or_default();
                    if !wanted(tail) {
                        continue;
                    }
                    let Some(end) = memchr::memchr(0, tail) else { continue };
                    visit(
                        &tail[..end],
                        Symbol {
                            address: VirtualAddress(symbol.st_value.get(Le)),
                            size_bytes: symbol.st_size.get(Le),
                            is_function: symbol.st_info & 0xf == elf::STT_FUNC,
                        },
                    );
                }
                false
            },
        )
    }
}

pub(super) fn read_exact(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
    what: &'static str,
) -> Result<(), BinaryError> {
    file.read_exact_at(buffer, offset).map_err(|source| {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            BinaryError::Truncated { what }
        } else {
            BinaryError::Read { what, source }
        }
    })
}

/// All whole records in `bytes`. The records of `object` are made of byte arrays, so any alignment does.
pub(super) fn pods<T: Pod>(bytes: &[u8]) -> impl Iterator<Item = &T> {
    pod::slice_from_bytes::<T>(bytes, bytes.len() / size_of::<T>())
        .map_or(&[][..], |(records, _)| records)
        .iter()
}

fn pod_of<'bytes, T: Pod>(bytes: &'bytes [u8], what: &'static str) -> Result<&'bytes T, BinaryError> {
    pods(bytes).next().ok_or(BinaryError::Malformed { what })
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The descriptor of the `NT_GNU_BUILD_ID` note.
fn find_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    // Note header: name size, descriptor size, type; name and descriptor are padded to four bytes.
    const HEADER_BYTES: usize = 12;
    const MAX_BUILD_ID_BYTES: usize = 64;
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes)
    };
    loop {
        let name_size = word(notes, 0)? as usize;
        let descriptor_size = word(notes, 4)? as usize;
        let kind = word(notes, 8)?;
        let descriptor_at = HEADER_BYTES.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let name = notes.get(HEADER_BYTES..HEADER_BYTES.checked_add(name_size)?)?;
        let descriptor = notes.get(descriptor_at..descriptor_at.checked_add(descriptor_size)?)?;
        if kind == elf::NT_GNU_BUILD_ID
            && name == b"GNU\0"
            && (1..=MAX_BUILD_ID_BYTES).contains(&descriptor_size)
        {
            return Some(descriptor);
        }
        let next = descriptor_at.checked_add(descriptor_size.checked_next_multiple_of(4)?)?;
        notes = notes.get(next..)?;
    }
}
