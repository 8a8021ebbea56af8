//! Sockets that have refused a write.

use crate::wire_record;

wire_record! {
    pub struct SocketKey {
        pub tgid: u32,
        pub fd: u32,
    }
}

wire_record! {
    pub struct SocketRecord {
        /// `CLOCK_MONOTONIC` of the first refusal since the socket was last seen drained.
        pub since_ns: u64,
        /// Where its `uv_stream_t` is in the memory of its process, 0 = not known.
        pub stream: u64,
    }
}
