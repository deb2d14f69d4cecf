//! Rooms as phones that are not ours use them (RFC 4579): baresip sends its call there, blindly or after it has looked in
//! itself; sipp asks a room from outside to call somebody, and to let somebody go.

use serde_json::Value;

use crate::{
    baresip::{Baresip, Codec, Phone},
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

/// Waits until so many are in the only room.
fn wait_for_members(site: &Site, count: usize) {
    wait_for(&format!("{count} are in the room"), || {
        let room = site.list("/v1/conferences").into_iter().next()?;
        let members = room["members"].as_array()?.len();
        (members == count).then_some(())
    });
}

/// Alice (700 Hz) has called Bob (1 100 Hz), both with baresip; a customer (500 Hz) is in the room.
struct Talk {
    site: Site,
    alice: Phone,
    bob: Phone,
    customer: Playing,
    voice: Voice,
}

impl Talk {
    fn begin(name: &str) -> Self {
        let site = Plan::new(name).with_all_codecs().start();
        let bob = Baresip::of("bob", Codec::Pcmu, 1_100.0).start(&site);
        let alice = Baresip::of("alice", Codec::Opus, 700.0)
            .that_only_calls()
            .start(&site);
        let mut voice = Voice::new(Law::A, 500.0);
        let customer = Sipp::new("caller")
            .with("USER", "customer")
            .with("CALLED", "room-7")
            .until_told()
            .with_audio(&voice)
            .play(&site);
        voice.talk_to(customer.description().0);
        alice.dial("bob");
        bob.await_sound();
        bob.listen().assert_is(700.0, &[500.0, 1_100.0]);
        Self {
            site,
            alice,
            bob,
            customer,
            voice,
        }
    }

    /// Bob and the customer hear each other, Alice is gone; then they leave too.
    fn end(mut self, calls: usize) -> Vec<Value> {
        wait_for("alice is gone", || {
            let calls = self.site.list("/v1/calls");
            let others = calls.iter().filter(|call| call["stage"] == "talking");
            (others.count() == 0).then_some(())
        });
        wait_for_members(&self.site, 2);
        self.voice.listen().assert_is(1_100.0, &[500.0, 700.0]);
        self.bob.listen().assert_is(500.0, &[700.0, 1_100.0]);
        self.bob.hang_up();
        self.customer.go_on();
        self.customer.assert_done();
        self.voice.end();
        let calls = self.site.assert_nothing_left(calls);
        assert!(calls.iter().all(|call| call["status"] == 200), "{calls:#?}");
        calls
    }
}

#[test]
fn by_a_blind_transfer() {
    let talk = Talk::begin("room-blind");
    talk.alice
        .order("transfer", &format!("sip:room-7@{}", talk.site.udp.ip()));
    let calls = talk.end(3);
    let told = calls.iter().filter(|call| call["room"] == "room-7");
    assert_eq!(told.count(), 2, "{calls:#?}");
}

/// She goes there by her second line and then gives Bob her place.
#[test]
fn by_who_looked_in_first() {
    let talk = Talk::begin("room-attended");
    talk.alice.order("hold", "");
    talk.bob.listen().assert_is_music(&[500.0, 700.0, 1_100.0]);
    talk.alice.dial("room-7");
    talk.voice.listen().assert_is(700.0, &[500.0, 1_100.0]);
    let [call_id, to_tag, from_tag] = talk.alice.dialog_with("bob");
    talk.alice.order(
        "transfer",
        &format!(
            "<sip:bob@{}?Replaces={}%3Bto-tag%3D{to_tag}%3Bfrom-tag%3D{from_tag}>",
            talk.site.udp.ip(),
            call_id.replace('@', "%40"),
        ),
    );
    talk.end(4);
}

/// Alice (700 Hz) is in the room, and asks for Bob (1 100 Hz) over another dialog; later she has him leave.
#[test]
fn by_who_asks_the_room_from_outside() {
    let site = Site::start("room-outside");
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let (mut alice_voice, mut bob_voice) = (Voice::new(Law::Mu, 700.0), Voice::new(Law::A, 1_100.0));
    let mut alice = Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "room-7")
        .proving_for("room-7@127.0.0.1")
        .until_told()
        .with_audio(&alice_voice)
        .play(&site);
    alice_voice.talk_to(alice.description().0);
    wait_for_members(&site, 1);
    let mut bob = Sipp::new("agent_is_moved")
        .at(bob_port)
        .with_audio(&bob_voice)
        .play(&site);
    let ask = |act: &str| {
        Sipp::new("asks_a_room")
            .user("alice")
            .with("CALLED", "room-7")
            .with("WHOM", "bob")
            .with("ACT", act)
            .with("END", 200)
            .proving_for("room-7@127.0.0.1")
            .run(&site)
    };
    ask("");
    wait_for_members(&site, 2);
    wait_for("bob is told where the room is", || {
        (bob.received("INVITE") == 2).then_some(())
    });
    bob_voice.talk_to(bob.description().0);
    alice_voice.listen().assert_is(1_100.0, &[700.0]);
    bob_voice.listen().assert_is(700.0, &[1_100.0]);
    ask(";method=BYE");
    bob.assert_done();
    wait_for_members(&site, 1);
    alice.go_on();
    alice.assert_done();
    alice_voice.end();
    bob_voice.end();
    let calls = site.assert_nothing_left(3);
    let removed = calls.iter().filter(|call| {
        let reason = call["reason"].as_str().unwrap();
        reason == "sip:alice@127.0.0.1 had it removed from room-7"
    });
    assert_eq!(removed.count(), 1, "{calls:#?}");
}
