use std::io;

use thiserror::Error;

use super::VirtualAddress;

/// Why a file could not be analysed. The caller knows the path and adds it.
#[derive(Debug, Error)]
pub enum BinaryError {
    #[error("not an ELF file")]
    NotElf,
    #[error("not a regular file")]
    NotARegularFile,
    #[error("ELF file {what}; nodeprobe knows 64-bit x86-64 and aarch64")]
    Unsupported { what: String },
    #[error("{what} would take {size} bytes, more than the {limit} that nodeprobe reads")]
    TooLarge { what: &'static str, size: u64, limit: u64 },
    #[error("the file ends before the end of {what}")]
    Truncated { what: &'static str },
    #[error("{what} contradicts the rest of the file")]
    Malformed { what: &'static str },
    #[error("address {:#x} is not in an executable segment", address.0)]
    NotExecutable { address: VirtualAddress },
    #[error("cannot decode the unwind table")]
    Unwind { source: gimli::Error },
    #[error("cannot read {what}")]
    Read { what: &'static str, source: io::Error },
}
