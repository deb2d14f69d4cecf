use crate::{
    program::free_ports,
    sipp::{Sipp, register},
    site::Site,
    voice::{Law, Voice, share},
};

/// The melody that media hosts have built in, until an agent is there.
#[test]
fn until_an_agent_answers() {
    let site = Site::start_with("music", &["calls.answer_before_music=true"]);
    let (mut voice, mut agent_voice) = (Voice::new(Law::A, 700.0), Voice::new(Law::Mu, 1_100.0));
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with("MEDIA_PORT", voice.port())
        .with("LAW", 8)
        .with("LAW_NAME", "PCMA")
        .pausing_ms(12_000)
        .play(&site);
    let (to, _) = caller.description();
    voice.talk_to(to);
    let music = voice.listen();
    // Its notes are between 100 and 700 Hz; three of them sound in any stretch of this length.
    let notes = [
        110.0, 130.8, 174.6, 196.0, 261.6, 293.7, 329.6, 349.2, 392.0, 440.0, 493.9, 523.3, 587.3, 659.3,
    ];
    let all: f64 = notes.iter().map(|hz| share(&music, *hz, 8_000.0)).sum();
    assert!(all > 0.7, "the caller hears notes to {all:.3}");
    assert!(share(&music, 700.0, 8_000.0) < 0.05, "and not itself");

    let agent_port = free_ports(2);
    register(&site, "bob", agent_port, false);
    let mut agent = Sipp::new("agent")
        .at(agent_port)
        .with("MEDIA_PORT", agent_voice.port())
        .with("LAW", 0)
        .with("LAW_NAME", "PCMU")
        .pausing_ms(500)
        .play(&site);
    let (agent_to, _) = agent.description();
    agent_voice.talk_to(agent_to);
    site.wait_for_agent("bob", "talking");
    let talk = voice.listen();
    assert!(share(&talk, 1_100.0, 8_000.0) > 0.9, "the caller hears the agent");
    let talk = agent_voice.listen();
    assert!(share(&talk, 700.0, 8_000.0) > 0.9, "the agent hears the caller");
    caller.assert_done();
    agent.assert_done();
    assert_eq!(caller.received("INVITE"), 0);
    voice.end();
    agent_voice.end();
    let call = site.only_call();
    assert_eq!(
        (&call["answered_by"], &call["status"]),
        (&"bob".into(), &200.into()),
        "{call:#}"
    );
    assert!(call["wait_ms"].as_u64().unwrap() > 1_000, "{call:#}");
}
