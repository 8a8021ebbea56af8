//! nodeprobe: tells from outside, with eBPF and no change to the application, why a Node.js service is slow.

pub mod model;
