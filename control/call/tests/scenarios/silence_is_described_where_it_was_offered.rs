use call_control::config::ComfortNoise;
use proto::mediad::v1 as pb;
use sdp::Codec;

use crate::world::{World, config};

/// Whether each party's endpoint has comfort noise, and whether silence towards it is suppressed.
fn described(world: &World) -> Vec<(String, bool, bool)> {
    let session = world.media.sessions.values().next().unwrap();
    let nodes = session.nodes.iter().filter_map(|(name, kind)| match kind {
        pb::node::Kind::Endpoint(endpoint) => Some((name, endpoint)),
        _ => None,
    });
    nodes
        .map(|(name, endpoint)| {
            let is_noise = |format: &pb::PayloadFormat| format.codec() == pb::Codec::ComfortNoise;
            let noise = endpoint.formats.iter().find(|format| is_noise(format));
            assert!(noise.is_none_or(|noise| (noise.payload_type, noise.clock_rate_hz) == (13, 8_000)));
            (name.clone(), noise.is_some(), endpoint.suppress_silence)
        })
        .collect()
}

/// A customer calls alice; each may know comfort noise.
fn talking(policy: ComfortNoise, customer_knows: bool, alice_knows: bool) -> (bool, bool) {
    let mut config = config();
    config.media.comfort_noise = policy;
    config.media.suppress_silence = customer_knows;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    for (phone, knows) in [(customer, customer_knows), (alice, alice_knows)] {
        let noise = knows.then(|| Codec::comfort_noise(8_000));
        world.phones[phone].codecs = [Codec::pcmu()].into_iter().chain(noise).collect();
    }
    world.call(customer, "alice");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let parties = described(&world);
    assert!(
        parties
            .iter()
            .all(|(.., suppressed)| *suppressed == customer_knows)
    );
    let of = |caller: bool| {
        let mut found = parties.iter().filter(|(name, ..)| (name == "caller") == caller);
        found.next().unwrap_or_else(|| panic!("{parties:?}")).1
    };
    let has = (of(true), of(false));
    world.hang_up(customer);
    world.assert_nothing_left();
    has
}

#[test]
fn it_is_accepted_and_offered_to_the_counterpart_of_who_offers_it() {
    let policy = ComfortNoise::Accept;
    assert_eq!(talking(policy, true, true), (true, true));
    assert_eq!(talking(policy, true, false), (true, false));
    assert_eq!(
        talking(policy, false, true),
        (false, false),
        "who did not ask is not asked"
    );
}

#[test]
fn or_offered_to_everybody_or_never() {
    assert_eq!(talking(ComfortNoise::Offer, false, true), (false, true));
    assert_eq!(talking(ComfortNoise::Offer, true, true), (true, true));
    assert_eq!(talking(ComfortNoise::Off, true, true), (false, false));
}
