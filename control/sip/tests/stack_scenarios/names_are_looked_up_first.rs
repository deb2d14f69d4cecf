use super::a_call_is_set_up_and_torn_down::establish;
use super::world::*;
use sip::header::NameAddr;
use sip::message::{HeaderName, Method, StatusCode};
use sip::stack::{DialogRequest, Event, Hop, LookupId, NameHop, StackError, Target, Transport};
use sip::uri::Uri;

const CAROL: usize = 2;

fn world() -> World {
    World::with_configs(11, Weather::FINE, Transport::Udp, |config| {
        config.resolves_names = true
    })
}

fn name(host: &'static str) -> NameHop {
    NameHop {
        host: host.into(),
        port: None,
        transport: None,
        secure: false,
    }
}

/// The one question that is open.
fn asked(world: &mut World, end: usize, host: &str) -> LookupId {
    let lookup = world.ends[end].stack.poll_lookup().unwrap();
    assert_eq!(lookup.name.host, host);
    assert_eq!(world.ends[end].stack.poll_lookup(), None);
    lookup.id
}

#[test]
fn the_targets_of_a_name_take_its_place_and_the_next_name_is_asked_for_when_they_fail() {
    let mut world = world();
    let (now, invite) = (world.now, world.invite(ALICE, BOB));
    let hops = vec![
        Hop::Name(name("first.example")),
        Hop::Name(name("second.example")),
    ];
    let sent = world.ends[ALICE].stack.request_to(now, invite, hops).unwrap();
    assert_eq!(world.ends[ALICE].stack.poll_transmit(), None);
    let id = asked(&mut world, ALICE, "first.example");
    // We have no socket for TLS: passed over.
    let targets = vec![Target::address(Transport::Tls, address(CAROL)), world.target(BOB)];
    world.ends[ALICE].stack.handle_lookup(now, id, targets);
    world.run_ms(20);
    let Event::Request { txn, .. } = world.event(BOB) else {
        panic!()
    };
    world.respond(BOB, txn, StatusCode::SERVICE_UNAVAILABLE);
    world.run_ms(20);
    let id = asked(&mut world, ALICE, "second.example");
    let (now, targets) = (world.now, vec![world.target(CAROL)]);
    world.ends[ALICE].stack.handle_lookup(now, id, targets);
    // Answered twice: the first answer counts.
    world.ends[ALICE].stack.handle_lookup(now, id, Vec::new());
    world.run_ms(20);
    let Event::Request { txn, .. } = world.event(CAROL) else {
        panic!()
    };
    world.respond(CAROL, txn, StatusCode::BUSY_HERE);
    world.run_ms(20);
    let Event::Response { txn, response, .. } = world.event(ALICE) else {
        panic!()
    };
    assert_eq!((txn, response.status), (sent, StatusCode::BUSY_HERE));
    world.ends.iter_mut().for_each(|end| end.events.clear());
    world.assert_nothing_left();
}

#[test]
fn a_name_without_targets_fails_and_one_without_answer_is_given_up() {
    let mut world = world();
    for answers in [true, false] {
        let (now, options) = (world.now, world.request_to(Method::Options, ALICE, BOB));
        let hops = vec![Hop::Name(name("nowhere.example"))];
        let sent = world.ends[ALICE].stack.request_to(now, options, hops).unwrap();
        let id = asked(&mut world, ALICE, "nowhere.example");
        if answers {
            world.ends[ALICE].stack.handle_lookup(now, id, Vec::new());
        } else {
            world.run_ms(33_000);
        }
        let failed = Event::TransportFailed {
            txn: sent,
            dialog: None,
        };
        assert_eq!(world.event(ALICE), failed);
        world.assert_nothing_left();
    }
}

#[test]
fn a_request_cancelled_before_it_has_a_target_is_never_sent() {
    let mut world = world();
    let (now, invite) = (world.now, world.invite(ALICE, BOB));
    let hops = vec![Hop::Name(name("slow.example"))];
    let sent = world.ends[ALICE].stack.request_to(now, invite, hops).unwrap();
    let id = asked(&mut world, ALICE, "slow.example");
    world.ends[ALICE].stack.cancel(now, sent, None).unwrap();
    let withdrawn = Event::Timeout {
        txn: sent,
        dialog: None,
    };
    assert_eq!(world.event(ALICE), withdrawn);
    let targets = vec![world.target(BOB)];
    world.ends[ALICE].stack.handle_lookup(now, id, targets);
    world.run_ms(50);
    assert_eq!(world.count("INVITE"), 0);
    world.assert_nothing_left();
}

#[test]
fn a_stack_that_looks_nothing_up_has_no_target_for_a_name() {
    let mut world = World::new(11, Weather::FINE);
    let (now, options) = (world.now, world.request_to(Method::Options, ALICE, BOB));
    let hops = vec![Hop::Name(name("nowhere.example"))];
    let refused = world.ends[ALICE].stack.request_to(now, options, hops);
    assert_eq!(refused, Err(StackError::NoTarget));
}

#[test]
fn a_dialog_whose_peer_names_a_host_goes_there_once_it_is_known() {
    let mut world = world();
    let (alices, bobs) = establish(&mut world);
    moves(&mut world, bobs, "sip:bob@moved.example");
    let id = asked(&mut world, ALICE, "moved.example");
    let info = || DialogRequest::new(Method::Info);
    let now = world.now;
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, info())
        .unwrap();
    world.run_ms(5);
    assert_eq!(world.count("A>B INFO"), 1, "until then it goes where it went");
    let targets = vec![world.target(CAROL), world.target(BOB)];
    let now = world.now;
    world.ends[ALICE].stack.handle_lookup(now, id, targets);
    world.ends[ALICE]
        .stack
        .dialog_request(now, alices, info())
        .unwrap();
    world.run_ms(5);
    assert_eq!(world.count("A>C INFO"), 1);
    // Carol is not there: the next target of the same name.
    let now = world.now;
    let gone = world.target(CAROL);
    world.ends[ALICE].stack.handle_transport_error(now, &gone);
    world.run_ms(5);
    assert_eq!(world.count("A>B INFO"), 2);
}

/// Bob goes on at this address: a re-INVITE of his has it as its Contact.
fn moves(world: &mut World, bobs: sip::stack::DialogKey, contact: &'static str) {
    let contact = NameAddr::new(Uri::parse(contact.into()).unwrap());
    let reinvite = DialogRequest::new(Method::Invite)
        .with_content(sdp().unwrap())
        .with_value(HeaderName::Contact, &contact);
    let now = world.now;
    world.ends[BOB].stack.dialog_request(now, bobs, reinvite).unwrap();
    world.run_ms(20);
    let Event::Request { txn, .. } = world.event(ALICE) else {
        panic!()
    };
    world.respond(ALICE, txn, StatusCode::OK);
    world.run_ms(20);
    let Event::Response { .. } = world.event(BOB) else {
        panic!()
    };
    world.ends[BOB].stack.ack(bobs, None).unwrap();
    world.run_ms(20);
    assert!(matches!(world.event(ALICE), Event::Ack { .. }));
}

#[test]
fn a_peer_that_moves_and_comes_back_is_found_where_its_name_leads() {
    let mut world = world();
    let (alices, bobs) = establish(&mut world);
    for _ in 0..2 {
        moves(&mut world, bobs, "sip:bob@home.example");
        let id = asked(&mut world, ALICE, "home.example");
        let (now, targets) = (world.now, vec![world.target(BOB)]);
        world.ends[ALICE].stack.handle_lookup(now, id, targets);
        moves(&mut world, bobs, "sip:bob@192.0.2.3");
        let (now, info) = (world.now, DialogRequest::new(Method::Info));
        let alice = &mut world.ends[ALICE].stack;
        alice.dialog_request(now, alices, info).unwrap();
        assert_eq!(alice.poll_transmit().unwrap().target.remote(), address(CAROL));
    }
}
