//! The configuration is edited and read again while people talk and wait; they hear nothing of it.

use serde_json::json;

use crate::{
    api::TOKEN_SETTING,
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

const CUSTOMER_HZ: f64 = 700.0;
const AGENT_HZ: f64 = 1_100.0;

fn voices() -> (Voice, Voice) {
    (Voice::new(Law::A, CUSTOMER_HZ), Voice::new(Law::Mu, AGENT_HZ))
}

fn customer(site: &Site, called: &str, voice: &Voice) -> Playing {
    let phone = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", called);
    phone.with_audio(voice).until_told().play(site)
}

fn agent(site: &Site, port: u16, voice: &Voice) -> Playing {
    let phone = Sipp::new("agent").at(port).with_audio(voice);
    phone.pausing_ms(500).play(site)
}

fn assert_both_heard(customer: &Voice, agent: &Voice) {
    customer.listen().assert_is(AGENT_HZ, &[CUSTOMER_HZ]);
    agent.listen().assert_is(CUSTOMER_HZ, &[AGENT_HZ]);
}

fn names(site: &Site, page: &str, key: &str) -> Vec<String> {
    let list = site.list(page);
    let name = |it: &serde_json::Value| it[key].as_str().unwrap().to_owned();
    list.iter().map(name).collect()
}

/// Alice is taken out of her queue, with her account, in the middle of a call.
#[test]
fn of_an_agent_that_is_taken_out() {
    let site = Plan::new("reload-agent").with(TOKEN_SETTING).start();
    let (mut customer_voice, mut alice_voice) = voices();
    let port = free_ports(2);
    register(&site, "alice", port, false);
    let mut alice = agent(&site, port, &alice_voice);
    let mut customer = customer(&site, "support", &customer_voice);
    customer_voice.talk_to(customer.description().0);
    alice_voice.talk_to(alice.description().0);
    site.wait_for_agent("alice", "talking");
    let done = site.reconfigure(|text| {
        text.replace("agents = ['alice', 'bob']", "agents = ['bob']")
            .replace("[[accounts]]\nuser = 'alice'\npassword = 'secret-a'\n", "")
    });
    assert_eq!(
        done["changed"],
        json!(["accounts.alice removed", "queues.support changed"])
    );
    assert_eq!(site.registrations("alice"), 0);
    assert_both_heard(&customer_voice, &alice_voice);
    assert_eq!(names(&site, "/v1/agents", "name"), ["alice", "bob"]);
    customer.go_on();
    customer.assert_done();
    alice.assert_done();
    wait_for("she is no agent any more", || {
        (names(&site, "/v1/agents", "name") == ["bob"]).then_some(())
    });
    for voice in [&mut customer_voice, &mut alice_voice] {
        voice.end();
    }
    site.only_call_ended("alice", "caller");
}

/// Nobody serves the queue, until an account is added that does; and a queue beside it.
#[test]
fn nor_the_waiting_of_who_waits_for_an_agent_that_is_added() {
    let plan = Plan::new("reload-queue").with(TOKEN_SETTING);
    let site = plan.with("calls.answer_before_music=true").start();
    let (mut customer_voice, mut dave_voice) = voices();
    let mut first = customer(&site, "support", &customer_voice);
    customer_voice.talk_to(first.description().0);
    customer_voice.listen().assert_is_music(&[CUSTOMER_HZ]);
    let done = site.reconfigure(|text| {
        let text = text.replace("agents = ['alice', 'bob']", "agents = ['alice', 'bob', 'dave']");
        text + "[[accounts]]\nuser = 'dave'\npassword = 'secret-d'\n\
                [[queues]]\nname = 'sales'\nagents = ['dave']\n"
    });
    let changed = [
        "accounts.dave added",
        "queues.sales added",
        "queues.support changed",
    ];
    assert_eq!(done["changed"], json!(changed));
    customer_voice.listen().assert_is_music(&[CUSTOMER_HZ]);
    let port = free_ports(2);
    let mut dave = agent(&site, port, &dave_voice);
    let phone = Sipp::new("register")
        .with("USER", "dave")
        .with("PASSWORD", "secret-d");
    let phone = phone.with("CONTACT_PORT", port).with("TRANSPORT", "udp");
    phone.with("EXPIRES", 300).proving_for("127.0.0.1").run(&site);
    dave_voice.talk_to(dave.description().0);
    site.wait_for_agent("dave", "talking");
    assert_both_heard(&customer_voice, &dave_voice);
    first.go_on();
    first.assert_done();
    dave.assert_done();
    site.wait_for_agent("dave", "ready");

    let mut dave = agent(&site, port, &dave_voice);
    let mut second = customer(&site, "sales", &customer_voice);
    customer_voice.talk_to(second.description().0);
    dave_voice.talk_to(dave.description().0);
    site.wait_for_agent("dave", "talking");
    assert_both_heard(&customer_voice, &dave_voice);
    second.go_on();
    second.assert_done();
    dave.assert_done();
    for voice in [&mut customer_voice, &mut dave_voice] {
        voice.end();
    }
    let calls = site.assert_nothing_left(2);
    let queues: Vec<_> = calls
        .iter()
        .map(|call| (&call["queue"], &call["answered_by"]))
        .collect();
    let (support, sales, by) = (json!("support"), json!("sales"), json!("dave"));
    assert_eq!(queues, [(&support, &by), (&sales, &by)]);
}

/// What is on a media host that is taken out stays there until it is over; then the host is let go, and may come back.
#[test]
fn on_a_media_host_that_is_taken_out() {
    let plan = Plan::new("reload-host").with(TOKEN_SETTING);
    let site = plan.with_media_hosts(2).start();
    let (mut customer_voice, mut bob_voice) = voices();
    let port = free_ports(2);
    register(&site, "bob", port, false);
    let mut bob = agent(&site, port, &bob_voice);
    let mut first = customer(&site, "support", &customer_voice);
    customer_voice.talk_to(first.description().0);
    bob_voice.talk_to(bob.description().0);
    let host = site.wait_for_call("talking")["host"].as_str().unwrap().to_owned();
    assert_eq!(host, "a");
    let mut taken_out = String::new();
    let done = site.reconfigure(|text| {
        let begin = text.find("{ name = 'a'").unwrap();
        let end = begin + text[begin..].find("}, ").unwrap() + 3;
        taken_out = text[begin..end].to_owned();
        text.replace(&taken_out, "")
    });
    assert_eq!(done["changed"], json!(["media.hosts.a removed"]));
    assert_both_heard(&customer_voice, &bob_voice);
    let hosts = site.list("/v1/hosts");
    assert_eq!(
        (&hosts[0]["draining"], &hosts[0]["sessions"]),
        (&json!(true), &json!(1)),
        "{hosts:?}"
    );
    first.go_on();
    first.assert_done();
    bob.assert_done();
    wait_for("it is let go", || {
        (names(&site, "/v1/hosts", "host") == ["b"]).then_some(())
    });
    site.wait_for_agent("bob", "ready");
    for back in [false, true] {
        if back {
            let done = site.reconfigure(|text| text.replace("hosts = [", &format!("hosts = [{taken_out}")));
            assert_eq!(done["changed"], json!(["media.hosts.a added"]));
            wait_for("it is up again", || {
                let hosts = site.list("/v1/hosts");
                (hosts[0]["up"] == true && hosts[0]["draining"] == false).then_some(())
            });
        }
        let mut bob = agent(&site, port, &bob_voice);
        let mut next = customer(&site, "support", &customer_voice);
        customer_voice.talk_to(next.description().0);
        bob_voice.talk_to(bob.description().0);
        let on = site.wait_for_call("talking")["host"].clone();
        assert_eq!(on, if back { "a" } else { "b" });
        assert_both_heard(&customer_voice, &bob_voice);
        next.go_on();
        next.assert_done();
        bob.assert_done();
        site.wait_for_agent("bob", "ready");
    }
    for voice in [&mut customer_voice, &mut bob_voice] {
        voice.end();
    }
    site.assert_nothing_left(3);
}
