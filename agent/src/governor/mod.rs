//! Probes that are hit often: what they cost ([`cost`]), when they are in place ([`duty`]), and doing it, in one process
//! ([`windows`]) or on the whole host ([`host`]).

pub mod cost;
pub mod duty;
mod host;
pub mod windows;

pub use duty::Budget;
