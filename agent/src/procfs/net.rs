//! TCP sockets, see `proc_pid_net(5)`.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Error, Link, ProcessDir};

/// 100,000 sockets have 15 MB. What lies behind is not found.
const TABLE_MAX_BYTES: u64 = 16 << 20;

/// One TCP socket in the network namespace of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    pub inode: u64,
    pub remote: SocketAddr,
    /// Written by the process and not yet acknowledged by the other end.
    pub queued_bytes: u64,
}

/// The inode of what a descriptor leads to, if that is a socket.
pub fn socket_inode(link: &Link) -> Option<u64> {
    link.path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

impl ProcessDir {
    /// TCP sockets in the network namespace of the process whose inode is `wanted`, each once: where connections come and go while
    /// the table is read, the kernel may tell one of them twice.
    ///
    /// # Errors
    /// [`Error::Gone`], [`Error::Denied`].
    pub fn tcp_sockets(&self, wanted: impl Fn(u64) -> bool) -> Result<Vec<TcpSocket>, Error> {
        let mut found: Vec<TcpSocket> = Vec::new();
        for table in ["net/tcp", "net/tcp6"] {
            match self.read_at(table, "net/tcp", TABLE_MAX_BYTES) {
                Ok(text) => found.extend(
                    text.split(|byte| *byte == b'\n').filter_map(parse).filter(|socket| wanted(socket.inode)),
                ),
                // Without IPv6 there is no such table.
                Err(Error::Gone) if table == "net/tcp6" => {}
                Err(error) => return Err(error),
            }
        }
        let mut seen = HashSet::new();
        found.retain(|socket| seen.insert(socket.inode));
        Ok(found)
    }
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ..`; `None` for the heading.
fn parse(line: &[u8]) -> Option<TcpSocket> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let remote = fields.nth(2)?;
    let queues = fields.nth(1)?;
    let inode = fields.nth(4)?;
    let (address, port) = remote.split_once(':')?;
    Some(TcpSocket {
        inode: inode.parse().ok()?,
        remote: match address.len() {
            8 => (Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes()), number(port)?).into(),
            32 => (ipv6(address)?, number(port)?).into(),
            _ => return None,
        },
        queued_bytes: u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?,
    })
}

fn number(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 16).ok()
}

/// Four words, each in the byte order of the machine. An IPv4 address in it is shown as one.
fn ipv6(text: &str) -> Option<std::net::IpAddr> {
    let mut bytes = [0; 16];
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        let digits = text.get(index * 8..index * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    Some(Ipv6Addr::from(bytes).to_canonical())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;
    use crate::procfs::Procfs;

    /// A socket of this very process whose reader does not read.
    #[test]
    fn a_full_socket_is_found_with_its_peer_and_its_queue() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let peer = listener.local_addr().unwrap();
            let mut writer = TcpStream::connect(peer).unwrap();
            let _reader = listener.accept().unwrap();
            writer.set_nonblocking(true).unwrap();
            while writer.write(&vec![0; 65536]).is_ok() {}
            let process = Procfs::default().process(std::process::id()).unwrap();
            let link = process.descriptor(writer.as_raw_fd().unsigned_abs()).unwrap();
            let inode = socket_inode(&link).unwrap();
            let sockets = process.tcp_sockets(|other| other == inode).unwrap();
            assert_eq!(sockets.len(), 1, "{address}");
            assert_eq!(sockets[0].remote, peer);
            assert!(sockets[0].queued_bytes > 65536, "{sockets:?}");
        }
    }

    #[test]
    fn what_is_no_socket_is_nothing() {
        for line in [
            "",
            "  sl  local_address rem_address   st tx_queue rx_queue",
            "0: 0100007F:1F90 zz:1 01 0:0 0 0 0 0 7",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        let line = "   1: 0100007F:A5CE 0100007F:1F90 01 0027D2C0:00000000 01:00000014 00000000  1000        0 123456 2";
        let socket = parse(line.as_bytes()).unwrap();
        assert_eq!((socket.inode, socket.queued_bytes), (123_456, 0x27_d2c0));
        assert_eq!(socket.remote, "127.0.0.1:8080".parse().unwrap());
    }
}
