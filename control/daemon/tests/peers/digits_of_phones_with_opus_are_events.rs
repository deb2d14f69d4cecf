//! baresip has Opus at 48 kHz and telephone-events at 8 kHz alone, as many phones do: its digits go and come as RFC 4733 has
//! them all the same.

use crate::{
    baresip::{Baresip, Codec, Phone},
    program::wait_for,
    site::{Plan, Site},
};

/// A key of `from` reaches `to` as telephone-event, once.
fn press(from: &Phone, to: &Phone, key: char) {
    from.order("sndcode", &key.to_string());
    let ended = format!("received event: '{key}' (end=1)");
    wait_for(&format!("{key} arrives"), || {
        to.story().contains(&ended).then_some(())
    });
    let begun = format!("received event: '{key}' (end=0)");
    for said in [begun, ended] {
        assert!(to.story().matches(&said).count() <= 1, "{said}\n{}", to.story());
    }
}

/// No digit came or went by INFO.
fn assert_no_info(site: &Site, phones: &[&Phone]) {
    assert!(!site.story().contains(" start=INFO "), "{}", site.story());
    for phone in phones {
        assert!(!phone.story().contains("INFO sip:"), "{}", phone.story());
    }
}

fn between(name: &str, codecs: [Codec; 2]) {
    let site = Plan::new(name).with_all_codecs().start();
    let bob = Baresip::of("bob", codecs[1], 1_100.0).start(&site);
    let alice = Baresip::of("alice", codecs[0], 700.0)
        .that_only_calls()
        .start(&site);
    alice.dial("bob");
    site.wait_for_call("talking");
    bob.await_sound();
    alice.await_sound();
    for key in ['5', '#', '0'] {
        press(&alice, &bob, key);
        press(&bob, &alice, key);
    }
    bob.listen().assert_is(700.0, &[1_100.0]);
    alice.listen().assert_is(1_100.0, &[700.0]);
    assert_no_info(&site, &[&alice, &bob]);
    alice.hang_up();
    let call = site.only_call_ended("bob", "caller");
    let spoken = [&call["caller_codec"], &call["callee_codec"]];
    assert_eq!(spoken, codecs.map(Codec::name), "{call:#}");
}

#[test]
fn relayed() {
    between("digits-opus", [Codec::Opus, Codec::Opus]);
}

#[test]
fn beside_another_codec() {
    between("digits-opus-pcmu", [Codec::Opus, Codec::Pcmu]);
}
