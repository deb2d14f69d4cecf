//! Ringing may take longer than the rest after it: the rest counts from its end, and others go first.

use std::time::{Duration, Instant};

use call_control::domain::{AgentConfig, Decline, Domain, Output, QueueConfig, Race};

#[allow(
    clippy::disallowed_methods,
    reason = "an arbitrary beginning; only differences count"
)]
fn beginning() -> Instant {
    Instant::now()
}

fn offers(domain: &mut Domain) -> Vec<(call_control::domain::OfferId, String)> {
    let outputs = std::iter::from_fn(|| domain.poll_output());
    let offers = outputs.filter_map(|output| match output {
        Output::Offer { offer, agent, .. } => Some((offer, agent.to_string())),
        Output::Withdraw { .. } | Output::Overdue { .. } | Output::Position { .. } => None,
    });
    offers.collect()
}

fn agents(now: Instant, names: &[&str]) -> Domain {
    let mut domain = Domain::default();
    domain.put_queue("support", QueueConfig::default());
    for (index, name) in names.iter().enumerate() {
        let config = AgentConfig {
            queues: vec!["support".into()],
            ..AgentConfig::default()
        };
        domain.put_agent(now, name, config);
        let at = now + Duration::from_secs(index as u64);
        domain.agent_ready(at, name).expect("it was put above");
    }
    domain
}

#[test]
fn the_next_one_is_rung_at_once() {
    let start = beginning();
    let mut domain = agents(start, &["alice", "bob"]);
    let now = start + Duration::from_secs(10);
    domain.enqueue(now, "support", 0).unwrap();
    assert_eq!(offers(&mut domain)[0].1, "alice", "idle longest");
    let now = now + Duration::from_secs(10);
    domain.handle_timeout(now);
    assert_eq!(offers(&mut domain)[0].1, "bob");
    let now = now + Duration::from_secs(10);
    domain.handle_timeout(now);
    assert_eq!(offers(&mut domain)[0].1, "alice", "who was tried longest ago");
}

#[test]
fn alone_it_has_its_rest_first() {
    let start = beginning();
    let mut domain = agents(start, &["alice"]);
    domain.enqueue(start, "support", 0).unwrap();
    assert_eq!(offers(&mut domain).len(), 1);
    let timed_out = start + Duration::from_secs(10);
    domain.handle_timeout(timed_out);
    assert_eq!(offers(&mut domain), [], "not again at once");
    assert_eq!(domain.poll_timeout(), Some(timed_out + Duration::from_secs(5)));
    domain.handle_timeout(timed_out + Duration::from_secs(5));
    let again = offers(&mut domain);
    assert_eq!(again.len(), 1);
    assert_eq!(
        domain.decline(timed_out + Duration::from_secs(6), again[0].0, Decline::Busy),
        Race::Won(())
    );
    assert_eq!(offers(&mut domain), []);
}

#[test]
fn an_agent_who_calls_is_not_offered_to_itself() {
    let start = beginning();
    let mut domain = agents(start, &["alice", "bob"]);
    domain
        .enqueue_from(start, "support", 0, Some("alice".into()))
        .unwrap();
    assert_eq!(offers(&mut domain)[0].1, "bob", "though alice is idle longer");
}
