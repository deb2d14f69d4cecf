//! The two steps of an edit: prepare may fail, commit cannot.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rtp::time::Now;

use super::{
    Host, LocalKey,
    keys::{self, TransportKeys},
    links::Walk,
    ports::NotFree,
    prompts, recordings,
    session::{Local, Session},
    taps,
};
use crate::{
    command::{Commit, EndpointStream, PlayerPrompts, RecorderFeed, SessionKey, TransportLink},
    graph::{self, OptionsPatch, Patch},
    limits,
    refusal::Refusal,
    spec::{Family, Name, NodeKind, RtcpMode, SessionOptions, SessionSpec, UdpSpec},
};

/// An edit that was found good, with the ports it took. Give it to [`Host::commit`] or [`Host::abort`].
#[derive(Debug)]
#[must_use = "its ports are taken until it is committed or aborted"]
pub struct Prepared {
    patch: Patch,
    spec: Arc<SessionSpec>,
    wants: Vec<PortWant>,
    locals: Vec<Local>,
    keys: Vec<TransportKeys>,
    prompts: Vec<PlayerPrompts>,
    recordings: Vec<RecorderFeed>,
    target: Target,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Create { worker: usize },
    Edit { key: SessionKey, worker: usize },
}

impl Prepared {
    /// Ports to bind, one for each new transport.
    pub fn wants(&self) -> &[PortWant] {
        &self.wants
    }

    /// The worker that will carry the session.
    pub fn worker(&self) -> usize {
        match self.target {
            Target::Create { worker } | Target::Edit { worker, .. } => worker,
        }
    }

    /// The graph after the edit.
    pub(super) fn spec(&self) -> &Arc<SessionSpec> {
        &self.spec
    }

    /// The session that is edited; `None` for a new one.
    pub(super) fn session(&self) -> Option<SessionKey> {
        match self.target {
            Target::Create { .. } => None,
            Target::Edit { key, .. } => Some(key),
        }
    }

    /// The names in the edit: session, its owner, and labels if it changes them.
    pub(super) fn patch(&self) -> &Patch {
        &self.patch
    }

    pub(super) fn give_recordings(&mut self, recordings: Vec<RecorderFeed>) {
        self.recordings = recordings;
    }

    pub(super) fn give_prompts(&mut self, prompts: Vec<PlayerPrompts>) {
        self.prompts = prompts;
    }
}

/// One transport's sockets to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWant {
    /// For which transport.
    pub transport: Name,
    /// Where RTP is received.
    pub rtp: SocketAddr,
    /// Where RTCP is received, when it has a port of its own.
    pub rtcp: Option<SocketAddr>,
    /// Code point of sent packets.
    pub dscp: u8,
    /// The caller asked for exactly this port.
    pub requested: bool,
}

/// What the caller of an edit is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The session's revision now.
    pub revision: u64,
    /// Every transport's addresses, in the order of the spec.
    pub locals: Vec<LocalAddress>,
    /// The local keys of transports that are protected by SDES. Told here and nowhere else.
    pub keys: Vec<(Name, Vec<LocalKey>)>,
    /// Every endpoint's stream, in the order of the spec.
    pub streams: Vec<EndpointStream>,
}

/// Where a transport is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    /// Which transport.
    pub transport: Name,
    /// RTP, as told to peers.
    pub rtp: SocketAddr,
    /// RTCP, as told to peers; equal when muxed, `None` when off.
    pub rtcp: Option<SocketAddr>,
}

/// What a commit comes to.
#[derive(Debug)]
pub struct Committed {
    /// The worker to tell.
    pub worker: usize,
    /// What to tell it; `sockets` is filled in by the worker when it takes the sockets in. `None` when the edit changed
    /// nothing.
    pub commit: Option<Box<Commit>>,
    /// What to tell the caller.
    pub applied: Applied,
}

impl Host {
    /// Checks an edit against the session as it is and takes the ports it needs.
    ///
    /// # Errors
    /// The first mistake; nothing has happened.
    pub fn prepare(&mut self, now: Now, patch: Patch) -> Result<Prepared, Refusal> {
        let target = self.target(now, &patch)?;
        let current = match target {
            Target::Create { .. } => None,
            Target::Edit { key, .. } => self.sessions.by_key(key),
        };
        let options = self.options(current.map(|s| s.spec.options), patch.options.as_ref());
        let spec = graph::next(current.map(|s| &*s.spec), &patch, options)?;
        self.check_links(&patch.session, &spec)?;
        let kept: Vec<Local> = match current {
            Some(session) => session
                .local
                .iter()
                .filter(|l| stays(l, session, &patch, &spec))
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        let mut prepared = Prepared {
            patch,
            spec: Arc::new(spec),
            wants: Vec::new(),
            locals: Vec::new(),
            keys: Vec::new(),
            prompts: Vec::new(),
            recordings: Vec::new(),
            target,
        };
        // A transport that begins anew gets keys anew.
        let known = current.map_or(&[][..], |session| &session.keys);
        let known: Vec<TransportKeys> = known
            .iter()
            .filter(|keys| kept.iter().any(|local| local.transport == keys.transport))
            .cloned()
            .collect();
        prepared.keys = self.local_keys(&prepared.spec, &known)?;
        match self.take_ports(now, &mut prepared, &kept) {
            Ok(()) => Ok(prepared),
            Err(refusal) => {
                self.abort(now, prepared);
                Err(refusal)
            }
        }
    }

    /// The port at `index` of [`Prepared::wants`] is held by another program, or not silent: another one instead.
    ///
    /// # Errors
    /// None is left, or the caller asked for exactly this port; give the edit to [`Host::abort`].
    pub fn rebind(&mut self, now: Now, prepared: &mut Prepared, index: usize) -> Result<(), Refusal> {
        let want = prepared.wants[index].clone();
        let at = prepared
            .locals
            .iter()
            .position(|local| local.transport == want.transport)
            .expect("every want has its local");
        let local = prepared.locals[at].clone();
        self.ports[local.interface][local.address].avoid(now.mono, local.rtp_port);
        // Gone from the edit until another one is found, so that an abort does not give it back twice.
        prepared.locals.remove(at);
        prepared.wants.remove(index);
        if want.requested {
            return Err(requested_port(
                &want.transport,
                local.rtp_port,
                want.rtp.ip(),
                NotFree::Foreign,
            ));
        }
        let spec = prepared
            .spec
            .transport(&want.transport)
            .and_then(|transport| transport.udp())
            .expect("wants are for ports of the spec")
            .clone();
        let local = self.take_port(now, &want.transport, &spec)?;
        let want = self.want(&spec, &local);
        prepared.locals.insert(at, local);
        prepared.wants.insert(index, want);
        Ok(())
    }

    /// Gives everything back.
    pub fn abort(&mut self, _now: Now, prepared: Prepared) {
        for want in &prepared.wants {
            let local = prepared
                .locals
                .iter()
                .find(|local| local.transport == want.transport);
            let local = local.expect("every want has its local");
            self.ports[local.interface][local.address].untake(local.rtp_port);
        }
    }

    /// Carries the edit out. Ports of transports that are gone go into quarantine.
    pub fn commit(&mut self, now: Now, prepared: Prepared) -> Committed {
        let worker = prepared.worker();
        assert!(
            prompts::is_complete(&prepared.spec, &prepared.prompts),
            "prompts are loaded before the commit"
        );
        let before = prepared.session().and_then(|key| self.sessions.by_key(key));
        assert!(
            recordings::wanted(before.map(|session| &*session.spec), &prepared.spec)
                .all(|(node, _)| prepared.recordings.iter().any(|given| given.node == node.id)),
            "files of recorders are opened before the commit"
        );
        let committed = match prepared.target {
            Target::Create { worker } => self.create(now, prepared, worker),
            Target::Edit { key, .. } => self.edit(now, prepared, key, worker),
        };
        self.expect_more(worker);
        committed
    }

    fn create(&mut self, now: Now, prepared: Prepared, worker: usize) -> Committed {
        let Prepared {
            patch,
            spec,
            locals,
            keys,
            prompts,
            recordings,
            ..
        } = prepared;
        let key = SessionKey(self.next_key);
        self.next_key += 1;
        let cname: Name = format!("{:016x}@mediad", self.random.next()).into();
        let streams = self.streams(&spec, &[], &cname);
        let labels = patch.options.map(|o| o.labels).unwrap_or_default();
        let load = &mut self.workers[worker];
        load.sessions += 1;
        load.endpoints += spec.endpoint_count();
        let session = Session {
            key,
            name: patch.session.clone(),
            worker,
            owner: patch.owner,
            revision: 1,
            created: now.wall,
            spec: spec.clone(),
            local: locals,
            keys: keys.clone(),
            streams: streams.clone(),
            prompts: given(&prompts),
            taps: taps::rings(&spec, Vec::new()),
            cname,
            labels: labels.into_boxed_slice(),
            acts: Default::default(),
            orphaned_at: None,
        };
        let links = self.update_links(&session.name, worker, &spec, &[]);
        let taps = session.taps.clone();
        let applied = self.applied(&session);
        self.sessions.insert(session);
        let commit = Commit {
            session: key,
            name: patch.session,
            spec,
            sockets: Vec::new(),
            links,
            streams,
            prompts,
            recordings,
            taps,
            keys: keys::sending(&keys),
        };
        Committed {
            worker,
            commit: Some(Box::new(commit)),
            applied,
        }
    }

    fn edit(&mut self, now: Now, prepared: Prepared, key: SessionKey, worker: usize) -> Committed {
        let Prepared {
            patch,
            spec,
            locals,
            keys,
            prompts,
            recordings,
            ..
        } = prepared;
        let session = self
            .sessions
            .by_key(key)
            .expect("prepare found it and nothing came between");
        let old = session.spec.clone();
        let labels = patch.options.map(|o| o.labels.into_boxed_slice());
        let labels_changed = labels.as_ref().is_some_and(|labels| *labels != session.labels);
        // A link that was removed and put in one breath is another one.
        let anew = &patch.remove_transports;
        let link_anew = |id: &Name| spec.transport(id).is_some_and(|t| t.link().is_some());
        let graph_changed = *old != *spec || session.local != locals || anew.iter().any(link_anew);
        let gone: Vec<Local> = session
            .local
            .iter()
            .filter(|l| !locals.contains(l))
            .cloned()
            .collect();
        let (before, cname) = (session.streams.clone(), session.cname.clone());
        let streams = self.streams(&spec, &before, &cname);
        let fresh = streams.iter().filter(|s| !before.contains(s)).cloned().collect();

        for local in gone {
            self.ports[local.interface][local.address].release(now.mono, local.rtp_port);
        }
        let load = &mut self.workers[worker];
        load.endpoints = load.endpoints + spec.endpoint_count() - old.endpoint_count();
        self.sessions.edit(key, |session| {
            session.spec = if graph_changed { spec.clone() } else { old };
            session.local = locals;
            session.keys.clone_from(&keys);
            session.prompts = given(&prompts);
            session.streams = streams;
            session.taps = taps::rings(&spec, std::mem::take(&mut session.taps));
            session.revision += u64::from(graph_changed || labels_changed);
            if let Some(labels) = labels {
                session.labels = labels;
            }
        });
        let links = self.update_links(&patch.session, worker, &spec, anew);
        let session = self.sessions.by_key(key).expect("edited above");
        let commit = graph_changed.then(|| {
            Box::new(Commit {
                session: key,
                name: patch.session,
                spec,
                sockets: Vec::new(),
                links,
                streams: fresh,
                prompts,
                recordings,
                taps: session.taps.clone(),
                keys: keys::sending(&keys),
            })
        });
        Committed {
            worker,
            commit,
            applied: self.applied(session),
        }
    }

    /// The sessions at the far ends of links exist or will; whatever passes them must come to an end.
    fn check_links(&self, name: &Name, spec: &SessionSpec) -> Result<(), Refusal> {
        let ends = spec.transports.iter().filter(|t| t.link().is_some()).count();
        let known = self.links.count_of(name);
        if self.links.count() - known + ends > limits::LINKS_MAX {
            return Err(Refusal::TooMany {
                subject: format!("session:{name}"),
                what: "ends of links with those of other sessions",
                count: self.links.count() - known + ends,
                max: limits::LINKS_MAX,
            });
        }
        if ends == 0 {
            return Ok(());
        }
        Walk::check(name, spec, |other: &Name| {
            if other == name {
                return Some((name, spec));
            }
            let other = self.sessions.find(other)?;
            Some((&other.name, &*other.spec))
        })
    }

    /// Gives the new ends; the workers are told by [`Host::poll_order`].
    fn update_links(
        &mut self,
        name: &Name,
        worker: usize,
        spec: &SessionSpec,
        anew: &[Name],
    ) -> Vec<TransportLink> {
        let orders = &mut self.orders;
        self.links
            .update(name, worker, spec, anew, &mut |worker, command| {
                orders.push_back((worker, command));
            })
    }

    fn target(&mut self, now: Now, patch: &Patch) -> Result<Target, Refusal> {
        let current = self
            .sessions
            .find(&patch.session)
            .map(|s| (s.key, s.worker, s.revision));
        let revision = current.map_or(0, |(_, _, revision)| revision);
        if let Some(expected) = patch.if_revision.filter(|expected| *expected != revision) {
            return Err(Refusal::StaleRevision {
                session: patch.session.clone(),
                current: revision,
                expected,
            });
        }
        if let Some((key, worker, _)) = current {
            self.check_owner(now, &patch.session, &patch.owner)?;
            return Ok(Target::Edit { key, worker });
        }
        if self.draining {
            return Err(Refusal::Draining {
                session: patch.session.clone(),
            });
        }
        if self.sessions.count_with_ending() >= self.config.sessions_max {
            return Err(Refusal::SessionsFull {
                session: patch.session.clone(),
                max: self.config.sessions_max,
            });
        }
        let worker = self.place(&patch.session, patch.near.as_ref())?;
        let (_, revived) = self.leases.renew(now.mono, &patch.owner.controller, None)?;
        if revived {
            self.owned_again(&patch.owner.controller);
        }
        Ok(Target::Create { worker })
    }

    /// The core of the session asked for, else the least loaded one: by measured time in steps of a twentieth, then
    /// by endpoints. None that has no time left: those whose calls it carries must not hear of new ones.
    fn place(&self, session: &Name, near: Option<&Name>) -> Result<usize, Refusal> {
        let has_time = |worker: usize| self.workers[worker].expected_busy() < self.busy_max(worker);
        let near = near.and_then(|name| self.sessions.find(name));
        if let Some(session) = near.filter(|session| has_time(session.worker)) {
            return Ok(session.worker);
        }
        let load = |worker: &usize| {
            let load = &self.workers[*worker];
            let busy = load.expected_busy();
            ((busy * 20.0) as u32, load.endpoints, load.sessions)
        };
        let workers = 0..self.workers.len();
        let least = workers
            .clone()
            .filter(|worker| has_time(*worker))
            .min_by_key(load);
        least.ok_or_else(|| {
            let least = workers.min_by_key(load).expect("a host has at least one worker");
            self.no_time(session, least)
        })
    }

    /// No worker has time for `session`, not even the least busy one.
    fn no_time(&self, session: &Name, worker: usize) -> Refusal {
        let percent = |share: f32| (share * 100.0).round() as u32;
        let load = &self.workers[worker];
        let (session, busy_percent) = (session.clone(), percent(load.expected_busy()));
        match (load.ceiling.met(self.busy_configured()), self.config.late_after) {
            (Some(met), Some(late_after)) => Refusal::Late {
                session,
                worker,
                late_ms_max: late_after.as_millis() as u64,
                late_percent: percent(met.late),
                then_percent: percent(met.busy),
                busy_percent,
                max_percent: percent(self.busy_max(worker)),
            },
            _ => Refusal::Overloaded {
                session,
                busy_percent,
                max_percent: self.config.busy_percent_max.into(),
            },
        }
    }

    fn options(&self, current: Option<SessionOptions>, patch: Option<&OptionsPatch>) -> SessionOptions {
        let Some(patch) = patch else {
            return current.unwrap_or(self.default_options());
        };
        let ms = |given: Option<u32>, default: Duration| {
            given.map_or(default, |ms| Duration::from_millis(ms.into()))
        };
        let default = self.default_options();
        SessionOptions {
            media_timeout: ms(patch.media_timeout_ms, default.media_timeout),
            orphan_max: ms(patch.orphan_ms_max, default.orphan_max),
            relearn_after: ms(patch.relearn_after_ms, default.relearn_after),
        }
    }

    fn default_options(&self) -> SessionOptions {
        SessionOptions {
            media_timeout: self.config.media_timeout,
            orphan_max: self.config.orphan_max,
            relearn_after: self.config.relearn_after,
        }
    }

    fn take_ports(&mut self, now: Now, prepared: &mut Prepared, kept: &[Local]) -> Result<(), Refusal> {
        let spec = prepared.spec.clone();
        for transport in &spec.transports {
            let Some(udp) = transport.udp() else { continue };
            let local = match kept.iter().find(|local| local.transport == transport.id) {
                Some(local) => local.clone(),
                None => {
                    let local = self.take_port(now, &transport.id, udp)?;
                    prepared.wants.push(self.want(udp, &local));
                    local
                }
            };
            let bind = self.config.interfaces[local.interface].addresses[local.address].bind;
            prepared.locals.push(local);
            check_families(&transport.id, udp, bind)?;
        }
        Ok(())
    }

    fn take_port(&mut self, now: Now, id: &Name, udp: &UdpSpec) -> Result<Local, Refusal> {
        let (interface, address) = self.address_for(id, udp)?;
        let config = &self.config.interfaces[interface];
        let bind = config.addresses[address].bind;
        let ports = &mut self.ports[interface][address];
        let rtp_port = match udp.requested_port {
            Some(port) => {
                ports
                    .take_port(now.mono, port)
                    .map_err(|why| requested_port(id, port, bind, why))?;
                port
            }
            None => ports.take(now.mono).ok_or_else(|| Refusal::PortsExhausted {
                transport: id.clone(),
                interface: config.name.clone(),
                address: bind,
                port_min: ports.range().0,
                port_max: ports.range().1,
                used: ports.used(),
                quarantined: ports.resting(),
                foreign: ports.foreign(),
            })?,
        };
        let rtcp_port = match udp.rtcp {
            RtcpMode::Separate => Some(rtp_port + 1),
            RtcpMode::Mux => Some(rtp_port),
            RtcpMode::Off => None,
        };
        Ok(Local {
            transport: id.clone(),
            interface,
            address,
            rtp_port,
            rtcp_port,
        })
    }

    /// The interface and, of its addresses of the wanted family, the one with most free ports.
    fn address_for(&self, id: &Name, udp: &UdpSpec) -> Result<(usize, usize), Refusal> {
        let interfaces = &self.config.interfaces;
        let interface =
            match &*udp.interface {
                "" => 0,
                name => interfaces.iter().position(|i| *i.name == *name).ok_or_else(|| {
                    Refusal::UnknownInterface {
                        transport: id.clone(),
                        interface: udp.interface.clone(),
                        known: interfaces.iter().map(|i| &*i.name).collect::<Vec<_>>().join(", "),
                    }
                })?,
            };
        let config = &interfaces[interface];
        let remote = udp.remote.map(|remote| Family::of(remote.ip()));
        let family = udp
            .family
            .or(remote)
            .unwrap_or(Family::of(config.addresses[0].bind));
        let of_family = |at: &usize| Family::of(config.addresses[*at].bind) == family;
        let address = (0..config.addresses.len()).filter(of_family).max_by_key(|at| {
            // The first of equals: `max_by_key` gives the last.
            (self.ports[interface][*at].free(), std::cmp::Reverse(*at))
        });
        address
            .map(|address| (interface, address))
            .ok_or_else(|| Refusal::NoSuchFamily {
                transport: id.clone(),
                interface: config.name.clone(),
                family: family.text(),
            })
    }

    fn want(&self, udp: &UdpSpec, local: &Local) -> PortWant {
        let interface = &self.config.interfaces[local.interface];
        let bind = interface.addresses[local.address].bind;
        let own_rtcp = local.rtcp_port.filter(|port| *port != local.rtp_port);
        PortWant {
            transport: local.transport.clone(),
            rtp: SocketAddr::new(bind, local.rtp_port),
            rtcp: own_rtcp.map(|port| SocketAddr::new(bind, port)),
            dscp: udp.dscp.unwrap_or(interface.dscp),
            requested: udp.requested_port.is_some(),
        }
    }

    /// The streams of the spec's endpoints; those that exist stay.
    fn streams(
        &mut self,
        spec: &SessionSpec,
        before: &[EndpointStream],
        cname: &Name,
    ) -> Vec<EndpointStream> {
        let mut streams: Vec<EndpointStream> = Vec::with_capacity(spec.nodes.len());
        for node in &spec.nodes {
            let NodeKind::Endpoint(endpoint) = &node.kind else {
                continue;
            };
            let stream = match before.iter().find(|stream| stream.node == node.id) {
                Some(stream) => stream.clone(),
                None => EndpointStream {
                    node: node.id.clone(),
                    ssrc: endpoint.ssrc.unwrap_or_else(|| self.next_ssrc()),
                    cname: endpoint.cname.clone().unwrap_or_else(|| cname.clone()),
                },
            };
            streams.push(stream);
        }
        streams
    }

    fn applied(&self, session: &Session) -> Applied {
        Applied {
            revision: session.revision,
            locals: session
                .local
                .iter()
                .map(|local| self.local_address(local))
                .collect(),
            keys: session
                .keys
                .iter()
                .filter_map(|keys| {
                    let sdes = session.spec.transport(&keys.transport)?.sdes()?;
                    Some((keys.transport.clone(), keys.told(sdes)))
                })
                .collect(),
            streams: session.streams.clone(),
        }
    }

    pub(super) fn local_address(&self, local: &Local) -> LocalAddress {
        let ip = self.config.interfaces[local.interface].addresses[local.address].advertise;
        LocalAddress {
            transport: local.transport.clone(),
            rtp: SocketAddr::new(ip, local.rtp_port),
            rtcp: local.rtcp_port.map(|port| SocketAddr::new(ip, port)),
        }
    }
}

/// What the session remembers of its players' prompts.
fn given(prompts: &[PlayerPrompts]) -> Vec<prompts::Given> {
    let of_player = |given: &PlayerPrompts| (given.node.clone(), given.prompts.clone());
    prompts.iter().map(of_player).collect()
}

/// The transport keeps its port: it was there before, was not removed in the same breath, and is there after.
fn stays(local: &Local, session: &Session, patch: &Patch, spec: &SessionSpec) -> bool {
    debug_assert!(session.spec.transport(&local.transport).is_some());
    !patch.remove_transports.contains(&local.transport) && spec.transport(&local.transport).is_some()
}

fn requested_port(transport: &Name, port: u16, address: IpAddr, why: NotFree) -> Refusal {
    Refusal::RequestedPort {
        transport: transport.clone(),
        port,
        address,
        state: why.text(),
    }
}

/// Peers can be reached from the local address.
fn check_families(id: &Name, udp: &UdpSpec, local: IpAddr) -> Result<(), Refusal> {
    for (field, remote) in [("remote", udp.remote), ("remote_rtcp", udp.remote_rtcp)] {
        if let Some(remote) = remote.filter(|remote| Family::of(remote.ip()) != Family::of(local)) {
            let transport = id.clone();
            return Err(Refusal::FamilyMismatch {
                transport,
                field,
                remote: remote.ip(),
                local,
            });
        }
    }
    Ok(())
}
