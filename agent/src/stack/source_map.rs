//! From a position in a script that runs to the line its author wrote.
//!
//! A script says where its source map is (`//# sourceMappingURL=`): a file, most often beside it, or a `data:` URL.
//! Files are read below the root directory of the process. A map is kept as the text it came as with an entry every
//! KiB, because decoded into records it takes several times the memory, and few positions are ever asked for.
//!
//! Limits: maps on the network are not fetched; names of functions are told only where a map names the place asked for.
#![forbid(unsafe_code)]

mod map;
mod url;

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use self::map::Map;
use crate::{
    clean::{NAME_MAX_CHARS, PATH_MAX_CHARS, clean_name},
    model::ProcessId,
    procfs::ProcessDir,
};

/// A map, or a script that may contain one, larger than this is not read.
pub const MAP_MAX_BYTES: u64 = 32 << 20;
/// Where the comment that names the map is looked for: at the end of the script.
const TAIL_BYTES: u64 = 4 << 10;
/// All maps together. One that is larger by itself is given up.
const MAPS_MAX_BYTES: usize = 16 << 20;
const SCRIPTS_MAX: usize = 4096;
/// One process makes us read and parse this much, then no more.
const PROCESS_MAX_BYTES: u64 = 128 << 20;

/// A place in an original source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// An absolute path where the map tells one; relative to an unknown root where it does not (webpack). Clean.
    pub source: Arc<str>,
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
    /// The identifier that stands there in the original. Asked for the place where a function is named, this is the name
    /// of the function.
    pub name: Option<Arc<str>>,
}

/// A place in a script as it runs, as `Error.stack` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// 1-based.
    pub line: u32,
    /// 1-based, in UTF-16 code units.
    pub column: u32,
}

/// Source maps of all processes, read when first asked for.
#[derive(Debug, Default)]
pub struct SourceMaps {
    scripts: HashMap<(ProcessId, Arc<str>), Script>,
    /// Bytes read for each process.
    spent: HashMap<ProcessId, u64>,
    calls: u64,
}

#[derive(Debug)]
struct Script {
    /// `None`: there is none, or it cannot be used. Remembered, so that it is not tried again with each sample.
    map: Option<Arc<Map>>,
    /// The directory that sources are relative to.
    base: String,
    used: u64,
}

impl SourceMaps {
    pub fn new() -> Self {
        Self::default()
    }

    /// The original of a position in `script`, a path without `file://`. `url`: what V8 knows as the script's
    /// `source_mapping_url`; without one the end of the file is searched for it. `dir` must be that of `process`.
    ///
    /// `None`: the script has no map, or not for this place, or the map is broken, too large or not to be read.
    pub fn original(
        &mut self,
        process: ProcessId,
        dir: &ProcessDir,
        script: &Arc<str>,
        url: Option<&str>,
        position: Position,
    ) -> Option<Original> {
        self.calls += 1;
        let key = (process, Arc::clone(script));
        if !self.scripts.contains_key(&key) {
            let loaded = self.load(process, dir, script, url);
            self.scripts.insert(key.clone(), loaded);
            self.make_room(&key);
        }
        let found = self.scripts.get_mut(&key)?;
        found.used = self.calls;
        let map = found.map.as_ref()?;
        let place = map.find(position.line.checked_sub(1)?, position.column.checked_sub(1)?)?;
        let source = url::source(&found.base, place.source_root, place.source)?;
        Some(Original {
            source: Arc::from(clean_name(source.as_bytes(), PATH_MAX_CHARS)?),
            line: place.line.checked_add(1)?,
            column: place.column.checked_add(1)?,
            name: place.name.and_then(|name| clean_name(name.as_bytes(), NAME_MAX_CHARS)).map(Arc::from),
        })
    }

    /// Whether it has been looked for the map of a script before: then `url` is not asked for again.
    pub fn knows(&self, process: ProcessId, script: &Arc<str>) -> bool {
        self.scripts.contains_key(&(process, Arc::clone(script)))
    }

    /// Drops what is known of a process that has ended.
    pub fn forget(&mut self, process: ProcessId) {
        self.scripts.retain(|(owner, _), _| *owner != process);
        self.spent.remove(&process);
    }

    /// Memory of all maps, bytes.
    pub fn size_bytes(&self) -> usize {
        let maps = self.scripts.values().filter_map(|script| script.map.as_ref());
        // Each map once, however many processes share it.
        maps.map(|map| map.size_bytes() / Arc::strong_count(map).max(1)).sum()
    }

    fn load(&mut self, process: ProcessId, dir: &ProcessDir, script: &str, url: Option<&str>) -> Script {
        let spent = self.spent.entry(process).or_default();
        let (map, base) = match read(dir, script, url, spent) {
            Ok(Some((map, base))) => (Some(map), base),
            Ok(None) => (None, String::new()),
            Err(error) => {
                tracing::debug!(%error, pid = process.pid, "a source map cannot be used");
                (None, String::new())
            }
        };
        let map = map.filter(|map| map.size_bytes() <= MAPS_MAX_BYTES).map(|map| {
            let same =
                self.scripts.values().find_map(|other| other.map.as_ref().filter(|other| ***other == map));
            same.map_or_else(|| Arc::new(map), Arc::clone)
        });
        Script { map, base, used: self.calls }
    }

    /// Drops what was not asked for the longest time, but `keep`.
    fn make_room(&mut self, keep: &(ProcessId, Arc<str>)) {
        while self.scripts.len() > SCRIPTS_MAX || self.size_bytes() > MAPS_MAX_BYTES {
            let others = self.scripts.iter().filter(|(key, _)| *key != keep);
            // Failures take next to nothing: of two the one with a map goes first.
            let full = self.scripts.len() > SCRIPTS_MAX;
            let oldest = others
                .filter(|(_, script)| full || script.map.is_some())
                .min_by_key(|(_, script)| script.used)
                .map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.scripts.remove(&oldest);
        }
        if self.spent.len() > SCRIPTS_MAX {
            self.spent.clear();
        }
    }
}

/// What stands behind the last `//# sourceMappingURL=` of a script on disk, if that is where the comment belongs: at the
/// end. `Ok(None)`: the file has none, or there is no such file.
///
/// # Errors
/// Those of reading it.
pub fn find_url(dir: &ProcessDir, script: &str) -> io::Result<Option<String>> {
    let Some(mut file) = dir.open_in_root(Path::new(script))? else { return Ok(None) };
    let size_bytes = file.metadata()?.len();
    let mut read_from = |begin: u64, limit: u64| -> io::Result<Vec<u8>> {
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let tail = read_from(size_bytes.saturating_sub(TAIL_BYTES), TAIL_BYTES)?;
    if let Some(found) = url::in_tail(&tail) {
        return Ok(Some(found));
    }
    // The end of a long `data:` URL: its begin is far away.
    if size_bytes <= TAIL_BYTES || size_bytes > MAP_MAX_BYTES || !url::is_base64(tail.trim_ascii_end()) {
        return Ok(None);
    }
    Ok(url::in_tail(&read_from(0, MAP_MAX_BYTES)?))
}

/// The map of a script, and the directory its sources are relative to. Adds what it takes to `spent`.
fn read(
    dir: &ProcessDir,
    script: &str,
    url: Option<&str>,
    spent: &mut u64,
) -> io::Result<Option<(Map, String)>> {
    // Code without a file (`node -e`, `vm`) may carry a `data:` URL all the same.
    let found = if url.is_none() && script.starts_with('/') { find_url(dir, script)? } else { None };
    let Some(url) = url.or(found.as_deref()) else { return Ok(None) };
    let mut afford = |bytes: u64| {
        *spent = spent.saturating_add(bytes);
        bytes <= MAP_MAX_BYTES && *spent <= PROCESS_MAX_BYTES
    };
    if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        if !afford(url.len() as u64) {
            return Ok(None);
        }
        return Ok(url::data(url)
            .and_then(|json| parse(&json[..]))
            .map(|map| (map, url::directory(script).to_owned())));
    }
    let Some(path) = url::map_path(script, url) else { return Ok(None) };
    let Some(file) = dir.open_in_root(Path::new(&path))? else { return Ok(None) };
    if !afford(file.metadata()?.len()) {
        return Ok(None);
    }
    Ok(parse(file.take(MAP_MAX_BYTES)).map(|map| (map, url::directory(&path).to_owned())))
}

/// `None`: no source map.
fn parse(json: impl Read) -> Option<Map> {
    let mut json = BufReader::with_capacity(64 << 10, json);
    // A first line that makes the file no JavaScript, against being included as a script.
    if json.fill_buf().ok()?.starts_with(b")]}") {
        json.skip_until(b'\n').ok()?;
    }
    Map::parse(json)
}

#[cfg(test)]
mod tests;
