use std::collections::BTreeMap;

use proto::mediad::v1::DtmfPolicy;
use sip::message::Method;

use crate::world::{World, config};

/// What becomes of digits on each way, by the ends of the edge.
fn policies(world: &World) -> BTreeMap<(String, String), DtmfPolicy> {
    let session = world.media.sessions.values().next().unwrap();
    let edges = session.edges.iter();
    edges.map(|(ends, edge)| (ends.clone(), edge.dtmf())).collect()
}

fn of(world: &World, from: &str, to: &str) -> DtmfPolicy {
    let found = policies(world).get(&(from.to_owned(), to.to_owned())).copied();
    found.unwrap_or_else(|| panic!("no edge {from}>{to}\n{}", world.story()))
}

/// A customer whose phone knows no telephone-events, and INFO or not, talks to alice, whose does; recorded.
fn talking(knows_info: bool, converts: bool) -> (World, usize, usize) {
    let mut config = config();
    config.queues[0].record = true;
    config.media.convert_digits = converts;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone_with("customer", |stack| {
        stack
            .methods
            .retain(|method| knows_info || *method != Method::Info);
    });
    world.phones[customer].codecs = vec![sdp::Codec::pcmu()];
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    (world, alice, customer)
}

/// Tones become telephone-events for who takes those, and are heard by nobody, in the recording neither.
#[test]
fn tones_as_telephone_events() {
    let (mut world, _, customer) = talking(false, true);
    assert_eq!(of(&world, "caller", "callee-1"), DtmfPolicy::Convert);
    assert_eq!(of(&world, "caller", "recording"), DtmfPolicy::Clamp);
    // The media host makes tones of them where they are not understood.
    assert_eq!(of(&world, "callee-1", "caller"), DtmfPolicy::Unspecified);
    assert_eq!(of(&world, "callee-1", "recording"), DtmfPolicy::Unspecified);
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Who is told by INFO does not hear the tone as well.
#[test]
fn telephone_events_by_info_alone() {
    let (mut world, _, customer) = talking(true, true);
    assert_eq!(of(&world, "callee-1", "caller"), DtmfPolicy::Block);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn not_where_the_setting_says_so() {
    let (mut world, _, customer) = talking(false, false);
    assert!(
        policies(&world)
            .values()
            .all(|policy| *policy == DtmfPolicy::Unspecified)
    );
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Between two that take the same, a relay stays a relay.
#[test]
fn nor_between_two_who_speak_alike() {
    for codecs in [
        vec![sdp::Codec::pcmu()],
        vec![sdp::Codec::pcmu(), sdp::Codec::telephone_event(8_000)],
    ] {
        let mut world = World::new();
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        for phone in [alice, customer] {
            world.phones[phone].codecs.clone_from(&codecs);
        }
        world.call(customer, "alice");
        world.run_ms(2_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        assert!(
            policies(&world)
                .values()
                .all(|policy| *policy == DtmfPolicy::Unspecified)
        );
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}
