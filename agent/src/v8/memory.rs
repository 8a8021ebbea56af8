//! Reading the memory of another process, bounded and without stopping it: what is read may change between two reads, so
//! whoever uses it checks that it is consistent in itself.

/// Pieces in one [`Request`] array that one system call takes.
const PIECES_MAX: usize = 64;

/// Memory of an observed process, or a recorded image of one.
pub(super) trait Memory {
    /// Fills `buffer` from `address`; `false` when not all of it can be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Fills all pieces that can be read. Fewer system calls than one each where the memory is that of a process.
    fn read_pieces(&self, pieces: &mut [Piece]) {
        for piece in pieces {
            piece.read = words_into(self, piece.address, &mut piece.words);
        }
    }

    /// `N` consecutive words of 64 bits.
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]>
    where
        Self: Sized,
    {
        let mut words = [0; N];
        words_into(self, address, &mut words).then_some(words)
    }

    /// As [`Self::words`], for the begin of an object that may be shorter: where memory ends with its page, the words behind
    /// are 0. `None`: not even the first one can be read.
    fn object_words<const N: usize>(&self, address: u64) -> Option<[u64; N]>
    where
        Self: Sized,
    {
        let mut words = [0; N];
        if words_into(self, address, &mut words) {
            return Some(words);
        }
        let within = usize::try_from((PAGE_BYTES - address % PAGE_BYTES) / 8).ok()?;
        words.fill(0);
        let readable = words.get_mut(..within.min(N))?;
        (!readable.is_empty() && words_into(self, address, readable)).then_some(words)
    }
}

/// What the kernel maps memory by, at least.
const PAGE_BYTES: u64 = 4096;

fn words_into<M: Memory + ?Sized>(memory: &M, address: u64, words: &mut [u64]) -> bool {
    // The largest object that is read whole has ten words.
    const MAX_BYTES: usize = 128;
    let mut bytes = [0; MAX_BYTES];
    let Some(bytes) = bytes.get_mut(..words.len() * 8) else { return false };
    if !memory.read(address, bytes) {
        return false;
    }
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    true
}

/// Words of a [`Piece`]: enough for the begin of every object that is checked again and again.
pub(super) const PIECE_WORDS: usize = 8;

/// A few words to read together with others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    pub(super) address: u64,
    pub(super) words: [u64; PIECE_WORDS],
    pub(super) read: bool,
}

/// Words of a recorded image, by their addresses.
#[cfg(test)]
pub(super) struct Words(pub(super) std::collections::BTreeMap<u64, u64>);

#[cfg(test)]
impl Memory for Words {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        (address..).zip(buffer).all(|(at, place)| {
            let word = self.0.get(&(at & !7));
            word.map(|word| *place = word.to_le_bytes()[(at & 7) as usize]).is_some()
        })
    }
}

/// A living process, read by `process_vm_readv(2)`: it takes `CAP_SYS_PTRACE`, stops nothing and leaves no trace.
///
/// After the end of the process every read fails; the caller holds the process's directory open to know that the number
/// is not another's by now.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessMemory {
    pid: libc::pid_t,
}

impl ProcessMemory {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid: pid.cast_signed() }
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        if buffer.is_empty() {
            return true;
        }
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
        // SAFETY: `local` is the caller's buffer, exclusively borrowed; `remote` is only read, in another address space.
        let count = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        usize::try_from(count) == Ok(buffer.len())
    }

    fn read_pieces(&self, pieces: &mut [Piece]) {
        for chunk in pieces.chunks_mut(PIECES_MAX) {
            self.read_chunk(chunk);
        }
    }
}

/// Fills `buffer` from `address` in the memory of `pid`; `false` when not all of it can be read. See [`ProcessMemory`].
pub fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> bool {
    ProcessMemory::new(pid).read(address, buffer)
}

impl ProcessMemory {
    /// The kernel stops at the first piece that cannot be read: it is passed over, the rest is tried again.
    fn read_chunk(&self, mut pieces: &mut [Piece]) {
        const BYTES: usize = PIECE_WORDS * 8;
        while !pieces.is_empty() {
            let mut local = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES_MAX];
            let mut remote = local;
            for ((piece, local), remote) in pieces.iter_mut().zip(&mut local).zip(&mut remote) {
                *local = libc::iovec { iov_base: piece.words.as_mut_ptr().cast(), iov_len: BYTES };
                *remote = libc::iovec { iov_base: piece.address as *mut libc::c_void, iov_len: BYTES };
            }
            let count = pieces.len().min(PIECES_MAX);
            // SAFETY: each of the `count` local vectors is the word array of a piece, all exclusively borrowed and
            // distinct; any bit pattern is a valid `u64`. `remote` is only read, in another address space.
            let bytes = unsafe {
                libc::process_vm_readv(
                    self.pid,
                    local.as_ptr(),
                    count as u64,
                    remote.as_ptr(),
                    count as u64,
                    0,
                )
            };
            let whole = usize::try_from(bytes).unwrap_or(0) / BYTES;
            for piece in &mut pieces[..whole.min(count)] {
                piece.read = true;
            }
            if whole >= count {
                return;
            }
            pieces[whole].read = false;
            pieces = &mut pieces[whole + 1..];
        }
    }
}
