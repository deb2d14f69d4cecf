use call_control::{Config, domain::AgentState, journal::EndedBy, menu::Choice};
use sip::{
    message::{Method, StatusCode},
    stack::{Content, DialogRequest},
};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// A question with prompts, one that a tone asks, and who chooses nothing there.
const MENUS: &str = r#"
    [[menus]]
    name = "welcome"
    prompt = "welcome"
    invalid_prompt = "invalid"
    keys = { 1 = "support", 2 = "carol", 21 = "bob", 3 = "room-7", 4 = "more", 5 = "+49301234", 9 = "welcome" }
    [[menus]]
    name = "more"
    keys = { 1 = "carol", "*" = "welcome" }
    otherwise = "support"
"#;

fn with(more: &str) -> Config {
    let given: Config = toml::from_str(&format!("{MENUS}{more}")).unwrap();
    let mut config = config();
    config.calls.ring_timeout_s = 20;
    Config {
        menus: given.menus,
        trunks: given.trunks,
        dialplan: given.dialplan,
        ..config
    }
}

/// Where its number leads: not for strangers.
const OUT: &str = r#"
    [[trunks]]
    name = "out"
    targets = [{ uri = "sip:10.0.1.5:5060" }]
    probe_s = 0
    sources = ["10.0.1.5"]
    rx_called = [{ pattern = "+4420.", set = "welcome" }]
    [dialplan]
    routes = [{ pattern = "+.", trunks = ["out"], accounts = ["alice"] }]
"#;

/// Somebody has taken the menus out.
fn without() -> Config {
    Config {
        menus: Vec::new(),
        ..with(OUT)
    }
}

fn world() -> World {
    world_of(with(OUT))
}

fn world_of(config: Config) -> World {
    let mut world = World::with(config);
    world.media.prompts = vec!["welcome", "invalid"];
    world
}

/// A stranger has dialled the menu and is answered. Alice serves the queue.
fn asked() -> (World, usize, usize) {
    let mut world = world();
    let alice = world.registered("alice", "wonder");
    let customer = dial(&mut world, "welcome");
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    (world, alice, customer)
}

fn dial(world: &mut World, menu: &str) -> usize {
    let customer = world.phone("customer");
    world.call(customer, menu);
    world.run_ms(200);
    assert_eq!(world.phones[customer].statuses, [200], "{}", world.story());
    customer
}

fn choice(menu: &str, keys: &str, to: &str) -> Choice {
    Choice {
        menu: menu.to_owned(),
        keys: keys.to_owned(),
        to: to.to_owned(),
    }
}

#[test]
fn a_key_leads_to_a_queue() {
    let (mut world, alice, customer) = asked();
    assert_eq!(
        world.controller.live(world.clocks()).calls[0].menu.as_deref(),
        Some("welcome")
    );
    world.press(customer, "1");
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    assert_eq!(world.questions_to(customer), [""; 0]);
    world.run_ms(3_000);
    assert_eq!(
        world.heard(),
        [("alice", "customer"), ("customer", "alice")].into()
    );
    assert_eq!(world.phones[customer].statuses, [200], "answered once");
    // What is pressed now is for alice.
    world.press(customer, "2");
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(alice);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(detail.choices, [choice("welcome", "1", "support")]);
    assert_eq!(
        (detail.queue.as_deref(), detail.answered_by.as_deref()),
        (Some("support"), Some("alice"))
    );
    assert!(
        world.kinds().contains(&"chose welcome 1 support".to_owned()),
        "{:?}",
        world.kinds()
    );
    world.assert_nothing_left();
}

#[test]
fn or_to_a_user_and_one_that_does_not_come_to_the_question_again() {
    for behaviour in [Behaviour::Refuse(StatusCode::BUSY_HERE), Behaviour::Ring] {
        let (mut world, _, customer) = asked();
        let carol = world.registered("carol", "singer");
        world.behave(carol, behaviour);
        world.press(customer, "2");
        // It may be the beginning of 21.
        assert_eq!(world.phones[carol].rung, 0);
        world.run_ms(3_000);
        assert_eq!(world.phones[carol].rung, 1, "{}", world.story());
        if behaviour == Behaviour::Ring {
            assert_eq!(world.played_to(customer), ["tone:ringback-us"]);
            world.run_ms(20_000);
            assert_eq!(world.phones[carol].cancelled.len(), 1, "{}", world.story());
        }
        assert_eq!(
            world.questions_to(customer),
            ["prompt:welcome"],
            "{}",
            world.story()
        );
        world.behave(carol, Behaviour::Answer(100));
        world.press(customer, "2#");
        world.run_ms(500);
        assert_eq!(
            world.heard(),
            [("carol", "customer"), ("customer", "carol")].into()
        );
        world.hang_up(customer);
        world.run_ms(100);
        assert_eq!(
            world.detail().choices,
            [choice("welcome", "2", "carol"), choice("welcome", "2", "carol")]
        );
        world.assert_nothing_left();
    }
}

#[test]
fn several_keys_are_one_choice() {
    let (mut world, _, customer) = asked();
    let bob = world.registered("bob", "builder");
    world.press(customer, "2");
    assert_eq!(
        world.questions_to(customer),
        [""; 0],
        "who presses keys is asked no more"
    );
    assert_eq!(world.played_to(customer), ["silence:1000"], "and listened to");
    world.press(customer, "1");
    world.run_ms(2_000);
    assert!(world.phones[bob].talks(), "{}", world.story());
    world.hang_up(bob);
    world.assert_nothing_left();
}

#[test]
fn keys_by_info_do_too() {
    let (mut world, _, customer) = asked();
    let now = world.now;
    let content = Content::new(
        "application/dtmf-relay",
        "Signal=1\r\nDuration=160\r\n".to_owned(),
    );
    world.phones[customer].send(now, DialogRequest::new(Method::Info).with_content(content));
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Its time runs from the end of the question.
#[test]
fn who_chooses_nothing_is_asked_so_often_and_then_sent_away() {
    let (mut world, _, customer) = asked();
    world.run_ms(60_000);
    for _ in 0..2 {
        assert_eq!(
            world.questions_to(customer),
            ["prompt:welcome"],
            "{}",
            world.story()
        );
        world.question_ends(customer);
        world.run_ms(5_100);
    }
    assert!(world.phones[customer].talks());
    world.question_ends(customer);
    world.run_ms(5_100);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    let detail = world.detail();
    assert_eq!(detail.reason, "nothing was chosen in the menu");
    assert_eq!((detail.status, detail.answered_by), (480, None));
    assert_eq!(world.controller.counters().menu_failures, 1);
    world.assert_nothing_left();
}

/// Nothing waits for ever for a media host that does not say that a question is over.
#[test]
fn a_question_that_never_ends_is_over_some_time() {
    let (mut world, _, customer) = asked();
    world.run_ms(3 * 300_000 + 1_000);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    world.assert_nothing_left();
}

#[test]
fn who_presses_another_key_is_told_so() {
    let (mut world, _, customer) = asked();
    world.press(customer, "7");
    assert_eq!(
        world.questions_to(customer),
        ["prompt:invalid", "prompt:welcome"],
        "{}",
        world.story()
    );
    world.question_ends(customer);
    world.run_ms(5_100);
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "it pressed none"
    );
    world.press(customer, "8");
    assert!(
        world.phones[customer].dialog.is_none(),
        "the third time\n{}",
        world.story()
    );
    world.assert_nothing_left();
}

/// Of keys that led somewhere nobody says that they were wrong, whatever was pressed before.
#[test]
fn but_not_who_pressed_the_right_one_and_is_back() {
    let (mut world, _, customer) = asked();
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Refuse(StatusCode::BUSY_HERE));
    for keys in ["2#", "9"] {
        world.press(customer, "7");
        assert_eq!(
            world.questions_to(customer),
            ["prompt:invalid", "prompt:welcome"],
            "{}",
            world.story()
        );
        world.press(customer, keys);
        world.run_ms(200);
        assert_eq!(
            world.questions_to(customer),
            ["prompt:welcome"],
            "after {keys}\n{}",
            world.story()
        );
        world.hang_up(customer);
        world.run_ms(200);
        world.phones[customer].statuses.clear();
        world.call(customer, "welcome");
        world.run_ms(200);
    }
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn or_brought_to_where_those_go_who_choose_nothing() {
    let mut world = world();
    world.registered("alice", "wonder");
    let customer = dial(&mut world, "more");
    assert_eq!(
        world.questions_to(customer),
        ["tone:dial-us"],
        "no prompt\n{}",
        world.story()
    );
    world.run_ms(3 * 5_000 + 2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!(detail.choices, [choice("more", "", "support")]);
    assert_eq!(detail.ended_by, EndedBy::Caller);
    world.assert_nothing_left();
}

/// And not again to the queue in which nobody came.
#[test]
fn there_it_ends_when_nobody_comes() {
    let mut world = world();
    let customer = dial(&mut world, "more");
    world.run_ms(16_000);
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    world.run_ms(61_000);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().reason, "nobody answered in time");
    world.assert_nothing_left();
}

/// Also when an agent's phone rings just then, which stops.
#[test]
fn who_waited_too_long_in_a_queue_is_asked_again() {
    for (timeout_s, rings) in [(60, false), (62, true)] {
        let mut config = with(OUT);
        config.queues[0].timeout_s = timeout_s;
        config.agents.misses_max = 0;
        let mut world = world_of(config);
        let carol = world.registered("carol", "singer");
        let alice = world.registered("alice", "wonder");
        world.behave(alice, Behaviour::Ring);
        let customer = dial(&mut world, "welcome");
        world.press(customer, "1");
        world.run_ms(timeout_s * 1_000 - 500);
        assert_eq!(
            world.agent("alice") == AgentState::Reserved,
            rings,
            "{}",
            world.story()
        );
        world.run_ms(1_000);
        assert_eq!(
            world.questions_to(customer),
            ["prompt:welcome"],
            "{}",
            world.story()
        );
        assert_eq!(world.controller.counters().waiting, 0);
        assert_eq!(world.agent("alice"), AgentState::Ready);
        world.press(customer, "2#");
        world.run_ms(2_000);
        assert!(world.phones[carol].talks(), "{}", world.story());
        world.hang_up(carol);
        world.run_ms(100);
        assert_eq!(world.detail().queue, None, "it was served by no queue");
        world.assert_nothing_left();
    }
}

#[test]
fn a_menu_leads_to_another_and_back_but_not_for_ever() {
    let (mut world, alice, customer) = asked();
    world.press(customer, "4");
    assert_eq!(
        world.questions_to(customer),
        ["tone:dial-us"],
        "{}",
        world.story()
    );
    world.press(customer, "*");
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    for _ in 0..31 {
        world.press(customer, "4*");
    }
    assert!(world.phones[customer].talks());
    world.press(customer, "4");
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().reason, "menus led it in a circle");
    assert_eq!(world.agent("alice"), AgentState::Ready, "{alice}");
    world.assert_nothing_left();
}

#[test]
fn or_to_a_conference() {
    let (mut world, alice, customer) = asked();
    world.call(alice, "room-7");
    world.run_ms(200);
    world.press(customer, "3");
    world.run_ms(500);
    assert_eq!(
        world.heard(),
        [("alice", "customer"), ("customer", "alice")].into(),
        "{}",
        world.story()
    );
    world.hang_up(customer);
    world.hang_up(alice);
    world.assert_nothing_left();
}

/// The caller may not call out; who wrote the menu may. And by a carrier's number to it.
#[test]
fn or_out() {
    let mut world = world();
    world.phone("x");
    world.phone("y");
    let customer = world.phone("customer");
    let carrier = loop {
        // Phones get addresses by their number.
        let phone = world.phone("carrier");
        if world.phones[phone].address.to_string() == "10.0.1.5:5060" {
            break phone;
        }
    };
    world.call(customer, "+49301234");
    world.run_ms(200);
    assert_eq!(world.phones[customer].statuses, [403], "{}", world.story());
    world.call(customer, "welcome");
    world.run_ms(200);
    world.press(customer, "5");
    world.run_ms(1_000);
    assert!(world.phones[carrier].talks(), "{}", world.story());
    assert_eq!(world.heard().len(), 2);
    world.hang_up(carrier);
    world.run_ms(100);
    let carol = world.registered("carol", "singer");
    world.phones[carrier].statuses.clear();
    world.call(carrier, "+442079460000");
    world.run_ms(200);
    assert_eq!(world.phones[carrier].statuses, [200], "{}", world.story());
    assert_eq!(
        world.questions_to(carrier),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    world.press(carrier, "2#");
    world.run_ms(2_000);
    assert!(world.phones[carol].talks(), "{}", world.story());
    assert_eq!(world.detail().choices, [choice("welcome", "5", "+49301234")]);
    world.hang_up(carol);
    world.assert_nothing_left();
}

/// Whose phone sends its calls to the menu has no say in where that leads: after a restart neither.
#[test]
fn or_out_of_one_that_a_phone_sends_its_calls_to() {
    for restarts in [false, true] {
        let mut world = world();
        let carol = world.registered("carol", "singer");
        world.behave(carol, Behaviour::Forward("welcome"));
        let customer = world.phone("customer");
        for _ in 0..2 {
            world.phone("x");
        }
        let carrier = world.phone("carrier");
        assert_eq!(world.phones[carrier].address.to_string(), "10.0.1.5:5060");
        world.call(customer, "carol");
        world.run_ms(500);
        if restarts {
            world.restart();
            world.run_ms(500);
        }
        assert_eq!(
            world.questions_to(customer),
            ["prompt:welcome"],
            "{}",
            world.story()
        );
        world.press(customer, "5");
        world.run_ms(1_000);
        assert!(
            world.phones[carrier].talks(),
            "restarts: {restarts}\n{}",
            world.story()
        );
        world.hang_up(carrier);
        world.assert_nothing_left();
    }
}

#[test]
fn who_hangs_up_in_it_leaves_nothing() {
    let (mut world, _, customer) = asked();
    world.press(customer, "2");
    world.hang_up(customer);
    world.run_ms(100);
    let detail = world.detail();
    assert_eq!((detail.ended_by, detail.answered_by), (EndedBy::Caller, None));
    world.assert_nothing_left();
}

/// Also who is on the way from there.
#[test]
fn a_restart_asks_again() {
    let (mut world, _, customer) = asked();
    world.press(customer, "7");
    world.press(customer, "2");
    world.restart();
    world.run_ms(500);
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    world.press(customer, "7");
    let carol = world.registered("carol", "singer");
    world.behave(carol, Behaviour::Ring);
    assert!(world.phones[customer].talks(), "{}", world.story());
    world.press(customer, "2#");
    assert_eq!(world.phones[carol].rung, 1, "{}", world.story());
    world.restart();
    world.run_ms(500);
    assert_eq!(world.phones[carol].rung, 2, "rung again\n{}", world.story());
    world.behave(carol, Behaviour::Refuse(StatusCode::DECLINE));
    world.run_ms(21_000);
    assert!(
        world.phones[customer].dialog.is_none(),
        "the third time\n{}",
        world.story()
    );
    let detail = world.detail();
    assert_eq!(detail.choices, [choice("welcome", "2", "carol")]);
    world.assert_nothing_left();
}

#[test]
fn another_media_host_asks_again() {
    let (mut world, _, customer) = asked();
    world.press(customer, "2");
    world.lose_media_host();
    world.restart_media_host(false);
    world.run_ms(1_000);
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    world.press(customer, "1");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_prompt_that_is_not_there_is_a_tone() {
    for (prompts, asked) in [
        (vec!["welcome"], &["prompt:welcome"][..]),
        (vec![], &["tone:dial-us"][..]),
    ] {
        let mut world = world();
        world.media.prompts = prompts;
        let customer = dial(&mut world, "welcome");
        world.press(customer, "7");
        assert_eq!(world.questions_to(customer), asked, "{}", world.story());
        assert!(world.controller.counters().prompts_missing > 0);
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// The host that it goes on at may have what the lost one lacked: the question, and a queue's music.
#[test]
fn unless_another_media_host_has_it() {
    let mut config = with(OUT);
    config.queues[0].music = "jazz".to_owned();
    let mut world = world_of(config);
    world.media.prompts = vec![];
    let customer = dial(&mut world, "welcome");
    let move_on = |world: &mut World, prompts: &[&'static str]| {
        world.lose_media_host();
        world.media.prompts = prompts.to_vec();
        world.restart_media_host(false);
        world.run_ms(1_000);
    };
    assert_eq!(
        world.questions_to(customer),
        ["tone:dial-us"],
        "{}",
        world.story()
    );
    move_on(&mut world, &["welcome", "invalid"]);
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    world.press(customer, "1");
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    move_on(&mut world, &["jazz"]);
    assert_eq!(world.played_to(customer), ["prompt:jazz"], "{}", world.story());
    move_on(&mut world, &[]);
    assert_eq!(world.played_to(customer), ["tone:melody"], "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// By who serves it, who is free then.
#[test]
fn a_party_is_transferred_to_it() {
    let mut world = world();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(3_000);
    let now = world.now;
    world.phones[alice].refer(now, "sip:welcome@example.com");
    world.run_ms(500);
    assert_eq!(
        world.questions_to(customer),
        ["prompt:welcome"],
        "{}",
        world.story()
    );
    assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
    let carol = world.registered("carol", "singer");
    world.press(customer, "2#");
    world.run_ms(2_000);
    assert!(world.phones[carol].talks(), "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

/// Whoever is rung from there, the call was served by the queue that it came by.
#[test]
fn and_its_queue_is_told_when_nothing_is_chosen_there() {
    // Pressing nothing, waiting in vain in another queue, and being killed in between.
    for (keys, other, killed) in [
        ("", false, false),
        ("", false, true),
        ("1", true, false),
        ("1", true, true),
    ] {
        let mut config = with(OUT);
        let mut sales = config.queues[0].clone();
        sales.name = "sales".to_owned();
        sales.timeout_s = 10;
        config.queues.push(sales);
        if other {
            config.menus[0].keys.insert("1".to_owned(), "sales".to_owned());
        }
        let mut world = world_of(config);
        let alice = world.registered("alice", "wonder");
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(3_000);
        let now = world.now;
        world.phones[alice].refer(now, "sip:welcome@example.com");
        world.run_ms(500);
        assert_eq!(world.questions_to(customer), ["prompt:welcome"]);
        let at = world.clocks();
        world.controller.agent_pause(at, "alice", "lunch").unwrap();
        world.press(customer, keys);
        world.run_ms(11_000);
        if killed {
            world.restart();
            world.run_ms(500);
        }
        world.run_ms(4 * 300_000);
        assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
        let detail = world.detail();
        assert_eq!(
            (detail.queue.as_deref(), detail.answered_by.as_deref()),
            (Some("support"), Some("alice")),
            "{}",
            world.story()
        );
        world.assert_nothing_left();
    }
}

#[test]
fn a_machine_brings_somebody_to_it() {
    let mut world = world();
    let carol = world.registered("carol", "singer");
    world.originate("carol", "welcome", "");
    world.run_ms(2_000);
    assert_eq!(world.questions_to(carol), ["prompt:welcome"], "{}", world.story());
    let bob = world.registered("bob", "builder");
    world.press(carol, "21");
    world.run_ms(2_000);
    assert_eq!(
        world.heard(),
        [("bob", "carol"), ("carol", "bob")].into(),
        "{}",
        world.story()
    );
    world.hang_up(bob);
    world.assert_nothing_left();
}

/// Who is in it goes on as it was; who comes later finds another, or none.
#[test]
fn another_configuration_counts_for_who_comes() {
    let (mut world, _, customer) = asked();
    world.reconfigure(without());
    world.press(customer, "1");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let late = world.phone("late");
    world.call(late, "welcome");
    world.run_ms(200);
    assert_eq!(world.phones[late].statuses, [404], "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn one_that_is_gone_after_a_restart_ends_its_calls() {
    let (mut world, _, customer) = asked();
    world.restart_with(without());
    world.run_ms(1_000);
    assert!(world.phones[customer].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().reason, "the menu is not configured any more");
    world.assert_nothing_left();
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    let mistake = |menu: &str| {
        let mut config = config();
        let given: Config = toml::from_str(menu).unwrap();
        config.menus = given.menus;
        config.check().unwrap_err().to_string()
    };
    for (menu, part) in [
        (
            "menus = [{ name = 'alice', keys = { 1 = 'bob' } }]",
            "holds \"alice\" twice",
        ),
        (
            "menus = [{ name = 'room-1', keys = { 1 = 'bob' } }]",
            "menus.name = \"room-1\": is no name of a menu",
        ),
        ("menus = [{ name = 'm' }]", "menus.m.keys = \"\": leads nowhere"),
        (
            "menus = [{ name = 'm', keys = { A = 'bob' } }]",
            "menus.m.keys = \"A\": are no keys",
        ),
        (
            "menus = [{ name = 'm', keys = { 1 = 'suport' } }]",
            "menus.m.keys.1 = \"suport\": is no account",
        ),
        (
            "menus = [{ name = 'm', otherwise = '+49' }]",
            "menus.m.otherwise = \"+49\": is no account",
        ),
        (
            "menus = [{ name = 'm', otherwise = 'bob', tries_max = 0 }]",
            "menus.m = \"5 3 0\"",
        ),
    ] {
        let text = mistake(menu);
        assert!(text.contains(part), "{text}");
        assert!(text.contains("; "), "says what to do: {text}");
    }
}
