//! The way into the kernel: loading the programs and attaching them. With `readout` the only user of `aya`.

pub mod attach;
pub mod load;

pub use attach::{Attached, HookTarget};
pub use load::{Kernel, LoadError, Settings};
