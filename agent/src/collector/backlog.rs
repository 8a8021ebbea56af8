//! Which of the sockets that have refused a write are still full, and who does not read them.

use std::collections::{HashMap, HashSet};

use nodeprobe_ebpf::SocketRecord;

use super::stream_queue;
use crate::{
    model::Backlog,
    procfs::{Procfs, TcpSocket, socket_inode},
};

/// Of one process, those that have been full for longest.
const BACKLOGS_MAX: usize = 16;

/// What is remembered of sockets that were full, by process and descriptor.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    known: HashMap<(u32, u32), Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// The same number may be another socket by now.
    inode: u64,
    /// The most that was seen to wait.
    most_bytes: u64,
}

/// What has become of the sockets of a process.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) full: Vec<Backlog>,
    /// Descriptors whose next refusal begins anew: they have drained, were closed, belonged to a former program, or are no TCP
    /// sockets, of which nobody tells how much waits.
    pub(super) drained: Vec<u32>,
}

impl Backlogs {
    /// Looks at the sockets of `pid` that have refused a write, given by descriptor. `begin_ns` is when the program began. All times
    /// are `CLOCK_MONOTONIC`.
    ///
    /// A socket that is written to always has something that is not acknowledged yet; it has drained when less than half of the
    /// most that was seen waits in it, and nothing in libuv.
    pub(super) fn look(
        &mut self,
        procfs: &Procfs,
        pid: u32,
        refused: &[(u32, SocketRecord)],
        begin_ns: u64,
        now_ns: u64,
    ) -> Sockets {
        let mut found = Sockets::default();
        let Ok(process) = procfs.process(pid) else { return found };
        let inode = |fd: u32| process.descriptor(fd).ok().and_then(|link| socket_inode(&link));
        let inodes: HashMap<u32, u64> =
            refused.iter().filter_map(|&(fd, _)| Some((fd, inode(fd)?))).collect();
        let mut sockets = HashMap::new();
        if !inodes.is_empty() {
            let wanted: HashSet<u64> = inodes.values().copied().collect();
            // That the table cannot be read says nothing of the sockets.
            let Ok(known) = process.tcp_sockets(|inode| wanted.contains(&inode)) else { return found };
            sockets.extend(known.into_iter().map(|socket| (socket.inode, socket)));
        }
        for &(fd, SocketRecord { since_ns, stream }) in refused {
            let is_of_this_program = since_ns >= begin_ns;
            let socket = inodes.get(&fd).and_then(|inode| sockets.get(inode)).filter(|_| is_of_this_program);
            let known = self.known.get(&(pid, fd)).copied();
            let libuv_queued_bytes = socket.and_then(|_| stream_queue::queued_bytes(pid, stream, fd));
            let Some(socket) = socket.filter(|socket| is_full(known, socket, libuv_queued_bytes)) else {
                self.known.remove(&(pid, fd));
                found.drained.push(fd);
                continue;
            };
            let most_bytes = known.map_or(0, |known| known.most_bytes).max(socket.queued_bytes);
            self.known.insert((pid, fd), Known { inode: socket.inode, most_bytes });
            found.full.push(Backlog {
                fd,
                peer: Some(socket.remote.to_string().into()),
                queued_bytes: Some(socket.queued_bytes),
                libuv_queued_bytes,
                age_ns: now_ns.saturating_sub(since_ns),
            });
        }
        found.full.sort_by_key(|backlog| std::cmp::Reverse(backlog.age_ns));
        found.full.truncate(BACKLOGS_MAX);
        found
    }

    /// Forgets processes that have ended.
    pub(super) fn retain(&mut self, lives: impl Fn(u32) -> bool) {
        self.known.retain(|(pid, _), _| lives(*pid));
    }
}

fn is_full(known: Option<Known>, socket: &TcpSocket, libuv_queued_bytes: Option<u64>) -> bool {
    let is_same = known.is_none_or(|known| known.inode == socket.inode);
    let is_as_full = known.is_none_or(|known| socket.queued_bytes >= known.most_bytes / 2);
    is_same && (libuv_queued_bytes.is_some_and(|bytes| bytes > 0) || is_as_full && socket.queued_bytes > 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
        time::{Duration, Instant},
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
        let mut backlogs = Backlogs::default();
        let record = SocketRecord { since_ns: 1000, stream: 0 };
        let mut look = |begin_ns| {
            backlogs.look(
                &Procfs::default(),
                std::process::id(),
                &[(fd, record), (9999, record)],
                begin_ns,
                3000,
            )
        };
        let found = look(0);
        assert_eq!(found.full.len(), 1);
        assert_eq!(found.full[0].peer.as_deref(), Some(&*listener.local_addr().unwrap().to_string()));
        assert_eq!(found.full[0].age_ns, 2000);
        assert_eq!(found.drained, [9999], "there is no such descriptor");
        assert_eq!(look(2000).drained, [fd, 9999], "the program began later");
        let mut read = vec![0; written];
        reader.read_exact(&mut read).unwrap();
        // The acknowledgement of the last bytes may take its 40 ms.
        let end = Instant::now() + Duration::from_secs(5);
        while look(0).drained.len() < 2 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(look(0).drained, [fd, 9999]);
    }

    #[test]
    fn what_is_merely_under_way_is_no_backlog() {
        let was_full = Some(Known { inode: 7, most_bytes: 1000 });
        let remote = "127.0.0.1:80".parse().unwrap();
        let socket = |inode, queued_bytes| TcpSocket { inode, remote, queued_bytes };
        assert!(is_full(None, &socket(7, 1000), None));
        assert!(is_full(was_full, &socket(7, 600), Some(0)));
        assert!(
            !is_full(was_full, &socket(7, 400), Some(0)),
            "it has drained, and bytes are under way again"
        );
        assert!(is_full(was_full, &socket(7, 400), Some(1)), "the rest is about to follow");
        assert!(!is_full(was_full, &socket(8, 1000), Some(1)), "another socket under the same number");
        assert!(!is_full(None, &socket(7, 0), None));
    }
}
