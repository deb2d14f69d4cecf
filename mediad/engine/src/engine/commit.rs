//! Sessions and their edits: what changed is made so, what did not keeps everything.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use rtp::{time::Now, units::Ssrc};

use super::{
    Egress, Engine,
    collect::Collecting,
    decoding::Decoding,
    endpoint::{Endpoint, Identity},
    endpoint_timer,
    mixer::{Farewell, Mixer, Parts, Relayed},
    plan::{self, Mapping, Parting, Plan},
    recorders::{self, Recorder},
    report::endpoint_report,
    session_timer,
    slab::Key,
    transport::{Flow, Transport},
    unchanged,
};
use crate::{
    command::{
        CollectEnd, Commit, EndpointStream, EventKind, PlanKind, PlayerPrompts, SessionKey, SessionReport,
        SocketId, TransportLink, TransportSockets,
    },
    spec::{NodeKind, NodeSpec, SessionSpec, TransportSpec},
};

/// A session in use.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) handle: SessionKey,
    pub(crate) spec: Arc<SessionSpec>,
    /// In the order of the spec.
    pub(crate) transports: Box<[Key]>,
    /// In the order of the spec's nodes; [`Key::NONE`] for what is no endpoint.
    pub(crate) endpoints: Box<[Key]>,
    /// What is done on the tick, for plans that decode.
    pub(crate) mixer: Option<Box<Mixer>>,
    pub(crate) recorders: Vec<Recorder>,
    pub(crate) plans: Box<[(PlanKind, Option<u32>)]>,
    created: Instant,
    /// The owner's lease expired.
    pub(crate) orphaned: bool,
    /// [`Silent`](crate::command::EventKind::Silent) was raised since then.
    pub(crate) silent: bool,
}

impl Session {
    /// From when the silence of the whole session counts.
    pub(crate) fn created(&self) -> Instant {
        self.created
    }
}

/// Where each part of a session was before an edit.
struct Before {
    spec: Arc<SessionSpec>,
    transports: Box<[Key]>,
    endpoints: Box<[Key]>,
}

impl Before {
    fn transport(&self, id: &str) -> Option<(&Arc<TransportSpec>, Key)> {
        let at = self.spec.transports.binary_search_by(|t| (*t.id).cmp(id)).ok()?;
        Some((&self.spec.transports[at], *self.transports.get(at)?))
    }

    fn endpoint(&self, id: &str) -> Option<(&Arc<NodeSpec>, Key)> {
        let at = self.spec.nodes.binary_search_by(|n| (*n.id).cmp(id)).ok()?;
        Some((&self.spec.nodes[at], *self.endpoints.get(at)?))
    }
}

impl Engine {
    pub(super) fn commit(&mut self, now: Now, commit: Commit, tx: &mut impl Egress) {
        let Commit {
            session: handle,
            name: _,
            spec,
            mut sockets,
            mut links,
            mut streams,
            mut prompts,
            recordings,
            taps,
            mut keys,
        } = commit;
        // Large sessions are edited while packets wait: everything is looked up by halving.
        sockets.sort_unstable_by(|a, b| a.transport.cmp(&b.transport));
        links.sort_unstable_by(|a, b| a.transport.cmp(&b.transport));
        streams.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        keys.sort_unstable_by(|a, b| a.transport.cmp(&b.transport));
        let key = self.open(now, handle, &spec);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let before = Before {
            spec: std::mem::replace(&mut session.spec, spec.clone()),
            transports: std::mem::take(&mut session.transports),
            endpoints: std::mem::take(&mut session.endpoints),
        };
        let transports: Box<[Key]> = spec
            .transports
            .iter()
            .map(|new| self.put_transport(now.mono, key, &before, new, &spec, (&sockets, &links)))
            .collect();
        let endpoints: Box<[Key]> = spec
            .nodes
            .iter()
            .map(|new| self.put_endpoint(now, key, &before, new, &spec, &transports, &streams))
            .collect();
        let gone = missing(&before.endpoints, &endpoints);
        let departed = self.take_out(now, handle, gone, tx);
        for gone in missing(&before.transports, &transports) {
            self.remove_transport(gone);
        }
        self.park(&endpoints);
        for (spec, key) in spec.transports.iter().zip(&transports) {
            if let Some(transport) = self.transports.get_mut(*key) {
                let given = keys.binary_search_by(|key| key.transport.cmp(&spec.id));
                transport.secure(now.mono, given.ok().map(|at| &keys[at].key));
            }
        }
        self.attach(&transports, &endpoints);
        self.install_recorders(now, key, &spec, &endpoints, recordings);
        let parts = Parts {
            spec: &spec,
            endpoints: &endpoints,
            rings: &taps,
            departed,
            left: Vec::new(),
            relayed: BTreeMap::new(),
        };
        let plans = self.install(now, key, parts, &mut prompts, tx);
        if let Some(session) = self.sessions.get_mut(key) {
            session.transports = transports;
            session.plans = plans;
            session.endpoints = endpoints;
        }
        self.count();
    }

    /// The session called `handle`, made if need be.
    fn open(&mut self, now: Now, handle: SessionKey, spec: &Arc<SessionSpec>) -> Key {
        if let Some(key) = self.keys.get(&handle) {
            return *key;
        }
        let nothing = SessionSpec {
            transports: Vec::new(),
            nodes: Vec::new(),
            edges: Vec::new(),
            options: spec.options,
        };
        let key = self.sessions.insert(Session {
            handle,
            spec: Arc::new(nothing),
            transports: Box::default(),
            endpoints: Box::default(),
            mixer: None,
            recorders: Vec::new(),
            plans: Box::default(),
            created: now.mono,
            orphaned: false,
            silent: false,
        });
        self.keys.insert(handle, key);
        self.wheel.reserve(session_timer(key));
        key
    }

    fn put_transport(
        &mut self,
        now: Instant,
        session: Key,
        before: &Before,
        new: &Arc<TransportSpec>,
        spec: &SessionSpec,
        (sockets, links): (&[TransportSockets], &[TransportLink]),
    ) -> Key {
        let link = links.binary_search_by(|link| link.transport.cmp(&new.id));
        let link = link.ok().and_then(|at| links.get(at));
        let linked = link.map(|link| TransportSockets {
            transport: link.transport.clone(),
            rtp: self.links.reserve(),
            rtcp: None,
        });
        let given = sockets.binary_search_by(|sockets| sockets.transport.cmp(&new.id));
        let given = linked.as_ref().or(given.ok().and_then(|at| sockets.get(at)));
        if let (None, Some((old, key))) = (given, before.transport(&new.id)) {
            if (!unchanged(old, new) || before.spec.options != spec.options)
                && let Some(transport) = self.transports.get_mut(key)
            {
                transport.update(now, new.clone(), &spec.options);
                if let Some(endpoint) = transport.endpoint {
                    self.arm(now, endpoint);
                }
            }
            return key;
        }
        // Sockets that its worker could not take in: it is deaf and mute until it is put anew, and no call beside it hears
        // of that.
        let none = TransportSockets {
            transport: new.id.clone(),
            rtp: SocketId::NONE,
            rtcp: None,
        };
        let given = given.unwrap_or(&none);
        let key = self
            .transports
            .insert(Transport::new(session, new.clone(), given, &spec.options));
        if let Some(link) = link {
            self.links.open(given.rtp, link.link, key);
            return key;
        }
        self.bind(
            given.rtp,
            Flow {
                transport: key,
                rtcp: false,
            },
        );
        if let Some(rtcp) = given.rtcp {
            self.bind(
                rtcp,
                Flow {
                    transport: key,
                    rtcp: true,
                },
            );
        }
        key
    }

    fn bind(&mut self, socket: SocketId, flow: Flow) {
        if socket == SocketId::NONE {
            return;
        }
        let at = socket.0 as usize;
        if self.flows.len() <= at {
            self.flows.resize(at + 1, None);
        }
        let before = self.flows[at].replace(flow);
        self.totals.sockets += u32::from(before.is_none());
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an edit has a before, an after and its resources"
    )]
    fn put_endpoint(
        &mut self,
        now: Now,
        session: Key,
        before: &Before,
        new: &Arc<NodeSpec>,
        spec: &SessionSpec,
        transports: &[Key],
        streams: &[EndpointStream],
    ) -> Key {
        let NodeKind::Endpoint(endpoint_spec) = &new.kind else {
            return Key::NONE;
        };
        let at = spec
            .transports
            .binary_search_by(|t| (*t.id).cmp(&*endpoint_spec.transport));
        let transport = at.ok().and_then(|at| transports.get(at)).copied();
        let transport = transport.expect("the host checked that every endpoint has its transport");
        if let Some((old, key)) = before.endpoint(&new.id)
            && let Some(endpoint) = self.endpoints.get_mut(key)
        {
            let changed = !unchanged(old, new);
            if changed {
                endpoint.update(new.clone(), now.mono);
            }
            if endpoint.transport != transport {
                let sent = endpoint.egress.leave_transport();
                if let Some(old) = self.transports.get_mut(endpoint.transport) {
                    old.count_sent(sent);
                    old.park(endpoint.egress.sealer.take());
                }
                endpoint.transport = transport;
            }
            if changed || before.spec.options != spec.options {
                endpoint.set_media_timeout(spec.options.media_timeout);
                self.arm(now.mono, key);
            }
            return key;
        }
        let stream = streams.binary_search_by(|stream| stream.node.cmp(&new.id));
        let stream = stream.ok().and_then(|at| streams.get(at));
        let identity = Identity {
            session,
            transport,
            ssrc: stream.map_or_else(|| Ssrc(self.random.next() as u32), |stream| stream.ssrc),
            cname: stream.map_or_else(|| new.id.clone(), |stream| stream.cname.clone()),
            stream: self.next_stream(),
            random: self.random.next(),
        };
        let mut endpoint = Endpoint::new(new.clone(), identity, spec.options.media_timeout, now.mono);
        endpoint
            .participant
            .schedule(now.mono, false, self.random.next() as u32);
        let key = self.endpoints.insert(endpoint);
        self.wheel.reserve(endpoint_timer(key));
        self.arm(now.mono, key);
        key
    }

    /// An edit takes these endpoints out: tells what each counted, and gives what decoded it.
    fn take_out(
        &mut self,
        now: Now,
        session: SessionKey,
        gone: Vec<Key>,
        tx: &mut impl Egress,
    ) -> Vec<(Key, Box<Decoding>)> {
        let mut departed = Vec::new();
        for key in gone {
            let counted = self
                .endpoints
                .get(key)
                .map(|endpoint| endpoint_report(endpoint, None, now));
            let decoding = self.remove_endpoint(now, key, "left the session", tx);
            departed.extend(decoding.map(|decoding| (key, decoding)));
            // Behind what its end raises.
            if let Some(report) = counted {
                let node = report.node.clone();
                let removed = EventKind::EndpointRemoved(Box::new(report));
                self.outbox.event(session, Some(&node), now.wall, removed);
            }
        }
        departed
    }

    /// Gives what decoded it, if anything did.
    fn remove_endpoint(
        &mut self,
        now: Now,
        key: Key,
        reason: &str,
        tx: &mut impl Egress,
    ) -> Option<Box<Decoding>> {
        self.say_goodbye(now, key, reason, tx);
        self.wheel.disarm(endpoint_timer(key));
        self.end_digit(now, key);
        self.end_collection(now, key, CollectEnd::Cancelled);
        self.collections.remove(&key);
        let endpoint = self.endpoints.remove(key)?;
        if let Some(transport) = self.transports.get_mut(endpoint.transport) {
            transport.count_sent(endpoint.egress.sent_by_transport());
            transport.park(endpoint.egress.sealer);
        }
        endpoint.ingress.decoding
    }

    fn remove_transport(&mut self, key: Key) {
        let Some(transport) = self.transports.remove(key) else {
            return;
        };
        if transport.spec.link().is_some() {
            self.links.close(transport.rtp_socket);
            return;
        }
        for socket in transport.sockets() {
            let Some(flow) = self.flows.get_mut(socket.0 as usize) else {
                continue;
            };
            // The socket may already belong to what replaced the transport.
            if flow.is_some_and(|flow| flow.transport == key) {
                *flow = None;
                self.totals.sockets -= 1;
                self.outbox.release(socket);
            }
        }
    }

    /// Give what encrypts back to the transports.
    fn park(&mut self, endpoints: &[Key]) {
        for key in endpoints {
            if let Some(endpoint) = self.endpoints.get_mut(*key)
                && let Some(transport) = self.transports.get_mut(endpoint.transport)
            {
                transport.park(endpoint.egress.sealer.take());
            }
        }
    }

    /// Link transports and endpoints, both ways.
    fn attach(&mut self, transports: &[Key], endpoints: &[Key]) {
        for key in transports {
            if let Some(transport) = self.transports.get_mut(*key) {
                transport.endpoint = None;
            }
        }
        for key in endpoints {
            let Some(endpoint) = self.endpoints.get_mut(*key) else {
                continue;
            };
            let Some(transport) = self.transports.get_mut(endpoint.transport) else {
                continue;
            };
            transport.endpoint = Some(*key);
            endpoint.egress.socket = transport.rtp_socket;
            endpoint.egress.destination = transport.destination();
            endpoint.egress.sealer = transport.take_sealer();
            let sealer = endpoint.egress.sealer.as_ref();
            if let Some(sequence) = sealer.and_then(|sealer| sealer.newest_sequence(endpoint.egress.ssrc.0)) {
                // An endpoint with its SSRC was here before.
                endpoint.egress.line.resume(sequence);
            }
        }
    }

    /// Compile the plans, give each source its hops and the session its mixer.
    fn install(
        &mut self,
        now: Now,
        session: Key,
        mut parts: Parts<'_>,
        prompts: &mut [PlayerPrompts],
        tx: &mut impl Egress,
    ) -> Box<[(PlanKind, Option<u32>)]> {
        let native_hz = native_rates(parts.spec, prompts);
        let endpoints = parts.endpoints;
        let plan::Compiled { plans, mix } = self.compile(session, parts.spec, endpoints, &native_hz);
        match native_hz.is_empty() {
            true => self.native_hz.remove(&session),
            false => self.native_hz.insert(session, native_hz),
        };
        let (farewells, relayed) = self.route(now, &plans, endpoints, tx);
        parts.relayed = relayed;
        let rate_hz = mix.as_ref().map(|mix| mix.rate_hz);
        parts.left = self.put_players(now, session, parts.spec, rate_hz, prompts);
        self.install_mixer(now, session, mix, parts, farewells);
        plans.iter().map(|plan| (plan.kind, plan.source)).collect()
    }

    /// Gives each source its hops. Gives who hears a mix for one more tick before that, and who heard packets until now.
    fn route(
        &mut self,
        now: Now,
        plans: &[Plan],
        endpoints: &[Key],
        tx: &mut impl Egress,
    ) -> (Vec<Farewell>, BTreeMap<Key, Relayed>) {
        let mut hops: Vec<(Vec<Key>, Vec<Mapping>)> = vec![(Vec::new(), Vec::new()); endpoints.len()];
        let (mut farewells, mut relayed) = (Vec::new(), BTreeMap::new());
        for (plan, key) in plans.iter().zip(endpoints) {
            let Plan {
                source,
                mappings,
                kind,
                parts,
            } = plan;
            let speaker = source.and_then(|source| endpoints.get(source as usize)).copied();
            if let Some((keys, all)) = source.and_then(|source| hops.get_mut(source as usize)) {
                farewells.extend(speaker.filter(|_| *parts).map(|source| Farewell {
                    listener: *key,
                    source,
                    hop: keys.len(),
                    mappings: mappings.clone(),
                    is_over: false,
                }));
                keys.push(*key);
                match parts {
                    true => all.extend(mappings.iter().map(|_| plan::WITHHELD)),
                    false => all.extend_from_slice(mappings),
                }
            }
            let listener = self.endpoints.get(*key);
            let before = listener.and_then(|listener| listener.egress.source);
            let digit = before.and_then(|source| self.endpoints.get(source)?.hearing.event());
            let Some(listener) = self.endpoints.get_mut(*key) else {
                continue;
            };
            let decoded = *parts || matches!(kind, PlanKind::Transcode | PlanKind::Mix);
            let was_decoded = std::mem::replace(&mut listener.egress.decoded, decoded);
            if decoded
                && !was_decoded
                && let (Some(source), Some(heard)) =
                    (listener.egress.source, listener.egress.line.forwarded())
            {
                relayed.insert(*key, Relayed::new(source, heard));
                if let Some(digit) = digit {
                    listener.note_begun(source, digit);
                }
            }
            let joins = listener.egress.source != speaker;
            if joins {
                // Whoever speaks next continues the line, also the one who was muted meanwhile.
                listener.egress.line.detach();
                listener.egress.source = speaker;
            }
            if let Some(speaker) = speaker.filter(|_| was_decoded && !parts) {
                self.hand_over(now, speaker, *key, mappings, tx);
            }
            if let Some(speaker) = speaker {
                if joins && !(decoded || was_decoded) {
                    self.tell_silence(now, speaker, *key, mappings, tx);
                }
                self.expect_tones(speaker, *key, mappings);
            }
        }
        self.put_hops(endpoints, hops);
        (farewells, relayed)
    }

    fn put_hops(&mut self, endpoints: &[Key], hops: Vec<(Vec<Key>, Vec<Mapping>)>) {
        for ((keys, mappings), key) in hops.into_iter().zip(endpoints) {
            if let Some(source) = self.endpoints.get_mut(*key) {
                source.ingress.hops = keys.into();
                source.ingress.mappings = mappings.into();
            }
        }
    }

    /// Compiles `spec`, with what is gathered from its endpoints now.
    pub(super) fn compile(
        &self,
        session: Key,
        spec: &SessionSpec,
        endpoints: &[Key],
        native_hz: &[u32],
    ) -> plan::Compiled {
        let native_hz = |node: u32| native_hz.get(node as usize).copied().unwrap_or(0);
        let gathers = |node: u32| {
            let key = endpoints.get(node as usize);
            let collecting = key.and_then(|key| self.collections.get(key));
            collecting.is_some_and(Collecting::is_active)
        };
        let session = self.sessions.get(session);
        let mixer = session.and_then(|session| session.mixer.as_deref());
        let parts_with = |listener: u32, speaker: u32| {
            let source = endpoints
                .get(speaker as usize)
                .and_then(|key| self.endpoints.get(*key));
            let decoding = source.and_then(|source| source.ingress.decoding.as_deref());
            let is_begun = decoding.is_some_and(|decoding| decoding.rest_samples() > 0);
            let (listener, speaker) = (endpoints[listener as usize], &spec.nodes[speaker as usize].id);
            mixer.is_some_and(|mixer| mixer.parts_with(listener, speaker, is_begun))
        };
        let parting = Parting {
            rate_hz: mixer.map_or(0, |mixer| mixer.rate_hz),
            parts_with: &parts_with,
        };
        plan::compile(spec, &native_hz, &gathers, parting)
    }

    pub(super) fn end(
        &mut self,
        now: Now,
        handle: SessionKey,
        tx: &mut impl Egress,
    ) -> Option<Box<SessionReport>> {
        let key = self.keys.remove(&handle)?;
        let report = self.report(now, key);
        let (transports, endpoints) = self
            .sessions
            .get(key)
            .map(|session| (session.transports.clone(), session.endpoints.clone()))
            .unwrap_or_default();
        for endpoint in &endpoints {
            self.remove_endpoint(now, *endpoint, "session ended", tx);
        }
        for transport in &transports {
            self.remove_transport(*transport);
        }
        self.remove_players(key);
        self.native_hz.remove(&key);
        self.wheel.disarm(session_timer(key));
        if let Some(session) = self.sessions.remove(key) {
            recorders::close(now, &session.recorders);
        }
        self.count();
        report
    }

    fn count(&mut self) {
        self.totals.sessions = self.sessions.count() as u32;
        self.totals.endpoints = self.endpoints.count() as u32;
    }
}

/// The highest rate of the prompts of each node; nothing where no player has any.
fn native_rates(spec: &SessionSpec, prompts: &[PlayerPrompts]) -> Box<[u32]> {
    if prompts.is_empty() {
        return Box::default();
    }
    let rate = |node: &Arc<NodeSpec>| {
        let given = prompts.iter().find(|given| given.node == node.id);
        let natives = given.into_iter().flat_map(|given| given.prompts.iter());
        natives.map(|prompt| prompt.native_hz).max().unwrap_or(0)
    };
    spec.nodes.iter().map(rate).collect()
}

/// What of `before` is not in `after`.
fn missing(before: &[Key], after: &[Key]) -> Vec<Key> {
    let mut after = after.to_vec();
    after.sort_unstable();
    before
        .iter()
        .filter(|key| after.binary_search(key).is_err())
        .copied()
        .collect()
}
