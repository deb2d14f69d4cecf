use sip::message::{HeaderName, StatusCode};

use crate::{phone::Behaviour, world::World};

const DESK: &str = "<urn:uuid:00000000-0000-4000-8000-0000000000d1>";
const HALL: &str = "<urn:uuid:00000000-0000-4000-8000-0000000000d2>";

/// Registers one of alice's phones, and gives its public and its temporary address without scheme and angle brackets.
fn register(world: &mut World, phone: usize, instance: &str) -> [String; 2] {
    let contact = format!(
        "<sip:alice@{}>;+sip.instance=\"{instance}\";expires=300",
        world.phones[phone].address
    );
    let now = world.now;
    world.phones[phone].register_as(now, "wonder", &contact);
    world.run_ms(100);
    assert_eq!(world.phones[phone].registered, Some(200), "{}", world.story());
    addresses(world, phone, instance)
}

fn addresses(world: &World, phone: usize, instance: &str) -> [String; 2] {
    let response = world.phones[phone].registration.as_ref().unwrap();
    let contacts = response.headers.contacts().unwrap();
    let mut own = contacts.iter().filter_map(|contact| contact.address());
    let own = own
        .find(|address| address.instance().is_some_and(|it| *it == *instance.as_bytes()))
        .unwrap();
    ["pub-gruu", "temp-gruu"].map(|name| {
        let value = own.params.unquoted(name).unwrap_or_else(|| panic!("no {name}"));
        String::from_utf8_lossy(&value).into_owned()
    })
}

/// A customer dials it; the statuses it gets.
fn dial(world: &mut World, phone: usize, uri: &str) -> Vec<u16> {
    let now = world.now;
    world.phones[phone].call_address(now, uri);
    world.run_ms(2_000);
    world.phones[phone].statuses.clone()
}

struct House {
    world: World,
    desk: usize,
    hall: usize,
    customer: usize,
    of_desk: [String; 2],
    of_hall: [String; 2],
}

fn house() -> House {
    let mut world = World::new();
    let (desk, hall) = (world.phone("alice"), world.phone("alice"));
    for phone in [desk, hall] {
        world.phones[phone].knows_gruu = true;
    }
    let customer = world.phone("customer");
    let of_desk = register(&mut world, desk, DESK);
    let of_hall = register(&mut world, hall, HALL);
    House {
        world,
        desk,
        hall,
        customer,
        of_desk,
        of_hall,
    }
}

#[test]
fn by_its_public_and_its_temporary_address() {
    let mut house = house();
    let world = &mut house.world;
    assert_eq!(
        house.of_desk[0],
        "sip:alice@example.com;gr=urn:uuid:00000000-0000-4000-8000-0000000000d1"
    );
    assert!(!house.of_desk[1].contains("alice"), "{}", house.of_desk[1]);
    for (uri, rings, other) in [
        (&house.of_desk[0], house.desk, house.hall),
        (&house.of_desk[1], house.desk, house.hall),
        (&house.of_hall[0], house.hall, house.desk),
        (&house.of_hall[1], house.hall, house.desk),
    ] {
        let before = (world.phones[rings].rung, world.phones[other].rung);
        assert_eq!(
            dial(world, house.customer, uri),
            [180, 200],
            "{uri}\n{}",
            world.story()
        );
        let after = (world.phones[rings].rung, world.phones[other].rung);
        assert_eq!(after, (before.0 + 1, before.1), "{uri}");
        assert_eq!(world.heard().len(), 2);
        world.hang_up(house.customer);
        world.run_ms(5_000);
    }
    // Without, both ring.
    world.call(house.customer, "alice");
    world.run_ms(500);
    assert_eq!(
        (world.phones[house.desk].rung, world.phones[house.hall].rung),
        (3, 3)
    );
    world.run_ms(2_000);
    world.hang_up(house.customer);
    world.assert_nothing_left();
}

/// RFC 5627 §5.1: one more with each REGISTER, all of which are good.
#[test]
fn by_every_temporary_one_of_its_registration() {
    let mut house = house();
    let again = register(&mut house.world, house.desk, DESK);
    assert_eq!(again[0], house.of_desk[0]);
    assert_ne!(again[1], house.of_desk[1]);
    for uri in [&house.of_desk[1], &again[1]] {
        let world = &mut house.world;
        assert_eq!(dial(world, house.customer, uri), [180, 200], "{}", world.story());
        world.hang_up(house.customer);
        world.run_ms(5_000);
    }
    let rung = |world: &World| (world.phones[house.desk].rung, world.phones[house.hall].rung);
    assert_eq!(rung(&house.world), (2, 0));
    // The phone begins anew: another Call-ID, and those of before lead nowhere.
    house.world.phones[house.desk].starts += 1;
    let last = register(&mut house.world, house.desk, DESK);
    assert_eq!(last[0], house.of_desk[0]);
    let world = &mut house.world;
    assert_eq!(dial(world, house.customer, &again[1]), [404], "{}", world.story());
    assert_eq!(
        dial(world, house.customer, &last[1]),
        [180, 200],
        "{}",
        world.story()
    );
    world.hang_up(house.customer);
    world.assert_nothing_left();
}

#[test]
fn after_a_restart_too() {
    let mut house = house();
    let world = &mut house.world;
    world.restart();
    world.run_ms(100);
    for uri in &house.of_hall {
        assert_eq!(
            dial(world, house.customer, uri),
            [180, 200],
            "{uri}\n{}",
            world.story()
        );
        world.hang_up(house.customer);
        world.run_ms(5_000);
    }
    // And what rings when the process is killed is rung again, and no other.
    world.behave(house.hall, Behaviour::Ring);
    let now = world.now;
    world.phones[house.customer].call_address(now, &house.of_hall[0]);
    world.run_ms(500);
    world.behave(house.hall, Behaviour::Answer(200));
    world.restart();
    world.run_ms(3_000);
    assert_eq!(
        (world.phones[house.desk].rung, world.phones[house.hall].rung),
        (0, 4),
        "{}",
        world.story()
    );
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(house.customer);
    world.run_ms(1_000);
}

#[test]
fn to_which_a_call_can_be_transferred() {
    let mut house = house();
    let world = &mut house.world;
    let bob = world.registered("bob", "builder");
    world.behave(house.hall, Behaviour::Answer(200));
    world.call(house.customer, "bob");
    world.run_ms(2_000);
    let now = world.now;
    world.phones[bob].refer(now, &house.of_hall[1]);
    world.run_ms(2_000);
    assert_eq!(
        (world.phones[house.desk].rung, world.phones[house.hall].rung),
        (0, 1),
        "{}",
        world.story()
    );
    assert_eq!(world.phones[bob].notified.last().unwrap(), "SIP/2.0 200 OK");
    world.hang_up(house.customer);
    world.assert_nothing_left();
}

#[test]
fn or_says_why_it_leads_nowhere() {
    let mut house = house();
    let world = &mut house.world;
    let now = world.now;
    world.phones[house.desk].register_as(now, "wonder", "*");
    world.run_ms(100);
    for (uri, status) in [
        (house.of_desk[0].as_str(), 480),
        (house.of_desk[1].as_str(), 404),
        (
            "sip:alice@example.com;gr=urn:uuid:00000000-0000-4000-8000-0000000000ff",
            480,
        ),
        (
            "sip:nobody@example.com;gr=urn:uuid:00000000-0000-4000-8000-0000000000ff",
            404,
        ),
        ("sip:tgruu.00112233445566778899aabbccddeeff@example.com;gr", 404),
    ] {
        assert_eq!(
            dial(world, house.customer, uri),
            [status],
            "{uri}\n{}",
            world.story()
        );
    }
    world.assert_nothing_left();
}

/// RFC 5627 §4.3: a phone gives it as its Contact. Only we know where that leads.
#[test]
fn which_may_be_its_contact_in_a_call() {
    for kind in [0, 1] {
        let mut house = house();
        let world = &mut house.world;
        let registered = format!("sip:alice@{}", world.phones[house.desk].address);
        world.phones[house.desk].contact = Some(house.of_desk[kind].clone());
        assert_eq!(dial(world, house.customer, &house.of_desk[0]), [180, 200]);
        // Longer than a phone waits for its ACK.
        world.run_ms(40_000);
        assert!(world.phones[house.desk].talks(), "{}", world.story());
        world.hang_up(house.customer);
        world.run_ms(1_000);
        let bye = world.phones[house.desk].bye.as_ref().expect("it is told");
        assert_eq!(bye.uri_text(), registered.as_bytes());
        // And as the one who calls.
        let bob = world.registered("bob", "builder");
        world.call(house.desk, "bob");
        world.run_ms(2_000);
        world.phones[house.desk].bye = None;
        world.hang_up(bob);
        world.run_ms(1_000);
        let bye = world.phones[house.desk].bye.as_ref().expect("it is told");
        assert_eq!(bye.uri_text(), registered.as_bytes());
        assert!(world.lookups.is_empty(), "nobody else is asked");
        world.assert_nothing_left();
    }
}

/// RFC 5627 §1: and stays good when the phone moves.
#[test]
fn by_which_its_call_follows_it_elsewhere() {
    let mut house = house();
    let world = &mut house.world;
    world.phones[house.desk].contact = Some(house.of_desk[0].clone());
    assert_eq!(dial(world, house.customer, &house.of_desk[0]), [180, 200]);
    world.phones[house.desk].address = "10.0.1.77:5062".parse().unwrap();
    register(world, house.desk, DESK);
    world.hang_up(house.customer);
    world.run_ms(1_000);
    let bye = world.phones[house.desk].bye.as_ref().expect("it is told");
    assert_eq!(**bye.uri_text(), *b"sip:alice@10.0.1.77:5062");
    world.assert_nothing_left();
}

#[test]
fn and_is_its_contact_after_a_restart_too() {
    let mut house = house();
    let world = &mut house.world;
    world.phones[house.desk].contact = Some(house.of_desk[0].clone());
    assert_eq!(dial(world, house.customer, &house.of_desk[0]), [180, 200]);
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(house.customer);
    world.run_ms(1_000);
    let bye = world.phones[house.desk].bye.as_ref().expect("it is told");
    let registered = format!("sip:alice@{}", world.phones[house.desk].address);
    assert_eq!(bye.uri_text(), registered.as_bytes());
    world.run_ms(5_000);
}

/// RFC 5627 §5.1 and §5.2.
#[test]
fn and_is_given_to_who_knows_it_and_is_no_contact() {
    let mut house = house();
    let world = &mut house.world;
    let plain = world.phone("alice");
    let now = world.now;
    let contact = format!("<sip:alice@10.0.1.4:5060>;+sip.instance=\"{DESK}\";expires=300");
    world.phones[plain].register_as(now, "wonder", &contact);
    world.run_ms(100);
    let response = world.phones[plain].registration.as_ref().unwrap();
    let contacts = response.headers.get(HeaderName::Contact).unwrap();
    assert!(!String::from_utf8_lossy(contacts).contains("gruu"));
    let now = world.now;
    world.phones[plain].register_as(now, "wonder", &format!("<{}>", house.of_hall[0]));
    world.run_ms(100);
    assert_eq!(world.phones[plain].registered, Some(StatusCode::FORBIDDEN.code()));
}
