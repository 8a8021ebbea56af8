//! What leaves the host.
//!
//! ```text
//! Snapshot ─► totals (per process) ─► families (metrics of the catalogue) ─► otlp
//! ```

pub(crate) mod attributes;
pub(crate) mod families;
pub mod otlp;
mod totals;

#[cfg(test)]
extern crate self as nodeprobe;
#[cfg(test)]
#[path = "../../tests/otlp/snapshot.rs"]
mod fixture;
