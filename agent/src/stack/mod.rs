//! From the frames of a stack to what a user can act on: names of native code, original lines of compiled sources,
//! the package and the category of a frame, the culprit of many stacks.
//!
//! `package`, `category`, `demangle`, `collapse`, `logging` and `allocations` are functions of their arguments. `native` and `source_map` read
//! files of the observed process, bounded and taken for hostile, and remember what they read.

pub mod allocations;
pub mod callback;
pub mod category;
pub mod collapse;
pub mod culprit;
mod demangle;
pub mod logging;
pub mod native;
pub mod package;
pub mod source_map;

pub use category::{Situation, cause, classify, culprit_frame};
pub use native::Symbolizer;
pub use package::package_of;
pub use source_map::SourceMaps;
