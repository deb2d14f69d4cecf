use std::{fs, thread, time::Duration};

use crate::{
    program::free_ports,
    sipp::{Sipp, register},
    site::Site,
    voice::{Law, Voice},
};

/// The agent is sipp with its own echo: what the caller says comes back through the media host, twice.
#[test]
fn from_an_agent_that_echoes() {
    let site = Site::start("echo");
    let (agent_port, media_port) = (free_ports(2), free_ports(4));
    register(&site, "alice", agent_port, false);
    let mut agent = Sipp::new("agent_echoes")
        .at(agent_port)
        .argument("-rtp_echo")
        .argument("-mp")
        .argument(&media_port.to_string())
        .play(&site);
    let mut voice = Voice::new(Law::A, 700.0);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with_audio(&voice)
        .pausing_ms(2_000)
        .play(&site);
    let (to, formats) = caller.description();
    assert_eq!(formats.first(), Some(&8));
    voice.talk_to(to);
    caller.assert_done();
    agent.assert_done();
    let (sent, heard) = voice.end();
    voice.assert_heard(to, 700.0, &[1_100.0]);
    // 2 s are 100 packets; a busy machine lets the voice send fewer.
    assert!(sent >= 50 && heard + 5 >= sent, "sent {sent}, heard {heard}");
    let call = site.only_call();
    let who = (&call["queue"], &call["answered_by"], &call["ended_by"]);
    assert_eq!(who, (&"support".into(), &"alice".into(), &"caller".into()));
    let codecs = (&call["caller_codec"], &call["callee_codec"]);
    assert_eq!(codecs, (&"PCMA".into(), &"PCMA".into()));
    assert_eq!(call["caller_media"]["tx_packets"], heard, "{call:#}");
}

/// The caller is sipp with its own RTP sender; what the agent hears is the file it plays.
#[test]
fn and_the_agent_hears_what_a_phone_streams() {
    let site = Site::start("stream");
    let file = site.dir.join("tone.al");
    let sample = |at: u32| (8_000.0 * (std::f64::consts::TAU * 900.0 * f64::from(at) / 8_000.0).sin()) as i16;
    fs::write(
        &file,
        (0..16_000)
            .map(|at| Law::A.encode(sample(at)))
            .collect::<Vec<_>>(),
    )
    .unwrap();

    let agent_port = free_ports(2);
    register(&site, "bob", agent_port, true);
    let mut voice = Voice::new(Law::Mu, 1_100.0);
    let mut agent = Sipp::new("agent")
        .at(agent_port)
        .over_tcp()
        .with_audio(&voice)
        .play(&site);
    let mut caller = Sipp::new("caller_streams")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with("AUDIO_FILE", file.display())
        .argument("-mp")
        .argument(&free_ports(4).to_string())
        .pausing_ms(2_000)
        .play(&site);
    let (to, _) = agent.description();
    voice.talk_to(to);
    caller.assert_done();
    agent.assert_done();
    thread::sleep(Duration::from_millis(50));
    let (_, heard) = voice.end();
    voice.assert_heard(to, 900.0, &[1_100.0, 700.0]);
    let call = site.only_call();
    assert_eq!(call["caller_codec"], "PCMA");
    assert_eq!(call["callee_codec"], "PCMU");
    assert_eq!(call["callee_media"]["tx_packets"], heard, "{call:#}");
    assert!(heard >= 80, "2 s are 100 packets: {heard}");
}
