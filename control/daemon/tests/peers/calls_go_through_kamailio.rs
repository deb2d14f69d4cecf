//! Kamailio between phones and controllers: registrations with Path, calls spread over two controllers, and a request that
//! takes another way than its call.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::{
    kamailio::Kamailio,
    program::free_ports,
    sipp::{Playing, Sipp, agent, register, registration, stranger},
    site::Site,
    voice::{Law, Voice},
};

#[test]
fn a_phone_registers_with_path_and_is_called_back_through_it() {
    let site = Site::start("kamailio-path");
    let edge = Kamailio::start("edge", &[&site]);
    let (alice_port, bob_port) = (free_ports(2), free_ports(2));
    for (user, port) in [("alice", alice_port), ("bob", bob_port)] {
        // From the port it will be called at: the edge calls back where a registration came from.
        registration(&site, user, port, false)
            .at(port)
            .through(edge.udp)
            .run(&site);
    }
    let registrations = site.page("/v1/registrations").to_string();
    assert!(
        registrations.contains(&edge.udp.to_string()),
        "the way back leads through {}: {registrations}",
        edge.udp
    );

    let (mut caller_voice, mut callee_voice) = (Voice::new(Law::Mu, 700.0), Voice::new(Law::Mu, 1_100.0));
    let mut bob = Sipp::new("agent")
        .at(bob_port)
        .with_audio(&callee_voice)
        .play(&site);
    let alice = Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "bob")
        .proving_for("bob@127.0.0.1")
        .pausing_ms(2_000)
        .through(edge.udp);
    let mut alice = alice.with_audio(&caller_voice).play(&site);
    let (alice_to, bob_to) = (alice.description().0, bob.description().0);
    caller_voice.talk_to(alice_to);
    callee_voice.talk_to(bob_to);
    alice.assert_done();
    bob.assert_done();
    caller_voice.end();
    callee_voice.end();
    caller_voice.assert_heard(alice_to, 1_100.0, &[700.0]);
    callee_voice.assert_heard(bob_to, 700.0, &[1_100.0]);
    let invite = bob.messages();
    assert!(
        invite.contains(&format!("Record-Route: <sip:{}", edge.udp)),
        "the call came through the edge:\n{invite}"
    );
    site.only_call_ended("bob", "caller");
}

#[test]
fn calls_are_spread_over_two_controllers_and_go_on_with_one() {
    let sites = [Site::start("kamailio-a"), Site::start("kamailio-b")];
    let edge = Kamailio::start("edge", &[&sites[0], &sites[1]]);
    let ports = [free_ports(2), free_ports(2)];
    for (site, port) in sites.iter().zip(ports) {
        register(site, "alice", port, false);
    }
    // One after the other: each controller has one agent.
    for round in 0..2 {
        for turn in 0..2 {
            let mut agents: Vec<Playing> = sites
                .iter()
                .zip(ports)
                .map(|(site, port)| agent("agent", port).play(site))
                .collect();
            let before = calls(&sites);
            let mut caller = stranger("caller", "support").through(edge.udp).play(&sites[0]);
            caller.assert_done();
            let taken = crate::program::wait_for("the call is told of", || {
                let after = calls(&sites);
                (0..2).find(|n| after[*n] == before[*n] + 1)
            });
            agents.remove(taken).assert_done();
            assert_eq!(calls(&sites).iter().sum::<usize>(), 2 * round + turn + 1);
            for site in &sites {
                site.wait_for_agent("alice", "ready");
            }
        }
        assert_eq!(calls(&sites), [round + 1, round + 1], "in turn");
    }

    let [left, gone] = sites;
    drop(gone);
    edge.wait_for_controllers(1);
    for _ in 0..2 {
        let mut phone = agent("agent", ports[0]).play(&left);
        stranger("caller", "support").through(edge.udp).run(&left);
        phone.assert_done();
        left.wait_for_agent("alice", "ready");
    }
    assert_eq!(left.assert_nothing_left(4).len(), 4);
}

/// Calls that each controller has a detail record of.
fn calls(sites: &[Site; 2]) -> [usize; 2] {
    [0, 1].map(|n| sites[n].list("/v1/cdrs").len())
}

#[test]
fn a_request_inside_a_call_comes_through_another_edge() {
    let site = Site::start("kamailio-other");
    let [edge, other] = ["edge", "other"].map(|name| Kamailio::start(name, &[&site]));
    let agent_port = free_ports(2);
    register(&site, "alice", agent_port, false);
    let mut callee = agent("agent", agent_port).play(&site);
    // It waits for a BYE that does not come, since the caller ends the call by other means.
    let caller = stranger("caller_waits_for_bye", "support")
        .through(edge.udp)
        .play(&site);
    site.wait_for_agent("alice", "talking");
    let answer = crate::program::wait_for("the caller is answered", || {
        let messages = caller.messages();
        let at = messages.rfind("SIP/2.0 200 OK")?;
        Some(messages[at..].to_owned())
    });
    let header = |name: &str| {
        let line = answer.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {answer}"))
            .trim()
            .to_owned()
    };
    assert!(
        header("Record-Route:").contains(&edge.udp.to_string()),
        "{answer}"
    );
    let contact = header("Contact:");
    let controller = contact.trim_start_matches('<').split('>').next().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own: SocketAddr = socket.local_addr().unwrap();
    let bye = format!(
        "BYE {controller} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKother1;rport\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\n\
         CSeq: 2 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        header("From:"),
        header("To:"),
        header("Call-ID:"),
    );
    socket.send_to(bye.as_bytes(), other.udp).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = [0; 4_096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let reply = String::from_utf8_lossy(&buffer[..length]);
    assert_eq!(from, other.udp);
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    callee.assert_done();
    let call = site.only_call();
    assert_eq!(
        (&call["ended_by"], &call["status"]),
        (&"caller".into(), &200.into()),
        "{call:#}"
    );
}
