use crate::{
    program::free_ports,
    sipp::{Sipp, register},
    site::Site,
    voice::{Law, Voice, share},
};

fn with_audio(phone: Sipp, voice: &Voice) -> Sipp {
    phone
        .with("MEDIA_PORT", voice.port())
        .with("LAW", 0)
        .with("LAW_NAME", "PCMU")
}

/// The customer keeps its call, hears ringback and then carol; alice is told, hung up on, and free.
#[test]
fn to_a_user_and_the_customer_notices_only_the_voice() {
    let site = Site::start("transfer");
    let (alice_port, carol_port) = (free_ports(2), free_ports(2));
    register(&site, "alice", alice_port, false);
    register(&site, "carol", carol_port, false);
    let [mut customer_voice, mut alice_voice, mut carol_voice] =
        [500.0, 800.0, 1_200.0].map(|hz| Voice::new(Law::Mu, hz));
    let alice = with_audio(Sipp::new("agent_transfers").at(alice_port), &alice_voice);
    let mut alice = alice.with("TARGET", "carol").pausing_ms(3_000).play(&site);
    let carol = with_audio(Sipp::new("agent").at(carol_port), &carol_voice);
    let mut carol = carol.pausing_ms(3_000).play(&site);
    let customer = with_audio(Sipp::new("caller"), &customer_voice);
    let customer = customer.with("USER", "customer").with("CALLED", "support");
    let mut customer = customer.pausing_ms(12_000).play(&site);

    let (customer_to, _) = customer.description();
    customer_voice.talk_to(customer_to);
    alice_voice.talk_to(alice.description().0);
    let heard = customer_voice.listen();
    assert!(share(&heard, 800.0, 8_000.0) > 0.9, "the customer hears alice");
    // 440 and 480 Hz, as E.180 has it for the United States.
    let (carol_to, _) = carol.description();
    let ringback = customer_voice.listen();
    let both = share(&ringback, 440.0, 8_000.0) + share(&ringback, 480.0, 8_000.0);
    assert!(both > 0.7, "the customer hears ringback to {both:.3}");
    carol_voice.talk_to(carol_to);
    alice.assert_done();
    let heard = customer_voice.listen();
    assert!(share(&heard, 1_200.0, 8_000.0) > 0.9, "the customer hears carol");
    assert!(share(&heard, 800.0, 8_000.0) < 0.01, "and alice no more");
    let heard = carol_voice.listen();
    assert!(share(&heard, 500.0, 8_000.0) > 0.9, "carol hears the customer");
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
