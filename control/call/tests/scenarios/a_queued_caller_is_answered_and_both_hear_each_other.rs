use std::collections::BTreeSet;

use call_control::{domain::AgentState, journal::EndedBy};

use crate::world::World;

#[test]
fn and_everything_is_accounted_for() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    assert_eq!(
        (world.agent("alice"), world.agent("bob")),
        (AgentState::Ready, AgentState::Away)
    );

    world.call(customer, "support");
    world.run_ms(500);
    assert_eq!(world.agent("alice"), AgentState::Reserved, "{}", world.story());
    assert_eq!(world.phones[customer].statuses, [180]);
    assert_eq!(
        world.heard(),
        BTreeSet::new(),
        "nobody is heard before the answer"
    );

    world.run_ms(1_500);
    let story = world.story();
    assert_eq!(world.phones[customer].statuses, [180, 200], "{story}");
    assert_eq!(world.agent("alice"), AgentState::Talking);
    assert_eq!(
        world.heard(),
        BTreeSet::from([("customer", "alice"), ("alice", "customer")]),
        "{story}"
    );
    assert_eq!(
        (world.phones[customer].codec(), world.phones[alice].codec()),
        ("PCMU".into(), "PCMU".into())
    );
    let session = world.media.sessions.values().next().unwrap();
    let edges: Vec<_> = session
        .edges
        .keys()
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .collect();
    assert_eq!(edges, [("callee-1", "caller"), ("caller", "callee-1")]);

    world.run_ms(10_000);
    world.hang_up(alice);
    world.run_ms(200);
    assert_eq!(world.agent("alice"), AgentState::WrapUp);
    assert!(
        world.phones[customer].dialog.is_none(),
        "either side's BYE ends both"
    );
    assert!(world.media.sessions.is_empty());
    world.run_ms(2_000);
    assert_eq!(world.agent("alice"), AgentState::Ready);

    let detail = world.detail();
    assert_eq!(
        (detail.queue.as_deref(), detail.answered_by.as_deref()),
        (Some("support"), Some("alice"))
    );
    assert_eq!(
        (detail.ended_by, detail.status, detail.rung),
        (EndedBy::Callee, 200, vec!["alice".to_owned()])
    );
    assert!((1_000..1_200).contains(&detail.wait_ms), "{}", detail.wait_ms);
    assert!((10_000..11_200).contains(&detail.talk_ms), "{}", detail.talk_ms);
    for media in [detail.caller_media, detail.callee_media] {
        let media = media.expect("the media host counted");
        assert_eq!((media.rx_packets, media.tx_packets), (500, 499));
        assert_eq!(
            (media.mos, media.mos_min),
            (Some(4.1), Some(2.9)),
            "of the whole call"
        );
    }
    assert_eq!(
        world.kinds(),
        [
            "alice away",
            "bob away",
            "alice ready",
            "started",
            "alice reserved",
            "ringing alice",
            "alice talking",
            "answered alice",
            "ended 200",
            "alice wrap_up",
            "detail",
            "alice ready"
        ]
    );
    for (record, message) in [
        ("Registered", "server>alice SIP/2.0 200"),
        ("CallStarted", "server>customer SIP/2.0 180"),
        ("CallRinging", "server>alice INVITE"),
        ("CallAnswered", "server>customer SIP/2.0 200"),
        ("CallEnded", "server>customer BYE"),
    ] {
        assert!(
            world.at(record) < world.at(message),
            "{record} is written first\n{}",
            world.story()
        );
    }
    world.assert_nothing_left();
}
