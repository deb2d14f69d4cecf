//! Sessions joined by links, on one engine and across two: every plan works over a link, the lines to both parties hold
//! while they meet and part, and what belongs to the far end is told only there.

use codecs::CodecKind;
use media_engine::{
    command::{Command, DropReason, EventKind, LinkId, LinkPeer, PlanKind, ReplyToken, SessionKey},
    spec::{CallProgress, Codec, Country, PlaySource},
};

use crate::{
    tones::{Ear, LOUD, Voice},
    world::{Graph, Party, Sent, World, edge, events, format, pcma, pcmu, peer, player, room, rtp_socket},
};

/// Session of the agent, on the first engine; its link is end 1.
const AGENT: SessionKey = SessionKey(1);
/// Session of the customer, on the last engine; its link is end 2.
const CUSTOMER: SessionKey = SessionKey(2);

const KINDS: &[(u8, CodecKind)] = &[(0, CodecKind::Pcmu), (8, CodecKind::Pcma), (111, CodecKind::Opus)];

/// One engine, or two with a way between them.
struct Town {
    worlds: Vec<World>,
    sent: Vec<Sent>,
}

impl Town {
    fn new(engines: usize) -> Self {
        Self {
            worlds: (0..engines).map(|n| World::seeded(7 + n as u64)).collect(),
            sent: Vec::new(),
        }
    }

    fn agents(&mut self) -> &mut World {
        &mut self.worlds[0]
    }

    fn customers(&mut self) -> &mut World {
        self.worlds.last_mut().expect("one at least")
    }

    /// Joins ends 1 and `customer`, or parts them.
    fn join(&mut self, customer: u64, joined: bool) {
        let away = self.worlds.len() > 1;
        let peer = |link, worker: usize| {
            joined.then_some(LinkPeer {
                link: LinkId(link),
                worker: away.then_some(worker),
            })
        };
        let (to_customer, to_agent) = (peer(customer, 1), peer(1, 0));
        self.agents().command(Command::Link(LinkId(1), to_customer));
        self.customers()
            .command(Command::Link(LinkId(customer), to_agent));
    }

    /// Packets between the engines, until there are none; gives how many.
    fn exchange(&mut self) -> usize {
        let mut passed = 0;
        loop {
            let mut packets = Vec::new();
            for world in &mut self.worlds {
                while let Some(packet) = world.engine.poll_link() {
                    packets.push((
                        packet.worker,
                        packet.from,
                        packet.link,
                        packet.hops,
                        packet.data.to_vec(),
                    ));
                }
            }
            if packets.is_empty() {
                return passed;
            }
            passed += packets.len();
            for (worker, from, link, hops, data) in packets {
                let packet = media_engine::command::LinkPacket {
                    worker,
                    from,
                    link,
                    hops,
                    data: &data,
                };
                let world = &mut self.worlds[worker];
                world.engine.handle_link(world.now, &packet, &mut world.wire);
            }
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            for world in &mut self.worlds {
                world.pass_ms(1);
            }
            self.exchange();
        }
        for world in &mut self.worlds {
            self.sent.extend(world.sent_rtp());
        }
    }

    /// Agents' voices go to the first engine, customers' to the last.
    fn talk(&mut self, agents: &mut [&mut Voice], customers: &mut [&mut Voice], ms: u64) {
        for _ in 0..ms / 20 {
            for voice in agents.iter_mut() {
                voice.speak(self.agents());
            }
            for voice in customers.iter_mut() {
                voice.speak(self.customers());
            }
            self.exchange();
            self.pass_ms(20);
        }
    }

    fn listen(&mut self, ears: &mut [(&mut Ear, u32)]) {
        let sent = std::mem::take(&mut self.sent);
        for (ear, number) in ears {
            ear.hear(&sent, *number, KINDS);
        }
    }

    fn events(&mut self) -> Vec<EventKind> {
        self.worlds.iter_mut().flat_map(World::event_kinds).collect()
    }

    fn plans(&mut self, session: SessionKey) -> Vec<PlanKind> {
        let world = if session == AGENT {
            self.agents()
        } else {
            self.customers()
        };
        let report = world.report(session).expect("the session is there");
        report.plans.iter().map(|plan| plan.kind).collect()
    }
}

/// The party `id` and the link, who hear each other.
fn leg(id: &'static str, number: u32, link: u64) -> Graph {
    Graph::of(
        vec![Party::new(id, number), Party::linked("link", 10 + number, link)],
        &[(id, "link"), ("link", id)],
    )
}

fn met(engines: usize) -> Town {
    let mut town = Town::new(engines);
    town.agents().commit(AGENT, &leg("agent", 0, 1));
    town.customers().commit(CUSTOMER, &leg("cust", 1, 2));
    town.join(2, true);
    town
}

#[test]
fn a_relay_over_a_link_passes_every_packet_as_it_came() {
    for engines in [1, 2] {
        let mut town = met(engines);
        let (mut agent, mut customer) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
        town.talk(&mut [&mut agent], &mut [&mut customer], 1_000);
        let (mut at_agent, mut at_customer) = (Ear::default(), Ear::default());
        town.listen(&mut [(&mut at_agent, 0), (&mut at_customer, 1)]);
        at_agent.hears("the agent", &[440.0, 1_100.0], &[(1_100.0, LOUD)]);
        at_customer.hears("the customer", &[440.0, 1_100.0], &[(440.0, LOUD)]);
        assert_eq!(town.plans(AGENT), [PlanKind::Relay; 2]);
        assert_eq!(town.plans(CUSTOMER), [PlanKind::Relay; 2]);
        let report = town.agents().report(AGENT).expect("there");
        let link = report.transports.iter().find(|t| &*t.transport == "t-link");
        let link = link.expect("there");
        // The first three packets of a peer that is learned are not passed on; its address was signalled here.
        assert_eq!((link.rx_packets, link.tx_packets, link.linked), (50, 50, true));
        assert_eq!(at_agent.pcm.len(), 8_000, "every packet came through");
        let started = town.events();
        let started = started
            .iter()
            .filter(|kind| matches!(kind, EventKind::MediaStarted { .. }));
        assert_eq!(started.count(), 2, "media starts where it comes into the host");
    }
}

#[test]
fn digits_pass_a_link_and_are_told_once() {
    for engines in [1, 2] {
        let mut town = met(engines);
        let (mut agent, mut customer) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
        town.talk(&mut [&mut agent], &mut [&mut customer], 200);
        town.sent.clear();
        for payload in [
            [5, 10, 0, 160],
            [5, 10, 1, 64],
            [5, 0x8a, 1, 224],
            [5, 0x8a, 1, 224],
        ] {
            let packet = customer.event(&payload);
            let world = town.customers();
            world.receive(rtp_socket(1), peer(1), &packet);
            town.exchange();
            town.pass_ms(20);
        }
        let heard = town
            .sent
            .iter()
            .filter(|sent| sent.socket == rtp_socket(0) && sent.header().payload_type.value() == 101);
        assert_eq!(heard.count(), 4, "every packet of the digit");
        town.pass_ms(500);
        let digits: Vec<_> = town
            .events()
            .into_iter()
            .filter(|kind| {
                matches!(
                    kind,
                    EventKind::DigitStarted { .. } | EventKind::DigitEnded { .. }
                )
            })
            .collect();
        assert_eq!(digits.len(), 2, "{digits:?}");
    }
}

#[test]
fn codecs_that_differ_and_rooms_and_players_work_over_links() {
    for engines in [1, 2] {
        let mut town = Town::new(engines);
        // The customer speaks Opus, the link carries A-law, the agents sit in a room.
        let mut opus = format(111, Codec::Opus, 48_000);
        opus.channels = 2;
        let mut customer = leg("cust", 1, 2);
        customer.endpoints[0] = Party::new("cust", 1).with_formats(vec![opus]);
        customer.endpoints[1] = Party::linked("link", 11, 2).with_formats(vec![pcma(), events(101)]);
        town.customers().commit(CUSTOMER, &customer);
        let mut floor = Graph::of(
            vec![
                Party::new("agent", 0),
                Party::new("boss", 3),
                Party::linked("link", 10, 1).with_formats(vec![pcma(), events(101)]),
            ],
            &[],
        );
        floor.others.push(room("room", 16_000));
        for id in ["agent", "boss", "link"] {
            floor.edges.extend([edge(id, "room"), edge("room", id)]);
        }
        town.agents().commit(AGENT, &floor);
        town.join(2, true);
        let (mut agent, mut boss) = (Voice::pcmu(0, 440.0), Voice::pcmu(3, 700.0));
        let mut customer = Voice::new(1, 1_100.0, CodecKind::Opus, 111);
        town.talk(&mut [&mut agent, &mut boss], &mut [&mut customer], 1_200);
        let tones = [440.0, 700.0, 1_100.0];
        let (mut at_agent, mut at_boss, mut at_customer) = (Ear::default(), Ear::default(), Ear::default());
        town.listen(&mut [(&mut at_agent, 0), (&mut at_boss, 3), (&mut at_customer, 1)]);
        for (ear, own) in [(&at_agent, 440.0), (&at_boss, 700.0), (&at_customer, 1_100.0)] {
            let levels = ear.levels(&tones);
            for tone in tones {
                let level = levels[&(tone as u32)];
                if tone == own {
                    assert!(level < 150.0, "{own} Hz hears itself: {levels:?}");
                } else {
                    assert!(
                        (LOUD * 0.7..LOUD * 1.3).contains(&level),
                        "{own} Hz hears {levels:?}"
                    );
                }
            }
        }
        assert_eq!(town.plans(AGENT), [PlanKind::Mix; 3]);
        assert_eq!(town.plans(CUSTOMER), [PlanKind::Transcode; 2]);

        // A tone played to the link is heard by the customer alone.
        floor.others.push(player(
            "tone",
            &[PlaySource::Tone(Country::Us, CallProgress::Ringback)],
        ));
        floor.hear(&[("tone", "link"), ("agent", "boss"), ("boss", "agent")]);
        town.agents().commit(AGENT, &floor);
        town.talk(&mut [&mut agent, &mut boss], &mut [&mut customer], 1_200);
        town.listen(&mut [(&mut at_agent, 0), (&mut at_boss, 3), (&mut at_customer, 1)]);
        let ringback = at_customer.levels(&[440.0, 480.0, 700.0, 1_100.0]);
        assert!(ringback[&480] > 1_000.0 && ringback[&700] < 60.0, "{ringback:?}");
        at_agent.hears("the agent", &tones, &[(700.0, LOUD)]);
        at_boss.hears("the boss", &tones, &[(440.0, LOUD)]);
    }
}

/// A parked agent meets a customer, is parked again, and meets the next: no line breaks, and silence harms nobody.
#[test]
fn a_parked_agent_meets_one_customer_after_another() {
    for engines in [1, 2] {
        let mut town = Town::new(engines);
        let mut parked = leg("agent", 0, 1);
        let busy = PlaySource::Tone(Country::Uk, CallProgress::Busy);
        parked.others.push(player("music", &[busy]));
        parked.hear(&[("music", "agent")]);
        let mut talking = parked.clone();
        talking.hear(&[("agent", "link"), ("link", "agent")]);
        let (mut agent, mut at_agent) = (Voice::pcmu(0, 440.0), Ear::default());
        town.agents().commit(AGENT, &parked);
        town.talk(&mut [&mut agent], &mut [], 600);
        town.listen(&mut [(&mut at_agent, 0)]);
        let mut ssrc = None;
        for (n, hz) in [(2u64, 1_100.0), (3, 1_500.0)] {
            // The agent's side is ready before the customer's is there: silence until then.
            town.agents().commit(AGENT, &talking);
            town.talk(&mut [&mut agent], &mut [], 20);
            let number = n as u32;
            let session = SessionKey(n);
            town.customers().commit(session, &leg("cust", number, n));
            town.join(n, true);
            let (mut customer, mut at_customer) = (Voice::pcmu(number, hz), Ear::default());
            town.talk(&mut [&mut agent], &mut [&mut customer], 800);
            let before = town.sent.clone();
            town.listen(&mut [(&mut at_agent, 0), (&mut at_customer, number)]);
            let tones = [440.0, 1_100.0, 1_500.0];
            at_agent.hears("the agent", &tones, &[(hz, LOUD)]);
            at_customer.hears("the customer", &tones, &[(440.0, LOUD)]);
            let line = before
                .iter()
                .rfind(|sent| sent.socket == rtp_socket(0))
                .map(|sent| sent.header().ssrc);
            assert!(line.is_some() && (ssrc.is_none() || ssrc == line), "one SSRC");
            ssrc = line;
            // The customer leaves, the agent is parked again.
            town.join(n, false);
            town.customers().command(Command::End(session, ReplyToken(900)));
            assert!(town.customers().engine.poll_reply().is_some(), "it ended");
            town.agents().commit(AGENT, &parked);
            town.talk(&mut [&mut agent], &mut [], 600);
            town.listen(&mut [(&mut at_agent, 0)]);
            let levels = at_agent.levels(&[400.0, hz]);
            assert!(levels[&400] > 1_000.0, "the tone again: {levels:?}");
            assert!(levels[&(hz as u32)] < 60.0, "nothing of the customer: {levels:?}");
        }
        // Long after: the agent still sends, and the link that brings nothing is no time-out.
        town.talk(&mut [&mut agent], &mut [], 35_000);
        let timeouts = town.events();
        assert!(
            !timeouts
                .iter()
                .any(|kind| matches!(kind, EventKind::MediaTimeout { .. })),
            "{timeouts:?}"
        );
    }
}

#[test]
fn an_end_whose_other_end_is_gone_is_silent_and_can_be_joined_again() {
    for engines in [1, 2] {
        let mut town = met(engines);
        let (mut agent, mut customer) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
        town.talk(&mut [&mut agent], &mut [&mut customer], 200);
        town.join(2, false);
        town.sent.clear();
        town.talk(&mut [&mut agent], &mut [&mut customer], 200);
        assert!(town.sent.is_empty(), "nothing passes an open link");
        town.join(2, true);
        town.talk(&mut [&mut agent], &mut [&mut customer], 400);
        let mut at_agent = Ear::default();
        town.listen(&mut [(&mut at_agent, 0)]);
        at_agent.hears("the agent", &[440.0, 1_100.0], &[(1_100.0, LOUD)]);
        let drops = town.agents().report(AGENT).expect("there").transports[1].drops;
        assert_eq!(drops[DropReason::NoEndpoint as usize], 0);
    }
}

/// The host refuses circles; an engine that meets one all the same passes a packet a bounded number of times.
#[test]
fn a_circle_of_links_does_not_go_on_for_ever() {
    for engines in [1, 2] {
        let mut town = Town::new(engines);
        let mut here = Graph::of(
            vec![
                Party::new("agent", 0),
                Party::linked("out", 10, 1),
                Party::linked("back", 12, 3),
            ],
            &[("agent", "out")],
        );
        let there = Graph::of(
            vec![Party::linked("first", 11, 2), Party::linked("second", 13, 4)],
            &[("first", "second")],
        );
        town.agents().commit(AGENT, &here);
        town.customers().commit(CUSTOMER, &there);
        let away = |worker| (engines > 1).then_some(worker);
        for (end, other) in [(1, 2), (3, 4)] {
            let peer = |link, worker| {
                Some(LinkPeer {
                    link: LinkId(link),
                    worker: away(worker),
                })
            };
            town.agents().command(Command::Link(LinkId(end), peer(other, 1)));
            town.customers()
                .command(Command::Link(LinkId(other), peer(end, 0)));
        }
        let mut agent = Voice::pcmu(0, 440.0);
        town.talk(&mut [&mut agent], &mut [], 100);
        here.hear(&[("back", "out")]);
        town.agents().commit(AGENT, &here);
        // What was sent before the edit goes round in it: the next packet through any link.
        let mut packet = agent.packet();
        packet[1] = 0;
        let injected = media_engine::command::LinkPacket {
            worker: 0,
            from: LinkId(4),
            link: LinkId(3),
            hops: 0,
            data: &packet,
        };
        let world = town.agents();
        let before = world.engine.totals().drops[DropReason::Replay as usize];
        world.engine.handle_link(world.now, &injected, &mut world.wire);
        let passed = town.exchange();
        assert!(passed <= 8, "{passed} packets between the engines");
        let dropped: u64 = town
            .worlds
            .iter()
            .map(|world| world.engine.totals().drops[DropReason::Replay as usize])
            .sum();
        assert!(dropped > before, "the packet was dropped in the end");
    }
}

#[test]
fn nothing_is_left_when_both_sessions_end() {
    for engines in [1, 2] {
        let mut town = met(engines);
        let (mut agent, mut customer) = (Voice::pcmu(0, 440.0), Voice::pcmu(1, 1_100.0));
        town.talk(&mut [&mut agent], &mut [&mut customer], 200);
        town.agents().command(Command::End(AGENT, ReplyToken(901)));
        town.talk(&mut [], &mut [&mut customer], 100);
        town.customers().command(Command::End(CUSTOMER, ReplyToken(902)));
        town.exchange();
        for world in &town.worlds {
            let totals = world.engine.totals();
            assert_eq!((totals.sessions, totals.endpoints, totals.sockets), (0, 0, 0));
            assert_eq!(world.engine.poll_timeout(), None);
        }
    }
}

/// Two agents in a room, and a customer and a guest who are to hear each other and the room, all over a link of Opus.
fn conference(engines: usize) -> (Town, Graph) {
    let opus = || vec![format(111, Codec::Opus, 48_000)];
    let wide = || vec![format(96, Codec::L16, 16_000)];
    let graph = |parties: Vec<Party>| {
        let mut graph = Graph::of(parties, &[]);
        graph.others.push(room("room", 8_000));
        graph
    };
    let mut town = Town::new(engines);
    let mut floor = graph(vec![
        Party::new("agent", 0).with_formats(wide()),
        Party::new("boss", 1).with_formats(wide()),
        Party::linked("link", 10, 1).with_formats(opus()),
    ]);
    floor.hear(&all_in(["agent", "boss", "link"]));
    town.agents().commit(AGENT, &floor);
    let mut far = graph(vec![
        Party::new("cust", 2).with_formats(opus()),
        Party::new("guest", 3).with_formats(vec![pcmu()]),
        Party::linked("link", 11, 2).with_formats(opus()),
    ]);
    far.hear(&[("link", "cust"), ("cust", "link")]);
    town.customers().commit(CUSTOMER, &far);
    town.join(2, true);
    (town, far)
}

fn all_in(ids: [&'static str; 3]) -> Vec<(&'static str, &'static str)> {
    ids.map(|id| [(id, "room"), ("room", id)]).concat()
}

/// What comes out of a link is forwarded, and then mixed: its decoder comes upon the far encoder's stream in the middle, of
/// which nothing is to be heard when the tone changes long after.
#[test]
fn a_link_that_is_decoded_from_its_middle_on_is_heard_at_its_level() {
    const QUIET: f64 = 2_000.0;
    // Tones without the noise of a law: of those such a decoder made up to seventeen times as much.
    const WIDE: CodecKind = CodecKind::L16 {
        sample_rate_hz: 16_000,
    };
    for (engines, before, wait) in [(1, 620.0, 140), (2, 620.0, 0), (2, 425.0, 40)] {
        let (mut town, mut far) = conference(engines);
        let mut agents = [Voice::new(0, before, WIDE, 96), Voice::new(1, 520.0, WIDE, 96)];
        let mut customers = [
            Voice::new(2, 900.0, CodecKind::Opus, 111),
            Voice::pcmu(3, 1_100.0),
        ];
        agents.iter_mut().for_each(|agent| agent.loud = QUIET);
        customers.iter_mut().for_each(|customer| customer.silent = true);
        let mut talk = |town: &mut Town, speaks: usize, ms| {
            for (at, agent) in agents.iter_mut().enumerate() {
                agent.silent = at != speaks;
            }
            let (mut here, mut there) = (agents.each_mut(), customers.each_mut());
            town.talk(&mut here, &mut there, ms);
        };
        talk(&mut town, 0, 1_000 + wait);
        assert!(town.plans(CUSTOMER).contains(&PlanKind::Relay));
        far.hear(&all_in(["cust", "guest", "link"]));
        town.customers().commit(CUSTOMER, &far);
        talk(&mut town, 0, 2_400);
        assert_eq!(town.plans(CUSTOMER), [PlanKind::Mix; 3]);
        talk(&mut town, 1, 200);
        let mut ear = Ear::default();
        town.listen(&mut [(&mut ear, 2)]);
        ear.pcm.clear();
        talk(&mut town, 1, 800);
        town.listen(&mut [(&mut ear, 2)]);
        let loudest = ear.loudest(520.0) / QUIET;
        assert!(loudest < 1.3, "{engines} engines: {loudest:.1} of its level");
        ear.hears("the customer", &[before, 1_100.0, 520.0], &[(520.0, QUIET)]);
    }
}
