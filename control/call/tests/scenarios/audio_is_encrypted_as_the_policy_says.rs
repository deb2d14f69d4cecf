use std::collections::BTreeSet;

use call_control::{Config, Srtp};
use sdp::{CryptoSuite, Direction};
use sip::{
    message::{HeaderName, Request, StatusCode},
    stack::Transport,
};

use crate::{
    phone::{Behaviour, Phone},
    world::{World, config},
};

const SUITES: [CryptoSuite; 5] = [
    CryptoSuite::AeadAes256Gcm,
    CryptoSuite::AeadAes128Gcm,
    CryptoSuite::AesCm256HmacSha1_80,
    CryptoSuite::AesCm128HmacSha1_80,
    CryptoSuite::AesCm128HmacSha1_32,
];

fn both(a: &'static str, b: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    BTreeSet::from([(a, b), (b, a)])
}

/// Keys may go over UDP, which is all that most phones here speak.
fn in_clear(srtp: Srtp) -> Config {
    let mut config = config();
    config.media.srtp = srtp;
    config.media.srtp_keys_in_clear = true;
    config
}

/// A phone that does nothing but encrypt, with these suites.
fn encrypts(phone: &mut Phone, suites: &[CryptoSuite]) {
    (phone.suites, phone.insists) = (suites.to_vec(), true);
}

/// Alice and a customer of the queue, whose audio has to be encrypted, talk.
fn talking() -> (World, usize, usize) {
    let mut world = World::with(in_clear(Srtp::Required));
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    encrypts(&mut world.phones[alice], &SUITES);
    encrypts(&mut world.phones[customer], &SUITES);
    world.call(customer, "support");
    world.run_ms(2_000);
    (world, alice, customer)
}

fn body(request: &Request) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

/// The lines of a description that hold keys.
fn key_lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("a=crypto:"))
        .collect()
}

/// No key of anybody is in what is written or told.
fn assert_no_key_is_kept(world: &World) {
    let journal: Vec<String> = world
        .records
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    let journal = journal.join("\n");
    assert!(!journal.contains("inline:"), "{journal}");
    let keys = world.phones.iter().filter_map(|phone| phone.agreed.as_ref());
    for crypto in keys.flat_map(|(own, theirs)| [own, theirs]) {
        let line = crypto.to_string();
        let (_, key) = line.split_once("inline:").unwrap();
        assert!(!journal.contains(key), "{key} in {journal}");
        assert!(!world.story().contains(key), "{key}");
    }
}

#[test]
fn by_any_suite_on_one_side_and_not_at_all_on_the_other() {
    for suite in SUITES {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        encrypts(&mut world.phones[customer], &[suite]);
        world.call(customer, "support");
        world.run_ms(2_000);
        let story = world.story();
        assert_eq!(world.heard(), both("customer", "alice"), "{suite:?}\n{story}");
        assert!(world.phones[alice].agreed.is_none());
        let answer = world.phones[customer].last_response.as_ref().unwrap();
        let answer = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.contains("RTP/SAVP "), "{answer}");
        assert!(key_lines(&answer)[0].starts_with(&format!("a=crypto:1 {} inline:", suite.as_str())));
        world.hang_up(customer);
        world.run_ms(200);
        let legs: Vec<_> = world.detail().legs.iter().map(|leg| leg.srtp.clone()).collect();
        assert_eq!(legs, [suite.as_str(), ""]);
        assert_no_key_is_kept(&world);
        world.assert_nothing_left();
    }
}

#[test]
fn by_another_suite_on_each_side() {
    let mut world = World::with(in_clear(Srtp::Optional));
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    // The first acceptable line of the offer is taken, and answered with its tag: ours, or theirs.
    encrypts(
        &mut world.phones[customer],
        &[
            CryptoSuite::AesCm192HmacSha1_80,
            CryptoSuite::AesCm128HmacSha1_32,
            CryptoSuite::AeadAes256Gcm,
        ],
    );
    encrypts(&mut world.phones[alice], &[CryptoSuite::AesCm128HmacSha1_80]);
    world.phones[alice].insists = false;
    world.call(customer, "alice");
    world.run_ms(2_000);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "alice"), "{story}");
    let agreed = |phone: usize| {
        let (own, theirs) = world.phones[phone].agreed.as_ref().unwrap();
        assert_ne!(own.key, theirs.key);
        (own.suite, theirs.tag)
    };
    assert_eq!(agreed(customer), (CryptoSuite::AesCm128HmacSha1_32, 2));
    assert_eq!(agreed(alice), (CryptoSuite::AesCm128HmacSha1_80, 4));
    world.hang_up(alice);
    world.run_ms(200);
    assert_no_key_is_kept(&world);
    world.assert_nothing_left();
}

/// Over TLS keys are offered on a line that may be answered without; over UDP they are not offered.
#[test]
fn when_it_is_optional_whoever_can() {
    for (transport, can, offered) in [
        (Transport::Tls, true, true),
        (Transport::Tls, false, true),
        (Transport::Udp, true, false),
    ] {
        let mut config = config();
        let mut tls = config.listeners[0].clone();
        tls.transport = Transport::Tls;
        config.listeners.push(tls);
        let mut world = World::with(config);
        let alice = world.phone_with("alice", |stack| {
            let own = stack.identities[0].local;
            stack.identities = vec![sip::stack::Identity::new(transport, own, own)];
        });
        if can {
            world.phones[alice].suites = SUITES.to_vec();
        }
        let now = world.now;
        world.phones[alice].register(now, "wonder", 300);
        world.run_ms(100);
        assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
        let customer = world.phone("customer");
        world.call(customer, "alice");
        world.run_ms(2_000);
        assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
        let invited = body(world.phones[alice].invited_by.as_ref().unwrap());
        assert!(invited.contains(" RTP/AVP "), "{invited}");
        assert_eq!(
            key_lines(&invited).len(),
            if offered { 5 } else { 0 },
            "{invited}"
        );
        assert_eq!(world.phones[alice].agreed.is_some(), can && offered);
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// A phone may refuse keys on a line that may be answered without. It is asked again in its way, once, which nobody is
/// told, and in its way at once the next time.
#[test]
fn when_it_is_optional_whoever_insists() {
    let mut world = World::with(in_clear(Srtp::Optional));
    let alice = world.registered("alice", "wonder");
    encrypts(&mut world.phones[alice], &SUITES);
    world.phones[alice].takes_keys_by_profile = true;
    let customer = world.phone("customer");
    for (time, rung) in [2, 3].into_iter().enumerate() {
        world.phones[customer].statuses.clear();
        world.call(customer, "alice");
        world.run_ms(4_000);
        assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
        assert_eq!(world.phones[alice].rung, rung, "call {time}\n{}", world.story());
        assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
        let invited = body(world.phones[alice].invited_by.as_ref().unwrap());
        assert!(invited.contains(" RTP/SAVP "), "{invited}");
        assert!(world.phones[alice].agreed.is_some());
        world.hang_up(customer);
        world.run_ms(500);
    }
    assert_eq!(world.controller.counters().srtp_second_offers, 1);
    // Another phone in its place takes nothing but what is not encrypted.
    (world.phones[alice].suites, world.phones[alice].insists) = (Vec::new(), false);
    world.call(customer, "alice");
    world.run_ms(4_000);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    let invited = body(world.phones[alice].invited_by.as_ref().unwrap());
    assert!(invited.contains(" RTP/AVP "), "{invited}");
    assert_eq!(world.controller.counters().srtp_second_offers, 2);
    world.hang_up(customer);
    assert_no_key_is_kept(&world);
    world.assert_nothing_left();
}

/// One that wants neither is asked twice and no more, and the caller is told what it said.
#[test]
fn when_it_is_optional_and_nothing_will_do() {
    let mut world = World::with(in_clear(Srtp::Optional));
    let alice = world.registered("alice", "wonder");
    world.behave(alice, Behaviour::Refuse(StatusCode::NOT_ACCEPTABLE_HERE));
    let customer = world.phone("customer");
    world.call(customer, "alice");
    world.run_ms(4_000);
    assert_eq!(world.phones[alice].rung, 2, "{}", world.story());
    assert_eq!(
        world.phones[customer].statuses.last(),
        Some(&488),
        "{}",
        world.story()
    );
    world.assert_nothing_left();
}

#[test]
fn when_it_is_required_nobody_else() {
    let mut config = in_clear(Srtp::Off);
    config.accounts[0].srtp = Some(Srtp::Required);
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let refusal = |world: &World, phone: usize| {
        let response = world.phones[phone].last_response.as_ref().unwrap();
        let warning = response.headers.get(HeaderName::Warning).unwrap_or_default();
        (
            response.status.code(),
            String::from_utf8_lossy(warning).into_owned(),
        )
    };
    // Alice's phone calls without.
    world.call(alice, "carol");
    world.run_ms(500);
    let (status, warning) = refusal(&world, alice);
    assert_eq!(status, 488, "{}", world.story());
    assert!(
        warning.starts_with("399 controld \"SRTP is required"),
        "{warning}"
    );
    // Nor is it called so.
    world.call(carol, "alice");
    world.run_ms(2_000);
    assert_eq!(
        world.phones[carol].statuses.last(),
        Some(&488),
        "{}",
        world.story()
    );
    let invited = body(world.phones[alice].invited_by.as_ref().unwrap());
    assert!(invited.contains(" RTP/SAVP "), "{invited}");
    // One that can is.
    world.phones[alice].suites = SUITES.to_vec();
    world.call(carol, "alice");
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("carol", "alice"), "{}", world.story());
    // An offer that takes it back is refused, and the call goes on.
    world.phones[alice].suites.clear();
    let now = world.now;
    world.phones[alice].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    assert_eq!(refusal(&world, alice).0, 488, "{}", world.story());
    assert_eq!(world.heard(), both("carol", "alice"), "{}", world.story());
    world.hang_up(carol);
    world.run_ms(200);
    // Where it is off, who insists is refused, and who does not talks without.
    encrypts(&mut world.phones[carol], &SUITES);
    let customer = world.phone("customer");
    world.call(carol, "support");
    world.run_ms(500);
    let (status, warning) = refusal(&world, carol);
    assert_eq!(
        (status, warning.as_str()),
        (488, "399 controld \"SRTP is switched off here\"")
    );
    (world.phones[carol].insists, world.phones[carol].suites) = (false, SUITES.to_vec());
    world.call(customer, "carol");
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("customer", "carol"), "{}", world.story());
    assert!(world.phones[carol].agreed.is_none());
    world.hang_up(customer);
    assert!(world.controller.counters().srtp_refusals >= 3);
    world.assert_nothing_left();
}

/// Keys that everybody on the way reads are worth nothing: who must encrypt is not served over UDP.
#[test]
fn when_it_is_required_not_over_signalling_in_clear() {
    let mut config = config();
    config.accounts[0].srtp = Some(Srtp::Required);
    let mut tls = config.listeners[0].clone();
    tls.transport = Transport::Tls;
    config.listeners.push(tls);
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    encrypts(&mut world.phones[alice], &SUITES);
    let customer = world.phone("customer");
    world.call(customer, "alice");
    world.run_ms(500);
    assert_eq!(
        (world.phones[customer].statuses.last(), world.phones[alice].rung),
        (Some(&488), 0),
        "{}",
        world.story()
    );
    for with_offer in [true, false] {
        let now = world.now;
        world.phones[alice].call(now, "support", with_offer);
        world.run_ms(500);
        let response = world.phones[alice].last_response.as_ref().unwrap();
        let warning = String::from_utf8_lossy(response.headers.get(HeaderName::Warning).unwrap());
        assert!(warning.contains("call over TLS"), "{warning}");
    }
    world.assert_nothing_left();
}

#[test]
fn through_hold_refreshes_and_new_keys() {
    let (mut world, alice, customer) = talking();
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    let ours = |world: &World, phone: usize| world.phones[phone].agreed.as_ref().unwrap().1.clone();
    let before = (ours(&world, customer), ours(&world, alice));
    for phone in [customer, alice] {
        for direction in [Direction::SendOnly, Direction::SendRecv] {
            let now = world.now;
            world.phones[phone].reinvite(now, direction);
            world.run_ms(200);
            let heard = if direction == Direction::SendOnly {
                BTreeSet::new()
            } else {
                both("customer", "alice")
            };
            assert_eq!(world.heard(), heard, "{}", world.story());
        }
        // RFC 3264 §8: our offer says what stands, under the key that is in use.
        let now = world.now;
        world.phones[phone].ask_for_offer(now);
        world.run_ms(200);
        assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
        let offer = world.phones[phone].remote.as_ref().unwrap().to_string();
        assert_eq!(key_lines(&offer).len(), 1, "{offer}");
        assert!(offer.contains(" RTP/SAVP "), "{offer}");
    }
    assert_eq!(
        (ours(&world, customer).key, ours(&world, alice).key),
        (before.0.key, before.1.key),
        "our keys stay"
    );
    // A party may change its own.
    world.phones[customer].key_generation = 1;
    let now = world.now;
    world.phones[customer].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    // And its suite, with which ours must change too.
    world.phones[customer].suites.reverse();
    let now = world.now;
    world.phones[customer].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    assert_eq!(ours(&world, customer).suite, CryptoSuite::AesCm128HmacSha1_32);
    assert_eq!(world.count("server>customer INVITE"), 0, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    assert_no_key_is_kept(&world);
    world.assert_nothing_left();
}

#[test]
fn also_of_a_caller_who_lets_us_offer() {
    for srtp in [Srtp::Optional, Srtp::Required] {
        let mut world = World::with(in_clear(srtp));
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        encrypts(&mut world.phones[alice], &SUITES);
        encrypts(&mut world.phones[customer], &SUITES);
        let now = world.now;
        world.phones[customer].call(now, "support", false);
        world.run_ms(2_000);
        assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
        assert!(world.phones[customer].agreed.is_some());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// RFC 4568 §7.3: each device has keys of its own, and the one that lost knows nothing of the call.
#[test]
fn with_other_keys_for_each_device() {
    let mut world = World::with(in_clear(Srtp::Required));
    let first = world.registered("carol", "singer");
    let second = world.registered("carol", "singer");
    for phone in [first, second] {
        encrypts(&mut world.phones[phone], &SUITES);
    }
    world.behave(first, Behaviour::Early(3_000));
    world.behave(second, Behaviour::Answer(1_000));
    let customer = world.phone("customer");
    encrypts(&mut world.phones[customer], &[CryptoSuite::AesCm128HmacSha1_80]);
    world.call(customer, "carol");
    world.run_ms(500);
    assert!(
        world.heard_phones().contains(&(first, customer)),
        "heard before it answers\n{}",
        world.story()
    );
    world.run_ms(2_000);
    let story = world.story();
    let heard: BTreeSet<_> = world.heard_phones().into_iter().collect();
    assert_eq!(
        heard,
        BTreeSet::from([(second, customer), (customer, second)]),
        "{story}"
    );
    let keys = |phone: usize| {
        let invited = body(world.phones[phone].invited_by.as_ref().unwrap());
        key_lines(&invited)
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert!(keys(first).is_disjoint(&keys(second)));
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn wherever_a_call_is_transferred() {
    // Blind, by the agent; the customer is not asked, and the target gets keys of its own.
    let mut world = World::with(in_clear(Srtp::Required));
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    for phone in [alice, carol, customer] {
        encrypts(&mut world.phones[phone], &SUITES);
    }
    world.call(customer, "support");
    world.run_ms(2_000);
    let now = world.now;
    world.phones[alice].refer(now, "sip:carol@example.com");
    world.run_ms(3_000);
    assert_eq!(world.heard(), both("customer", "carol"), "{}", world.story());
    // Attended: carol asks alice, and brings the two together.
    world.run_ms(5_000);
    let second = world.phone("carol");
    encrypts(&mut world.phones[second], &SUITES);
    let now = world.now;
    world.phones[second].register(now, "singer", 300);
    world.run_ms(200);
    world.call(second, "alice");
    world.run_ms(2_000);
    assert!(
        world.phones[second].talks() && world.phones[alice].talks(),
        "{}",
        world.story()
    );
    let (replaces, _) = world.phones[second].replaces();
    let now = world.now;
    world.phones[carol].refer(now, &format!("sip:alice@example.com?Replaces={replaces}"));
    world.run_ms(3_000);
    assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
    world.hang_up(customer);
    world.run_ms(200);
    assert_no_key_is_kept(&world);
    world.assert_nothing_left();
}

/// The keys are at the media host, which goes on; ours are told again by it, and the parties need not be asked.
#[test]
fn after_a_restart_of_the_controller() {
    let (mut world, alice, customer) = talking();
    let talking = both("customer", "alice");
    assert_eq!(world.heard(), talking, "{}", world.story());
    world.restart();
    assert_eq!(world.heard(), talking, "nobody took the audio away");
    world.run_ms(1_000);
    assert_eq!(world.heard(), talking, "{}", world.story());
    assert_eq!(
        world.count("server>customer INVITE"),
        0,
        "nobody is asked\n{}",
        world.story()
    );
    for phone in [customer, alice] {
        for direction in [Direction::SendOnly, Direction::SendRecv] {
            let now = world.now;
            world.phones[phone].reinvite(now, direction);
            world.run_ms(200);
            assert_eq!(
                world.phones[phone].statuses.last(),
                Some(&200),
                "{}",
                world.story()
            );
        }
        let now = world.now;
        world.phones[phone].ask_for_offer(now);
        world.run_ms(200);
        assert_eq!(world.heard(), talking, "{}", world.story());
    }
    world.restart();
    world.run_ms(200);
    let now = world.now;
    world.phones[customer].ask_for_offer(now);
    world.run_ms(200);
    assert_eq!(world.heard(), talking, "{}", world.story());
    assert_no_key_is_kept(&world);
    world.hang_up(customer);
    world.run_ms(200);
    let legs: Vec<_> = world.detail().legs.iter().map(|leg| leg.srtp.clone()).collect();
    assert_eq!(legs, ["AEAD_AES_256_GCM"; 2]);
    world.assert_nothing_left();
}

#[test]
fn of_who_waits_over_a_restart() {
    let mut world = World::with(in_clear(Srtp::Optional));
    let customer = world.phone("customer");
    encrypts(&mut world.phones[customer], &SUITES);
    world.call(customer, "support");
    world.run_ms(2_000);
    world.restart();
    world.run_ms(1_000);
    let alice = world.registered("alice", "wonder");
    world.run_ms(3_000);
    let story = world.story();
    assert_eq!(world.heard(), both("customer", "alice"), "{story}");
    assert!(world.phones[customer].agreed.is_some(), "{story}");
    assert_no_key_is_kept(&world);
    world.hang_up(alice);
    world.assert_nothing_left();
}

/// A host that begins anew begins with other keys, also on the ports it had: the parties are told, and their own keys
/// asked for.
#[test]
fn after_a_restart_of_the_media_host() {
    for ports_are_free in [true, false] {
        for restarted_before in [false, true] {
            let (mut world, _, customer) = talking();
            if restarted_before {
                world.restart();
                world.run_ms(500);
            }
            let key = |world: &World| world.phones[customer].agreed.as_ref().unwrap().1.key.clone();
            let before = key(&world);
            world.lose_media_host();
            world.run_ms(500);
            world.restart_media_host(ports_are_free);
            world.run_ms(2_000);
            let story = world.story();
            assert_eq!(world.heard(), both("customer", "alice"), "{story}");
            assert_ne!(key(&world), before, "{story}");
            assert_eq!(world.count("server>customer INVITE"), 1, "{story}");
            world.hang_up(customer);
            world.assert_nothing_left();
        }
    }
}

#[test]
fn in_a_conference() {
    let mut world = World::with(in_clear(Srtp::Optional));
    let members = ["dora", "emil", "fred"].map(|name| world.phone(name));
    encrypts(&mut world.phones[members[0]], &[CryptoSuite::AeadAes128Gcm]);
    encrypts(&mut world.phones[members[1]], &SUITES);
    for (index, phone) in members.into_iter().enumerate() {
        let now = world.now;
        // Emil lets us offer.
        world.phones[phone].call(now, "room-7", index != 1);
        world.run_ms(300);
    }
    assert_eq!(world.heard().len(), 6, "{}", world.story());
    let now = world.now;
    world.phones[members[0]].reinvite(now, Direction::SendOnly);
    world.run_ms(200);
    let now = world.now;
    world.phones[members[0]].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    let now = world.now;
    world.phones[members[1]].ask_for_offer(now);
    world.run_ms(200);
    assert_eq!(world.heard().len(), 6, "{}", world.story());
    for phone in members {
        world.hang_up(phone);
        world.run_ms(100);
    }
    assert_no_key_is_kept(&world);
    world.assert_nothing_left();
}
