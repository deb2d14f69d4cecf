use serde_json::Value;

use crate::{
    program::free_ports,
    sipp::{Playing, Sipp, agent, register, stranger},
    site::{Plan, Site},
};

/// Alice's phone and a stranger's play these, the stranger dials `called`; the record of the call.
fn call(name: &str, callee: fn(u16) -> Sipp, caller: Sipp) -> (Site, Value, Playing) {
    call_at(Site::start(name), callee, caller)
}

fn call_at(site: Site, callee: fn(u16) -> Sipp, caller: Sipp) -> (Site, Value, Playing) {
    let port = free_ports(2);
    register(&site, "alice", port, false);
    let mut callee = callee(port).play(&site);
    let mut caller = caller.play(&site);
    caller.assert_done();
    callee.assert_done();
    let call = site.only_call();
    (site, call, caller)
}

#[track_caller]
fn assert_told(call: &Value, ended_by: &str, status: u16, is_answered: bool) {
    assert_eq!(call["ended_by"], ended_by, "{call:#}");
    assert_eq!(call["status"], status, "{call:#}");
    assert_eq!(!call["answered_by"].is_null(), is_answered, "{call:#}");
    assert_eq!(call["rung"], serde_json::json!(["alice"]), "{call:#}");
}

#[test]
fn the_caller_hangs_up() {
    let (_site, told, _) = call(
        "bye-caller",
        |port| agent("agent", port),
        stranger("caller", "support"),
    );
    assert_told(&told, "caller", 200, true);
}

#[test]
fn the_agent_hangs_up() {
    let (_site, told, _) = call(
        "bye-callee",
        |port| agent("agent_hangs_up", port),
        stranger("caller_waits_for_bye", "support"),
    );
    assert_told(&told, "callee", 200, true);
}

#[test]
fn the_caller_cancels_while_it_rings() {
    for (name, called) in [("cancel-user", "alice"), ("cancel-queue", "support")] {
        let (_site, told, _) = call(
            name,
            |port| agent("agent_is_cancelled", port),
            stranger("caller_cancels_ringing", called),
        );
        assert_told(&told, "caller", 487, false);
    }
}

/// The phone is picked up while the CANCEL is on its way: it is told good-bye at once, and nobody was answered.
#[test]
fn the_caller_cancels_and_the_answer_crosses_it() {
    let (_site, told, _) = call(
        "cancel-crossed",
        |port| agent("agent_answers_too_late", port),
        stranger("caller_cancels_ringing", "alice"),
    );
    assert_told(&told, "caller", 487, false);
}

#[test]
fn the_caller_cancels_before_anything_rings() {
    // Nobody serves the queue, so nothing rings; the CANCEL meets a call that has only been heard of.
    let site = Site::start("cancel-early");
    let mut caller = stranger("caller_cancels_at_once", "support").play(&site);
    caller.assert_done();
    let told = site.only_call();
    assert_eq!(
        (&told["ended_by"], &told["status"]),
        (&"caller".into(), &487.into()),
        "{told:#}"
    );
    assert_eq!(told["rung"], serde_json::json!([]));
}

#[test]
fn a_called_user_is_busy() {
    let (_site, told, _) = call(
        "busy",
        |port| agent("agent_refuses", port).with("STATUS", 486),
        stranger("caller_refused", "alice").with("STATUS", 486),
    );
    assert_told(&told, "callee", 486, false);
}

#[test]
fn a_called_user_declines() {
    let (_site, told, _) = call(
        "decline",
        |port| agent("agent_refuses", port).with("STATUS", 603),
        stranger("caller_refused", "alice").with("STATUS", 603),
    );
    assert_told(&told, "callee", 603, false);
}

#[test]
fn a_called_user_does_not_answer() {
    let (_site, told, _) = call_at(
        Plan::new("no-answer").with("calls.ring_timeout_s=1").start(),
        |port| agent("agent_is_cancelled", port),
        stranger("caller_refused", "alice").with("STATUS", 480),
    );
    assert_told(&told, "system", 480, false);
}

#[test]
fn a_call_without_an_offer_is_answered_with_one() {
    let (_site, told, caller) = call(
        "late-offer",
        |port| agent("agent", port),
        stranger("caller_offers_late", "support"),
    );
    assert_told(&told, "caller", 200, true);
    assert_eq!(caller.description().1.first(), Some(&0), "{}", caller.messages());
    assert_eq!(told["caller_codec"], "PCMU");
}

#[test]
fn a_caller_holds_and_comes_back() {
    let caller = stranger("caller_holds", "support")
        .with("WANTED2", "recvonly")
        .with("WANTED3", "sendrecv");
    let (_site, told, _) = call("hold", |port| agent("agent", port), caller);
    assert_told(&told, "caller", 200, true);
}

#[test]
fn messages_that_were_lost_are_sent_again() {
    let (_site, told, caller) = call(
        "again",
        |port| agent("agent", port),
        stranger("caller_repeats_itself", "support").argument("-nr"),
    );
    assert_told(&told, "caller", 200, true);
    assert!(
        caller.received("SIP/2.0 200") >= 3,
        "two to the INVITE, one to the BYE\n{}",
        caller.messages()
    );
}

#[test]
fn a_queue_tries_the_next_agent() {
    let site = Site::start("next-agent");
    let (busy_port, free_port) = (free_ports(2), free_ports(2));
    register(&site, "alice", busy_port, false);
    site.wait_for_agent("alice", "ready");
    register(&site, "bob", free_port, true);
    site.wait_for_agent("bob", "ready");
    // The longest idle is tried first.
    let mut busy = agent("agent_refuses", busy_port).with("STATUS", 486).play(&site);
    let mut free = agent("agent", free_port).over_tcp().play(&site);
    stranger("caller", "support").run(&site);
    busy.assert_done();
    free.assert_done();
    let told = site.only_call();
    assert_eq!(told["rung"], serde_json::json!(["alice", "bob"]), "{told:#}");
    assert_eq!(
        (&told["answered_by"], &told["ended_by"]),
        (&"bob".into(), &"caller".into())
    );
}
