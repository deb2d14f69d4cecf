use crate::{
    sipp::{Sipp, register},
    site::Site,
};

#[test]
fn two_users_come_and_go() {
    let site = Site::start("register");
    register(&site, "alice", 5_999, false);
    register(&site, "bob", 5_998, true);
    assert_eq!((site.registrations("alice"), site.registrations("bob")), (1, 1));
    let contacts = site.page("/v1/registrations").to_string();
    assert!(
        contacts.contains("alice@127.0.0.1:5999") && contacts.contains("bob@127.0.0.1:5998"),
        "{contacts}"
    );
    site.wait_for_agent("alice", "ready");
    site.wait_for_agent("bob", "ready");

    // Again, from another call: the same device, not a second one.
    register(&site, "alice", 5_999, false);
    assert_eq!(site.registrations("alice"), 1);

    for (user, port, transport) in [("alice", 5_999, "udp"), ("bob", 5_998, "tcp")] {
        let phone = Sipp::new("register")
            .user(user)
            .with("CONTACT_PORT", port)
            .with("TRANSPORT", transport)
            .with("EXPIRES", 0)
            .proving_for("127.0.0.1");
        if transport == "tcp" {
            phone.over_tcp()
        } else {
            phone
        }
        .run(&site);
        assert_eq!(site.registrations(user), 0, "{user} is gone");
        site.wait_for_agent(user, "away");
    }
    site.assert_nothing_left(0);
}

#[test]
fn a_wrong_password_leads_nowhere() {
    let site = Site::start("register-wrong");
    for tcp in [false, true] {
        let phone = Sipp::new("register_refused")
            .with("USER", "alice")
            .with("PASSWORD", "guessed")
            .with("CONTACT_PORT", 5_999)
            .with("TRANSPORT", "udp")
            .with("EXPIRES", 300)
            .proving_for("127.0.0.1");
        let played = if tcp { phone.over_tcp() } else { phone }.run(&site);
        assert_eq!(played.received("SIP/2.0 401"), 2, "{}", played.messages());
        assert_eq!(site.registrations("alice"), 0);
    }
    site.wait_for_agent("alice", "away");
}
