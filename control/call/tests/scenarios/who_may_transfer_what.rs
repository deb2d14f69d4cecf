use call_control::{Config, services::Transfers};
use sip::message::HeaderName;

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// Bob and Carol have accounts; numbers lead out over a carrier, for Bob alone.
fn with(transfers: Transfers) -> Config {
    let out: Config = toml::from_str(
        r#"
        trunks = [{ name = "a", targets = [{ uri = "sip:10.0.1.3:5060" }], probe_s = 0 }]
        [dialplan]
        routes = [{ pattern = "+.", trunks = ["a"], accounts = ["bob"] }]
        "#,
    )
    .unwrap();
    let mut config = Config {
        trunks: out.trunks,
        dialplan: out.dialplan,
        ..config()
    };
    config.calls.transfers = transfers;
    config
}

const STRANGER: usize = 3;

/// Bob, Carol, the carrier and a stranger, who talks to `to`.
fn talking(transfers: Transfers, to: &str) -> World {
    let mut world = World::with(with(transfers));
    world.registered("bob", "builder");
    world.registered("carol", "singer");
    world.phone("carrier");
    world.phone("stranger");
    world.call(STRANGER, to);
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world
}

/// What a phone is told that asks for this: the answer to its REFER, or how it went.
fn asked(world: &mut World, phone: usize, to: &str) -> u16 {
    let now = world.now;
    world.phones[phone].notified.clear();
    let refused = world.count("SIP/2.0 403 Forbidden");
    world.phones[phone].refer(now, to);
    world.run_ms(3_000);
    if world.count("SIP/2.0 403 Forbidden") > refused {
        return 403;
    }
    let told = world.phones[phone].notified.last();
    let told = told.unwrap_or_else(|| panic!("{}", world.story()));
    told.split(' ').nth(1).unwrap().parse().unwrap()
}

fn end(mut world: World) {
    for phone in 0..world.phones.len() {
        if world.phones[phone].talks() {
            world.hang_up(phone);
            world.run_ms(500);
        }
    }
    world.assert_nothing_left();
}

/// Of the two who talk, each asks that the other be brought to this address.
#[test]
fn by_the_settings_and_by_whom_it_is() {
    const NUMBER: &str = "sip:+49301234@example.com";
    const ACCOUNT: &str = "sip:alice@example.com";
    for (transfers, who, to, status) in [
        // Nobody answers Alice's address: who may ask is told that.
        (Transfers::Users, "bob", ACCOUNT, 480),
        (Transfers::Users, "bob", NUMBER, 200),
        (Transfers::Users, "carol", NUMBER, 403),
        (Transfers::Users, "stranger", ACCOUNT, 403),
        (Transfers::Users, "stranger", NUMBER, 403),
        (Transfers::All, "bob", NUMBER, 200),
        (Transfers::All, "carol", NUMBER, 403),
        (Transfers::All, "stranger", ACCOUNT, 480),
        (Transfers::All, "stranger", NUMBER, 403),
        (Transfers::None, "bob", ACCOUNT, 403),
        (Transfers::None, "bob", NUMBER, 403),
        (Transfers::None, "stranger", ACCOUNT, 403),
    ] {
        let other = if who == "carol" { "carol" } else { "bob" };
        let mut world = talking(transfers, other);
        let phone = world.phones.iter().position(|phone| phone.name == who).unwrap();
        let told = asked(&mut world, phone, to);
        assert_eq!(told, status, "{transfers:?} {who} {to}\n{}", world.story());
        let talks = if status == 200 { "carrier" } else { other };
        assert!(world.heard().contains(&("stranger", talks)), "{}", world.story());
        end(world);
    }
}

/// As REFER, INVITE with Replaces (RFC 3891) brings a party to somebody else.
#[test]
fn and_who_may_take_a_place() {
    for (transfers, password, status) in [
        (Transfers::Users, "singer", 200),
        (Transfers::None, "singer", 403),
        (Transfers::All, "singer", 200),
    ] {
        let mut world = talking(transfers, "bob");
        let (_, replaces) = world.phones[0].replaces();
        world.phones[1].password = password;
        let now = world.now;
        world.phones[1].call_with(now, "bob", true, |request| {
            request.headers.push(HeaderName::Replaces, &replaces).unwrap();
        });
        world.run_ms(1_000);
        let told = world.phones[1].statuses.last().copied();
        assert_eq!(told, Some(status), "{transfers:?}\n{}", world.story());
        let talks = if status == 200 { "carol" } else { "bob" };
        assert!(world.heard().contains(&("stranger", talks)), "{}", world.story());
        end(world);
    }
}

/// The rights of who asked go with the call, whoever it leads to: what rings may not send it further.
#[test]
fn and_where_the_target_may_send_it() {
    for (to, expected) in [("carol", false), ("bob", true)] {
        let mut world = talking(Transfers::Users, if to == "bob" { "carol" } else { "bob" });
        let by = usize::from(to == "bob");
        let target = usize::from(to == "carol");
        world.behave(target, Behaviour::Forward("+49301234"));
        let told = asked(&mut world, by, &format!("sip:{to}@example.com"));
        assert_eq!(told == 200, expected, "{to}: {told}\n{}", world.story());
        assert_eq!(world.phones[2].rung, usize::from(expected), "{}", world.story());
        end(world);
    }
}
