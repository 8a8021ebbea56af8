//! Names of native functions and of V8's builtins, for the processes as they run.
//!
//! Nothing is read before a stack asks. Then the mappings of the process tell which file, and where in it, an
//! instruction is from. That holds for V8's copies of its embedded builtins too: they are further mappings of the
//! same file. The function comes from a table of the file ([`FunctionTable`]), its name from the file itself, once.
//! Processes of one image share the table, even where each has its own inode, if the tables are equal to the byte;
//! names are never shared between files, so that one container cannot put its words into the stacks of another.
//!
//! Why no ready-made symboliser: those that were looked at map the files they read, and a process can shorten a
//! library it has mapped, which ends the reader with `SIGBUS`.
//!
//! Limits: no inlined functions of native code; no separate debug files; names of Rust and Go stay as their compilers
//! wrote them. A process whose mappings change is noticed within [`MAPPINGS_MAX_AGE`]; tell of an exec with
//! [`Symbolizer::forget`].
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::MetadataExt as _},
    sync::Arc,
    time::{Duration, Instant},
};

use super::demangle::demangle;
use crate::{
    binary::{FileOffset, FunctionIndex, FunctionTable},
    clean::{NAME_MAX_CHARS, clean_name},
    model::ProcessId,
    procfs::{Mapping, ProcessDir, Procfs},
};

/// Mappings are read anew after this time, if a stack of the process asks.
pub const MAPPINGS_MAX_AGE: Duration = Duration::from_secs(30);
/// And after this, if an instruction is in none of them.
const MAPPINGS_MIN_AGE: Duration = Duration::from_secs(1);
/// Executable mappings of one process; V8 adds some for each isolate.
const MAPPINGS_MAX: usize = 4096;
const PROCESSES_MAX: usize = 512;
const FILES_MAX: usize = 256;
/// Node takes 1.6 MB.
const TABLES_MAX_BYTES: usize = 16 << 20;
/// Of all files together; about 100 bytes each.
const NAMES_MAX: usize = 1 << 16;

/// Names instructions of all processes.
#[derive(Debug)]
pub struct Symbolizer {
    procfs: Procfs,
    processes: HashMap<ProcessId, Process>,
    files: HashMap<FileId, Symbols>,
    /// Counts calls, to tell what was not used for long.
    calls: u64,
}

#[derive(Debug)]
struct Process {
    /// Executable, by ascending address.
    mapped: Vec<Mapped>,
    read_at: Instant,
    used: u64,
}

#[derive(Debug)]
struct Mapped {
    mapping: Mapping,
    /// For what has no name: `[libfoo.so]`, `[vdso]`; `None` for memory that V8 writes its code to.
    label: Option<Arc<str>>,
    file: Link,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    NotOpened,
    To(FileId),
    /// No file, or it cannot be opened any more.
    Nowhere,
}

/// Tells a file from another, and from what it was before it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

#[derive(Debug)]
struct Symbols {
    /// `None`: the file has no symbols, or is no sound ELF file.
    table: Option<Arc<FunctionTable>>,
    names: HashMap<FunctionIndex, Arc<str>>,
    used: u64,
}

impl Symbolizer {
    pub fn new(procfs: Procfs) -> Self {
        Self { procfs, processes: HashMap::new(), files: HashMap::new(), calls: 0 }
    }

    /// The function at each address of a process, demangled and clean, in the same order. An instruction in a file
    /// that does not tell is named after the file, `[better_sqlite3.node]`; `None`: in no file (code that V8 has
    /// compiled), nowhere, or the process has ended.
    ///
    /// Return addresses may lie behind the last instruction of their function: pass those minus one.
    pub fn names(&mut self, process: ProcessId, addresses: &[u64]) -> Vec<Option<Arc<str>>> {
        self.calls += 1;
        let mut batch = Batch::default();
        let Some(mut known) = self.current(process, addresses, &mut batch) else {
            return vec![None; addresses.len()];
        };
        known.used = self.calls;
        let names = addresses.iter().map(|&address| {
            let mapped = known.find(address)?;
            self.name(process, mapped, address, &mut batch).or_else(|| mapped.label.clone())
        });
        let names = names.collect();
        self.processes.insert(process, known);
        self.make_room();
        names
    }

    /// Drops what is known of a process: it has ended, or runs another program now.
    pub fn forget(&mut self, process: ProcessId) {
        self.processes.remove(&process);
    }

    /// Memory of the tables and names, bytes, roughly.
    pub fn size_bytes(&self) -> usize {
        let names = self.files.values().flat_map(|symbols| symbols.names.values());
        self.tables_bytes() + names.map(|name| name.len() + 64).sum::<usize>()
    }

    /// What is known of the mappings of a process, taken out of the map; read anew if it is old, or if it does not
    /// cover the addresses.
    fn current(&mut self, process: ProcessId, addresses: &[u64], batch: &mut Batch) -> Option<Process> {
        if let Some(known) = self.processes.remove(&process) {
            let age = known.read_at.elapsed();
            let covers = || addresses.iter().all(|&address| known.covers(address));
            if age < MAPPINGS_MIN_AGE || (age < MAPPINGS_MAX_AGE && covers()) {
                return Some(known);
            }
        }
        Process::read(batch.dir(&self.procfs, process)?)
    }

    fn name(
        &mut self,
        process: ProcessId,
        mapped: &mut Mapped,
        address: u64,
        batch: &mut Batch,
    ) -> Option<Arc<str>> {
        if matches!(mapped.file, Link::NotOpened) {
            let opened = batch.open(&self.procfs, process, &mapped.mapping);
            mapped.file = opened.map_or(Link::Nowhere, |(id, _)| Link::To(id));
        }
        let Link::To(id) = mapped.file else { return None };
        if !self.files.contains_key(&id) {
            let (now, file) = batch.open(&self.procfs, process, &mapped.mapping)?;
            if now != id {
                mapped.file = Link::Nowhere;
                return None;
            }
            let symbols = Symbols::read(file, &self.files);
            self.files.insert(id, symbols);
        }
        let symbols = self.files.get_mut(&id)?;
        symbols.used = self.calls;
        let table = symbols.table.as_ref()?;
        let offset = (address - mapped.mapping.range.start).checked_add(mapped.mapping.offset_bytes)?;
        let index = table.find(FileOffset(offset))?;
        if let Some(name) = symbols.names.get(&index) {
            return Some(Arc::clone(name));
        }
        let (now, file) = batch.open(&self.procfs, process, &mapped.mapping)?;
        let symbol = table.name(file, index).ok().filter(|symbol| now == id && !symbol.is_empty())?;
        let name = Arc::from(demangle(&symbol));
        symbols.names.insert(index, Arc::clone(&name));
        Some(name)
    }

    /// Keeps all maps within their bounds.
    fn make_room(&mut self) {
        if self.processes.len() > PROCESSES_MAX {
            let oldest = self.processes.iter().min_by_key(|(_, process)| process.used).map(|(id, _)| *id);
            oldest.map(|id| self.processes.remove(&id));
        }
        while self.files.len() > FILES_MAX || (self.files.len() > 1 && self.tables_bytes() > TABLES_MAX_BYTES)
        {
            let oldest = self.files.iter().min_by_key(|(_, symbols)| symbols.used).map(|(id, _)| *id);
            oldest.map(|id| self.files.remove(&id));
        }
        if self.files.values().map(|symbols| symbols.names.len()).sum::<usize>() > NAMES_MAX {
            for symbols in self.files.values_mut() {
                symbols.names = HashMap::new();
            }
        }
    }

    /// Each table once, however many files share it.
    fn tables_bytes(&self) -> usize {
        let tables = self.files.values().filter_map(|symbols| symbols.table.as_ref());
        tables.map(|table| table.size_bytes() / Arc::strong_count(table).max(1)).sum()
    }
}

impl Process {
    fn read(dir: &ProcessDir) -> Option<Self> {
        let mut count = 0;
        let mappings = dir.mappings(|mapping| {
            count += usize::from(mapping.executable);
            mapping.executable && count <= MAPPINGS_MAX
        });
        let mapped = mappings.ok()?.into_iter().map(Mapped::new).collect();
        Some(Self { mapped, read_at: Instant::now(), used: 0 })
    }

    fn position(&self, address: u64) -> Option<usize> {
        let after = self.mapped.partition_point(|mapped| mapped.mapping.range.start <= address);
        let at = after.checked_sub(1)?;
        self.mapped[at].mapping.range.contains(&address).then_some(at)
    }

    fn covers(&self, address: u64) -> bool {
        self.position(address).is_some()
    }

    fn find(&mut self, address: u64) -> Option<&mut Mapped> {
        let at = self.position(address)?;
        self.mapped.get_mut(at)
    }
}

impl Mapped {
    fn new(mapping: Mapping) -> Self {
        let name = mapping.path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let name = clean_name(name, NAME_MAX_CHARS - 2);
        // The kernel's own names stand in brackets already.
        let label = name
            .filter(|_| !is_v8_memory(&mapping))
            .map(|name| if name.starts_with('[') { Arc::from(name) } else { Arc::from(format!("[{name}]")) });
        let file = if mapping.inode == 0 { Link::Nowhere } else { Link::NotOpened };
        Self { mapping, label, file }
    }
}

/// Memory without a file that has been given a name: `[anon:v8]`.
fn is_v8_memory(mapping: &Mapping) -> bool {
    mapping.inode == 0 && mapping.path.as_os_str().as_bytes().starts_with(b"[anon")
}

impl Symbols {
    fn read(file: &File, others: &HashMap<FileId, Self>) -> Self {
        let table = match FunctionTable::read(file) {
            Ok(table) => table,
            Err(error) => {
                tracing::debug!(%error, "no names of functions from a mapped file");
                None
            }
        };
        let table = table.map(|table| {
            let same =
                others.values().find_map(|other| other.table.as_ref().filter(|other| ***other == table));
            same.map_or_else(|| Arc::new(table), Arc::clone)
        });
        Self { table, names: HashMap::new(), used: 0 }
    }
}

/// What is open for the length of one call: holding on to files of a container would keep its mounts busy.
#[derive(Default)]
struct Batch {
    dir: Option<ProcessDir>,
    files: Vec<(Range<u64>, FileId, File)>,
}

impl Batch {
    /// The directory of the process, if it is still that process.
    fn dir(&mut self, procfs: &Procfs, process: ProcessId) -> Option<&ProcessDir> {
        if self.dir.is_none() {
            let dir = procfs.process(process.pid).ok()?;
            self.dir =
                Some(dir).filter(|dir| dir.stat().is_ok_and(|stat| stat.start_ticks == process.start_ticks));
        }
        self.dir.as_ref()
    }

    /// The file behind a mapping, opened once.
    fn open(&mut self, procfs: &Procfs, process: ProcessId, mapping: &Mapping) -> Option<(FileId, &File)> {
        let known = self.files.iter().position(|(range, ..)| *range == mapping.range);
        let at = if let Some(at) = known {
            at
        } else {
            let file = self.dir(procfs, process)?.open_mapped(mapping).ok()?;
            let id = FileId::of(&file.metadata().ok()?);
            self.files.push((mapping.range.clone(), id, file));
            self.files.len() - 1
        };
        self.files.get(at).map(|(_, id, file)| (*id, file))
    }
}

#[cfg(test)]
mod tests;
