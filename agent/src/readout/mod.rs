//! The way out of the kernel: events one by one from the ring buffer, counters once per interval from the maps.

pub mod maps;
pub mod ring;

pub use maps::Maps;
pub use ring::Ring;
