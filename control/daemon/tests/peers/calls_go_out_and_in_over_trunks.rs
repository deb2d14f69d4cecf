//! sipp as a carrier, at 127.0.0.2. Alice (700 Hz) calls a number that leads there; the carrier says 1 100 Hz.

use std::net::{Ipv4Addr, UdpSocket};

use crate::{
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, agent, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

const CARRIER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Alice's calls lead to carrier `a` at this port, and when it fails to `b` at the other.
fn site(name: &str, ports: [u16; 2]) -> Site {
    let [a, b] = ports;
    Plan::new(name)
        .with("signalling.allow_anonymous_calls=false")
        .with_sections(&format!(
            "[[trunks]]\nname = 'a'\ntargets = [{{ uri = 'sip:{CARRIER}:{a}' }}]\nsources = ['{CARRIER}']\n\
             username = 'us'\npassword = 'agreed'\nprobe_s = 0\nsetup_timeout_s = 1\n\
             tx_called = [{{ pattern = '+.', strip = 1, prefix = '00' }}]\n\
             rx_called = [{{ pattern = '+442070.', set = 'support' }}]\n\
             [[trunks]]\nname = 'b'\ntargets = [{{ uri = 'sip:{CARRIER}:{b};transport=tcp' }}]\nprobe_s = 0\n\
             [dialplan]\nroutes = [{{ pattern = '+.', trunks = ['a', 'b'] }}]\n"
        ))
        .start()
}

fn alice_calls(site: &Site, voice: &Voice) -> Playing {
    Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "+49301234")
        .proving_for("+49301234@127.0.0.1")
        .until_told()
        .with_audio(voice)
        .play(site)
}

fn voices() -> [Voice; 2] {
    [Voice::new(Law::Mu, 700.0), Voice::new(Law::A, 1_100.0)]
}

/// Each hears the other, Alice hangs up, and only this trunk carried it.
fn talk_and_end(site: &Site, mut alice: Playing, mut carrier: Playing, mut voices: [Voice; 2], trunk: &str) {
    site.wait_for_call("talking");
    voices[0].talk_to(alice.description().0);
    voices[1].talk_to(carrier.description().0);
    voices[0].listen().assert_is(1_100.0, &[700.0]);
    voices[1].listen().assert_is(700.0, &[1_100.0]);
    alice.go_on();
    alice.assert_done();
    carrier.assert_done();
    for voice in &mut voices {
        voice.end();
    }
    let call = site.only_call();
    assert_eq!(
        (
            &call["ended_by"],
            &call["status"],
            &call["caller_codec"],
            &call["callee_codec"]
        ),
        (&"caller".into(), &200.into(), &"PCMU".into(), &"PCMA".into()),
        "{call:#}"
    );
    for told in site.list("/v1/trunks") {
        let failures = usize::from(trunk == "b" && told["name"] == "a");
        assert_eq!(told["tx_failures"], failures, "{told}");
        assert_eq!(told["calls"], 0, "{told}");
    }
}

#[test]
fn with_a_password_and_heard_before_the_answer() {
    let ports = [free_ports(2), free_ports(2)];
    let site = site("trunk-password", ports);
    let mut voices = voices();
    let carrier = Sipp::new("carrier_asks_for_password")
        .at(ports[0])
        .on(CARRIER)
        .with("USER", "us")
        .with("PASSWORD", "agreed")
        .until_told()
        .with_audio(&voices[1])
        .play(&site);
    let alice = alice_calls(&site, &voices[0]);
    voices[1].talk_to(carrier.description().0);
    voices[0].talk_to(alice.description().0);
    voices[0].listen().assert_is(1_100.0, &[700.0]);
    assert_eq!(alice.received("SIP/2.0 183"), 1);
    assert_eq!(alice.received("SIP/2.0 200"), 0, "it rings still");
    site.wait_for_call("ringing");
    carrier.go_on();
    let invites = carrier.messages();
    assert!(
        invites.contains(&format!("INVITE sip:0049301234@{CARRIER}:{}", ports[0])),
        "{invites}"
    );
    talk_and_end(&site, alice, carrier, voices, "a");
}

#[test]
fn over_the_second_when_the_first_is_full() {
    let ports = [free_ports(2), free_ports(2)];
    let site = site("trunk-full", ports);
    let voices = voices();
    let mut full = agent("agent_refuses", ports[0])
        .on(CARRIER)
        .with("STATUS", 503)
        .play(&site);
    let second = Sipp::new("agent")
        .at(ports[1])
        .on(CARRIER)
        .over_tcp()
        .with_audio(&voices[1])
        .play(&site);
    let alice = alice_calls(&site, &voices[0]);
    full.assert_done();
    talk_and_end(&site, alice, second, voices, "b");
}

#[test]
fn over_the_second_when_the_first_says_nothing() {
    let ports = [free_ports(2), free_ports(2)];
    let site = site("trunk-silent", ports);
    let voices = voices();
    let silent = UdpSocket::bind((CARRIER, ports[0])).unwrap();
    let second = Sipp::new("agent")
        .at(ports[1])
        .on(CARRIER)
        .over_tcp()
        .with_audio(&voices[1])
        .play(&site);
    let alice = alice_calls(&site, &voices[0]);
    let mut buffer = [0; 4_096];
    let (length, _) = silent.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"INVITE sip:0049301234@"));
    talk_and_end(&site, alice, second, voices, "b");
}

/// A number of ours leads to the queue; who calls is known by the carrier's address and asked for no password.
#[test]
fn in_by_a_number_of_ours() {
    let ports = [free_ports(2), free_ports(2)];
    let site = site("trunk-in", ports);
    let mut voices = voices();
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let mut bob = Sipp::new("agent").at(bob_port).with_audio(&voices[1]).play(&site);
    let mut carrier = Sipp::new("caller")
        .at(ports[0])
        .on(CARRIER)
        .with("USER", "+4930555")
        .with("CALLED", "+442070123")
        .with_audio(&voices[0])
        .until_told()
        .play(&site);
    voices[0].talk_to(carrier.description().0);
    voices[1].talk_to(bob.description().0);
    voices[0].listen().assert_is(1_100.0, &[700.0]);
    voices[1].listen().assert_is(700.0, &[1_100.0]);
    let trunk = wait_for("the trunk carries a call", || {
        let trunks = site.list("/v1/trunks");
        trunks.into_iter().find(|trunk| trunk["calls"] == 1)
    });
    assert_eq!(
        (&trunk["name"], &trunk["rx_calls"]),
        (&"a".into(), &1.into()),
        "{trunk}"
    );
    carrier.go_on();
    carrier.assert_done();
    bob.assert_done();
    for voice in &mut voices {
        voice.end();
    }
    let call = site.only_call();
    assert_eq!(
        (&call["queue"], &call["answered_by"]),
        (&"support".into(), &"bob".into()),
        "{call:#}"
    );
    assert!(call["from"].as_str().unwrap().contains("+4930555"), "{call:#}");
}
