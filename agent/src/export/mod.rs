//! What leaves the host.

pub mod otlp;
