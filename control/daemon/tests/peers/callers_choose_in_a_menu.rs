//! A caller with baresip hears a menu and presses keys.

use serde_json::json;

use crate::{
    baresip::{Baresip, Codec, Phone},
    program::wait_for,
    site::{Plan, Site},
};

/// Alice serves the queue, Carol has dialled the menu.
fn asked(name: &str, seconds: u32) -> (Site, Phone, Phone) {
    let site = Plan::new(name)
        .with_prompt("welcome.wav", 500.0, seconds)
        .with_sections(
            "[[menus]]\nname = 'welcome'\nprompt = 'welcome.wav'\nkeys = { 1 = 'support', 2 = 'bob' }\n\
            timeout_s = 1\ntries_max = 2\n",
        )
        .start();
    let alice = Baresip::of("alice", Codec::Pcmu, 700.0).start(&site);
    let carol = Baresip::of("carol", Codec::Pcmu, 1_100.0)
        .that_only_calls()
        .start(&site);
    carol.dial("welcome");
    carol.await_sound();
    (site, alice, carol)
}

#[test]
fn and_is_led_to_an_agent() {
    let (site, alice, carol) = asked("menu", 30);
    carol.listen().assert_is(500.0, &[700.0]);
    assert_eq!(site.list("/v1/calls")[0]["menu"], "welcome");
    carol.order("sndcode", "1");
    site.wait_for_agent("alice", "talking");
    alice.await_sound();
    carol.listen().assert_is(700.0, &[500.0, 1_100.0]);
    alice.listen().assert_is(1_100.0, &[500.0, 700.0]);
    carol.hang_up();
    let call = site.only_call_ended("alice", "caller");
    assert_eq!(
        (&call["choices"], &call["queue"]),
        (
            &json!([{ "menu": "welcome", "keys": "1", "to": "support" }]),
            &json!("support")
        )
    );
}

#[test]
fn or_presses_none_and_is_asked_twice() {
    let (site, _alice, carol) = asked("menu-silent", 1);
    wait_for("the call ends", || {
        site.list("/v1/calls").is_empty().then_some(())
    });
    let call = site.only_call();
    assert_eq!(call["reason"], "nothing was chosen in the menu", "{call:#}");
    // Loud and quiet by turns, in steps of 0.1 s.
    let heard = carol.heard();
    let steps = heard
        .chunks(800)
        .map(|step| step.iter().any(|it| it.unsigned_abs() > 1_000));
    let mut turns: Vec<(bool, usize)> = Vec::new();
    for loud in steps {
        match turns.last_mut() {
            Some((was, count)) if *was == loud => *count += 1,
            _ => turns.push((loud, 1)),
        }
    }
    let questions: Vec<usize> = turns.iter().filter(|it| it.0).map(|it| it.1).collect();
    assert_eq!(questions.len(), 2, "asked twice: {turns:?}");
    assert!(
        questions.iter().all(|tenths| (9..=12).contains(tenths)),
        "each a second: {turns:?}"
    );
    let between = turns.iter().skip_while(|it| !it.0).nth(1).unwrap();
    assert!((8..=16).contains(&between.1), "a second to choose in: {turns:?}");
}
