use crate::{
    program::free_ports,
    sipp::{Sipp, agent, register},
    site::Site,
};

fn writer(called: &'static str, text: &str, status: u16) -> Sipp {
    Sipp::new("writes")
        .user("alice")
        .with("CALLED", called)
        .with("TEXT", text)
        .with("STATUS", status)
        .proving_for(&format!("{called}@127.0.0.1"))
}

fn reader(port: u16, text: &str, status: u16) -> Sipp {
    Sipp::new("reads")
        .at(port)
        .with("USER", "alice")
        .with("TEXT", text)
        .with("STATUS", status)
}

fn figures(site: &Site) -> [u64; 2] {
    ["taken", "refused"].map(|what| site.figure(&format!("controld_messages_{what}_total ")))
}

/// Over UDP and over TCP, to phones that take it and that refuse it.
#[test]
fn outside_of_calls() {
    let site = Site::start("messages");
    for (called, status) in [("nobody", 404), ("carol", 480), ("support", 405)] {
        writer(called, "anybody there?", status).run(&site);
    }
    let phone = free_ports(1);
    register(&site, "bob", phone, false);
    for (tcp, status) in [(false, 200), (true, 200), (false, 486)] {
        let mut bob = reader(phone, "see you at nine", status).play(&site);
        let alice = writer("bob", "see you at nine", status);
        if tcp { alice.over_tcp() } else { alice }.run(&site);
        bob.assert_done();
    }
    assert_eq!(figures(&site), [2, 4], "{}", site.story());
    site.assert_nothing_left(0);
}

#[test]
fn within_a_call_both_ways() {
    let site = Site::start("messages-in-call");
    let phone = free_ports(1);
    register(&site, "bob", phone, false);
    let mut bob = agent("agent_writes", phone).play(&site);
    let alice = Sipp::new("caller_writes")
        .user("alice")
        .with("CALLED", "bob")
        .with("MEDIA_PORT", 9)
        .with("LAW", 0)
        .with("LAW_NAME", "PCMU")
        .proving_for("bob@127.0.0.1");
    alice.run(&site);
    bob.assert_done();
    assert_eq!(figures(&site), [2, 0], "{}", site.story());
    site.only_call_ended("bob", "caller");
}
