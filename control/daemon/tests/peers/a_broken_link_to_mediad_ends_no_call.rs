use std::time::{Duration, Instant};

use crate::{
    api::{TOKEN_SETTING, ask},
    program::{free_ports, wait_for},
    sipp::{Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

fn tell_bob(site: &Site, what: &str) {
    let path = format!("/v1/agents/bob/{what}");
    let answer = ask(site.http(), "POST", &path, "", r#"{"reason": "lunch"}"#);
    assert!(answer.status < 300, "{answer:?}");
}

fn metric(site: &Site, name: &str) -> u64 {
    let page = ask(site.http(), "GET", "/metrics", "", "").text;
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// A customer (900 Hz) waits with music. The TCP connection to mediad breaks, and while it is away an agent becomes free:
/// what mediad should do for that waits, and is done when the connection is there again.
#[test]
fn who_waits_gets_the_agent_who_became_free_meanwhile() {
    let site = Plan::new("cut")
        .with(TOKEN_SETTING)
        .with("calls.answer_before_music=true")
        .tethered()
        .start();
    let (bob_port, mut bob_voice) = (free_ports(2), Voice::new(Law::Mu, 1_100.0));
    register(&site, "bob", bob_port, false);
    tell_bob(&site, "pause");
    let mut bob = Sipp::new("agent").at(bob_port).with_audio(&bob_voice).play(&site);
    let mut voice = Voice::new(Law::A, 900.0);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .until_told()
        .with_audio(&voice)
        .play(&site);
    voice.talk_to(caller.description().0);
    let before = site.wait_for_call("waiting");
    voice.listen().assert_is_music(&[900.0]);

    site.tether().cut();
    tell_bob(&site, "ready");
    wait_for("what it asks of mediad has no answer", || {
        (metric(&site, "controld_media_retries_total") > 0).then_some(())
    });
    assert_eq!(site.list("/v1/calls").len(), 1, "the call is there");
    site.tether().mend();
    bob_voice.talk_to(bob.description().0);
    let after = site.wait_for_call("talking");
    assert_eq!(after["call"], before["call"]);
    voice.listen().assert_is(1_100.0, &[900.0]);
    bob_voice.listen().assert_is(900.0, &[1_100.0]);
    assert_eq!(
        metric(&site, "controld_calls_replaced_total"),
        0,
        "{}",
        site.story()
    );
    caller.go_on();
    caller.assert_done();
    bob.assert_done();
    voice.end();
    bob_voice.end();
    let call = site.only_call_ended("bob", "caller");
    assert!(
        call["caller_media"]["rx_packets"].as_u64().unwrap() > 80,
        "{call:#}"
    );
}

/// Each break has its time, however long ago the first was: who waits hears the music of the same session all the while.
#[test]
fn nor_does_one_that_breaks_again_and_again() {
    let site = Plan::new("cut again")
        .with(TOKEN_SETTING)
        .with("calls.answer_before_music=true")
        .tethered()
        .start();
    let mut voice = Voice::new(Law::A, 900.0);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .until_told()
        .with_audio(&voice)
        .play(&site);
    voice.talk_to(caller.description().0);
    site.wait_for_call("waiting");
    let times_up = || site.story().matches("media host is up").count();
    let began = Instant::now();
    loop {
        // Longer than a host that does not come back is waited for.
        let is_late = began.elapsed() > Duration::from_secs(6);
        let before = times_up();
        site.tether().cut();
        site.tether().mend();
        wait_for("the media host is reached again", || {
            (times_up() > before).then_some(())
        });
        if is_late {
            break;
        }
    }
    voice.listen().assert_is_music(&[900.0]);
    assert_eq!(
        metric(&site, "controld_calls_replaced_total"),
        0,
        "{}",
        site.story()
    );
    assert!(!site.story().contains("media host lost"), "{}", site.story());
    caller.go_on();
    caller.assert_done();
    voice.end();
}
