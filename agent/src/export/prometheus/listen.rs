//! Where the page listens. The page tells what runs on a host and asks nobody who he is, so nothing listens to
//! the network unless told to in so many words.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Of OpenTelemetry's exporters for Prometheus.
pub const DEFAULT_PORT: u16 = 9464;

const EXPECTED: &str = "write an address and a port, for example 127.0.0.1:9464 (9464 alone is the same; \
                        0.0.0.0:9464 or [::]:9464 listens on all addresses)";

/// `127.0.0.1:9464`, `[::1]:9464`, `localhost:9464`; `:9464` and `9464` are loopback, and an address without a port
/// has the default one.
///
/// # Errors
/// A sentence that says what to write. Names other than `localhost` are refused: what they resolve to is not in the
/// hands of who writes them.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(host) = host(text) {
        return Ok(SocketAddr::new(host, DEFAULT_PORT));
    }
    let (name, port) = text.rsplit_once(':').unwrap_or(("", text));
    let host = if name.is_empty() { Some(LOOPBACK) } else { host(name) };
    let address = host.zip(port.parse().ok()).map(|(host, port)| SocketAddr::new(host, port));
    address.ok_or_else(|| EXPECTED.to_owned())
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address, in brackets or not, or `localhost`.
pub(crate) fn host(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(LOOPBACK);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        parse(text).ok().map(|address| address.to_string())
    }

    #[test]
    fn without_a_host_it_is_loopback() {
        for text in ["9464", ":9464", "127.0.0.1:9464", "localhost:9464", "localhost", "127.0.0.1", " 9464 "]
        {
            assert_eq!(shown(text).as_deref(), Some("127.0.0.1:9464"), "{text}");
        }
        assert_eq!(shown("[::1]:9").as_deref(), Some("[::1]:9"));
        assert_eq!(shown("::1").as_deref(), Some("[::1]:9464"));
        assert_eq!(shown("[::1]").as_deref(), Some("[::1]:9464"));
    }

    #[test]
    fn all_addresses_only_when_they_are_named() {
        assert_eq!(shown("0.0.0.0:9464").as_deref(), Some("0.0.0.0:9464"));
        assert_eq!(shown("[::]:9464").as_deref(), Some("[::]:9464"));
        // Resolvers take 0 for 0.0.0.0.
        for text in
            ["*:9464", "0:9464", "", ":", "example.org:9464", "127.0.0.1:", "127.0.0.1:99999", "::x", "-1"]
        {
            let error = parse(text).expect_err(text);
            assert!(error.contains("127.0.0.1:9464"), "{error}");
        }
    }
}
