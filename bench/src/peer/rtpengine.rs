//! Debian's rtpengine in userspace, driven over ng.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;

use super::bencode::Value;
use super::ng::{Dialogue, NgClient};
use super::process::ServerProcess;
use super::{Churn, IN_FLIGHT, Media, Server};
use crate::load::{Call, Sides, SrtpKeys};
use crate::machine::Observed;

/// Where and how rtpengine is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub program: PathBuf,
    /// Control port (ng, UDP).
    pub ng_port: u16,
    /// First and last media port.
    pub media_ports: (u16, u16),
    /// Directory of its log.
    pub dir: PathBuf,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            program: "rtpengine".into(),
            ng_port: 22_230,
            media_ports: (30_000, 64_998),
            dir: std::env::temp_dir(),
        }
    }
}

/// A running rtpengine.
#[derive(Debug)]
pub struct Rtpengine {
    process: ServerProcess,
    observed: Observed,
    ng: NgClient,
}

impl Rtpengine {
    /// Starts it with one worker thread, without its kernel module, and waits for its `pong`.
    ///
    /// # Errors
    /// It is not installed or does not come up.
    pub fn start(options: &Options) -> anyhow::Result<Rtpengine> {
        let args = [
            "--config-file=none".to_owned(),
            "--table=-1".into(),
            "--interface=127.0.0.1".into(),
            format!("--listen-ng=127.0.0.1:{}", options.ng_port),
            format!("--port-min={}", options.media_ports.0),
            format!("--port-max={}", options.media_ports.1),
            "--num-threads=1".into(),
            "--log-level=3".into(),
            "--log-stderr".into(),
            "--foreground".into(),
            "--delete-delay=0".into(),
            "--timeout=60".into(),
        ];
        let mut process = ServerProcess::start(&options.program, &args, &options.dir)
            .context("rtpengine: install the Debian package rtpengine-daemon")?;
        let mut ng = NgClient::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, options.ng_port))?;
        process
            .wait_until(Duration::from_secs(10), || ng.ping())
            .context("rtpengine")?;
        let observed = process.observe()?;
        Ok(Rtpengine {
            process,
            observed,
            ng,
        })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Server for Rtpengine {
    fn name(&self) -> &'static str {
        "rtpengine"
    }

    fn process(&self) -> Observed {
        self.observed
    }

    fn create(&mut self, ids: Range<u32>, media: Media, sides: &Sides) -> anyhow::Result<Vec<Call>> {
        let setups = ids.map(|id| CallDialogue::new(id, media, sides, false));
        let mut done = self.ng.converse(setups, IN_FLIGHT)?;
        done.sort_unstable_by_key(|call| call.id);
        done.iter()
            .map(|call| {
                Ok(Call {
                    a: call.a.context("no address for leg A")?,
                    b: call.b.context("no address for leg B")?,
                    srtp: match media.key(call.id) {
                        None => None,
                        Some(to_server) => Some(SrtpKeys {
                            to_server,
                            from_server: call.crypto.as_ref().context("no SRTP key for leg B")?.key,
                        }),
                    },
                })
            })
            .collect()
    }

    fn delete(&mut self, ids: Range<u32>) -> anyhow::Result<()> {
        self.ng.converse(ids.map(Deletion), IN_FLIGHT).map(drop)
    }

    fn churn(&mut self, count: u32, sides: &Sides) -> anyhow::Result<Churn> {
        let calls = (0..count).map(|id| CallDialogue::new(id, Media::Relay, sides, true));
        let (started, cpu) = (Instant::now(), self.observed.cpu_ns()?);
        let done = self.ng.converse(calls, IN_FLIGHT)?;
        Ok(Churn {
            calls: done.len() as u32,
            seconds: started.elapsed().as_secs_f64(),
            server_cpu_seconds: (self.observed.cpu_ns()? - cpu) as f64 * 1e-9,
        })
    }
}

/// Offer and answer of one call, and its deletion if wanted.
struct CallDialogue {
    id: u32,
    media: Media,
    addresses: [SocketAddrV4; 2],
    and_delete: bool,
    step: Step,
    a: Option<SocketAddrV4>,
    b: Option<SocketAddrV4>,
    /// The key it sends to leg B with.
    crypto: Option<Crypto>,
}

/// A crypto attribute (RFC 4568 §9.1).
struct Crypto {
    tag: u32,
    key: [u8; 30],
}

enum Step {
    Start,
    Offered,
    Answered,
    Deleted,
}

impl CallDialogue {
    fn new(id: u32, media: Media, sides: &Sides, and_delete: bool) -> CallDialogue {
        let addresses = [sides.address(id as usize, 0), sides.address(id as usize, 1)];
        CallDialogue {
            id,
            media,
            addresses,
            and_delete,
            step: Step::Start,
            a: None,
            b: None,
            crypto: None,
        }
    }

    fn offer(&self) -> Value {
        let mut pairs = vec![
            ("command", Value::text("offer")),
            ("call-id", Value::text(call_id(self.id))),
            ("from-tag", Value::text("a")),
            ("received-from", Value::texts(&["IP4", "127.0.0.1"])),
            ("sdp", Value::text(sdp(self.addresses[0], PCMU, self.media, None))),
        ];
        let convert = |to: &str| {
            Value::dictionary([
                ("mask", Value::texts(&["PCMU"])),
                ("transcode", Value::texts(&[to])),
            ])
        };
        match self.media {
            Media::Relay | Media::RelayEvents => {}
            Media::PcmuPcma => pairs.push(("codec", convert("PCMA"))),
            Media::PcmuOpus => pairs.push(("codec", convert(OPUS_CODER))),
            Media::RelaySrtp => pairs.extend([
                ("transport-protocol", Value::text("RTP/SAVP")),
                ("DTLS", Value::text("off")),
                ("ICE", Value::text("remove")),
            ]),
        }
        Value::dictionary(pairs)
    }

    fn answer(&self) -> Value {
        let format = match self.media {
            Media::Relay | Media::RelayEvents | Media::RelaySrtp => PCMU,
            Media::PcmuPcma => PCMA,
            Media::PcmuOpus => OPUS,
        };
        Value::dictionary([
            ("command", Value::text("answer")),
            ("call-id", Value::text(call_id(self.id))),
            ("from-tag", Value::text("a")),
            ("to-tag", Value::text("b")),
            ("received-from", Value::texts(&["IP4", "127.0.0.1"])),
            (
                "sdp",
                Value::text(sdp(
                    self.addresses[1],
                    format,
                    self.media,
                    self.accepted().as_deref(),
                )),
            ),
        ])
    }
}

impl CallDialogue {
    /// The crypto attribute that answers the one offered.
    fn accepted(&self) -> Option<String> {
        let (crypto, key) = (self.crypto.as_ref()?, self.media.key(self.id)?);
        Some(format!(
            "a=crypto:{} {CM_80} inline:{}\r\n",
            crypto.tag,
            BASE64.encode(key)
        ))
    }
}

/// The suite that is measured.
const CM_80: &str = "AES_CM_128_HMAC_SHA1_80";

/// The attribute that offers it.
fn offered_crypto(sdp: &[u8]) -> Option<Crypto> {
    let text = std::str::from_utf8(sdp).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.strip_prefix("a=crypto:")?.split_whitespace();
        let tag = words.next()?.parse().ok()?;
        words.next().filter(|suite| *suite == CM_80)?;
        let inline = words.next()?.strip_prefix("inline:")?.split('|').next()?;
        let key = BASE64.decode(inline).ok()?.try_into().ok()?;
        Some(Crypto { tag, key })
    })
}

impl Dialogue for CallDialogue {
    fn next(&mut self, reply: Option<&Value>) -> anyhow::Result<Option<Value>> {
        if let Some(reply) = reply {
            expect_ok(reply, self.id)?;
        }
        let address = || {
            reply
                .and_then(|reply| media_address(reply.bytes_at("sdp")?))
                .context("an SDP without address")
        };
        match self.step {
            Step::Start => {
                self.step = Step::Offered;
                Ok(Some(self.offer()))
            }
            Step::Offered => {
                // The SDP towards B carries the address B sends to.
                self.b = Some(address()?);
                self.crypto = reply.and_then(|reply| offered_crypto(reply.bytes_at("sdp")?));
                self.step = Step::Answered;
                Ok(Some(self.answer()))
            }
            Step::Answered => {
                self.a = Some(address()?);
                self.step = Step::Deleted;
                Ok(self.and_delete.then(|| deletion(self.id)))
            }
            Step::Deleted => Ok(None),
        }
    }
}

struct Deletion(u32);

impl Dialogue for Deletion {
    fn next(&mut self, reply: Option<&Value>) -> anyhow::Result<Option<Value>> {
        match reply {
            None => Ok(Some(deletion(self.0))),
            Some(reply) => expect_ok(reply, self.0).map(|()| None),
        }
    }
}

fn deletion(id: u32) -> Value {
    Value::dictionary([
        ("command", Value::text("delete")),
        ("call-id", Value::text(call_id(id))),
        ("from-tag", Value::text("a")),
    ])
}

fn call_id(id: u32) -> String {
    format!("bench-{id}")
}

fn expect_ok(reply: &Value, id: u32) -> anyhow::Result<()> {
    if reply.bytes_at("result") == Some(b"ok") {
        return Ok(());
    }
    let reason = reply.bytes_at("error-reason").unwrap_or(b"no reason given");
    anyhow::bail!("rtpengine refuses call {id}: {}", String::from_utf8_lossy(reason))
}

/// Payload type and rtpmap value.
type Format = (&'static str, &'static str);
const PCMU: Format = ("0", "PCMU/8000");
const PCMA: Format = ("8", "PCMA/8000");
const OPUS: Format = ("96", "opus/48000/2");
/// The coder asked for: mono at 24 kbit/s, as ours.
const OPUS_CODER: &str = "opus/48000/1/24000";

fn sdp(address: SocketAddrV4, (payload_type, rtpmap): Format, media: Media, crypto: Option<&str>) -> String {
    let (more, events) = match media {
        Media::RelayEvents => (" 101", "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"),
        Media::Relay | Media::PcmuPcma | Media::PcmuOpus | Media::RelaySrtp => ("", ""),
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} {profile} {payload_type}{more}\r\n\
         a=rtpmap:{payload_type} {rtpmap}\r\n{events}{crypto}a=ptime:20\r\na=sendrecv\r\n",
        ip = address.ip(),
        port = address.port(),
        profile = if crypto.is_some() { "RTP/SAVP" } else { "RTP/AVP" },
        crypto = crypto.unwrap_or_default(),
    )
}

/// Connection address and port of the first audio line.
fn media_address(sdp: &[u8]) -> Option<SocketAddrV4> {
    let text = std::str::from_utf8(sdp).ok()?;
    let ip = text
        .lines()
        .find_map(|line| line.strip_prefix("c=IN IP4 "))?
        .trim()
        .parse()
        .ok()?;
    let port = text
        .lines()
        .find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next())?
        .parse()
        .ok()?;
    Some(SocketAddrV4::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_address_is_found_or_the_sdp_refused() {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4000);
        assert_eq!(
            media_address(sdp(address, PCMU, Media::Relay, None).as_bytes()),
            Some(address)
        );
        assert_eq!(media_address(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"), None);
        assert_eq!(
            media_address(b"c=IN IP4 127.0.0.1\r\nm=audio 99999 RTP/AVP 0\r\n"),
            None
        );
        assert_eq!(media_address(&[0xff, 0xfe]), None);
    }
}
