use std::collections::BTreeSet;

use call_control::{
    CallStage, Config, RecordKind, cdr::OriginKind, domain::AgentState, journal::EndedBy,
    originate::OriginateError,
};
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// Alice serves the queue, bob does too, carol does not.
fn town() -> (World, usize, usize) {
    town_with(config())
}

fn town_with(config: Config) -> (World, usize, usize) {
    let mut world = World::with(config);
    let bob = world.registered("bob", "builder");
    let carol = world.registered("carol", "singer");
    (world, bob, carol)
}

fn header(world: &World, phone: usize, name: &str) -> String {
    let invite = world.phones[phone].invited_by.as_ref().unwrap();
    String::from_utf8_lossy(invite.headers.get(name).unwrap_or_default()).into_owned()
}

#[test]
fn the_first_party_is_brought_to_the_second() {
    let (mut world, bob, carol) = town();
    let more = r#", "display_name": "Call back", "auto_answer": true, "reference": "ticket-7""#;
    let call = world.originate("carol", "bob", more);
    world.run_ms(100);
    assert_eq!(world.stage(), CallStage::Calling);
    assert_eq!((world.phones[carol].rung, world.phones[bob].rung), (1, 0));
    let from = header(&world, carol, "From");
    assert!(from.contains("\"Call back\" <sip:bob@example.com>"), "{from}");
    assert_eq!(header(&world, carol, "Answer-Mode"), "Auto");
    assert_eq!(
        header(&world, carol, "Call-Info"),
        "<sip:example.com>;answer-after=0"
    );
    world.run_ms(1_100);
    assert_eq!(world.stage(), CallStage::Ringing, "{}", world.story());
    assert_eq!(
        world.played_to(carol),
        ["tone:ringback-us"],
        "it has answered, and waits"
    );
    let from = header(&world, bob, "From");
    assert!(from.contains("sip:carol@example.com"), "{from}");
    assert_eq!(
        header(&world, bob, "Answer-Mode"),
        "",
        "only the first is asked to"
    );
    world.run_ms(1_500);
    assert_eq!(world.stage(), CallStage::Talking);
    let both = BTreeSet::from([("bob", "carol"), ("carol", "bob")]);
    assert_eq!(world.heard(), both, "{}", world.story());
    let sip_call_id = header(&world, carol, "Call-ID");
    world.hang_up(bob);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(detail.call, call);
    assert_eq!(
        (&*detail.from, &*detail.to),
        ("sip:carol@example.com", "sip:bob@example.com")
    );
    assert_eq!((detail.status, detail.ended_by), (200, EndedBy::Callee));
    assert_eq!(detail.answered_by.as_deref(), Some("bob"));
    assert_eq!(detail.rung, ["carol", "bob"]);
    assert_eq!(detail.origin.kind, OriginKind::Api);
    assert_eq!(detail.origin.reference.as_deref(), Some("ticket-7"));
    assert_eq!(detail.sip_call_id, sip_call_id);
    assert_eq!(detail.legs.len(), 2, "{detail:#?}");
    assert_eq!(detail.legs[0].user.as_deref(), Some("carol"));
    world.assert_nothing_left();
}

#[test]
fn a_first_party_that_does_not_come_is_told_by_its_status() {
    for (behaviour, status, cancelled) in [
        (Behaviour::Refuse(StatusCode::BUSY_HERE), 486, 0),
        (Behaviour::Refuse(StatusCode::DECLINE), 603, 0),
        (Behaviour::Ring, 480, 1),
    ] {
        let (mut world, bob, carol) = town();
        world.behave(carol, behaviour);
        world.originate("carol", "bob", r#", "ring_timeout_s": 3"#);
        world.run_ms(2_900);
        assert_eq!(world.phones[carol].cancelled.len(), 0, "it has 3 s");
        world.run_ms(200);
        assert_eq!(
            world.phones[carol].cancelled.len(),
            cancelled,
            "{}",
            world.story()
        );
        assert_eq!(world.phones[bob].rung, 0, "nobody else is disturbed");
        let detail = world.detail();
        assert_eq!(detail.status, status, "{detail:#?}");
        let by = if cancelled == 0 {
            EndedBy::Caller
        } else {
            EndedBy::System
        };
        assert_eq!(detail.ended_by, by);
        assert_eq!(detail.answered_by, None);
        world.assert_nothing_left();
    }
}

#[test]
fn a_second_party_that_does_not_come_ends_the_call() {
    for (behaviour, status) in [
        (Behaviour::Refuse(StatusCode::BUSY_HERE), 486),
        (Behaviour::Ring, 480),
    ] {
        let (mut world, bob, carol) = town();
        world.behave(bob, behaviour);
        world.originate("carol", "bob", "");
        world.run_ms(65_000);
        assert!(world.phones[carol].dialog.is_none(), "{}", world.story());
        assert_eq!(world.detail().status, status);
        world.assert_nothing_left();
    }
}

#[test]
fn a_first_party_that_hangs_up_stops_the_second_phone() {
    let (mut world, bob, carol) = town();
    world.behave(bob, Behaviour::Ring);
    world.originate("carol", "bob", "");
    world.run_ms(3_000);
    assert_eq!(world.phones[bob].rung, 1);
    world.hang_up(carol);
    world.run_ms(100);
    assert!(
        world.phones[bob].cancelled[0].contains("Caller gone"),
        "{}",
        world.story()
    );
    let detail = world.detail();
    assert_eq!((detail.status, detail.ended_by), (487, EndedBy::Caller));
    world.assert_nothing_left();
}

/// At whatever moment it is ended: both phones are quiet, there is one detail, and nothing is left.
#[test]
fn it_is_ended_at_any_moment() {
    let mut stages = BTreeSet::new();
    for at_ms in (0..30).chain(1_005..1_040).chain(2_010..2_070) {
        let (mut world, bob, carol) = town();
        let call = world.originate("carol", "bob", "");
        world.run_ms(at_ms);
        stages.insert(format!("{:?}", world.stage()));
        assert!(world.end(&call), "after {at_ms} ms\n{}", world.story());
        assert!(!world.end(&call), "it is over");
        world.run_ms(3_000);
        for phone in [bob, carol] {
            assert!(
                !world.phones[phone].talks(),
                "after {at_ms} ms\n{}",
                world.story()
            );
        }
        let detail = world.detail();
        assert_eq!(detail.reason, "ended by an operator");
        assert!(
            [200, 487].contains(&detail.status),
            "after {at_ms} ms: {detail:?}"
        );
        world.assert_nothing_left();
    }
    let expected = [
        "Calling",
        "Connecting",
        "Preparing",
        "Ringing",
        "Talking",
        "Waiting",
    ];
    for stage in expected {
        assert!(stages.contains(stage), "{stage} was not met: {stages:?}");
    }
}

/// At whatever record the process is killed: the next one rings whom it must, every call ends with one detail.
#[test]
fn a_restart_in_the_middle_loses_and_doubles_nothing() {
    let script = |world: &mut World| {
        let bob = world.registered("bob", "builder");
        let carol = world.registered("carol", "singer");
        let call = world.ask("carol", "bob", "", Some("k1")).unwrap().call;
        world.run_ms(4_000);
        (bob, carol, call)
    };
    let mut whole = World::new();
    script(&mut whole);
    let count = whole.records.len();
    let began = whole
        .records
        .iter()
        .position(|record| matches!(record.kind, RecordKind::CallOriginated { .. }))
        .unwrap();
    assert!(count > began + 6, "{}", whole.story());
    let mut talking = 0;
    for kept in began..=count {
        let mut world = World::new();
        let (bob, carol, call) = script(&mut world);
        // The phones know nothing of what was not sent, so what they have is ended when it is gone from the journal.
        world.restart_from(kept);
        let repeated = world.ask("carol", "bob", "", Some("k1"));
        if kept > began {
            let repeated = repeated.unwrap();
            assert_eq!(repeated.call, call, "killed after {kept}");
            assert!(repeated.is_repeated);
        }
        world.run_ms(8_000);
        let live = world.controller.live(world.clocks());
        talking += live
            .calls
            .iter()
            .filter(|call| call.stage == CallStage::Talking)
            .count();
        for phone in [bob, carol] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
            }
        }
        world.run_ms(200_000);
        let calls: Vec<String> = world.details().into_iter().map(|detail| detail.call).collect();
        let distinct: BTreeSet<&String> = calls.iter().collect();
        assert_eq!(
            calls.len(),
            distinct.len(),
            "killed after {kept}\n{}",
            world.story()
        );
        let counters = world.controller.counters();
        assert_eq!(
            (counters.calls, counters.requests_pending),
            (0, 0),
            "killed after {kept}"
        );
        // Of a call of which nothing but its beginning was written, nobody knows who asked.
        for detail in world.details().iter().filter(|_| kept > began) {
            assert_eq!(
                detail.origin.kind,
                OriginKind::Api,
                "killed after {kept}: {detail:?}"
            );
        }
        assert!(
            world.media.sessions.is_empty(),
            "killed after {kept}\n{}",
            world.story()
        );
    }
    assert!(
        talking >= 2,
        "of {count} restarts {talking} went on to a conversation"
    );
}

/// Killed while the first party's phone rings: it stops, and rings again.
#[test]
fn a_phone_that_rang_before_a_restart_rings_again() {
    let (mut world, bob, carol) = town();
    world.behave(carol, Behaviour::Ring);
    let call = world.originate("carol", "bob", r#", "reference": "r1""#);
    world.run_ms(1_000);
    world.behave(carol, Behaviour::Answer(500));
    world.restart();
    world.run_ms(100);
    assert!(
        world.phones[carol].cancelled[0].contains("Controller restarted"),
        "{}",
        world.story()
    );
    world.run_ms(5_000);
    assert_eq!(world.phones[carol].rung, 2, "{}", world.story());
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(bob);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!((&detail.call, detail.status), (&call, 200));
    assert_eq!(detail.origin.reference.as_deref(), Some("r1"));
    world.assert_nothing_left();
}

#[test]
fn a_party_is_called_into_a_queue() {
    let mut config = config();
    config.calls.answer_before_music = true;
    let (mut world, bob, carol) = town_with(config);
    world
        .controller
        .agent_pause(world.clocks(), "bob", "later")
        .unwrap();
    world.originate("carol", "support", "");
    world.run_ms(3_000);
    assert_eq!(world.stage(), CallStage::Waiting, "{}", world.story());
    assert_eq!(world.played_to(carol), ["tone:melody"], "{}", world.story());
    world.controller.agent_ready(world.clocks(), "bob").unwrap();
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert!(world.played_to(carol).is_empty());
    assert_eq!(world.agent("bob"), AgentState::Talking);
    world.hang_up(carol);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(detail.queue.as_deref(), Some("support"));
    assert_eq!(detail.answered_by.as_deref(), Some("bob"));
    let _ = bob;
    world.assert_nothing_left();
}

/// Who never came to the queue does not count for it.
#[test]
fn a_party_that_does_not_answer_was_never_in_the_queue() {
    let (mut world, _, carol) = town();
    world.behave(carol, Behaviour::Refuse(StatusCode::BUSY_HERE));
    world.originate("carol", "support", "");
    world.run_ms(2_000);
    assert_eq!(world.detail().queue, None);
    world.assert_nothing_left();
}

#[test]
fn a_party_is_called_into_a_room() {
    let (mut world, bob, carol) = town();
    let customer = world.phone("customer");
    world.call(customer, "room-7");
    world.run_ms(500);
    let call = world.originate("carol", "room-7", "");
    world.run_ms(3_000);
    let both = BTreeSet::from([("customer", "carol"), ("carol", "customer")]);
    assert_eq!(world.heard(), both, "{}", world.story());
    let live = world.controller.live(world.clocks());
    let member = live.conferences[0].members[1].clone();
    assert_eq!(member.user.as_deref(), Some("carol"));
    let detail = world.detail();
    assert_eq!(detail.call, call);
    assert_eq!(
        detail.reason,
        format!("went on as call {} in room-7", member.call)
    );
    // A second one, who is put out by the API.
    world.originate("bob", "room-7", "");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 6, "{}", world.story());
    let live = world.controller.live(world.clocks());
    let third = live.conferences[0].members[2].call.clone();
    assert!(world.end(&third));
    world.run_ms(100);
    assert!(world.phones[bob].dialog.is_none());
    assert_eq!(world.heard(), both);
    world.hang_up(carol);
    world.run_ms(100);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn one_of_several_devices_answers_and_the_others_stop() {
    let (mut world, bob, carol) = town();
    let other = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Ring);
    world.originate("carol", "bob", "");
    world.run_ms(4_000);
    assert_eq!(world.phones[other].rung, 1);
    assert_eq!(world.phones[carol].cancelled.len(), 1, "{}", world.story());
    assert!(world.phones[carol].cancelled[0].contains("completed elsewhere"));
    assert_eq!(world.heard().len(), 2);
    world.hang_up(bob);
    world.assert_nothing_left();
}

const TRUNKS: &str = r#"
    [[trunks]]
    name = "a"
    targets = [{ uri = "sip:10.0.1.3:5060" }]
    probe_s = 0
    calls_max = 2
    tx_called = [{ pattern = "+.", strip = 1, prefix = "00" }]
    tx_caller = [{ pattern = "support", set = "+44207000009" }]
    [dialplan]
    rewrite = [{ pattern = "00.", strip = 2, prefix = "+" }]
    routes = [{ pattern = "+.", trunks = ["a"], accounts = ["bob"] }]
"#;

fn with_carrier() -> (World, usize, usize, usize) {
    let both: Config = toml::from_str(TRUNKS).unwrap();
    let mut all = config();
    (all.trunks, all.dialplan) = (both.trunks, both.dialplan);
    let (mut world, bob, carol) = town_with(all);
    let carrier = world.phone("carrier");
    (world, bob, carol, carrier)
}

#[test]
fn a_number_outside_is_the_second_party() {
    let (mut world, _, carol, carrier) = with_carrier();
    // The route is bob's; who asks here may use all.
    world.originate("carol", "0049301234", r#", "caller_id": "+44207000001""#);
    world.run_ms(4_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let invite = world.phones[carrier].invited_by.clone().unwrap();
    assert_eq!(&invite.uri_text()[..], b"sip:0049301234@10.0.1.3:5060");
    let from = header(&world, carrier, "From");
    assert!(from.contains("sip:+44207000001@"), "{from}");
    assert_eq!(world.controller.trunks_live()[0].calls, 1);
    world.hang_up(carol);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(
        (detail.caller_trunk, detail.callee_trunk.as_deref()),
        (None, Some("a"))
    );
    assert_eq!(world.controller.trunks_live()[0].calls, 0);
    world.assert_nothing_left();
}

#[test]
fn a_number_outside_is_called_back_and_brought_to_an_agent() {
    let (mut world, bob, _, carrier) = with_carrier();
    world.originate("+49301234", "support", "");
    world.run_ms(100);
    let from = header(&world, carrier, "From");
    assert!(from.contains("sip:+44207000009@"), "the queue's number: {from}");
    world.run_ms(4_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let from = header(&world, bob, "From");
    assert!(from.contains("sip:+49301234@example.com"), "{from}");
    world.restart();
    world.run_ms(500);
    assert_eq!(world.controller.trunks_live()[0].calls, 1, "it counts still");
    world.hang_up(carrier);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(
        (detail.caller_trunk.as_deref(), detail.callee_trunk),
        (Some("a"), None)
    );
    assert_eq!(
        (detail.answered_by.as_deref(), detail.ended_by),
        (Some("bob"), EndedBy::Caller)
    );
    assert_eq!(world.controller.trunks_live()[0].calls, 0);
    world.assert_nothing_left();
}

#[test]
fn a_request_that_comes_again_makes_no_second_call() {
    let (mut world, bob, carol) = town();
    let first = world.ask("carol", "bob", "", Some("k1")).unwrap();
    world.run_ms(100);
    let again = world.ask("carol", "bob", "", Some("k1")).unwrap();
    assert_eq!((&again.call, again.is_repeated), (&first.call, true));
    let other = world.ask("carol", "support", "", Some("k1"));
    assert_eq!(
        other,
        Err(OriginateError::KeyUsed {
            call: first.call.clone()
        })
    );
    world.run_ms(3_000);
    assert_eq!((world.phones[carol].rung, world.phones[bob].rung), (1, 1));
    world.hang_up(bob);
    world.run_ms(100);
    // Over, restarted, and with the old segment gone it is remembered still.
    let at = world.clocks();
    world.records = world.controller.standing(at);
    world.restart();
    let again = world.ask("carol", "bob", "", Some("k1")).unwrap();
    assert_eq!((&again.call, again.is_repeated), (&first.call, true));
    world.run_ms(24 * 3_600 * 1_000 + 1_000);
    world.registered("carol", "singer");
    world.registered("bob", "builder");
    let next = world.ask("carol", "bob", "", Some("k1")).unwrap();
    assert!(!next.is_repeated, "a day later it is another request");
    world.end(&next.call);
    world.run_ms(100);
}

#[test]
fn limits_are_kept_and_say_when_to_come_again() {
    let mut config = config();
    config.originate.calls_max = 2;
    config.originate.calls_per_s = 1;
    let (mut world, bob, carol) = town_with(config);
    world.behave(carol, Behaviour::Ring);
    world.behave(bob, Behaviour::Ring);
    let first = world.originate("carol", "bob", "");
    let refused = world.ask("carol", "bob", "", None).unwrap_err();
    assert!(matches!(refused, OriginateError::TooFast { per_s: 1, wait, .. } if wait.as_millis() == 1_000));
    world.run_ms(1_000);
    world.originate("bob", "carol", "");
    world.run_ms(1_000);
    let refused = world.ask("carol", "bob", "", None).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "2 calls that were asked for (originate.calls_max), the limit; try again later"
    );
    world.end(&first);
    world.run_ms(1_000);
    world.originate("carol", "bob", "");
    world.run_ms(40_000);
    world.assert_nothing_left();
}

#[test]
fn what_leads_nowhere_is_named() {
    let (mut world, ..) = town();
    let mut refusal = |from: &str, to: &str| world.ask(from, to, "", None).unwrap_err().to_string();
    assert_eq!(
        refusal("carol", "nobody"),
        "to: \"nobody\" leads nowhere; give an account, a queue, a menu or a room, or add a route for it to dialplan.routes"
    );
    assert_eq!(
        refusal("support", "carol"),
        "from: \"support\" has no phone that could be rung; give an account or a number, and this as to"
    );
    assert_eq!(
        refusal("alice", "carol"),
        "from: \"alice\" has no phone registered; try again when it has"
    );
    assert!(refusal("carol", "alice").starts_with("to: \"alice\" has no phone"));
    assert!(refusal("carol", "carol").contains("is the first party itself"));
    assert_eq!(world.controller.counters().calls_started, 0);
    world.lose_media_host();
    let refused = world.ask("carol", "bob", "", None);
    assert_eq!(refused, Err(OriginateError::NoMediaHost));
    world.assert_nothing_left();
}

/// The first host is full, so another takes it; and one that is lost while a phone rings is made up for.
#[test]
fn media_hosts_that_fail_are_made_up_for() {
    let (mut world, bob, carol) = town();
    world.behave(carol, Behaviour::Ring);
    world.originate("carol", "bob", "");
    world.run_ms(500);
    assert_eq!(world.stage(), CallStage::Calling);
    world.behave(carol, Behaviour::Answer(500));
    world.restart_media_host(false);
    world.run_ms(5_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert!(
        header(&world, carol, HeaderName::From.as_str()).contains("bob"),
        "it is told who calls again"
    );
    world.hang_up(bob);
    world.assert_nothing_left();
}
