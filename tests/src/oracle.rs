//! What a workload has written down: JSON lines in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::wait::eventually;

/// The file of the notes of one workload.
pub struct Oracle(PathBuf);

impl Oracle {
    /// Makes an empty one.
    pub fn at(path: PathBuf) -> Self {
        fs::write(&path, "").expect("the oracle's file can be made");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What is there so far: complete lines only.
    pub fn all(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.0).expect("the oracle's file exists");
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line| serde_json::from_str(line).expect("the workload writes JSON");
        complete.lines().filter(|line| !line.is_empty()).map(parse).collect()
    }

    /// All notes of a type so far.
    pub fn notes(&self, kind: &str) -> Vec<Value> {
        self.all().into_iter().filter(|note| note["type"] == kind).collect()
    }

    /// Waits until there are `count` notes of a type.
    #[track_caller]
    pub fn wait_for_nth(&self, kind: &str, count: usize, limit: Duration) -> Vec<Value> {
        eventually(&format!("note {count} of type {kind} from Node"), limit, || {
            let notes = self.notes(kind);
            (notes.len() >= count).then_some(notes)
        })
    }
}
