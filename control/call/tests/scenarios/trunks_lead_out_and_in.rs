use call_control::{
    Config,
    trunk::{Health, Registration},
};
use sdp::Codec;
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

/// Carol is the second phone; carriers are the third and fourth.
fn with_trunks(trunks: &str) -> Config {
    let both: Config = toml::from_str(&format!(
        r#"
        {trunks}
        [dialplan]
        rewrite = [{{ pattern = "00.", strip = 2, prefix = "+" }}]
        routes = [{{ pattern = "+.", trunks = ["a", "b"] }}]
        "#
    ))
    .unwrap();
    Config {
        trunks: both.trunks,
        dialplan: both.dialplan,
        allow_anonymous_calls: false,
        ..config()
    }
}

const PLAIN: &str = r#"
    [[trunks]]
    name = "a"
    targets = [{ uri = "sip:10.0.1.3:5060" }]
    sources = ["10.0.1.3"]
    username = "us"
    password = "secret"
    probe_s = 0
    calls_max = 1
    tx_called = [{ pattern = "+.", strip = 1, prefix = "011" }]
    tx_caller = [{ pattern = "alice", set = "+44207000001" }]
    rx_called = [{ pattern = "+442070.", set = "support" }, { pattern = "carol", set = "carol" }]
    rx_caller = [{ pattern = "0.", strip = 1, prefix = "+49" }]
    identity = { assert = true }
    headers = { set = { X-Site = "london" }, remove = ["User-Agent"] }
    [[trunks]]
    name = "b"
    targets = [{ uri = "sip:10.0.1.4:5060" }]
    probe_s = 0
"#;

struct Town {
    world: World,
    alice: usize,
    a: usize,
    b: usize,
}

fn town(trunks: &str) -> Town {
    let mut world = World::with(with_trunks(trunks));
    let alice = world.registered("alice", "wonder");
    world.phone("carol");
    let (a, b) = (world.phone("a"), world.phone("b"));
    Town { world, alice, a, b }
}

fn call_out(town: &mut Town, to: &str) {
    let now = town.world.now;
    let alice = town.alice;
    town.world.phones[alice].password = "wonder";
    town.world.phones[alice].call(now, to, true);
}

#[test]
fn a_user_calls_out_and_the_numbers_are_the_carriers() {
    let mut town = town(PLAIN);
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let invite = world.phones[town.a].invited_by.clone().unwrap();
    let text = |name| String::from_utf8_lossy(invite.headers.get(name).unwrap_or_default()).into_owned();
    assert_eq!(&invite.uri_text()[..], b"sip:01149301234@10.0.1.3:5060");
    assert!(
        text(HeaderName::From).contains("sip:+44207000001@10.0.1.3"),
        "{}",
        text(HeaderName::From)
    );
    assert!(text(HeaderName::PAssertedIdentity).contains("+44207000001"));
    assert_eq!(invite.headers.get("X-Site"), Some(&b"london"[..]));
    assert!(!invite.headers.contains(HeaderName::UserAgent), "removed");
    assert!(
        text(HeaderName::Contact).contains("owner=n1"),
        "topology hidden, owner told"
    );
    assert_eq!(world.controller.trunks_live()[0].calls, 1);
    world.hang_up(town.a);
    world.assert_nothing_left();
    assert_eq!(world.controller.trunks_live()[0].calls, 0);
    assert_eq!(world.detail().to, "sip:0049301234@example.com");
}

#[test]
fn a_carrier_that_asks_for_the_password_gets_it() {
    let mut town = town(PLAIN);
    town.world.behave(town.a, Behaviour::Challenge(500));
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let invite = world.phones[town.a].invited_by.clone().unwrap();
    let proof =
        String::from_utf8_lossy(invite.headers.get(HeaderName::ProxyAuthorization).unwrap()).into_owned();
    assert!(
        proof.contains("username=\"us\"") && proof.contains("realm=\"carrier\""),
        "{proof}"
    );
    world.hang_up(town.alice);
    world.assert_nothing_left();
}

/// Whatever we send within its dialogs: a new place of the media, the question whether it is still there, the end.
#[test]
fn one_that_asks_for_it_again_in_the_call_gets_it_again() {
    let mut town = town(PLAIN);
    town.world.behave(town.a, Behaviour::Challenge(500));
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    world.guarded = Some(town.a);
    world.restart_media_host(false);
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(
        world.count("a>server SIP/2.0 407"),
        2,
        "the call, and the other place\n{}",
        world.story()
    );
    world.restart();
    world.run_ms(1_000);
    assert_eq!(
        world.count("a>server SIP/2.0 407"),
        3,
        "whether it is there\n{}",
        world.story()
    );
    world.hang_up(town.alice);
    world.run_ms(1_000);
    assert_eq!(world.count("server>a BYE"), 2, "{}", world.story());
    assert!(world.phones[town.a].dialog.is_none(), "{}", world.story());
    world.run_ms(60_000);
    let counters = world.controller.counters();
    assert_eq!(
        (counters.requests_pending, counters.sip.dialogs),
        (0, 0),
        "{}",
        world.story()
    );
}

/// What the stack sends by itself while the phone rings (RFC 3262): without it there would be no answer.
#[test]
fn one_that_asks_for_it_while_it_rings_gets_it() {
    let mut town = town(PLAIN);
    town.world.behave(town.a, Behaviour::Early(1_500));
    town.world.guarded = Some(town.a);
    call_out(&mut town, "0049301234");
    town.world.run_ms(1_000);
    let world = &mut town.world;
    let asked_and_proved = (world.count("a>server SIP/2.0 407"), world.count("server>a PRACK"));
    assert_eq!(asked_and_proved, (1, 2), "{}", world.story());
    assert_eq!(world.count("a>server SIP/2.0 183"), 1, "{}", world.story());
    assert_eq!(world.phones[town.alice].statuses, [183], "she hears it already");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(town.a);
    world.assert_nothing_left();
}

/// The session is refreshed by UPDATE (RFC 4028 §7.4), for as long as the call is: without one it would be ended.
#[test]
fn one_that_asks_for_it_when_the_session_is_refreshed_gets_it() {
    let mut town = town(PLAIN);
    town.world.behave(town.a, Behaviour::Challenge(500));
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    world.guarded = Some(town.a);
    world.run_ms(4_000_000);
    let updates = world.count("server>a UPDATE");
    assert!(
        updates >= 4 && updates.is_multiple_of(2),
        "{updates}\n{}",
        world.story()
    );
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(town.alice);
    world.run_ms(60_000);
    let counters = world.controller.counters();
    assert_eq!(
        (counters.requests_pending, counters.sip.dialogs),
        (0, 0),
        "{}",
        world.story()
    );
}

/// Wrong credentials are not repeated for ever.
#[test]
fn one_that_never_believes_us_is_asked_twice() {
    let trunk = PLAIN
        .replacen("password = \"secret\"", "password = \"\"", 1)
        .replacen("username = \"us\"", "", 1);
    let mut town = town(&trunk);
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    world.guarded = Some(town.a);
    world.hang_up(town.alice);
    world.run_ms(1_000);
    assert_eq!(
        world.count("server>a BYE"),
        1,
        "nothing to prove with\n{}",
        world.story()
    );
    world.run_ms(60_000);
    let counters = world.controller.counters();
    assert_eq!(
        (counters.calls, counters.requests_pending),
        (0, 0),
        "{}",
        world.story()
    );
}

#[test]
fn one_that_refuses_or_is_silent_is_passed_over() {
    for dead in [false, true] {
        let mut town = town(PLAIN);
        let world = &mut town.world;
        world.behave(town.a, Behaviour::Refuse(StatusCode::SERVER_INTERNAL_ERROR));
        world.phones[town.a].dead = dead;
        call_out(&mut town, "0049301234");
        town.world.run_ms(8_000);
        let world = &mut town.world;
        assert!(world.heard().contains(&("alice", "b")), "{}", world.story());
        assert_eq!(world.phones[town.alice].statuses.last(), Some(&200));
        let live = world.controller.trunks_live();
        assert_eq!((live[0].calls, live[0].tx_failures, live[1].calls), (0, 1, 1));
        world.hang_up(town.b);
        world.assert_nothing_left();
    }
}

/// RFC 3261 §21.5.4. Its calls take the other way for as long as it said.
#[test]
fn one_that_asks_to_be_left_alone_is_left_alone() {
    let mut town = town(PLAIN);
    town.world.behave(town.a, Behaviour::Overloaded(60));
    for (asked, after_ms) in [(1, 3_000), (1, 70_000), (2, 0)] {
        call_out(&mut town, "0049301234");
        town.world.run_ms(3_000);
        let world = &mut town.world;
        assert!(world.heard().contains(&("alice", "b")), "{}", world.story());
        assert_eq!(world.count("server>a INVITE"), asked, "{}", world.story());
        assert_eq!(
            world.controller.trunks_live()[0].targets[0].1,
            Health::Up,
            "it answers"
        );
        world.hang_up(town.b);
        world.run_ms(after_ms);
    }
    town.world.run_ms(60_000);
    town.world.assert_nothing_left();
}

#[test]
fn what_the_called_person_says_is_not_asked_of_another_carrier() {
    let mut town = town(PLAIN);
    town.world
        .behave(town.a, Behaviour::Refuse(StatusCode::BUSY_HERE));
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    assert_eq!(
        town.world.phones[town.alice].statuses.last(),
        Some(&486),
        "{}",
        town.world.story()
    );
    assert_eq!(town.world.phones[town.b].rung, 0);
    town.world.assert_nothing_left();
}

#[test]
fn a_full_trunk_is_passed_over_and_a_full_way_in_refused() {
    let mut town = town(PLAIN);
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    // The only call of trunk a is taken: its own next call is refused.
    let now = town.world.now;
    town.world.phones[town.a].dialog = None;
    town.world.phones[town.a].call(now, "+442070999", true);
    town.world.run_ms(1_000);
    let refusal = town.world.phones[town.a].last_response.clone().unwrap();
    assert_eq!(
        refusal.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        town.world.story()
    );
    assert!(refusal.headers.contains(HeaderName::RetryAfter));
    assert_eq!(town.world.controller.trunks_live()[0].refused, 1);
    town.world.hang_up(town.alice);
    town.world.assert_nothing_left();
}

/// A second call within its second goes over the next trunk; beyond what the dialplan lets out it is refused.
#[test]
fn one_that_takes_no_more_calls_a_second_is_passed_over() {
    let trunks = PLAIN.replacen("calls_max = 1", "tx_calls_per_s = 1", 1);
    let mut config = with_trunks(&trunks);
    config.dialplan.calls_per_s = 2;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let carol = world.phone("carol");
    let (a, b) = (world.phone("a"), world.phone("b"));
    let zoe = world.phone("bob");
    for (phone, password) in [(alice, "wonder"), (carol, "singer"), (zoe, "builder")] {
        let now = world.now;
        world.phones[phone].password = password;
        world.phones[phone].call(now, "0049301234", true);
        world.run_ms(100);
    }
    world.run_ms(3_000);
    assert_eq!(
        (world.phones[a].rung, world.phones[b].rung),
        (1, 1),
        "{}",
        world.story()
    );
    let heard = world.heard();
    assert!(heard.contains(&("carol", "b")), "{}", world.story());
    let refusal = world.phones[zoe].last_response.clone().unwrap();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.headers.get(HeaderName::RetryAfter), Some(&b"1"[..]));
    world.hang_up(alice);
    world.hang_up(carol);
    world.assert_nothing_left();
}

/// Nor does any request of the call, after a restart neither, where the rules say so.
#[test]
fn one_that_is_not_to_know_our_software_is_not_told() {
    for (hides, restarts) in [(true, false), (true, true), (false, false)] {
        let trunks = match hides {
            true => PLAIN.to_owned(),
            false => PLAIN.replacen(", remove = [\"User-Agent\"]", "", 1),
        };
        let mut town = town(&trunks);
        call_out(&mut town, "0049301234");
        town.world.run_ms(3_000);
        let world = &mut town.world;
        if restarts {
            world.restart();
            world.run_ms(1_000);
        }
        let invite = world.phones[town.a].invited_by.clone().unwrap();
        world.hang_up(town.alice);
        world.run_ms(1_000);
        let bye = world.phones[town.a].bye.clone().unwrap();
        for request in [invite, bye] {
            let is_told = request.headers.contains(HeaderName::UserAgent);
            assert_eq!(is_told, !hides, "{}", request.method);
        }
    }
}

#[test]
fn what_rules_for_headers_cannot_do_is_told() {
    let trunks = PLAIN.replacen("remove = [\"User-Agent\"]", "remove = [\"supported\"]", 1);
    let error = with_trunks(&trunks).check().unwrap_err().to_string();
    for part in ["trunks.a.headers.remove", "\"supported\"", "; set it"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_field_that_cannot_be_written_is_told() {
    let trunks = PLAIN.replacen("X-Site = ", "\"X Site\" = ", 1);
    let error = with_trunks(&trunks).check().unwrap_err().to_string();
    assert!(error.starts_with("trunks.a.headers.set = \"X Site\""), "{error}");
}

#[test]
fn a_codec_that_nobody_here_speaks_is_told() {
    let trunks = PLAIN.replacen("calls_max = 1", "codecs = [\"PCMA\", \"G729\"]", 1);
    let error = with_trunks(&trunks).check().unwrap_err().to_string();
    assert!(
        error.contains("trunks.a.codecs = \"G729\": unknown codec"),
        "{error}"
    );
}

#[test]
fn a_carriers_call_is_known_by_its_address_and_led_to_the_queue() {
    let mut town = town(PLAIN);
    let now = town.world.now;
    town.world.phones[town.a].call(now, "+442070999", true);
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert!(world.heard().contains(&("a", "alice")), "{}", world.story());
    assert_eq!(world.controller.trunks_live()[0].rx_calls, 1);
    world.hang_up(town.a);
    world.run_ms(3_000);
    assert_eq!(world.detail().queue.as_deref(), Some("support"));
    // But it may not go out again at our cost, nor may strangers.
    let now = world.now;
    world.phones[town.a].call(now, "+3912345", true);
    world.run_ms(1_000);
    assert_eq!(
        world.phones[town.a].statuses.last(),
        Some(&403),
        "{}",
        world.story()
    );
    world.phones[town.b].call(now, "+3912345", true);
    world.run_ms(1_000);
    assert_eq!(
        world.phones[town.b].statuses.last(),
        Some(&401),
        "{}",
        world.story()
    );
    world.assert_nothing_left();
}

/// RFC 3325 §9.1: an address of each kind, in one line as well as in two. The carrier's own From is nobody.
#[test]
fn who_calls_by_a_carrier_is_who_it_asserts_first() {
    let trunks = PLAIN.replacen("identity = { assert = true }", "identity = { believe = true }", 1);
    for lines in [
        &["<sip:0301234@carrier.example>, <tel:+49309999>"][..],
        &["\"Doe, J\" <sip:0301234@carrier.example>;x=1", "<tel:+49309999>"],
    ] {
        let mut town = town(&trunks);
        let now = town.world.now;
        town.world.phones[town.a].call_with(now, "+442070999", true, |request| {
            for line in lines {
                request.headers.push(HeaderName::PAssertedIdentity, line).unwrap();
            }
        });
        town.world.run_ms(3_000);
        let world = &mut town.world;
        let invite = world.phones[town.alice].invited_by.clone().unwrap();
        let from = invite.headers.from().unwrap();
        assert_eq!(from.uri.user(), Some(&b"+49301234"[..]), "{}", world.story());
        world.hang_up(town.a);
        world.assert_nothing_left();
    }
}

/// RFC 3261 §19.1.6, RFC 4694: the user of an address may be a number with parameters of its own, as where numbers are ported.
#[test]
fn a_number_is_known_with_parameters_behind_it() {
    let trunks = PLAIN.replacen("identity = { assert = true }", "identity = { believe = true }", 1);
    let mut town = town(&trunks);
    let now = town.world.now;
    let called = "+442070999;npdi;rn=+442071000";
    town.world.phones[town.a].call_with(now, called, true, |request| {
        let caller = "<sip:030-1234;cpc=ordinary@carrier.example;user=phone>";
        request
            .headers
            .push(HeaderName::PAssertedIdentity, caller)
            .unwrap();
    });
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert!(world.heard().contains(&("a", "alice")), "{}", world.story());
    let invite = world.phones[town.alice].invited_by.clone().unwrap();
    assert_eq!(invite.headers.from().unwrap().uri.user(), Some(&b"+49301234"[..]));
    world.hang_up(town.a);
    world.assert_nothing_left();
}

/// Its list of codecs is its own, whatever others speak: media hosts translate.
#[test]
fn one_speaks_the_codecs_of_its_list_both_ways() {
    let trunks = PLAIN.replacen("calls_max = 1", "codecs = [\"G722\"]", 1);
    let mut town = town(&trunks);
    town.world.phones[town.a].codecs = vec![Codec::g722()];
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    assert_eq!(town.world.heard().len(), 2, "{}", town.world.story());
    town.world.hang_up(town.alice);
    town.world.run_ms(3_000);
    town.world.phones[town.a].codecs = vec![Codec::pcmu(), Codec::g722()];
    let now = town.world.now;
    town.world.phones[town.a].call(now, "+442070999", true);
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert!(world.heard().contains(&("a", "alice")), "{}", world.story());
    assert_eq!(
        (world.phones[town.a].codec(), world.phones[town.alice].codec()),
        ("G722".to_owned(), "PCMU".to_owned())
    );
    world.hang_up(town.a);
    world.assert_nothing_left();
}

const REGISTERING: &str = r#"
    [[trunks]]
    name = "a"
    targets = [{ uri = "sip:10.0.1.3:5060" }]
    username = "us"
    password = "secret"
    domain = "carrier.example"
    register_s = 300
    probe_s = 10
    [[trunks]]
    name = "b"
    targets = [{ uri = "sip:10.0.1.4:5060" }]
    probe_s = 10
"#;

/// We register with the first trunk. The first attempt came before there was anybody.
fn assert_registers(town: &mut Town) {
    town.world.run_ms(20_000);
    let live = town.world.controller.trunks_live();
    let story = town.world.story();
    assert_eq!(live[0].registration, Registration::Registered, "{story}");
}

#[test]
fn a_registration_is_kept_and_a_dead_target_is_known() {
    let mut town = town(REGISTERING);
    assert_registers(&mut town);
    let world = &mut town.world;
    let live = world.controller.trunks_live();
    assert_eq!(live[0].targets[0].1, Health::Up);
    let register = world.phones[town.a].registers.last().unwrap();
    assert_eq!(&register.uri_text()[..], b"sip:carrier.example");
    let contact = String::from_utf8_lossy(register.headers.get(HeaderName::Contact).unwrap()).into_owned();
    assert!(contact.contains("sip:us@10.0.0.1:5060"), "{contact}");
    let before = world.phones[town.a].registers.len();
    world.run_ms(90_000);
    assert!(
        world.phones[town.a].registers.len() > before,
        "granted for 100 s, refreshed before that"
    );

    world.phones[town.a].dead = true;
    world.run_ms(120_000);
    assert_eq!(
        world.controller.trunks_live()[0].targets[0].1,
        Health::Down,
        "{}",
        world.story()
    );
    let alice = town.alice;
    let now = world.now;
    world.phones[alice].register(now, "wonder", 300);
    world.run_ms(100);
    call_out(&mut town, "0049301234");
    town.world.run_ms(2_000);
    let world = &mut town.world;
    assert!(
        world.heard().contains(&("alice", "b")),
        "at once\n{}",
        world.story()
    );
    world.hang_up(town.b);
    world.phones[town.a].dead = false;
    world.run_ms(60_000);
    assert_eq!(world.controller.trunks_live()[0].targets[0].1, Health::Up);
}

/// RFC 3261 §21.5.4.
#[test]
fn one_that_takes_no_registrations_for_now_is_asked_when_it_does() {
    let mut town = town(REGISTERING);
    town.world.behave(town.a, Behaviour::Overloaded(120));
    town.world.run_ms(120_000);
    let world = &mut town.world;
    assert_eq!(world.phones[town.a].registers.len(), 1, "{}", world.story());
    world.behave(town.a, Behaviour::Answer(500));
    assert_registers(&mut town);
}

/// RFC 3261 §10.2.4: one number more for each REGISTER, those with a proof too. A registrar takes another for overtaken.
#[test]
fn every_registration_has_a_number_of_its_own() {
    let mut town = town(REGISTERING);
    assert_registers(&mut town);
    let world = &mut town.world;
    world.run_ms(300_000);
    let numbers: Vec<u32> = world.phones[town.a]
        .registers
        .iter()
        .map(|register| register.headers.cseq().unwrap().number)
        .collect();
    assert!(numbers.len() > 4, "{numbers:?}");
    assert!(
        numbers.is_sorted_by(|before, after| before < after),
        "{numbers:?}"
    );
}

/// RFC 3261 §10.2.4: a registrar tells all Contacts of the name, each with its own time.
#[test]
fn others_of_the_same_name_have_their_own_time() {
    let mut town = town(REGISTERING);
    let lodgers = [
        "<sip:us@10.9.9.9:5060>;expires=3600",
        "<sip:us@10.9.9.8:5060>;expires=20",
    ];
    town.world.phones[town.a].lodgers = lodgers.to_vec();
    assert_registers(&mut town);
    let world = &mut town.world;
    let before = world.phones[town.a].registers.len();
    world.run_ms(90_000);
    let again = world.phones[town.a].registers.len() - before;
    assert_eq!(again, 1, "ours is granted for 100 s\n{}", world.story());
}

/// A cluster whose nodes do not know each other's nonces must not be asked without end.
#[test]
fn one_that_takes_every_nonce_for_an_old_one_is_not_asked_for_ever() {
    let mut town = town(REGISTERING);
    town.world.phones[town.a].forgets_nonces = true;
    town.world.behave(town.a, Behaviour::Challenge(500));
    town.world.run_ms(20_000);
    let registers = town.world.phones[town.a].registers.len();
    assert!(
        (3..=12).contains(&registers),
        "{registers}\n{}",
        town.world.story()
    );
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert_eq!(world.count("server>a INVITE"), 3, "{}", world.story());
    assert!(world.heard().contains(&("alice", "b")), "{}", world.story());
    world.hang_up(town.b);
}

#[test]
fn a_call_over_a_trunk_survives_a_restart_and_is_counted() {
    let mut town = town(PLAIN);
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert_eq!(world.controller.trunks_live()[0].calls, 1);
    world.hang_up(town.a);
    world.run_ms(1_000);
    assert_eq!(world.controller.trunks_live()[0].calls, 0);
    assert_eq!(world.details().len(), 1);
}

const NAMED: &str = r#"
    [[trunks]]
    name = "a"
    targets = [{ uri = "sip:carrier.example" }]
    username = "us"
    password = "secret"
    register_s = 600
    probe_s = 0
    [[trunks]]
    name = "b"
    targets = [{ uri = "sip:10.0.1.4:5060" }]
    probe_s = 0
"#;

#[test]
fn a_trunk_is_reached_by_its_name() {
    let mut town = town(NAMED);
    town.world
        .names
        .insert("carrier.example", "10.0.1.3:5060".parse().unwrap());
    assert_registers(&mut town);
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let invite = world.phones[town.a].invited_by.clone().unwrap();
    assert_eq!(&invite.uri_text()[..], b"sip:+49301234@carrier.example");
    assert_eq!(&world.lookups.last().unwrap().name.host[..], b"carrier.example");
    world.hang_up(town.a);
    world.run_ms(1_000);
    assert_eq!(world.detail().callee_trunk.as_deref(), Some("a"));

    // One that leads nowhere is passed over at once.
    world.names.clear();
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    assert!(world.heard().contains(&("alice", "b")), "{}", world.story());
    world.hang_up(town.b);
    world.run_ms(1_000);
    assert_eq!(world.details()[1].callee_trunk.as_deref(), Some("b"));
}

/// Who ends says so: nobody sends calls to who is gone.
#[test]
fn registrations_end_with_the_process() {
    let mut town = town(NAMED);
    let world = &mut town.world;
    world
        .names
        .insert("carrier.example", "10.0.1.3:5060".parse().unwrap());
    world.run_ms(20_000);
    let expires = |world: &World, phone: usize| {
        let last = world.phones[phone].registers.last().unwrap();
        String::from_utf8_lossy(last.headers.get(HeaderName::Expires).unwrap()).into_owned()
    };
    assert_eq!(expires(world, town.a), "600");
    let customer = town.alice;
    call_out(&mut town, "0049301234");
    town.world.run_ms(3_000);
    let world = &mut town.world;
    let at = world.clocks();
    world.controller.stop(at, "the controller is stopping");
    assert!(!world.controller.is_idle(), "it waits for the answer");
    world.run_ms(1_000);
    assert_eq!(expires(world, town.a), "0", "{}", world.story());
    assert!(world.controller.is_idle(), "{}", world.story());
    assert!(!world.phones[customer].talks());
    let count = world.phones[town.a].registers.len();
    world.run_ms(1_000_000);
    assert_eq!(
        world.phones[town.a].registers.len(),
        count,
        "it does not come back"
    );
}

/// Whatever those who come by it do here: they use its channels.
#[test]
fn one_counts_who_is_in_a_conference() {
    let trunks = PLAIN
        .replace(
            "sources = [\"10.0.1.3\"]",
            "sources = [\"10.0.1.3\", \"10.0.1.4\"]",
        )
        .replace("set = \"support\"", "set = \"room-7\"");
    let Town { mut world, a, b, .. } = town(&trunks);
    let calls = |world: &World| world.controller.trunks_live()[0].calls;
    world.call(a, "+44207001");
    world.run_ms(500);
    assert_eq!(world.phones[a].statuses, [200], "{}", world.story());
    world.call(b, "+44207001");
    world.run_ms(500);
    assert_eq!(world.phones[b].statuses, [503], "{}", world.story());
    assert_eq!(calls(&world), 1);
    world.restart();
    world.run_ms(500);
    assert_eq!(calls(&world), 1, "{}", world.story());
    world.hang_up(a);
    world.run_ms(500);
    assert_eq!(calls(&world), 0, "{}", world.story());
    let detail = world.details().remove(0);
    assert_eq!(detail.caller_trunk.as_deref(), Some("a"), "{detail:?}");
    world.assert_nothing_left();
}

/// Whatever a room sends a member that came by it: another place of the media, the question whether it is there, the end.
#[test]
fn one_that_asks_for_the_password_in_a_conference_gets_it() {
    let trunks = PLAIN.replace("set = \"support\"", "set = \"room-7\"");
    let Town { mut world, a, b, .. } = town(&trunks);
    world.call(a, "+44207001");
    world.run_ms(500);
    assert_eq!(world.phones[a].statuses, [200], "{}", world.story());
    world.guarded = Some(a);
    let asked = |world: &World| world.count("a>server SIP/2.0 407");
    world.restart_media_host(false);
    world.run_ms(1_000);
    assert_eq!(asked(&world), 1, "where the media is now\n{}", world.story());
    world.restart();
    world.run_ms(1_000);
    assert_eq!(asked(&world), 2, "whether it is there\n{}", world.story());
    assert!(world.phones[a].talks(), "{}", world.story());
    let member = world.controller.live(world.clocks()).conferences[0].members[0].clone();
    assert!(world.end(&member.call));
    world.run_ms(1_000);
    assert_eq!(world.count("server>a BYE"), 2, "{}", world.story());
    assert!(world.phones[a].dialog.is_none(), "{}", world.story());
    world.run_ms(60_000);
    let counters = world.controller.counters();
    let left = (counters.calls, counters.requests_pending, counters.sip.dialogs);
    assert_eq!(left, (0, 0, 0), "{}", world.story());
    // One without a password is asked by nobody.
    assert_eq!(world.phones[b].rung, 0);
}

#[test]
fn a_number_may_be_dialled_as_one() {
    let Town {
        mut world, alice, a, ..
    } = town(PLAIN);
    let now = world.now;
    world.phones[a].call_address(now, "tel:+44-207-001");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    world.hang_up(a);
    world.run_ms(3_000);
    assert_eq!(world.detail().to, "tel:+44-207-001");
    let now = world.now;
    world.phones[alice].password = "wonder";
    world.phones[alice].call_address(now, "tel:0049-301234;phone-context=example.com");
    world.run_ms(3_000);
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let invite = world.phones[a].invited_by.clone().unwrap();
    assert!(
        invite.uri_text().starts_with(b"sip:01149301234@"),
        "{:?}",
        invite.uri_text()
    );
    // It is nobody's name.
    world.hang_up(a);
    world.run_ms(500);
    let now = world.now;
    world.phones[alice].call_address(now, "tel:999");
    world.run_ms(500);
    assert_eq!(world.phones[alice].statuses, [404], "{}", world.story());
    world.assert_nothing_left();
}
