//! Prints the time to parse an INVITE of about 800 bytes and to read five typed headers from it.
#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock")]

use bytes::Bytes;
use sip::limits::Limits;
use sip::message::parse_datagram;
use std::hint::black_box;
use std::time::Instant;

const INVITE: &[u8] = b"INVITE sip:bob@biloxi.example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP proxy.example.com:5060;branch=z9hG4bK2d4790.1\r\n\
    Via: SIP/2.0/UDP client.atlanta.example.com:5060;branch=z9hG4bK74bf9;received=192.0.2.101;rport=5060\r\n\
    Max-Forwards: 69\r\nRecord-Route: <sip:proxy.example.com;lr>\r\n\
    From: \"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
    To: Bob <sip:bob@biloxi.example.com>\r\nCall-ID: 3848276298220188511@atlanta.example.com\r\n\
    CSeq: 2 INVITE\r\nContact: <sip:alice@client.atlanta.example.com;transport=udp>\r\n\
    Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY\r\nSupported: replaces, timer, 100rel\r\n\
    User-Agent: Example/1.0\r\nContent-Type: application/sdp\r\nContent-Length: 154\r\n\r\n\
    v=0\r\no=alice 2890844526 2890844526 IN IP4 client.example.com\r\ns=-\r\nc=IN IP4 192.0.2.101\r\nt=0 0\r\n\
    m=audio 49172 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n";

fn main() {
    let rounds = 1_000_000u32;
    let cpu_before = cpu_ms();
    let start = Instant::now();
    for _ in 0..rounds {
        let message = parse_datagram(Bytes::copy_from_slice(black_box(INVITE)), &Limits::DEFAULT);
        let message = message.expect("the INVITE above is valid");
        let headers = message.headers();
        let typed = (
            headers.top_via(),
            headers.from(),
            headers.to(),
            headers.cseq(),
            headers.contact(),
        );
        black_box(&typed);
    }
    let wall_ns = start.elapsed().as_nanos() as f64 / f64::from(rounds);
    let cpu = match cpu_before.zip(cpu_ms()) {
        Some((before, after)) => format!("{:.0} ns CPU", (after - before) * 1e6 / f64::from(rounds)),
        None => "CPU time unknown".to_owned(),
    };
    println!(
        "{} bytes, five typed headers: {cpu}, {wall_ns:.0} ns wall ({rounds} rounds)",
        INVITE.len()
    );
}

/// CPU time of this process, which neighbours on the machine disturb less than wall time: utime and stime of
/// /proc/self/stat, in ticks of 10 ms.
fn cpu_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10.0)
}
