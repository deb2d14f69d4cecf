//! SIGKILL for either daemon while people talk and wait. Without its controller a call goes on; without its media host
//! it moves to another one.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, agent, register, stranger},
    site::{Plan, Site},
    voice::{Law, Voice},
};

/// Alice (700 Hz) has called Bob (1 100 Hz), and both talk.
struct Talk {
    alice: Playing,
    bob: Playing,
    alice_voice: Voice,
    bob_voice: Voice,
}

impl Talk {
    fn begin(site: &Site, caller: &'static str, callee: &'static str) -> Self {
        let bob_port = free_ports(2);
        register(site, "bob", bob_port, false);
        let (alice_voice, bob_voice) = (Voice::new(Law::A, 700.0), Voice::new(Law::Mu, 1_100.0));
        // A controller asks those who talk whether they are still there: `-aa` answers.
        let bob = Sipp::new(callee).at(bob_port).argument("-aa");
        let bob = bob.with_audio(&bob_voice).play(site);
        let alice = Sipp::new(caller)
            .with("USER", "customer")
            .with("CALLED", "bob")
            .until_told()
            .argument("-aa");
        let alice = alice.with_audio(&alice_voice).play(site);
        let mut talk = Self {
            alice,
            bob,
            alice_voice,
            bob_voice,
        };
        talk.go_where_told();
        site.wait_for_call("talking");
        talk
    }

    /// Each sends its audio where it was told last.
    fn go_where_told(&mut self) {
        self.alice_voice.talk_to(self.alice.description().0);
        self.bob_voice.talk_to(self.bob.description().0);
    }

    /// Each hears the other, and nothing else.
    #[track_caller]
    fn assert_both_hear(&self) {
        self.alice_voice.listen().assert_is(1_100.0, &[700.0]);
        self.bob_voice.listen().assert_is(700.0, &[1_100.0]);
    }

    /// Alice hangs up; the record of the call.
    fn hang_up(self, site: &Site) -> Value {
        self.alice.go_on();
        self.end(site)
    }

    /// She has hung up.
    fn end(mut self, site: &Site) -> Value {
        self.alice.assert_done();
        self.bob.assert_done();
        self.alice_voice.end();
        self.bob_voice.end();
        let call = site.only_call_ended("bob", "caller");
        assert_eq!(
            (&call["caller_codec"], &call["callee_codec"]),
            (&"PCMA".into(), &"PCMU".into())
        );
        call
    }
}

/// Who calls the queue every few milliseconds, whether anybody is there or not, until it is told something.
struct Knocking(thread::JoinHandle<String>);

impl Knocking {
    fn begin(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(thread::spawn(move || {
            let mut answer = [0; 4_096];
            for call in 0..1_000 {
                // Nobody is there yet: the kernel says so.
                let _refused = socket.send(invite(call, socket.local_addr().unwrap(), server).as_bytes());
                thread::sleep(Duration::from_millis(15));
                let Ok(len) = socket.recv(&mut answer) else {
                    continue;
                };
                let answer = String::from_utf8_lossy(&answer[..len]);
                if answer.starts_with("SIP/2.0 ") && !answer.starts_with("SIP/2.0 100 ") {
                    return answer.into_owned();
                }
            }
            panic!("no answer");
        }))
    }

    fn first_answer(self) -> String {
        self.0.join().unwrap()
    }
}

fn invite(call: u32, from: SocketAddr, server: SocketAddr) -> String {
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n",
        ip = from.ip()
    );
    format!(
        "INVITE sip:support@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{call};rport\r\n\
         From: <sip:early@{from}>;tag={call}\r\nTo: <sip:support@{server}>\r\nCall-ID: early-{call}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:early@{from}>\r\nMax-Forwards: 70\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn without_its_controller_a_call_goes_on_and_the_next_one_ends_it() {
    let mut site = Site::start("killed-controld");
    let talk = Talk::begin(&site, "caller", "agent");
    talk.assert_both_hear();
    let before = site.wait_for_call("talking");
    site.kill_controld();
    talk.assert_both_hear();
    site.start_controld_again();
    let after = site.wait_for_call("talking");
    assert_eq!(after["call"], before["call"]);
    assert!(
        after["age_ms"].as_u64() > before["age_ms"].as_u64(),
        "it is as old as before and older: {after}"
    );
    assert_eq!(site.registrations("bob"), 1, "his phone too");
    talk.assert_both_hear();
    assert_eq!(
        talk.alice.received("INVITE") + talk.bob.received("INVITE"),
        1,
        "nobody was asked anything"
    );
    let heard = (talk.alice_voice.packets_heard(), talk.bob_voice.packets_heard());
    let call = talk.hang_up(&site);
    assert_eq!(call["call"], before["call"]);
    // Four times 1.6 s and more, counted by the media host from the first to the last packet.
    assert!(call["talk_ms"].as_u64().unwrap() >= 4_800, "{call:#}");
    for (side, heard) in [("caller_media", heard.0), ("callee_media", heard.1)] {
        let counted = call[side]["tx_packets"].as_u64().unwrap();
        assert!(
            heard >= 240 && counted >= heard as u64,
            "{side}: {heard} in {call:#}"
        );
        assert!(call[side]["rx_packets"].as_u64().unwrap() >= 240, "{call:#}");
        assert!(call[side]["mos"].as_f64().unwrap() > 3.0, "{call:#}");
    }
    assert_eq!(call["legs"].as_array().unwrap().len(), 2, "{call:#}");
}

/// It is there before its way to the media host is: who calls then waits until it is known whether there is one.
#[test]
fn who_calls_while_a_controller_starts_is_not_refused() {
    let mut site = Site::start("killed-early");
    site.kill_controld();
    let knocking = Knocking::begin(site.udp);
    site.start_controld_again();
    let first = knocking.first_answer();
    assert!(first.starts_with("SIP/2.0 180 "), "{first}");
}

#[test]
fn who_hangs_up_while_no_controller_is_there_is_heard_by_the_next_one() {
    let mut site = Site::start("killed-missed");
    let talk = Talk::begin(&site, "caller", "agent");
    talk.assert_both_hear();
    site.kill_controld();
    // Its BYE is repeated for half a minute.
    talk.alice.go_on();
    wait_for("she hangs up", || (talk.alice.sent("BYE") > 0).then_some(()));
    site.start_controld_again();
    talk.end(&site);
}

#[test]
fn without_its_media_host_a_call_is_placed_on_another_and_both_are_told() {
    let mut site = Plan::new("killed-mediad").with_media_hosts(2).start();
    let mut talk = Talk::begin(&site, "caller_is_moved", "agent_is_moved");
    talk.assert_both_hear();
    let before = site.wait_for_call("talking");
    let (old_alice, old_bob) = (talk.alice.description().0, talk.bob.description().0);
    site.kill_media_host(before["host"].as_str().unwrap());
    wait_for("both are told of other ports", || {
        let moved = talk.alice.description().0 != old_alice && talk.bob.description().0 != old_bob;
        moved.then_some(())
    });
    talk.go_where_told();
    talk.assert_both_hear();
    let after = site.wait_for_call("talking");
    assert_eq!(after["call"], before["call"]);
    assert_ne!(after["host"], before["host"]);
    assert_eq!(
        (talk.alice.received("INVITE"), talk.bob.received("INVITE")),
        (1, 2),
        "each is told once"
    );
    let call = talk.hang_up(&site);
    assert_eq!(call["host"], after["host"], "{call:#}");
}

#[test]
fn without_any_media_host_a_call_ends_and_says_why() {
    let mut site = Plan::new("killed-last").with("media.replace_within_s=1").start();
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let mut bob = agent("agent", bob_port).play(&site);
    let mut alice = stranger("caller_waits_for_bye", "bob").play(&site);
    let host = site.wait_for_call("talking")["host"].clone();
    site.kill_media_host(host.as_str().unwrap());
    alice.assert_done();
    bob.assert_done();
    let call = site.only_call_ended("bob", "system");
    let reason = call["reason"].as_str().unwrap();
    assert!(reason.contains("media host is lost"), "{reason}");
    for message in [alice.messages(), bob.messages()] {
        let bye = message.rsplit("BYE sip:").next().unwrap();
        assert!(
            bye.contains("Reason: Q.850;cause=41;") && bye.contains("media host"),
            "{message}"
        );
    }
}

#[test]
fn who_waits_goes_on_hearing_music_and_keeps_the_place() {
    let mut site = Plan::new("killed-waiting")
        .with_media_hosts(2)
        .with("calls.answer_before_music=true")
        .start();
    let mut voice = Voice::new(Law::A, 900.0);
    let mut caller = Sipp::new("caller_is_moved")
        .with("USER", "customer")
        .with("CALLED", "support")
        .until_told()
        .argument("-aa")
        .with_audio(&voice)
        .play(&site);
    voice.talk_to(caller.description().0);
    let before = site.wait_for_call("waiting");
    voice.listen().assert_is_music(&[900.0]);
    site.kill_controld();
    voice.listen().assert_is_music(&[900.0]);
    site.start_controld_again();
    let between = site.wait_for_call("waiting");
    assert_eq!(
        (&between["call"], &between["position"]),
        (&before["call"], &1.into())
    );
    voice.listen().assert_is_music(&[900.0]);

    let first = caller.description().0;
    site.kill_media_host(before["host"].as_str().unwrap());
    wait_for("the caller is told of other ports", || {
        (caller.description().0 != first).then_some(())
    });
    voice.talk_to(caller.description().0);
    voice.listen().assert_is_music(&[900.0]);
    assert_eq!(site.wait_for_call("waiting")["call"], before["call"]);

    let (bob_port, mut bob_voice) = (free_ports(2), Voice::new(Law::Mu, 1_100.0));
    register(&site, "bob", bob_port, false);
    let mut bob = Sipp::new("agent").at(bob_port).with_audio(&bob_voice).play(&site);
    bob_voice.talk_to(bob.description().0);
    site.wait_for_call("talking");
    voice.listen().assert_is(1_100.0, &[900.0]);
    bob_voice.listen().assert_is(900.0, &[1_100.0]);
    caller.go_on();
    caller.assert_done();
    bob.assert_done();
    voice.end();
    bob_voice.end();
    let call = site.only_call();
    assert_eq!(
        (&call["queue"], &call["answered_by"], &call["status"]),
        (&"support".into(), &"bob".into(), &200.into()),
        "{call:#}"
    );
    assert!(
        call["wait_ms"].as_u64().unwrap() >= 4_800,
        "since it called: {call:#}"
    );
}
