use crate::{
    program::free_ports,
    sipp::{Sipp, register},
    site::Site,
    voice::{Law, Voice},
};

/// The customer keeps its call, hears ringback and then carol; alice is told, hung up on, and free.
#[test]
fn to_a_user_and_the_customer_notices_only_the_voice() {
    let site = Site::start("transfer");
    let (alice_port, carol_port) = (free_ports(2), free_ports(2));
    register(&site, "alice", alice_port, false);
    register(&site, "carol", carol_port, false);
    let [mut customer_voice, mut alice_voice, mut carol_voice] =
        [500.0, 800.0, 1_200.0].map(|hz| Voice::new(Law::Mu, hz));
    let alice = Sipp::new("agent_transfers")
        .at(alice_port)
        .with_audio(&alice_voice);
    let mut alice = alice.with("TARGET", "carol").until_told().play(&site);
    let carol = Sipp::new("agent").at(carol_port).with_audio(&carol_voice);
    let mut carol = carol.until_told().play(&site);
    let customer = Sipp::new("caller").with_audio(&customer_voice);
    let customer = customer.with("USER", "customer").with("CALLED", "support");
    let mut customer = customer.until_told().play(&site);

    let (customer_to, _) = customer.description();
    customer_voice.talk_to(customer_to);
    alice_voice.talk_to(alice.description().0);
    customer_voice.listen().assert_is(800.0, &[500.0]);
    alice.go_on();
    let (carol_to, _) = carol.description();
    customer_voice.listen().assert_is_ringback();
    carol.go_on();
    carol_voice.talk_to(carol_to);
    alice.assert_done();
    customer_voice.listen().assert_is(1_200.0, &[500.0, 800.0]);
    carol_voice.listen().assert_is(500.0, &[1_200.0]);
    customer.go_on();
    customer.assert_done();
    carol.assert_done();
    assert_eq!(customer.received("INVITE"), 0, "the customer is asked nothing");
    for voice in [&mut customer_voice, &mut alice_voice, &mut carol_voice] {
        voice.end();
    }
    let call = site.only_call();
    assert_eq!(call["answered_by"], "carol", "{call:#}");
    let legs: Vec<&str> = call["legs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leg| leg["user"].as_str().unwrap_or("stranger"))
        .collect();
    assert_eq!(legs, ["stranger", "alice", "carol"], "{call:#}");
    assert!(
        call["legs"][1]["media"]["tx_packets"].as_u64().unwrap() > 50,
        "{call:#}"
    );
}
