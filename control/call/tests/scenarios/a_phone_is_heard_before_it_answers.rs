use std::collections::BTreeSet;

use call_control::journal::EndedBy;
use sip::message::{HeaderName, StatusCode};

use crate::{phone::Behaviour, world::World};

fn both(a: &'static str, b: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    BTreeSet::from([(a, b), (b, a)])
}

/// RFC 3261 §13.2.1, RFC 3262: the caller gets its answer in a 183, reliably where both know how.
#[test]
fn and_the_caller_gets_its_description() {
    for reliable in [true, false] {
        let mut world = World::new();
        let carol = world.registered("carol", "singer");
        world.behave(carol, Behaviour::Early(2_000));
        let dora = world.phone_with("dora", |config| {
            if !reliable {
                config.extensions.retain(|name| *name != "100rel");
            }
        });
        world.call(dora, "carol");
        world.run_ms(1_000);
        let story = world.story();
        assert_eq!(world.phones[dora].statuses, [183], "{story}");
        assert_eq!(world.heard(), both("dora", "carol"), "{story}");
        assert_eq!(world.count("dora>server PRACK"), usize::from(reliable), "{story}");
        world.run_ms(2_000);
        assert_eq!(world.phones[dora].statuses, [183, 200], "{}", world.story());
        assert_eq!(world.heard(), both("dora", "carol"), "{}", world.story());
        world.hang_up(dora);
        world.run_ms(200);
        assert_eq!(world.detail().answered_by.as_deref(), Some("carol"));
        world.assert_nothing_left();
    }
}

/// A gateway of the telephone network gives its description once, and tells in its 200 what its network says of the answer
/// (RFC 3204).
#[test]
fn and_its_answer_need_not_say_it_again() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Early(2_000));
    world.phones[carol].answers_in_isup = true;
    let dora = world.phone("dora");
    world.call(dora, "carol");
    world.run_ms(3_000);
    assert_eq!(world.phones[dora].statuses, [183, 200], "{}", world.story());
    assert_eq!(world.heard(), both("dora", "carol"), "{}", world.story());
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// RFC 3262 §5: an offer in the PRACK of that 183 is answered in the PRACK's 200.
#[test]
fn and_the_caller_may_offer_anew_in_its_prack() {
    for (codec, status) in [("0", 200), ("18", 488)] {
        let mut world = World::new();
        let carol = world.registered("carol", "singer");
        world.behave(carol, Behaviour::Early(2_000));
        let dora = world.phone("dora");
        let media = world.phones[dora].media;
        world.phones[dora].pracks_with = Some(format!(
            "v=0\r\no=- 1 9 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP {codec}\r\n\
             a=sendonly\r\n",
            media.ip(),
            media.port()
        ));
        world.call(dora, "carol");
        world.run_ms(1_000);
        let story = world.story();
        let answer = world.phones[dora].pracked.take().expect(&story);
        assert_eq!(answer.status.code(), status, "{story}");
        if status == 200 {
            let body = String::from_utf8_lossy(&answer.body);
            assert!(body.contains("a=recvonly"), "{body}\n{story}");
            assert_eq!(world.heard(), BTreeSet::from([("dora", "carol")]), "{story}");
        } else {
            assert_eq!(world.heard(), both("dora", "carol"), "{story}");
        }
        world.run_ms(2_000);
        assert_eq!(world.phones[dora].statuses, [183, 200], "{}", world.story());
        world.hang_up(dora);
        world.run_ms(200);
        world.assert_nothing_left();
    }
}

/// Two phones: the announcement of one, then it refuses; the other only rings, so that the ringback is ours.
#[test]
fn and_ringback_is_ours_when_it_is_gone() {
    let mut world = World::new();
    let first = world.registered("carol", "singer");
    let second = world.registered("carol", "singer");
    world.behave(first, Behaviour::Early(60_000));
    world.behave(second, Behaviour::Ring);
    let dora = world.phone("dora");
    world.call(dora, "carol");
    world.run_ms(1_000);
    assert_eq!(world.heard(), both("dora", "carol"), "{}", world.story());
    assert!(world.played_to(dora).is_empty());
    let now = world.now;
    world.phones[first].refuse(now, StatusCode::BUSY_HERE);
    world.run_ms(200);
    let story = world.story();
    assert_eq!(world.heard(), BTreeSet::new(), "{story}");
    assert_eq!(world.played_to(dora), ["tone:ringback-us"], "{story}");
    let now = world.now;
    world.phones[dora].cancel(now);
    world.run_ms(200);
    assert_eq!(world.phones[dora].statuses.last(), Some(&487));
    world.assert_nothing_left();
}

/// Who waits in a queue hears its music until an agent answers, whatever the agent's phone sends before.
#[test]
fn but_not_by_who_waits_in_a_queue() {
    let mut config = crate::world::config();
    config.calls.answer_before_music = true;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    world.behave(alice, Behaviour::Early(2_000));
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    let story = world.story();
    assert_eq!(world.heard(), BTreeSet::new(), "{story}");
    assert_eq!(world.played_to(customer), ["tone:melody"], "{story}");
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Nothing of one party's network is told to the other.
#[test]
fn and_neither_learns_where_the_other_is() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Early(500));
    let dora = world.phone("dora");
    let now = world.now;
    world.phones[dora].call_with(now, "carol", true, |request| {
        request
            .headers
            .set(HeaderName::From, "<sip:dora@10.0.1.2>")
            .unwrap();
    });
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("dora", "carol"), "{}", world.story());
    let invite = world.phones[carol].invited_by.clone().unwrap();
    let response = world.phones[dora].last_response.clone().unwrap();
    let dialled = |text: String, phone: usize| {
        let (ip, port) = (world.phones[phone].address.ip(), world.phones[phone].media.port());
        assert!(!text.contains(&ip.to_string()), "{text}");
        assert!(!text.contains(&format!("m=audio {port} ")), "{text}");
        assert!(
            !text.contains(world.phones[phone].stack.config().server_name.as_str()),
            "{text}"
        );
    };
    dialled(String::from_utf8_lossy(&invite.to_bytes()).into_owned(), dora);
    let answer = String::from_utf8_lossy(&response.to_bytes()).into_owned();
    // Its own Via comes back to it.
    dialled(answer, carol);
    let own = world.details().len();
    assert_eq!(own, 0);
    let call_id = |headers: &sip::message::Headers| headers.get(HeaderName::CallId).unwrap().to_vec();
    assert_ne!(call_id(&invite.headers), call_id(&response.headers));
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// It is the caller who gave up, whatever it was told before.
#[test]
fn and_a_caller_who_gives_up_then_ends_the_call() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Early(60_000));
    let dora = world.phone("dora");
    world.call(dora, "carol");
    world.run_ms(1_000);
    let now = world.now;
    world.phones[dora].cancel(now);
    world.run_ms(200);
    assert_eq!(world.phones[carol].cancelled.len(), 1, "{}", world.story());
    let detail = world.detail();
    let said = (detail.ended_by, detail.status, detail.reason.as_str());
    assert_eq!(said, (EndedBy::Caller, 487, "the caller cancelled"));
    world.assert_nothing_left();
}
