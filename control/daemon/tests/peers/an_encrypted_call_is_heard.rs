//! A caller with SRTP, its keys in its description and its audio encrypted by an implementation that is not ours, calls
//! Bob, whose phone knows none of it: each hears the other's tone and nothing else.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::Ordering,
    time::Duration,
};

use sdp::{Crypto, CryptoSuite, Description, Media};

use crate::{
    cipher::{Cipher, SUITES, key_bytes},
    program::{free_ports, wait_for},
    sipp::{Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

/// A caller of few words.
struct Caller {
    socket: UdpSocket,
    to: SocketAddr,
    call_id: String,
    answer: String,
}

impl Caller {
    fn new(site: &Site, call_id: &str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self {
            socket,
            to: site.udp,
            call_id: call_id.to_owned(),
            answer: String::new(),
        }
    }

    fn send(&self, method: &str, cseq: u32, to_tag: &str, body: &str) {
        let local = self.socket.local_addr().unwrap();
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let text = format!(
            "{method} sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-{method}-{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:customer@{local}>;tag=c\r\nTo: <sip:bob@127.0.0.1>{to_tag}\r\n\
             Call-ID: {}\r\nCSeq: {cseq} {}\r\nContact: <sip:customer@{local}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.call_id,
            method,
            body.len(),
        );
        self.socket.send_to(text.as_bytes(), self.to).unwrap();
    }

    /// The final answer to its INVITE with this description.
    fn invite(&mut self, body: &str) -> String {
        self.send("INVITE", 1, "", body);
        let answer = wait_for("a final answer", || {
            let mut buffer = [0; 4_096];
            let (len, _) = self.socket.recv_from(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            (text.contains("CSeq: 1 INVITE") && !text.starts_with("SIP/2.0 1")).then_some(text)
        });
        self.answer.clone_from(&answer);
        self.send("ACK", 1, &self.to_tag(), "");
        answer
    }

    fn to_tag(&self) -> String {
        let to = self.answer.lines().find(|line| line.starts_with("To:")).unwrap();
        let (_, tag) = to.split_once(";tag=").unwrap();
        format!(";tag={}", tag.trim())
    }

    fn hang_up(&self) {
        self.send("BYE", 2, &self.to_tag(), "");
    }
}

fn offer(port: u16, crypto: &Crypto) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\na=crypto:{crypto}\r\n"
    )
}

/// The media of an answer that takes the call, and its key.
fn agreed(answer: &str) -> (Media, Crypto) {
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let media = Description::parse(body.as_bytes()).unwrap().media()[0].clone();
    let theirs = media.crypto.first().expect("an answer with a key").clone();
    (media, theirs)
}

#[test]
fn by_somebody_with_none_in_every_suite() {
    let site = Site::start("encrypted");
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    for (calls, (suite, ..)) in SUITES.iter().enumerate() {
        let mut bob_voice = Voice::new(Law::Mu, 1_100.0);
        let bob = Sipp::new("agent")
            .at(bob_port)
            .with("MEDIA_PORT", bob_voice.port())
            .with("LAW", Law::Mu.payload_type())
            .with("LAW_NAME", Law::Mu.name());
        let mut bob = bob.play(&site);

        let mut cipher = Cipher::new();
        let mut voice = Voice::new(Law::Mu, 700.0);
        let key: Vec<u8> = (0..key_bytes(suite)).map(|byte| byte as u8 ^ 0x5a).collect();
        let own = Crypto::new(7, CryptoSuite::from_name(suite).unwrap(), key.clone()).unwrap();
        let mut caller = Caller::new(&site, &format!("encrypted-{calls}"));
        let answer = caller.invite(&offer(cipher.port(), &own));
        let (media, theirs) = agreed(&answer);
        assert_eq!(
            (theirs.tag, theirs.suite.as_str(), media.proto.as_str()),
            (7, *suite, "RTP/SAVP")
        );
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let host = media.rtp_address().unwrap();
        cipher.begin(suite, &key, &theirs.key, host, at(voice.port()));
        voice.talk_to(cipher.clear());
        bob_voice.talk_to(bob.description().0);
        voice.listen().assert_is(1_100.0, &[700.0]);
        bob_voice.listen().assert_is(700.0, &[1_100.0]);
        caller.hang_up();
        bob.assert_done();
        voice.end();
        bob_voice.end();
        voice.assert_heard(cipher.clear(), 1_100.0, &[700.0]);
        bob_voice.assert_heard(bob.description().0, 700.0, &[1_100.0]);
        assert_eq!(cipher.wrong.load(Ordering::Relaxed), 0, "{suite}");

        let call = site.assert_nothing_left(calls + 1).remove(calls);
        assert_eq!(
            (&call["status"], &call["answered_by"]),
            (&200.into(), &"bob".into()),
            "{call:#}"
        );
        assert_eq!(call["legs"][0]["srtp"], *suite, "{call:#}");
        assert_eq!(call["legs"][1]["srtp"], "", "{call:#}");
        // Neither side's key is in anything that was written.
        let secrets = [own.to_string(), theirs.to_string()];
        for secret in secrets.iter().map(|line| line.split_once("inline:").unwrap().1) {
            assert_not_written(&site, secret);
        }
    }
}

/// Nobody but the media host knows the keys when the controller is killed, and they stay what they are.
#[test]
fn through_the_death_of_its_controller() {
    let mut site = Site::start("encrypted-killed");
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let (suite, ..) = SUITES[0];
    let mut bob_voice = Voice::new(Law::Mu, 1_100.0);
    let bob = Sipp::new("agent").at(bob_port).argument("-aa");
    let mut bob = bob.with_audio(&bob_voice).play(&site);
    let mut cipher = Cipher::new();
    let mut voice = Voice::new(Law::Mu, 700.0);
    let key: Vec<u8> = (0..key_bytes(suite)).map(|byte| byte as u8 ^ 0x33).collect();
    let own = Crypto::new(1, CryptoSuite::from_name(suite).unwrap(), key.clone()).unwrap();
    let mut caller = Caller::new(&site, "encrypted-killed");
    let answer = caller.invite(&offer(cipher.port(), &own));
    let (media, theirs) = agreed(&answer);
    let clear = SocketAddr::from((Ipv4Addr::LOCALHOST, voice.port()));
    cipher.begin(suite, &key, &theirs.key, media.rtp_address().unwrap(), clear);
    voice.talk_to(cipher.clear());
    bob_voice.talk_to(bob.description().0);
    voice.listen().assert_is(1_100.0, &[700.0]);
    let before = site.wait_for_call("talking");
    site.kill_controld();
    voice.listen().assert_is(1_100.0, &[700.0]);
    site.start_controld_again();
    assert_eq!(site.wait_for_call("talking")["call"], before["call"]);
    voice.listen().assert_is(1_100.0, &[700.0]);
    bob_voice.listen().assert_is(700.0, &[1_100.0]);
    caller.hang_up();
    bob.assert_done();
    voice.end();
    bob_voice.end();
    assert_eq!(
        cipher.wrong.load(Ordering::Relaxed),
        0,
        "one key each from first to last"
    );
    assert_eq!(bob.received("INVITE"), 1, "nobody was asked anything");
    let call = site.only_call();
    assert_eq!(
        (
            &call["status"],
            &call["legs"][0]["srtp"],
            &call["legs"][1]["srtp"]
        ),
        (&200.into(), &suite.into(), &"".into()),
        "{call:#}"
    );
    for secret in [own.to_string(), theirs.to_string()] {
        assert_not_written(&site, secret.split_once("inline:").unwrap().1);
    }
}

fn assert_not_written(site: &Site, secret: &str) {
    let mut folders = vec![site.dir.clone()];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What sipp and the test itself write down is theirs.
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_ours = ["controld", "mediad"].iter().any(|ours| name.starts_with(ours))
                || path.parent().is_some_and(|parent| parent.ends_with("journal"));
            if !is_ours {
                continue;
            }
            read += 1;
            let bytes = fs::read(&path).unwrap();
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a key is in {}", path.display());
        }
    }
    assert!(read >= 3, "journal, database and log: {read}");
}

#[test]
fn but_not_where_the_policy_forbids() {
    let site = Plan::new("encrypted-off").with("media.srtp=off").start();
    register(&site, "bob", free_ports(2), false);
    let own = Crypto::new(1, CryptoSuite::AesCm128HmacSha1_80, vec![1; 30]).unwrap();
    let answer = Caller::new(&site, "off").invite(&offer(4_000, &own));
    assert!(answer.starts_with("SIP/2.0 488"), "{answer}");
    assert!(answer.contains("SRTP is switched off here"), "{answer}");
}
