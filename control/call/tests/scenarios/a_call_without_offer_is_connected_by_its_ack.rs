use sip::message::HeaderName;

use crate::world::World;

#[test]
fn in_a_queue() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    let now = world.now;
    world.phones[customer].call(now, "support", false);
    world.run_ms(1_500);
    assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(
        (world.phones[customer].codec(), world.phones[alice].codec()),
        ("PCMU".into(), "PCMU".into())
    );
    world.hang_up(alice);
    world.run_ms(100);
    assert_eq!(world.detail().answered_by.as_deref(), Some("alice"));
    world.assert_nothing_left();
}

/// What may be left unread is no offer (RFC 3261 §20.11): an emergency call says so where its caller is.
#[test]
fn one_that_says_something_else_instead_too() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    let now = world.now;
    world.phones[customer].call_with(now, "support", false, |request| {
        let said = [
            (HeaderName::ContentType, "application/pidf+xml"),
            (HeaderName::ContentDisposition, "render;handling=optional"),
        ];
        for (name, value) in said {
            request.headers.push(name, value).unwrap();
        }
        request.body = "<presence/>".into();
    });
    world.run_ms(1_500);
    assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(alice);
    world.assert_nothing_left();
}

#[test]
fn each_side_may_speak_its_own_law() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.phones[alice].codecs = vec![sdp::Codec::pcma()];
    world.phones[customer].codecs = vec![sdp::Codec::pcmu()];
    world.call(customer, "support");
    world.run_ms(1_500);
    assert_eq!(
        (world.phones[customer].codec(), world.heard().len()),
        ("PCMU".into(), 2),
        "{}",
        world.story()
    );
    world.hang_up(customer);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(
        (detail.caller_codec.as_str(), detail.callee_codec.as_str()),
        ("PCMU", "PCMA")
    );
    world.assert_nothing_left();
}
