use std::sync::Arc;

use crate::world::{Graph, Party, SESSION, Speaker, World, peer, rtcp_socket, rtp_socket};
use media_engine::command::{
    Command, Commit, DropReason, EventKind, Reply, ReplyToken, SessionKey, SocketId,
};

#[test]
fn what_stays_keeps_its_state_and_what_goes_gives_back_its_sockets() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let (mut a, mut b) = (Speaker::new(0xA), Speaker::new(0xB));
    for _ in 0..50 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
        world.receive(rtp_socket(1), peer(1), &b.packet(&[1]));
        world.pass_ms(20);
    }
    let before = world.report(SESSION).expect("the session is there");
    let last = world
        .sent_rtp()
        .iter()
        .rfind(|sent| sent.to == peer(0))
        .expect("a heard b")
        .header();

    // A third party comes and takes b's place.
    graph.endpoints.push(Party::new("c", 2));
    graph.hear(&[("a", "c"), ("c", "a")]);
    world.commit(SESSION, &graph);
    assert_eq!(world.releases(), []);
    let after = world.report(SESSION).expect("the session is there");
    assert_eq!(after.endpoints[..2], before.endpoints[..]);
    assert_eq!(after.transports[..2], before.transports[..]);
    assert_eq!(
        (world.engine.totals().endpoints, world.engine.totals().sockets),
        (3, 6)
    );

    world.receive(rtp_socket(2), peer(2), &Speaker::new(0xC).packet(&[3]));
    let next = world.sent_rtp().pop().expect("a hears c").header();
    assert_eq!(
        (next.ssrc, next.sequence),
        (last.ssrc, last.sequence.wrapping_add(1))
    );

    // b leaves, and what it counted is told.
    let counted = world.endpoint("b");
    assert_eq!((counted.ingress.packets, counted.egress.packets), (50, 50));
    world.events();
    graph.endpoints.retain(|party| party.id != "b");
    world.commit(SESSION, &graph);
    let told = world.events();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].subject.as_deref(), Some("b"));
    assert_eq!(told[0].kind, EventKind::EndpointRemoved(Box::new(counted)));
    assert_eq!(world.releases(), [rtp_socket(1), rtcp_socket(1)]);
    assert_eq!(
        (world.engine.totals().endpoints, world.engine.totals().sockets),
        (2, 4)
    );
    world.sent();
    world.receive(rtp_socket(1), peer(1), &b.packet(&[1]));
    assert_eq!(world.engine.totals().drops[DropReason::NoEndpoint as usize], 1);
    assert_eq!(world.sent(), []);
}

#[test]
fn formats_and_addresses_change_in_place() {
    let mut world = World::new();
    let mut graph = Graph::call();
    world.commit(SESSION, &graph);
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    let first = world.sent_rtp()[0].header();
    graph.party("b").send = vec![crate::world::pcma()];
    graph.party("b").remote = Some(peer(77));
    world.commit(SESSION, &graph);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[0x80]));
    let sent = world.sent_rtp();
    let second = sent[0].header();
    assert_eq!(sent[0].to, peer(77));
    assert_eq!(second.payload_type.value(), 8);
    assert_eq!(
        (second.ssrc, second.sequence),
        (first.ssrc, first.sequence.wrapping_add(1))
    );
    assert_eq!(
        second.timestamp.diff(first.timestamp),
        160,
        "the same source goes on by its own clock"
    );
    assert!(!second.marker);
}

#[test]
fn the_end_is_answered_and_leaves_nothing() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    world.receive(rtp_socket(0), peer(0), &Speaker::new(0xA).packet(&[1]));
    world.command(Command::End(SESSION, ReplyToken(9)));
    let Some((ReplyToken(9), Reply::Ended(Some(report)))) = world.engine.poll_reply() else {
        panic!("the end is answered with the last state");
    };
    assert_eq!(report.endpoints[0].ingress.packets, 1);
    let mut released = world.releases();
    released.sort();
    assert_eq!(released, [SocketId(0), SocketId(1), SocketId(2), SocketId(3)]);
    let totals = *world.engine.totals();
    assert_eq!((totals.sessions, totals.endpoints, totals.sockets), (0, 0, 0));
    assert_eq!(world.engine.poll_timeout(), None);
    world.command(Command::End(SESSION, ReplyToken(10)));
    assert!(matches!(
        world.engine.poll_reply(),
        Some((ReplyToken(10), Reply::Ended(None)))
    ));
    assert_eq!(world.report(SESSION), None);
}

#[test]
fn a_socket_used_again_never_reaches_the_session_before() {
    let mut world = World::new();
    world.commit(SESSION, &Graph::call());
    let mut a = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    world.command(Command::End(SESSION, ReplyToken(1)));
    world.engine.poll_reply();
    world.sent();
    let second = SessionKey(2);
    let mut graph = Graph::call();
    graph.party("a").remote = Some(peer(60));
    graph.party("b").remote = Some(peer(61));
    world.commit(second, &graph);
    // The old peer goes on sending: nobody of the new session hears it.
    for _ in 0..3 {
        world.receive(rtp_socket(0), peer(0), &a.packet(&[1]));
    }
    assert_eq!(world.sent_rtp(), []);
    world.receive(rtp_socket(0), peer(60), &Speaker::new(0xC).packet(&[2]));
    let sent = world.sent_rtp();
    assert_eq!((sent.len(), sent[0].to), (1, peer(61)));
    let report = world.report(second).expect("the session is there");
    assert_eq!(report.endpoints[0].ingress.packets, 1);
    assert_eq!(report.transports[0].drops[DropReason::Probation as usize], 3);
}

/// The kernel would not give its worker room for a socket.
#[test]
fn a_transport_without_sockets_is_deaf_and_disturbs_nobody() {
    let mut world = World::new();
    let mut graph = Graph::call();
    let (mut sockets, streams) = graph.resources(None);
    sockets.retain(|sockets| &*sockets.transport != "t-a");
    let commit = Commit {
        session: SESSION,
        name: "s".into(),
        spec: Arc::new(graph.spec()),
        sockets,
        streams,
        links: Vec::new(),
        prompts: Vec::new(),
        recordings: Vec::new(),
        taps: Vec::new(),
        keys: Vec::new(),
    };
    world.command(Command::Commit(Box::new(commit)));
    let (mut b, mut c) = (Speaker::new(0xB), Speaker::new(0xC));
    world.receive(rtp_socket(1), peer(1), &b.packet(&[1]));
    world.pass_ms(10_000);
    assert!(world.sent().iter().all(|sent| sent.socket == rtcp_socket(1)));
    // Others of the session talk, and it ends as any other.
    graph.endpoints.push(Party::new("c", 2));
    graph.hear(&[("b", "c"), ("c", "b"), ("a", "b")]);
    graph.edges[2].muted = true;
    world.commit(SESSION, &graph);
    world.receive(rtp_socket(2), peer(2), &c.packet(&[2]));
    assert_eq!(world.sent_rtp()[0].to, peer(1));
    world.command(Command::End(SESSION, ReplyToken(99)));
    let mut released = world.releases();
    released.sort_unstable();
    assert_eq!(
        released,
        [rtp_socket(1), rtcp_socket(1), rtp_socket(2), rtcp_socket(2)]
    );
}
