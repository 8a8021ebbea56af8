//! The way out of the kernel: events one by one from the ring buffer, counters once per interval from the maps.

pub mod duty;
pub mod maps;
pub mod questions;
pub mod queues;
pub mod ring;
pub mod sample;
pub mod stack_pointers;

pub use maps::Maps;
pub use ring::{Record, Ring};
pub use sample::RawSample;
