use call_control::{
    Config,
    config::{Listener, Queue},
    domain::AgentState,
};
use proptest::prelude::*;
use sdp::{CryptoSuite, Direction};
use sip::{
    message::{HeaderName, Method, StatusCode},
    stack::Transport,
};

use crate::{
    media_host::MediaHost,
    phone::{Behaviour, Phone},
    world::{World, config},
};

/// What may happen to a call centre, one thing at a time.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Call(usize, &'static str),
    /// Its INVITE holds no offer.
    CallWithoutOffer(usize, &'static str),
    Ask(&'static str, &'static str),
    GiveUp(usize),
    HangUp(usize),
    Behave(usize, Behaviour),
    Lose(&'static str),
    Die(usize),
    Live(usize),
    /// To the media host of this name.
    Host(&'static str, Trouble),
    Pause(&'static str),
    Ready(&'static str),
    EndSome,
    Hold(usize, Direction),
    /// The same by UPDATE.
    Update(usize, Direction),
    /// Asks the other side for an offer.
    AskForOffer(usize),
    /// Asks the room to call somebody in.
    Invite(usize, &'static str),
    /// Writes to somebody, or to the other party of its call.
    Write(usize, &'static str),
    WriteWithin(usize),
    /// Long enough for sessions to be refreshed, and registrations to end.
    Wait,
    /// A registered phone starts anew, or goes.
    Register(usize, u32),
    /// The connection of one that has some breaks; we are told, or not. It registers over the next one.
    Reconnect(usize, bool),
    /// Brings its counterpart to this address.
    Transfer(usize, &'static str),
    /// Brings its counterpart to that of the other phone.
    Join(usize, usize),
    /// Takes the place of the other phone.
    TakeOver(usize, usize),
    /// A key, for the menu or for who it talks to.
    Press(usize, &'static str),
    Mute(bool),
    /// Puts a member out of its conference.
    EndMember,
    /// Records the first call, or masks it and ends that.
    Record(Option<bool>),
    /// Offers SRTP from now on, or no more.
    Encrypt(usize, bool),
    Restart,
    /// The same, and no media host is up.
    RestartAlone,
    /// A restart at which so many records that were written last are not there.
    RestartWithout(usize),
    /// A restart after a time without a process, in ms; the wall clock is by so many seconds from what it should be then.
    RestartLater(u64, i64),
    /// Somebody sets the wall clock, by so many seconds from what it should be.
    Clock(i64),
    /// Another configuration: one of [`variant`].
    Reconfigure(usize),
}

/// What may happen to a media host.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Refuse(bool),
    /// It takes commands and says nothing.
    Silence(bool),
    /// It neither takes them nor says anything, until it goes on.
    Stop,
    GoOn,
    Lost,
    /// Nothing reaches it, and it goes on; it may be given up for that.
    Cut {
        /// What was under way arrived there.
        arrives: bool,
        is_lost: bool,
    },
    /// The second host is there when this happens to it first.
    Back,
}

const AGENTS: [&str; 2] = ["alice", "bob"];
/// The last two are carriers.
const PHONES: usize = 10;
const CARRIERS: [&str; 2] = ["north", "south"];
/// The first phones, with their passwords.
const REGISTERED: [&str; 4] = ["wonder", "builder", "singer", "wonder"];
/// Those of them that signal over connections.
const BROWSERS: [usize; 2] = [1, 3];

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let phone = || 0..PHONES;
    let behaviour = prop_oneof![
        (0..12_000_u64).prop_map(Behaviour::Answer),
        Just(Behaviour::Ring),
        Just(Behaviour::Refuse(StatusCode::BUSY_HERE)),
        Just(Behaviour::Refuse(StatusCode::DECLINE)),
        Just(Behaviour::Refuse(StatusCode::SERVICE_UNAVAILABLE)),
        (0..12_000_u64).prop_map(Behaviour::Early),
        prop::sample::select(vec!["bob", "carol", "support", "menu", "+49301234"])
            .prop_map(Behaviour::Forward),
    ];
    let message = prop::sample::select(vec![
        "INVITE",
        "UPDATE",
        "PRACK",
        "ACK",
        "BYE",
        "CANCEL",
        "REFER",
        "NOTIFY",
        "SIP/2.0 180",
        "SIP/2.0 200",
        "SIP/2.0 487",
    ]);
    let direction = prop::sample::select(vec![
        Direction::SendOnly,
        Direction::Inactive,
        Direction::SendRecv,
        Direction::SendRecv,
    ]);
    let agent = || prop::sample::select(AGENTS.to_vec());
    prop_oneof![
        8 => (phone(), prop::sample::select(vec!["support", "support", "carol", "alice", "room-7", "room-7", "menu", "menu", "+49301234", "+49301234"])).prop_map(|(p, to)| Call(p, to)),
        2 => (phone(), prop::sample::select(vec!["support", "carol", "room-7", "menu", "+49301234"])).prop_map(|(p, to)| CallWithoutOffer(p, to)),
        3 => (prop::sample::select(vec!["alice", "carol"]), prop::sample::select(vec!["support", "bob", "dora", "menu", "+49301234"]))
            .prop_map(|(from, to)| Ask(from, to)),
        3 => phone().prop_map(GiveUp),
        5 => phone().prop_map(HangUp),
        4 => (phone(), behaviour).prop_map(|(p, b)| Behave(p, b)),
        3 => message.prop_map(Lose),
        1 => phone().prop_map(Die),
        2 => phone().prop_map(Live),
        9 => trouble().prop_map(|trouble| Host("m1", trouble)),
        6 => trouble().prop_map(|trouble| Host("m2", trouble)),
        1 => agent().prop_map(Pause),
        2 => agent().prop_map(Ready),
        1 => Just(EndSome),
        3 => (phone(), direction.clone()).prop_map(|(p, d)| Hold(p, d)),
        2 => (phone(), direction).prop_map(|(p, d)| Update(p, d)),
        2 => phone().prop_map(AskForOffer),
        1 => (phone(), prop::sample::select(vec!["carol", "bob", "support", "+49301234"])).prop_map(|(p, to)| Invite(p, to)),
        1 => Just(Wait),
        1 => (phone(), prop::sample::select(vec!["alice", "carol", "room-7"])).prop_map(|(p, to)| Write(p, to)),
        1 => phone().prop_map(WriteWithin),
        2 => (0..REGISTERED.len(), prop::sample::select(vec![0, 300])).prop_map(|(p, s)| Register(p, s)),
        3 => (prop::sample::select(BROWSERS.to_vec()), any::<bool>()).prop_map(|(p, told)| Reconnect(p, told)),
        3 => (phone(), prop::sample::select(vec!["carol", "bob", "support", "menu", "room-7", "nobody", "+49301234"])).prop_map(|(p, to)| Transfer(p, to)),
        2 => (phone(), phone()).prop_map(|(p, of)| Join(p, of)),
        2 => (phone(), phone()).prop_map(|(p, of)| TakeOver(p, of)),
        6 => (phone(), prop::sample::select(vec!["1", "2", "3", "4", "9", "#"])).prop_map(|(p, key)| Press(p, key)),
        1 => any::<bool>().prop_map(Mute),
        1 => Just(EndMember),
        2 => prop::option::of(any::<bool>()).prop_map(Record),
        2 => (phone(), any::<bool>()).prop_map(|(p, on)| Encrypt(p, on)),
        1 => Just(Restart),
        1 => Just(RestartAlone),
        1 => (1..5_usize).prop_map(RestartWithout),
        1 => (prop::sample::select(vec![200, 20_000, 100_000]), prop::sample::select(vec![-3_600, 0, 3_600]))
            .prop_map(|(ms, clock)| RestartLater(ms, clock)),
        1 => prop::sample::select(vec![-3_600, 0, 3_600]).prop_map(Clock),
        4 => (0..VARIANTS).prop_map(Reconfigure),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    use Trouble::*;
    prop_oneof![
        1 => any::<bool>().prop_map(Refuse),
        1 => any::<bool>().prop_map(Silence),
        1 => Just(Stop),
        1 => Just(GoOn),
        1 => Just(Lost),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, is_lost)| Cut { arrives, is_lost }),
        4 => Just(Back),
    ]
}

/// Until the next thing happens: often while messages of the one before are on their way.
fn pause_ms() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 0..40_u64, 2 => 0..4_000_u64]
}

const VARIANTS: usize = 11;

/// What an operator may make of the configuration, and take back.
fn variant(number: usize) -> Config {
    let mut config = config();
    let listener = Listener {
        transport: Transport::Ws,
        ..config.listeners[0].clone()
    };
    config.listeners.push(listener);
    config.media.srtp_keys_in_clear = true;
    let support = config.queues[0].clone();
    let menu = "menus = [{ name = 'menu', timeout_s = 3, tries_max = 2, otherwise = 'support', \
        keys = { 1 = 'support', 2 = 'carol', 3 = 'room-7', 4 = 'menu', 41 = 'bob' } }]";
    config.menus = toml::from_str::<Config>(menu).unwrap().menus;
    let more = "media.hosts = [{ name = 'm1', address = 'http://10.0.0.2:7000' }, \
        { name = 'm2', address = 'http://10.0.0.3:7000' }]\n\
        trunks = [{ name = 'north', targets = [{ uri = 'sip:10.0.1.9:5060' }], sources = ['10.0.1.9'], probe_s = 0, \
        calls_max = 2 }, { name = 'south', targets = [{ uri = 'sip:10.0.1.10:5060' }], probe_s = 0 }]\n\
        dialplan.routes = [{ pattern = '+.', trunks = ['north', 'south'] }]";
    let more: Config = toml::from_str(more).unwrap();
    config.media.hosts = more.media.hosts;
    (config.trunks, config.dialplan) = (more.trunks, more.dialplan);
    match number {
        1 => config.queues[0].agents = vec!["alice".to_owned()],
        // Menus lead to what there is.
        2 => (config.queues, config.menus) = Default::default(),
        3 => {
            let queue = &mut config.queues[0];
            queue.agents.push("carol".to_owned());
            (queue.ring_timeout_s, queue.timeout_s) = (3, 90);
            config.calls.answer_before_music = true;
        }
        4 => {
            // Bob is gone with his account.
            config.accounts.remove(1);
            config.menus[0].keys.remove("41");
            config.queues[0].agents = vec!["alice".to_owned()];
        }
        5 => {
            let name = "sales".to_owned();
            config.menus.clear();
            let agents = vec!["bob".to_owned(), "carol".to_owned()];
            config.queues = vec![Queue {
                name,
                agents,
                ..support
            }];
            config.music.tone = "dial-us".to_owned();
        }
        6 => drop(config.media.hosts.remove(0)),
        7 => {
            config.media.codecs = vec!["PCMA".to_owned()];
            config.agents.wrap_up_s = 0;
            config.queues[0].timeout_s = 5;
            config.conferences.prefix = String::new();
            config.menus[0].keys.remove("3");
        }
        8 => {
            config.accounts[0].password = Some("looking-glass".to_owned());
            config.agents.ready_when_registered = false;
            config.conferences.pins = [("room-7".to_owned(), "1".to_owned())].into();
        }
        9 => config.media.hosts.truncate(1),
        10 => {
            config.trunks.remove(0);
            config.dialplan.routes[0].trunks.remove(0);
        }
        _ => {}
    }
    config
}

fn befall(world: &mut World, host: &'static str, trouble: Trouble) {
    if host == "m2" && world.other_media.is_none() {
        if matches!(trouble, Trouble::Back) {
            world.add_media_host();
        }
        return;
    }
    let it = world.host_mut(host).expect("it is there");
    match trouble {
        Trouble::Refuse(refuses) => it.fail = refuses.then_some("out of ports"),
        Trouble::Silence(silent) => it.silent = silent,
        Trouble::Stop => drop(it.stopped.get_or_insert_default()),
        Trouble::GoOn => world.host_goes_on(host),
        Trouble::Lost => world.lose_host(host),
        Trouble::Cut { arrives, is_lost } => {
            world.cut_link_to(host, arrives);
            if is_lost {
                world.give_up_host(host, "no answer");
            }
        }
        Trouble::Back => world.mend_link_to(host),
    }
}

fn happen(world: &mut World, happening: Happening) {
    let (now, at) = (world.now, world.clocks());
    match happening {
        Happening::Call(phone, to) => {
            let idle = !world.phones[phone].is_calling() && world.phones[phone].dialog.is_none();
            if idle && world.phones[phone].name != to {
                world.call(phone, to);
            }
        }
        Happening::CallWithoutOffer(phone, to) => {
            let idle = !world.phones[phone].is_calling() && world.phones[phone].dialog.is_none();
            if idle && world.phones[phone].name != to {
                world.phones[phone].call(now, to, false);
            }
        }
        // Who is not there, or no host, is a fair answer.
        Happening::Ask(from, to) => drop(world.ask(from, to, "", Some("k1"))),
        Happening::GiveUp(phone) if world.phones[phone].is_calling() => world.phones[phone].cancel(now),
        Happening::HangUp(phone) if world.phones[phone].talks() => world.hang_up(phone),
        Happening::GiveUp(_) | Happening::HangUp(_) => {}
        Happening::Hold(phone, direction) => world.phones[phone].try_reinvite(now, direction),
        Happening::Update(phone, direction) => world.phones[phone].try_offer(now, Method::Update, direction),
        Happening::AskForOffer(phone) => world.phones[phone].try_ask_for_offer(now),
        Happening::Invite(phone, to) => {
            world.phones[phone].refer_room(now, "room-7", &format!("sip:{to}@example.com"), |_| {});
        }
        Happening::Write(phone, to) => {
            world.phones[phone].write(now, &format!("sip:{to}@example.com"), "hello", |_| {});
        }
        Happening::WriteWithin(phone) if world.phones[phone].talks() => {
            world.phones[phone].write_within(now, "hello");
        }
        Happening::WriteWithin(_) => {}
        Happening::Wait => world.run_ms(1_000_000),
        Happening::Reconnect(phone, is_noticed) => {
            world.reconnect(phone, is_noticed);
            world.phones[phone].register(now, REGISTERED[phone], 300);
        }
        Happening::Register(phone, expires) => world.phones[phone].register(now, REGISTERED[phone], expires),
        Happening::Transfer(phone, to) if world.phones[phone].talks() => {
            world.phones[phone].refer(now, &format!("sip:{to}@example.com"));
        }
        Happening::Join(phone, of)
            if world.phones[phone].talks() && world.phones[of].talks() && phone != of =>
        {
            let (replaces, _) = world.phones[of].replaces();
            world.phones[phone].refer(now, &format!("sip:carol@example.com?Replaces={replaces}"));
        }
        Happening::TakeOver(phone, of) => {
            let idle = !world.phones[phone].is_calling() && world.phones[phone].dialog.is_none();
            if idle && world.phones[of].dialog.is_some() {
                let (_, replaces) = world.phones[of].replaces();
                world.phones[phone].call_with(now, "alice", true, |request| {
                    request.headers.push(HeaderName::Replaces, &replaces).unwrap();
                });
            }
        }
        Happening::Transfer(..) | Happening::Join(..) => {}
        Happening::EndMember => {
            let conferences = world.controller.live(at).conferences;
            if let Some(member) = conferences.first().and_then(|it| it.members.last()) {
                assert!(world.controller.end_call(at, &member.call, "told to"));
            }
        }
        Happening::Record(masked) => {
            if let Some(call) = world.controller.live(at).calls.first() {
                // One that does not talk is not recorded.
                let _is_so = match masked {
                    None => world.controller.record_call(at, &call.call),
                    Some(masked) => world.controller.pause_recording(at, &call.call, masked),
                };
            }
        }
        Happening::Encrypt(phone, on) => {
            let suite = on.then_some(CryptoSuite::AesCm128HmacSha1_80);
            world.phones[phone].suites = suite.into_iter().collect();
        }
        Happening::Restart => {
            world.restart();
            world.mend_link_to("m2");
        }
        Happening::RestartWithout(records) => {
            world.restart_from(world.records.len().saturating_sub(records));
            world.mend_link_to("m2");
        }
        Happening::RestartLater(after_ms, clock) => {
            world.restart_later(after_ms, clock);
            world.mend_link_to("m2");
        }
        Happening::Clock(seconds) => {
            world.clock_set_s = seconds;
            // It is noticed with whatever comes next, and until then the records tell by the clock of before.
            let at = world.clocks();
            world.controller.handle_timeout(at);
        }
        Happening::RestartAlone => world.restart_alone(),
        Happening::Reconfigure(number) => world.reconfigure(variant(number)),
        Happening::Mute(muted) => {
            let conferences = world.controller.live(at).conferences;
            if let Some(member) = conferences.first().and_then(|it| it.members.first()) {
                assert!(world.controller.mute_member(at, &member.call, muted));
            }
        }
        Happening::Press(phone, key) => {
            let sends_to = world.phones[phone].sends_to();
            if sends_to.is_some_and(|at| world.endpoint_at(at).is_some()) {
                world.press(phone, key);
            }
        }
        Happening::Behave(phone, behaviour) => world.behave(phone, behaviour),
        Happening::Lose(message) => world.swallow.push((message, 1)),
        Happening::Die(phone) => world.phones[phone].dead = true,
        Happening::Live(phone) => world.phones[phone].dead = false,
        Happening::Host(host, trouble) => befall(world, host, trouble),
        // It may be none just now.
        Happening::Pause(agent) => drop(world.controller.agent_pause(at, agent, "lunch")),
        Happening::Ready(agent) => drop(world.controller.agent_ready(at, agent)),
        Happening::EndSome => {
            let call = world
                .controller
                .live(at)
                .calls
                .first()
                .map(|call| call.call.clone());
            if let Some(call) = call {
                world.controller.end_call(at, &call, "told to");
            }
        }
    }
}

/// `were_moved`: parties were transferred or took over places, so that who talks is not who was rung or called; or the
/// controller was restarted. `were_forgotten`: it was, and does not know of the last that it told them.
fn assert_sane(world: &World, were_moved: bool, were_forgotten: bool) {
    let pairs = world.heard_phones();
    let live = world.controller.live(world.clocks());
    for (phone, Phone { name, .. }) in world.phones.iter().enumerate() {
        // Who calls again before we know that it hung up is taken for two.
        let is_leaving = world.is_being_hung_up(phone) || were_forgotten;
        assert!(
            is_leaving || !pairs.contains(&(phone, phone)),
            "nobody hears itself\n{}",
            world.story()
        );
        // A phone that answers a second call is in both; these phones do not refuse it.
        let calls = live.calls.iter().filter(|call| {
            let is_theirs = call.to.contains("sip:+") && CARRIERS.contains(name);
            is_theirs || call.user.as_deref() == Some(*name) || call.from.contains(&format!("sip:{name}@"))
        });
        let calls = calls.count().max(1);
        // In a room one hears all.
        let members = live.conferences.iter().flat_map(|it| &it.members).count();
        let calls = calls + members;
        let spoken_to = pairs.iter().filter(|(speaker, _)| *speaker == phone).count();
        let heard = pairs.iter().filter(|(_, listener)| *listener == phone).count();
        // A media host that refuses even that somebody is gone lets it hear on, and one that was cut off goes on until the
        // phone is told, with who is in no call, and with those whose calls another host has by now.
        let may_go_on = world.phones[phone].dialog.is_none() || world.other_media.is_some();
        let is_away = |host: &MediaHost| host.is_cut || host.stopped.is_some();
        let lags = |host: &MediaHost| host.fail.is_some() || (is_away(host) && may_go_on);
        let hears_on = is_leaving || world.hosts().any(|(_, host)| lags(host));
        assert!(
            hears_on || spoken_to.max(heard) <= calls,
            "{name} is in {calls} calls\n{}",
            world.story()
        );
    }
    let counters = world.controller.counters();
    assert_eq!(
        (counters.offers, counters.waiting),
        (counters.offers_of_calls, counters.places_of_calls)
    );
    for agent in &live.agents {
        let calls = live.calls.iter().filter(|call| {
            let rung = call.user.as_deref() == Some(&agent.name) && call.queue.is_some();
            rung && call.stage != call_control::CallStage::Ending
        });
        let calls = calls.count();
        if were_moved {
            continue;
        }
        assert!(
            calls <= 1,
            "{} is rung by one call at most\n{}",
            agent.name,
            world.story()
        );
        let busy = matches!(agent.state, AgentState::Reserved | AgentState::Talking);
        // One whose endpoint is being made counts too: it is reserved, and shown with its call.
        assert_eq!(busy, calls == 1, "{agent:?}\n{}", world.story());
    }
}

/// And then all is well, and the records agree.
fn live_through(story: &[(Happening, u64)]) -> Result<(), TestCaseError> {
    let mut world = World::with(variant(0));
    for (phone, name) in ["alice", "bob", "carol", "alice"].into_iter().enumerate() {
        match BROWSERS.contains(&phone) {
            true => world.browser(name),
            false => world.phone(name),
        };
        world.registers(phone, REGISTERED[phone]);
    }
    for name in ["dora", "emil", "fred", "gina"].into_iter().chain(CARRIERS) {
        world.phone(name);
    }
    world.phones[0].password = "wonder";
    let (mut were_moved, mut were_held, mut was_restarted) = (false, false, false);
    let (mut were_forgotten, mut were_cut) = (false, false);
    for &(what, then_ms) in story {
        let restarts = matches!(
            what,
            Happening::Restart
                | Happening::RestartAlone
                | Happening::RestartWithout(_)
                | Happening::RestartLater(..)
        );
        was_restarted |= restarts;
        were_forgotten |= matches!(what, Happening::RestartWithout(_));
        were_cut |= matches!(what, Happening::Reconnect(..));
        were_held |= matches!(what, Happening::Hold(..) | Happening::Update(..));
        were_moved |= restarts
            || matches!(
                what,
                Happening::Transfer(..) | Happening::Join(..) | Happening::TakeOver(..)
            );
        happen(&mut world, what);
        world.run_ms(then_ms);
        assert_sane(&world, were_moved, were_forgotten);
        // Of what was said to stand the next record of a call tells all: mostly changes are to follow each other.
        if then_ms % 4 != 0 {
            continue;
        }
        let [written, stands] = world.standing();
        // Numbers of requests inside dialogs run ahead of the records.
        let names = written
            .keys()
            .chain(stands.keys())
            .filter(|_| !were_moved && !were_held);
        for name in names {
            prop_assert!(
                written.get(name) == stands.get(name),
                "of {name} the records say {:?}, and it is {:?}\n{}",
                written.get(name),
                stands.get(name),
                world.story()
            );
        }
    }
    come_to_rest(&mut world, was_restarted, were_cut)
}

/// Nothing happens any more, and all is mended.
fn come_to_rest(world: &mut World, was_restarted: bool, were_cut: bool) -> Result<(), TestCaseError> {
    world.swallow.clear();
    for host in ["m1", "m2"] {
        if let Some(it) = world.host_mut(host) {
            (it.fail, it.silent) = (None, false);
        }
        world.host_goes_on(host);
    }
    world.run_ms(6_000);
    world.reconfigure(variant(0));
    world.mend_link_to("m1");
    world.mend_link_to("m2");
    for phone in 0..PHONES {
        world.phones[phone].dead = false;
        world.behave(phone, Behaviour::Refuse(StatusCode::BUSY_HERE));
    }
    world.run_ms(40_000);
    // Whatever a call has been through, it answers an offer; and whoever has a phone and is not paused takes calls.
    for phone in 0..PHONES {
        happen(world, Happening::Hold(phone, Direction::SendRecv));
        if phone < REGISTERED.len() {
            happen(world, Happening::Register(phone, 3_000));
        }
    }
    world.run_ms(10_000);
    for phone in &world.phones {
        // A process that is killed takes the offers along that it has not answered.
        let is_left_waiting = phone.talks() && phone.is_calling() && !was_restarted;
        prop_assert!(
            !is_left_waiting,
            "{} has no answer\n{}",
            phone.name,
            world.story()
        );
    }
    for agent in AGENTS {
        let state = world.agent(agent);
        prop_assert_ne!(&state, &AgentState::Away, "{}\n{}", agent, world.story());
    }
    for phone in 0..PHONES {
        happen(world, Happening::GiveUp(phone));
        happen(world, Happening::HangUp(phone));
    }
    if were_cut {
        // Whose BYE went with a connection is missed when its session is refreshed.
        world.run_ms(2_000_000);
    }
    world.assert_nothing_left();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn and_the_records_agree(story in prop::collection::vec((happening(), pause_ms()), 1..60)) {
        live_through(&story)?;
    }
}

/// Found by the property, when they failed. As stories, since its seeds tell others as soon as more can happen.
#[test]
fn nor_by_what_once_went_wrong() {
    use Behaviour::Early;
    use Direction::SendOnly;
    use Happening::*;
    use Trouble::*;
    let stories: [&[(Happening, u64)]; 10] = [
        &[(Ask("alice", "support"), 2028), (Reconnect(1, true), 16)],
        &[
            (Call(0, "support"), 1031),
            (Record(None), 0),
            (
                Host(
                    "m1",
                    Cut {
                        arrives: false,
                        is_lost: true,
                    },
                ),
                4000,
            ),
        ],
        &[
            (Die(5), 0),
            (Call(0, "support"), 0),
            (Call(2, "support"), 10),
            (Call(5, "support"), 3723),
            (Host("m1", Silence(false)), 1897),
            (Call(0, "support"), 2862),
            (Host("m1", Back), 1358),
            (Call(0, "support"), 2735),
            (Call(0, "support"), 1224),
            (Host("m1", Back), 2299),
            (Call(0, "support"), 2199),
            (Lose("INVITE"), 2725),
            (HangUp(2), 1624),
            (Call(0, "support"), 214),
            (Call(4, "support"), 978),
            (Host("m1", Back), 3552),
            (GiveUp(0), 914),
            (Call(3, "support"), 3696),
            (Call(5, "carol"), 2016),
        ],
        &[
            (Call(4, "support"), 0),
            (Call(0, "support"), 1030),
            (Call(0, "support"), 1),
            (Host("m1", Lost), 5),
            (Hold(0, SendOnly), 205),
            (Restart, 0),
        ],
        &[
            (CallWithoutOffer(2, "room-7"), 10),
            (Invite(0, "bob"), 0),
            (Call(3, "room-7"), 1041),
            (
                Host(
                    "m1",
                    Cut {
                        arrives: true,
                        is_lost: true,
                    },
                ),
                820,
            ),
            (Pause("alice"), 3861),
            (Lose("BYE"), 1829),
            (Reconfigure(0), 3490),
        ],
        &[
            (Call(5, "room-7"), 0),
            (Call(0, "room-7"), 0),
            (Call(1, "room-7"), 12),
            (Die(5), 5),
            (
                Host(
                    "m1",
                    Cut {
                        arrives: true,
                        is_lost: true,
                    },
                ),
                0,
            ),
            (Pause("alice"), 3311),
            (Call(0, "support"), 3670),
            (Call(0, "support"), 3019),
        ],
        &[
            (CallWithoutOffer(0, "room-7"), 3),
            (Lose("BYE"), 19),
            (HangUp(0), 0),
            (Call(0, "room-7"), 22),
        ],
        &[
            (CallWithoutOffer(7, "room-7"), 0),
            (Ask("carol", "bob"), 0),
            (Call(0, "room-7"), 16),
            (Host("m1", Refuse(true)), 0),
            (HangUp(7), 6),
        ],
        &[
            (Host("m1", Lost), 0),
            (Ask("alice", "support"), 0),
            (Behave(0, Early(0)), 0),
            (Die(7), 0),
            (Host("m1", Lost), 0),
            (Host("m1", Back), 0),
            (Call(7, "alice"), 29),
            (EndSome, 0),
        ],
        &[
            (Lose("SIP/2.0 200"), 0),
            (CallWithoutOffer(4, "room-7"), 7),
            (RestartAlone, 0),
            (Call(0, "support"), 494),
            (Call(0, "support"), 0),
        ],
    ];
    for story in stories {
        live_through(story).unwrap();
    }
}
