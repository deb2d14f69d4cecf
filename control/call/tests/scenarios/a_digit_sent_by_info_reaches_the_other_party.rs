use proto::mediad::v1 as pb;
use sip::{
    message::Method,
    stack::{Content, DialogRequest},
};

use crate::world::World;

#[test]
fn as_the_media_host_sends_it() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    for (phone, content) in [
        (
            customer,
            Content::new("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"),
        ),
        (alice, Content::new("application/dtmf", "#")),
        (alice, Content::new("application/dtmf", "reboot")),
    ] {
        let now = world.now;
        world.phones[phone].send(now, DialogRequest::new(Method::Info).with_content(content));
        world.run_ms(100);
    }
    let acts = world.media.acts.iter().map(|act| match &act.act {
        Some(pb::act_request::Act::SendDigits(send)) => {
            (act.node.as_str(), send.digits.as_str(), send.duration_ms)
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(
        acts.collect::<Vec<_>>(),
        [("callee-1", "5", 160), ("caller", "#", 100)]
    );
    world.hang_up(customer);
    world.assert_nothing_left();
}
