//! What the phones' flags hold, read with a remedy for what is wrong.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use anyhow::Context as _;

/// Where servers listen unless they say otherwise (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;

/// Reads the address of a server, `IP` or `IP:PORT`; SIP's port is 5060.
///
/// # Errors
/// It is none.
pub fn server_address(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>();
    let without = || text.trim_matches(['[', ']']).parse::<IpAddr>();
    with_port
        .or_else(|_| without().map(|ip| SocketAddr::new(ip, SIP_PORT)))
        .map_err(|_| format!("'{text}' is no address; give IP or IP:PORT, such as 127.0.0.1:{SIP_PORT}"))
}

/// Reads the user part of an address: what stands before the `@`, alone.
///
/// # Errors
/// It is empty, or a whole address.
pub fn user_part(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("sips:").or_else(|| text.strip_prefix("sip:"));
    let bare = bare.unwrap_or(text);
    let (user, host) = bare.split_once('@').unwrap_or((bare, ""));
    if user.is_empty() {
        return Err("a name is wanted, such as support".to_owned());
    }
    if user == text {
        return Ok(text.to_owned());
    }
    let host = if host.is_empty() { "HOST" } else { host };
    Err(format!(
        "'{text}' is a whole address; give the name alone, {user}, and what follows the @ with --domain {host}"
    ))
}

/// Reads `FIRST-LAST`.
///
/// # Errors
/// It is something else.
pub fn port_range(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let ends = text.split_once('-').and_then(|(first, last)| {
        let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
        (range.start() < range.end()).then_some(range)
    });
    ends.with_context(|| format!("--media-ports {text}: must be FIRST-LAST, such as 6071-6171"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_or_without_a_port() {
        for (text, read) in [
            ("127.0.0.1", "127.0.0.1:5060"),
            ("192.0.2.1:5080", "192.0.2.1:5080"),
            ("::1", "[::1]:5060"),
            ("[::1]", "[::1]:5060"),
            ("[::1]:5080", "[::1]:5080"),
        ] {
            assert_eq!(server_address(text), Ok(read.parse().unwrap()), "{text}");
        }
        let error = server_address("server").unwrap_err();
        assert!(
            error.contains("'server' is no address; give IP or IP:PORT"),
            "{error}"
        );
    }

    #[test]
    fn a_user_is_named_without_its_host() {
        assert_eq!(user_part("room-1"), Ok("room-1".to_owned()));
        for text in ["sip:room-1@192.0.2.1", "room-1@192.0.2.1"] {
            let error = user_part(text).unwrap_err();
            assert!(
                error.contains("give the name alone, room-1") && error.contains("--domain 192.0.2.1"),
                "{error}"
            );
        }
        assert!(user_part("sip:room-1").unwrap_err().contains("--domain HOST"));
        assert!(user_part("").unwrap_err().contains("a name is wanted"));
    }
}
