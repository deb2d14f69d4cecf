use sdp::{Codec, Description};

use crate::world::{World, config};

/// The audio codecs that the last INVITE to a phone offered.
fn offered(world: &World, phone: usize) -> Vec<String> {
    let invite = world.phones[phone].invited_by.as_ref().unwrap();
    let offer = Description::parse(&invite.body).unwrap();
    let formats = offer.media()[0].formats.clone();
    let names = formats.into_iter().map(|format| format.codec);
    let audio = names.filter(|codec| !codec.is_telephone_event());
    audio.map(|codec| codec.name.to_string()).collect()
}

/// G.711 inside, anything outside, and one account of its own: whoever calls whom, the media host translates.
#[test]
fn inside_outside_and_for_one_account() {
    let mut config = config();
    config.media.codecs = ["G722", "PCMA", "PCMU"].map(str::to_owned).to_vec();
    config.media.codecs_inside = vec!["PCMU".to_owned()];
    let bob = config.accounts.iter_mut().find(|account| account.user == "bob");
    bob.unwrap().codecs = vec!["PCMA".to_owned()];
    let mut world = World::with(config);
    let (alice, bob) = (
        world.registered("alice", "wonder"),
        world.registered("bob", "builder"),
    );
    let everything = || vec![Codec::g722(), Codec::pcma(), Codec::pcmu()];
    for phone in [alice, bob] {
        world.phones[phone].codecs = everything();
    }
    let customer = world.phone("customer");
    world.phones[customer].codecs = vec![Codec::g722()];
    for (called, phone, codec) in [("alice", alice, "PCMU"), ("bob", bob, "PCMA")] {
        world.call(customer, called);
        world.run_ms(2_000);
        assert_eq!(offered(&world, phone), [codec], "{}", world.story());
        assert_eq!(world.phones[phone].codec(), codec);
        assert_eq!(world.phones[customer].codec(), "G722", "outside anything goes");
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(customer);
        world.run_ms(1_000);
    }
    // One of ours calls: what is agreed with her is what her side may speak.
    let now = world.now;
    world.phones[alice].password = "wonder";
    world.phones[alice].call(now, "bob", true);
    world.run_ms(2_000);
    assert_eq!(
        (world.phones[alice].codec(), world.phones[bob].codec()),
        ("PCMU".to_owned(), "PCMA".to_owned())
    );
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(bob);
    world.assert_nothing_left();
}
