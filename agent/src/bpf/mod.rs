//! The way into the kernel: loading the programs and attaching them. With `readout` the only user of `aya`
//! and of what it is made of.

pub mod attach;
mod clock;
pub mod detach;
pub mod load;
mod multi;
mod sched;

pub use attach::{Attached, HookTarget};
pub use load::{Handles, Kernel, LoadError, Settings};
