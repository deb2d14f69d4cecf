use crate::{
    program::free_ports,
    sipp::{Sipp, register},
    site::Plan,
    voice::{Law, Voice},
};

/// The melody that media hosts have built in, until an agent is there.
#[test]
fn until_an_agent_answers() {
    let site = Plan::new("music").with("calls.answer_before_music=true").start();
    let (mut voice, mut agent_voice) = (Voice::new(Law::A, 700.0), Voice::new(Law::Mu, 1_100.0));
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with_audio(&voice)
        .until_told()
        .play(&site);
    let (to, _) = caller.description();
    voice.talk_to(to);
    voice.listen().assert_is_music(&[700.0]);

    let agent_port = free_ports(2);
    register(&site, "bob", agent_port, false);
    let mut agent = Sipp::new("agent")
        .at(agent_port)
        .with_audio(&agent_voice)
        .pausing_ms(500)
        .play(&site);
    let (agent_to, _) = agent.description();
    agent_voice.talk_to(agent_to);
    site.wait_for_agent("bob", "talking");
    voice.listen().assert_is(1_100.0, &[700.0]);
    agent_voice.listen().assert_is(700.0, &[1_100.0]);
    caller.go_on();
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
