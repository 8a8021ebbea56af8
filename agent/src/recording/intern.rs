//! Names that are constants of the program when they are observed, and come from a file when they are replayed.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::clean::{VALUE_MAX_CHARS, clean};

/// Reasons for loss, system calls and problems with stacks are a few hundred at most.
const MOST: usize = 1024;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// `text`, cleaned, for ever. Only [`MOST`] different ones are kept, so that a hostile file cannot fill the memory;
/// `None` for those beyond.
pub(super) fn intern(text: &str) -> Option<&'static str> {
    let text = clean(text.as_bytes(), VALUE_MAX_CHARS);
    // Nothing is left half done in here by a panic elsewhere.
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(text.as_str()) {
        return Some(known);
    }
    if names.len() == MOST {
        return None;
    }
    let name: &'static str = Box::leak(text.into_boxed_str());
    names.insert(name);
    Some(name)
}
