use std::time::Duration;

use call_control::{
    Config, HostId, MediaInput, RecordKind,
    config::{Account, MediaHost, Queue},
    domain::AgentState,
    trunk::Registration,
};
use sdp::Direction;
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

fn edited(edit: impl FnOnce(&mut Config)) -> Config {
    let mut config = config();
    edit(&mut config);
    config
}

fn account(user: &str, password: &str) -> Account {
    toml::from_str(&format!("user = '{user}'\npassword = '{password}'")).unwrap()
}

fn queue(name: &str, agents: &[&str]) -> Queue {
    toml::from_str(&format!("name = '{name}'\nagents = {agents:?}")).unwrap()
}

fn register(world: &mut World, phone: usize, password: &'static str) -> Option<u16> {
    let now = world.now;
    world.phones[phone].register(now, password, 300);
    world.run_ms(100);
    world.phones[phone].registered
}

/// Alice and a customer of the queue talk.
fn talking() -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
    (world, alice, customer)
}

fn agents(world: &World) -> Vec<String> {
    let agents = world.controller.live(world.clocks()).agents;
    agents.into_iter().map(|agent| agent.name).collect()
}

fn queues(world: &World) -> Vec<String> {
    let queues = world.controller.live(world.clocks()).queues;
    queues.into_iter().map(|queue| queue.name).collect()
}

/// The last answer to a phone's last call.
fn status(world: &World, phone: usize) -> u16 {
    *world.phones[phone].statuses.last().unwrap()
}

#[test]
fn an_account_that_is_added_registers_and_is_called() {
    let mut world = World::new();
    let dora = world.phone("dora");
    assert_eq!(register(&mut world, dora, "explorer"), Some(401));
    world.reconfigure(edited(|it| it.accounts.push(account("dora", "explorer"))));
    assert_eq!(register(&mut world, dora, "explorer"), Some(200));
    let customer = world.phone("customer");
    world.call(customer, "dora");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn the_devices_of_an_account_that_is_gone_are_too_and_its_call_goes_on() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    let customer = world.phone("customer");
    world.call(customer, "carol");
    world.run_ms(2_000);
    world.reconfigure(edited(|it| it.accounts.truncate(2)));
    assert_eq!(world.controller.counters().bindings, 0);
    world.run_ms(10);
    let is_it = |kind: &RecordKind| matches!(kind, RecordKind::Unregistered { user, .. } if user == "carol");
    assert!(
        world.records.iter().any(|record| is_it(&record.kind)),
        "{}",
        world.story()
    );
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    // It holds and goes on, and has no rights beside that.
    let now = world.now;
    world.phones[carol].reinvite(now, Direction::SendOnly);
    world.run_ms(200);
    world.phones[carol].reinvite(now + Duration::from_millis(200), Direction::SendRecv);
    world.run_ms(200);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let now = world.now;
    world.phones[carol].refer(now, "sip:alice@example.com");
    world.run_ms(500);
    assert_eq!(world.count("server>carol SIP/2.0 403"), 1, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(500);
    assert_eq!(register(&mut world, carol, "singer"), Some(401));
    world.call(customer, "carol");
    world.run_ms(500);
    assert_eq!(status(&world, customer), 404, "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn a_new_password_counts_from_the_next_registration() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    world.reconfigure(edited(|it| it.accounts[2].password = Some("dancer".to_owned())));
    assert_eq!(world.controller.counters().bindings, 1);
    let customer = world.phone("customer");
    world.call(customer, "carol");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(register(&mut world, carol, "singer"), Some(401));
    assert_eq!(register(&mut world, carol, "dancer"), Some(200));
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Also when it is gone as an account.
#[test]
fn an_agent_that_is_gone_finishes_its_call() {
    for is_account in [true, false] {
        let (mut world, alice, customer) = talking();
        world.reconfigure(edited(|it| {
            it.queues[0].agents = vec!["bob".to_owned()];
            if !is_account {
                it.accounts.remove(0);
            }
        }));
        assert_eq!(world.agent("alice"), AgentState::Talking);
        assert_eq!(agents(&world), ["alice", "bob"]);
        world.run_ms(200_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(customer);
        world.run_ms(500);
        assert_eq!(agents(&world), ["bob"], "{}", world.story());
        let detail = world.detail();
        assert_eq!(
            (detail.status, detail.answered_by.as_deref()),
            (200, Some("alice"))
        );
        // And is rung for no other.
        let rung = world.phones[alice].rung;
        world.call(customer, "support");
        world.run_ms(5_000);
        assert_eq!(world.phones[alice].rung, rung, "{}", world.story());
        world.phones[customer].cancel(world.now);
        let kinds = world.kinds();
        let told = kinds.iter().rfind(|kind| kind.starts_with("alice")).unwrap();
        assert_eq!(told, "alice away", "{}", world.story());
        // Put back it is an agent as any other.
        world.run_ms(500);
        world.reconfigure(config());
        assert_eq!(register(&mut world, alice, "wonder"), Some(200));
        assert_eq!(world.agent("alice"), AgentState::Ready, "{}", world.story());
        world.assert_nothing_left();
    }
}

#[test]
fn one_whose_phone_rings_stops_ringing_and_the_next_is_rung() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    world.behave(alice, Behaviour::Ring);
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    assert_eq!(world.agent("alice"), AgentState::Reserved);
    let bob = world.registered("bob", "builder");
    world.reconfigure(edited(|it| it.queues[0].agents = vec!["bob".to_owned()]));
    assert_eq!(agents(&world), ["bob"], "{}", world.story());
    world.run_ms(2_000);
    assert_eq!(world.phones[alice].cancelled.len(), 1, "{}", world.story());
    assert!(world.heard().contains(&("customer", "bob")), "{}", world.story());
    world.hang_up(bob);
    world.assert_nothing_left();
}

/// Who becomes an agent is ready when its phone is there, and is offered nothing while it talks.
#[test]
fn one_that_is_added_takes_calls_when_it_is_free() {
    let mut world = World::new();
    let carol = world.registered("carol", "singer");
    let (customer, friend) = (world.phone("customer"), world.phone("friend"));
    world.call(friend, "carol");
    world.run_ms(2_000);
    world.call(customer, "support");
    world.run_ms(500);
    world.reconfigure(edited(|it| it.queues[0].agents.push("carol".to_owned())));
    world.run_ms(2_000);
    assert_eq!(world.agent("carol"), AgentState::Engaged, "{}", world.story());
    assert_eq!(world.phones[carol].rung, 1, "{}", world.story());
    world.hang_up(friend);
    world.run_ms(2_000);
    assert!(
        world.heard().contains(&("customer", "carol")),
        "{}",
        world.story()
    );
    world.hang_up(carol);
    world.assert_nothing_left();
}

#[test]
fn limits_of_agents_count_from_their_next_call() {
    let (mut world, alice, customer) = talking();
    world.reconfigure(edited(|it| (it.agents.calls_max, it.agents.wrap_up_s) = (2, 0)));
    let other = world.phone("other");
    world.call(other, "support");
    world.run_ms(500);
    assert_eq!(world.phones[alice].rung, 2, "a second one\n{}", world.story());
    world.phones[other].cancel(world.now);
    world.run_ms(500);
    world.hang_up(customer);
    world.run_ms(100);
    assert_eq!(
        world.agent("alice"),
        AgentState::Ready,
        "no rest\n{}",
        world.story()
    );
    world.assert_nothing_left();
}

#[test]
fn a_queue_that_is_added_is_served() {
    let mut world = World::new();
    let bob = world.registered("bob", "builder");
    let customer = world.phone("customer");
    world.call(customer, "sales");
    world.run_ms(500);
    assert_eq!(status(&world, customer), 404);
    world.reconfigure(edited(|it| it.queues.push(queue("sales", &["bob"]))));
    world.call(customer, "sales");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(bob);
    world.run_ms(500);
    assert_eq!(world.details()[0].queue.as_deref(), Some("sales"));
    world.assert_nothing_left();
}

/// Those who wait are served by those who served it, though it takes nobody more.
#[test]
fn a_queue_that_is_gone_is_served_until_it_is_empty() {
    let mut world = World::new();
    let (customer, late) = (world.phone("customer"), world.phone("late"));
    world.call(customer, "support");
    world.run_ms(1_000);
    for _ in 0..2 {
        // Again, when it was gone before.
        world.reconfigure(edited(|it| it.queues.clear()));
        assert_eq!(queues(&world), ["support"]);
        world.call(late, "support");
        world.run_ms(500);
        assert_eq!(status(&world, late), 404, "{}", world.story());
    }
    let alice = world.registered("alice", "wonder");
    world.run_ms(2_000);
    assert!(
        world.heard().contains(&("customer", "alice")),
        "{}",
        world.story()
    );
    assert_eq!(
        (queues(&world), agents(&world)),
        (vec![], vec!["alice".to_owned()])
    );
    world.hang_up(alice);
    world.run_ms(500);
    assert!(agents(&world).is_empty(), "{}", world.story());
    let detail = world.detail();
    assert_eq!((detail.queue.as_deref(), detail.status), (Some("support"), 200));
    world.reconfigure(config());
    assert_eq!(world.agent("alice"), AgentState::Ready);
    world.assert_nothing_left();
}

#[test]
fn or_its_callers_wait_too_long_as_before() {
    let mut world = World::with(edited(|it| it.queues[0].timeout_status = 503));
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    world.reconfigure(edited(|it| it.queues.clear()));
    world.run_ms(58_000);
    assert_eq!(queues(&world), ["support"]);
    world.run_ms(2_000);
    assert_eq!(status(&world, customer), 503, "{}", world.story());
    assert!(queues(&world).is_empty());
    world.assert_nothing_left();
}

#[test]
fn a_longer_time_out_counts_for_who_waits_and_a_shorter_one_for_who_comes() {
    let mut world = World::new();
    let (first, second) = (world.phone("first"), world.phone("second"));
    world.call(first, "support");
    world.run_ms(1_000);
    world.reconfigure(edited(|it| it.queues[0].timeout_s = 5));
    world.call(second, "support");
    world.run_ms(6_000);
    assert_eq!((status(&world, first), status(&world, second)), (180, 480));
    world.reconfigure(edited(|it| it.queues[0].timeout_s = 100));
    world.run_ms(90_000);
    assert_eq!(status(&world, first), 180, "{}", world.story());
    world.run_ms(10_000);
    assert_eq!(status(&world, first), 480, "{}", world.story());
    world.assert_nothing_left();
}

/// Who waits for longer than anybody could before is not sent away by what was planned for then.
#[test]
fn an_invite_may_wait_for_as_long_as_its_queue_lets_it() {
    let mut world = World::new();
    world.reconfigure(edited(|it| it.queues[0].timeout_s = 600));
    let customer = world.phone_with("customer", |stack| stack.ring_max = Duration::from_secs(1_000));
    world.call(customer, "support");
    world.run_ms(500_000);
    assert_eq!(status(&world, customer), 180, "{}", world.story());
    world.phones[customer].cancel(world.now);
    world.assert_nothing_left();
}

#[test]
fn who_waits_hears_the_new_music() {
    let with = |tone: &str, prompt: &str| {
        edited(|it| {
            it.calls.answer_before_music = true;
            it.music.tone = tone.to_owned();
            it.queues[0].music = prompt.to_owned();
        })
    };
    let mut world = World::with(with("melody", "missing.wav"));
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(1_000);
    assert_eq!(world.played_to(customer), ["tone:melody"], "it lacks the prompt");
    world.media.prompts = vec!["jazz.wav"];
    world.reconfigure(with("melody", "jazz.wav"));
    world.run_ms(100);
    assert_eq!(
        world.played_to(customer),
        ["prompt:jazz.wav"],
        "{}",
        world.story()
    );
    // And keeps that of a queue that is gone.
    world.reconfigure(edited(|it| it.queues.clear()));
    world.run_ms(100);
    assert_eq!(
        world.played_to(customer),
        ["prompt:jazz.wav"],
        "{}",
        world.story()
    );
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_room_whose_pin_is_gone_lets_in_who_stands_before_it() {
    let mut world = World::with(edited(|it| {
        it.conferences.pins = [("room-7".to_owned(), "1234".to_owned())].into();
    }));
    let (dora, emil) = (world.phone("dora"), world.phone("emil"));
    for phone in [dora, emil] {
        world.call(phone, "room-7");
        world.run_ms(200);
    }
    assert_eq!(world.heard().len(), 0, "{}", world.story());
    // What it mixes at is as it was when the room began.
    world.reconfigure(edited(|it| it.conferences.sample_rate_hz = 8_000));
    world.run_ms(200);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.run_ms(60_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(dora);
    world.hang_up(emil);
    world.assert_nothing_left();
}

/// New calls speak what the new policy lets them; one that stands is held and goes on in what it speaks.
#[test]
fn codecs_are_those_of_the_policy_a_call_began_under() {
    let (mut world, alice, customer) = talking();
    assert_eq!(world.phones[customer].codec(), "PCMU");
    world.reconfigure(edited(|it| it.media.codecs = vec!["PCMA".to_owned()]));
    world.phones[customer].codecs.retain(|codec| codec.name == "PCMU");
    for direction in [Direction::SendOnly, Direction::SendRecv] {
        let now = world.now;
        world.phones[customer].reinvite(now, direction);
        world.run_ms(500);
        assert_eq!(status(&world, customer), 200, "{}", world.story());
    }
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let other = world.phone("other");
    world.registered("bob", "builder");
    world.call(other, "support");
    world.run_ms(2_000);
    assert_eq!(world.phones[other].codec(), "PCMA", "{}", world.story());
    for phone in [alice, other] {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

#[test]
fn limits_count_for_new_calls() {
    let (mut world, _, customer) = talking();
    world.reconfigure(edited(|it| it.calls.count_max = 1));
    let other = world.phone("other");
    world.call(other, "support");
    world.run_ms(500);
    assert_eq!(status(&world, other), 503);
    world.reconfigure(config());
    world.call(other, "support");
    world.run_ms(500);
    assert_eq!(status(&world, other), 180, "{}", world.story());
    world.phones[other].cancel(world.now);
    world.run_ms(100);
    assert_eq!(world.heard().len(), 2);
    world.hang_up(customer);
    world.assert_nothing_left();
}

fn with_trunks(text: &str) -> Config {
    let both: Config = toml::from_str(text).unwrap();
    edited(|it| {
        (it.trunks, it.dialplan) = (both.trunks, both.dialplan);
        it.allow_anonymous_calls = false;
    })
}

/// Carriers are the second and third phones.
const TWO: &str = r#"
    [[trunks]]
    name = "a"
    targets = [{ uri = "sip:10.0.1.2:5060" }]
    sources = ["10.0.1.2"]
    username = "us"
    password = "secret"
    register_s = 300
    probe_s = 0
    headers = { set = { X-Site = "london" } }
    [[trunks]]
    name = "b"
    targets = [{ uri = "sip:10.0.1.3:5060" }]
    probe_s = 0
    [dialplan]
    routes = [{ pattern = "+.", trunks = ["a", "b"] }]
"#;

fn town(text: &str) -> (World, [usize; 3]) {
    let mut world = World::with(with_trunks(text));
    let alice = world.registered("alice", "wonder");
    let phones = [alice, world.phone("a"), world.phone("b")];
    world.run_ms(20_000);
    (world, phones)
}

fn call_out(world: &mut World, alice: usize) {
    world.phones[alice].password = "wonder";
    world.call(alice, "+49301234");
    world.run_ms(3_000);
}

fn register_of(world: &World, phone: usize) -> (String, String) {
    let last = world.phones[phone].registers.last().unwrap();
    let text = |name| String::from_utf8_lossy(last.headers.get(name).unwrap_or_default()).into_owned();
    (text(HeaderName::From), text(HeaderName::Expires))
}

#[test]
fn a_trunk_that_is_gone_keeps_its_call_and_is_not_registered_with() {
    let (mut world, [alice, a, b]) = town(TWO);
    assert_eq!(register_of(&world, a).1, "300");
    world.behave(a, Behaviour::Challenge(500));
    call_out(&mut world, alice);
    assert!(world.heard().contains(&("alice", "a")), "{}", world.story());
    let only_b = TWO.split("[[trunks]]").nth(2).unwrap().replace("\"a\", ", "");
    world.reconfigure(with_trunks(&format!("[[trunks]]{only_b}")));
    world.run_ms(1_000);
    assert_eq!(register_of(&world, a).1, "0", "{}", world.story());
    let registers = world.phones[a].registers.len();
    let live = world.controller.trunks_live();
    assert_eq!((live.len(), live[0].name.as_str()), (1, "b"));
    // It asks for the password again within the call, which still is what it was.
    world.guarded = Some(a);
    world.run_ms(200_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.phones[a].registers.len(), registers, "{}", world.story());
    world.hang_up(alice);
    world.run_ms(1_000);
    assert!(world.phones[a].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().callee_trunk.as_deref(), Some("a"));
    world.guarded = None;
    assert_eq!(register(&mut world, alice, "wonder"), Some(200));
    call_out(&mut world, alice);
    assert!(world.heard().contains(&("alice", "b")), "{}", world.story());
    world.hang_up(b);
    world.run_ms(1_000);
    // Put back it is as it was.
    world.reconfigure(with_trunks(TWO));
    world.run_ms(20_000);
    let live = world.controller.trunks_live();
    assert_eq!(
        (live[0].registration.clone(), live[0].calls),
        (Registration::Registered, 0)
    );
    assert_eq!(register(&mut world, alice, "wonder"), Some(200));
    call_out(&mut world, alice);
    assert!(world.heard().contains(&("alice", "a")), "{}", world.story());
    world.hang_up(a);
    world.reconfigure(edited(|_| {}));
    world.assert_nothing_left();
}

#[test]
fn new_credentials_are_registered_with_and_the_old_name_is_not() {
    let (mut world, [_, a, _]) = town(TWO);
    let registers = world.phones[a].registers.len();
    world.reconfigure(with_trunks(TWO));
    world.run_ms(5_000);
    assert_eq!(world.phones[a].registers.len(), registers, "nothing changed");
    world.reconfigure(with_trunks(&TWO.replace("\"secret\"", "\"other\"")));
    world.run_ms(1_000);
    // Each is asked for its password first.
    assert_eq!(
        world.phones[a].registers.len(),
        registers + 2,
        "{}",
        world.story()
    );
    world.reconfigure(with_trunks(&TWO.replace("\"us\"", "\"them\"")));
    world.run_ms(1_000);
    let mut told: Vec<String> = world.phones[a].registers[registers + 2..]
        .iter()
        .map(|register| {
            let text =
                |name| String::from_utf8_lossy(register.headers.get(name).unwrap_or_default()).into_owned();
            let from = text(HeaderName::From);
            let user = from.split([':', '@']).nth(1).unwrap_or_default().to_owned();
            format!("{user} {}", text(HeaderName::Expires))
        })
        .collect();
    told.dedup();
    assert_eq!(told, ["us 0", "them 300"], "{}", world.story());
    let live = world.controller.trunks_live();
    assert_eq!(live[0].registration, Registration::Registered);
    let registers = world.phones[a].registers.len();
    world.run_ms(100_000);
    assert_eq!(
        world.phones[a].registers.len(),
        registers + 1,
        "one at a time\n{}",
        world.story()
    );
    world.reconfigure(edited(|_| {}));
    world.assert_nothing_left();
}

#[test]
fn targets_routes_numbers_and_header_fields_are_those_of_now() {
    let (mut world, [alice, a, b]) = town(TWO);
    call_out(&mut world, alice);
    assert!(world.heard().contains(&("alice", "a")), "{}", world.story());
    // Another target in the place of the one that has the call.
    let moved = TWO
        .replace("sip:10.0.1.2:5060", "sip:10.0.1.3:5060")
        .replace("london", "leeds")
        .replace(
            "[dialplan]",
            "[dialplan]\nrewrite = [{ pattern = \"+49.\", strip = 3, prefix = \"+44\" }]",
        )
        .replace("\"a\", \"b\"", "\"a\"");
    world.reconfigure(with_trunks(&moved));
    assert_eq!(world.controller.trunks_live()[0].calls, 1);
    world.run_ms(1_000);
    assert_eq!(register_of(&world, a).1, "0", "{}", world.story());
    assert_eq!(register_of(&world, b).1, "300", "{}", world.story());
    world.hang_up(alice);
    world.run_ms(1_000);
    assert_eq!(world.controller.trunks_live()[0].calls, 0);
    call_out(&mut world, alice);
    assert!(world.heard().contains(&("alice", "b")), "{}", world.story());
    let invite = world.phones[b].invited_by.clone().unwrap();
    assert_eq!(&invite.uri_text()[..], b"sip:+44301234@10.0.1.3:5060");
    assert_eq!(invite.headers.get("X-Site"), Some(&b"leeds"[..]));
    world.hang_up(alice);
    world.run_ms(1_000);
    // Without a route nothing goes out, and what was to be tried next is not.
    world.reconfigure(with_trunks(moved.split("[dialplan]").next().unwrap()));
    call_out(&mut world, alice);
    assert_eq!(status(&world, alice), 404, "{}", world.story());
    world.reconfigure(edited(|_| {}));
    world.assert_nothing_left();
}

#[test]
fn a_call_on_its_way_is_not_sent_on_to_a_trunk_that_is_gone() {
    let (mut world, [alice, a, b]) = town(TWO);
    world.behave(a, Behaviour::Answer(60_000));
    world.phones[alice].password = "wonder";
    world.call(alice, "+49301234");
    world.run_ms(1_000);
    let only_a = TWO.replacen("[[trunks]]", "[[first]]", 1);
    let only_a = format!(
        "[[trunks]]{}",
        only_a
            .split("[[trunks]]")
            .next()
            .unwrap()
            .split("[[first]]")
            .nth(1)
            .unwrap()
    );
    world.reconfigure(with_trunks(&format!(
        "{only_a}\n[dialplan]\nroutes = [{{ pattern = \"+.\", trunks = [\"a\"] }}]"
    )));
    let now = world.now;
    world.phones[a].refuse(now, StatusCode::SERVICE_UNAVAILABLE);
    world.run_ms(1_000);
    assert_eq!(world.phones[b].rung, 0, "{}", world.story());
    assert_eq!(status(&world, alice), 500, "{}", world.story());
    world.reconfigure(edited(|_| {}));
    world.assert_nothing_left();
}

fn with_hosts(names: &[&str]) -> Config {
    let host = |name: &&str| MediaHost {
        name: (*name).into(),
        address: "http://10.0.0.2:7000".to_owned(),
    };
    edited(|it| it.media.hosts = names.iter().map(host).collect())
}

#[test]
fn a_media_host_that_is_added_takes_calls_and_one_that_is_gone_drains() {
    let (mut world, alice, customer) = talking();
    world.reconfigure(with_hosts(&["m2"]));
    world.add_media_host();
    let hosts = world.controller.live(world.clocks()).hosts;
    let of: Vec<(&str, bool, usize)> = hosts
        .iter()
        .map(|it| (it.host.as_str(), it.is_draining, it.sessions))
        .collect();
    assert_eq!(of, [("m1", true, 1), ("m2", false, 0)]);
    let bob = world.registered("bob", "builder");
    let other = world.phone("other");
    world.call(other, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 4, "{}", world.story());
    assert_eq!(world.other_media.as_ref().unwrap().sessions.len(), 1);
    assert!(world.drained.is_empty());
    world.hang_up(customer);
    world.run_ms(1_000);
    assert_eq!(world.drained, [HostId::from("m1")], "{}", world.story());
    assert_eq!(world.controller.live(world.clocks()).hosts.len(), 1);
    assert_eq!(world.detail().host, "m1");
    // Put back it is up as soon as it says so.
    world.reconfigure(with_hosts(&["m1", "m2"]));
    world.call(customer, "support");
    world.run_ms(4_000);
    assert!(
        world.heard().contains(&("customer", "alice")),
        "{}",
        world.story()
    );
    assert_eq!(world.media.sessions.len(), 1, "{}", world.story());
    for phone in [alice, bob] {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

/// What is on it when it is lost goes on at another one.
#[test]
fn and_one_that_is_lost_while_it_drains_is_left() {
    let (mut world, alice, _) = talking();
    world.reconfigure(with_hosts(&["m2"]));
    world.add_media_host();
    world.lose_media_host();
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.drained, [HostId::from("m1")], "{}", world.story());
    // It is back, and nobody cares.
    let at = world.clocks();
    let up = MediaInput::HostUp {
        host: "m1".into(),
        boot_id: "boot-9".into(),
    };
    world.controller.handle_media(at, up);
    world.hang_up(alice);
    world.assert_nothing_left();
}

#[test]
fn one_that_cannot_be_used_changes_nothing() {
    let (mut world, alice, customer) = talking();
    let refused: [(Config, &str); 4] = [
        (
            edited(|it| it.queues[0].agents.push("zoe".into())),
            "queues.support.agents = \"zoe\": is no account",
        ),
        (
            edited(|it| {
                it.accounts.remove(1);
                it.queues[0].agents.truncate(1);
                it.accounts[0].ha1_md5 = Some("short".into());
            }),
            "accounts.alice.ha1_md5",
        ),
        (
            edited(|it| it.listeners[0].local.set_port(5070)),
            "listeners = \"\": cannot change while calls go on; keep it, or restart",
        ),
        (edited(|it| it.domains.truncate(1)), "domains"),
    ];
    for (config, told) in refused {
        let error = world.try_reconfigure(config).unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
    assert_eq!(*world.controller.config(), config());
    assert_eq!(agents(&world), ["alice", "bob"]);
    assert_eq!(register(&mut world, alice, "wonder"), Some(200));
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// The process after it goes on from the journal under what was configured last.
#[test]
fn and_a_restart_goes_on_from_there() {
    let (mut world, alice, customer) = talking();
    world.reconfigure(edited(|it| {
        it.queues = vec![queue("support", &["bob"]), queue("sales", &["alice"])];
    }));
    world.run_ms(500);
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(3_000);
    assert_eq!(world.agent("alice"), AgentState::Ready, "{}", world.story());
    world.call(customer, "sales");
    world.run_ms(2_000);
    assert!(world.phones[alice].talks(), "{}", world.story());
    world.hang_up(alice);
    world.run_ms(60_000);
    assert_eq!(world.controller.counters().calls, 0);
}
