//! The contract between the programs in the kernel and the agent: records, map keys, bucket bounds, reasons
//! for loss. Built twice, for the BPF target and for the host; unit-tested on the host.
//!
//! Architecture invariant: `no_std`, no dependency, no pointer and no `bool` or Rust enum on the wire, because
//! an invalid bit pattern would be undefined behaviour in the reader.
#![no_std]

pub mod context_record;
pub mod drop_reason;
pub mod duty_record;
pub mod event;
pub mod gc_stop;
pub mod histogram;
pub mod part;
pub mod pool_work;
pub mod rejection_record;
pub mod sample;
pub mod socket_record;
pub mod stdio_record;
pub mod switch;
pub mod thread;
pub mod tick;
pub mod walk;

pub use context_record::{ContextRecord, ContextRequest};
pub use drop_reason::DropReason;
pub use duty_record::DutyRecord;
pub use event::{Event, EventKind};
pub use histogram::Histogram;
pub use pool_work::{PoolThread, PoolWork, PoolWorkKey};
pub use rejection_record::RejectionRecord;
pub use sample::SampleHeader;
pub use socket_record::{SocketKey, SocketRecord};
pub use stdio_record::{StdioKey, StdioRecord};
pub use thread::ThreadRecord;
pub use walk::RawFrame;

/// Declares a `repr(C)` record that crosses the kernel boundary and asserts at compile time that it has no
/// implicit padding: padding would leak kernel stack bytes and make the verifier refuse the program.
#[macro_export]
macro_rules! wire_record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
        const _: () = assert!(
            size_of::<$name>() == 0 $(+ size_of::<$ty>())*,
            concat!("implicit padding in ", stringify!($name))
        );
    };
}
