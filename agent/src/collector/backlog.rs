//! Which of the sockets that have refused a write are still full, and who does not read them.

use std::collections::HashMap;

use crate::{
    model::Backlog,
    procfs::{Procfs, socket_inode},
};

/// Of one process, those that have been full for longest.
const BACKLOGS_MAX: usize = 16;

/// What has become of the sockets of a process.
pub(super) struct Sockets {
    pub(super) full: Vec<Backlog>,
    /// Descriptors that have drained, were closed, or are no TCP sockets: of those nobody tells how much waits.
    pub(super) drained: Vec<u32>,
}

/// Looks at the sockets of `pid` that have refused a write since the given moment, `CLOCK_MONOTONIC`.
pub(super) fn look(procfs: &Procfs, pid: u32, refused: &[(u32, u64)], now_ns: u64) -> Sockets {
    let mut found = Sockets { full: Vec::new(), drained: Vec::new() };
    let Ok(process) = procfs.process(pid) else { return found };
    let inode = |fd: u32| process.descriptor(fd).ok().and_then(|link| socket_inode(&link));
    let inodes: HashMap<u64, (u32, u64)> =
        refused.iter().filter_map(|&(fd, since_ns)| Some((inode(fd)?, (fd, since_ns)))).collect();
    let mut sockets = HashMap::new();
    if !inodes.is_empty()
        && let Ok(known) = process.tcp_sockets(|inode| inodes.contains_key(&inode))
    {
        sockets.extend(known.into_iter().map(|socket| (inodes[&socket.inode].0, socket)));
    }
    for &(fd, since_ns) in refused {
        match sockets.get(&fd) {
            Some(socket) if socket.queued_bytes > 0 => found.full.push(Backlog {
                fd,
                peer: Some(socket.remote.to_string().into()),
                queued_bytes: Some(socket.queued_bytes),
                age_ns: now_ns.saturating_sub(since_ns),
            }),
            _ => found.drained.push(fd),
        }
    }
    found.full.sort_by_key(|backlog| std::cmp::Reverse(backlog.age_ns));
    found.full.truncate(BACKLOGS_MAX);
    found
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    #[test]
    fn a_socket_is_full_until_its_peer_has_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(bytes) = writer.write(&vec![0; 65536]) {
            written += bytes;
        }
        let fd = writer.as_raw_fd().unsigned_abs();
        let look = || look(&Procfs::default(), std::process::id(), &[(fd, 1000), (9999, 1000)], 3000);
        let found = look();
        assert_eq!(found.full.len(), 1);
        assert_eq!(found.full[0].peer.as_deref(), Some(&*listener.local_addr().unwrap().to_string()));
        assert_eq!(found.full[0].age_ns, 2000);
        assert_eq!(found.drained, [9999], "there is no such descriptor");
        let mut read = vec![0; written];
        reader.read_exact(&mut read).unwrap();
        // The acknowledgement of the last bytes may take its 40 ms.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while look().drained.len() < 2 && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(look().drained, [fd, 9999]);
    }
}
