//! nodeprobe: tells from outside, with eBPF and no change to the application, why a Node.js service is slow.
//! `ARCHITECTURE.md` follows one GC pause through these modules.

pub mod agent;
pub mod binary;
pub mod bpf;
pub mod cgroup;
pub mod clean;
pub mod cli;
pub mod collector;
pub mod command;
pub mod discovery;
pub mod export;
pub mod governor;
pub mod identity;
pub mod kernel;
pub mod kubernetes;
pub mod model;
pub mod plan;
pub mod procfs;
pub mod readout;
pub mod recording;
pub mod report;
pub mod sampling;
pub mod self_metrics;
pub mod stack;
pub mod stall;
pub mod syscalls;
pub mod target;
pub mod tui;
pub mod urgency;
pub mod v8;
pub mod verdict;
