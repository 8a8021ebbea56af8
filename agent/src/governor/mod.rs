//! Probes that are hit often: what they cost ([`cost`]), when they are in place ([`duty`]), and doing it ([`windows`]).

pub mod cost;
pub mod duty;
pub mod windows;

pub use duty::Budget;
