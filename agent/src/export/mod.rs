//! What leaves the host.
//!
//! ```text
//! readings ─► Snapshot ─► totals (per process) ─► families (metrics of the catalogue) ─┬► otlp (pushed)
//!                                                                                      └► prometheus (scraped)
//! ```

pub(crate) mod attributes;
pub(crate) mod families;
pub mod heartbeat;
pub mod otlp;
pub mod prometheus;
pub mod readings;
mod totals;

#[cfg(test)]
extern crate self as nodeprobe;
#[cfg(test)]
#[path = "../../tests/otlp/snapshot.rs"]
mod fixture;
