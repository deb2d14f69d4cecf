//! One per process: validates edits, places sessions on workers, hands out ports, holds leases, numbers events.
//!
//! An edit goes in two steps, so that what may fail fails before anything happened: [`Host::prepare`] checks it and
//! takes ports; the caller binds sockets to them ([`Host::rebind`] when a port turns out to be taken) and reads the files
//! that players need ([`Host::load_prompts`]) and opens those of recorders ([`Host::open_recordings`]); then
//! [`Host::commit`], which cannot fail, gives the message for the worker, or [`Host::abort`] gives everything back.

mod acts;
mod ceiling;
mod effort;
mod events;
mod keys;
mod lease;
mod links;
mod ports;
mod prepare;
mod prompts;
mod recordings;
mod reload;
mod session;
mod status;
mod taps;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use rtp::{time::Now, units::Ssrc};
use thiserror::Error;

pub use self::{
    acts::{Act, ActKind, ActOutcome},
    ceiling::Taking,
    effort::{Busy, EffortRange},
    events::{EndReason, Event, Events, Happening},
    keys::{LocalKey, NoRandomness, SecretRandom},
    prepare::{Applied, Committed, LocalAddress, PortWant, Prepared},
    prompts::{Library, StreamError},
    recordings::{RecordingOutcome, RecordingWant},
    reload::Tuning,
    session::{Described, Summary},
    status::{ControllerState, HostStatus, InterfaceState, WorkerState},
    taps::{TapPlace, TapReport},
};
use self::{
    ceiling::Ceiling,
    effort::Governor,
    events::EventRing,
    lease::Leases,
    links::Links,
    ports::Ports,
    session::{Session, Sessions},
};
use crate::{
    command::{Command, EngineEvent, EventKind, ReplyToken, SessionKey, SessionReport},
    graph::Owner,
    limits,
    refusal::Refusal,
    spec::{Family, Name},
};

/// What a host is told at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Media interfaces; the first is the default.
    pub interfaces: Vec<Interface>,
    /// Number of workers, at least one.
    pub workers: usize,
    /// Sessions at once; more are refused.
    pub sessions_max: usize,
    /// Share of its time, in percent, that a worker may be busy and take new sessions. Above: a session is placed on another
    /// worker, or refused when there is none. Edits of sessions that are there are always taken.
    pub busy_percent_max: u8,
    /// How long what comes to a worker may wait: one that is late for long takes new sessions only up to less than it is busy with.
    /// `None`: it does not matter.
    pub late_after: Option<Duration>,
    /// The effort of workers' Opus encoders, which falls as they come near to that.
    pub effort: EffortRange,
    /// How long a released port rests.
    pub quarantine: Duration,
    /// How long events are kept.
    pub events_keep: Duration,
    /// Lease of a controller that does not ask for one.
    pub lease: Duration,
    /// See [`crate::spec::SessionOptions::media_timeout`].
    pub media_timeout: Duration,
    /// See [`crate::spec::SessionOptions::orphan_max`].
    pub orphan_max: Duration,
    /// See [`crate::spec::SessionOptions::relearn_after`].
    pub relearn_after: Duration,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            workers: 1,
            sessions_max: 20_000,
            busy_percent_max: 90,
            late_after: Some(Duration::from_millis(40)),
            effort: EffortRange::default(),
            quarantine: Duration::from_secs(30),
            events_keep: Duration::from_secs(60),
            lease: Duration::from_secs(30),
            media_timeout: Duration::from_secs(30),
            orphan_max: Duration::from_secs(6 * 3600),
            relearn_after: Duration::from_secs(3),
        }
    }
}

/// A named media interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name used in the contract.
    pub name: Name,
    /// Its addresses; the first is the default, the first of a family that family's default.
    pub addresses: Vec<InterfaceAddress>,
    /// First port of the range.
    pub port_min: u16,
    /// Last port of the range.
    pub port_max: u16,
    /// Code point of sent packets, 0-63.
    pub dscp: u8,
}

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Bound locally.
    pub bind: IpAddr,
    /// Told to peers; another one behind a static NAT.
    pub advertise: IpAddr,
}

/// Why a host cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostConfigError {
    /// Nowhere to receive media.
    #[error("no media interface is configured; add one with an address and a port range")]
    NoInterface,
    /// Two with one name.
    #[error("media interface {0:?} is configured twice; rename one")]
    InterfaceTwice(Name),
    /// Nothing to bind.
    #[error("media interface {0:?} has no address")]
    NoAddress(Name),
    /// No pair fits.
    #[error("media interface {name:?}: ports {port_min}-{port_max} hold no even/odd pair")]
    NoPorts {
        /// The interface.
        name: Name,
        /// First port.
        port_min: u16,
        /// Last port.
        port_max: u16,
    },
    /// Two interfaces would hand out the same ports.
    #[error(
        "media interfaces {first:?} and {second:?} share {address} and overlap in ports; separate the ranges"
    )]
    Overlap {
        /// One.
        first: Name,
        /// The other.
        second: Name,
        /// Their common address.
        address: IpAddr,
    },
    /// No worker.
    #[error("workers must be at least 1")]
    NoWorker,
}

/// The host core. See the module's documentation.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    boot_id: Name,
    started: Now,
    random: Random,
    secrets: Option<Box<dyn SecretRandom>>,
    /// Port pairs by interface and address.
    ports: Vec<Vec<Ports>>,
    sessions: Sessions,
    links: Links,
    leases: Leases,
    events: EventRing,
    workers: Vec<WorkerLoad>,
    draining: bool,
    orders: std::collections::VecDeque<(usize, Command)>,
    next_key: u64,
}

#[derive(Debug, Clone, Copy)]
struct WorkerLoad {
    sessions: usize,
    endpoints: usize,
    /// As told by [`Host::worker_busy`], with the effort of its encoders as it is now.
    busy: Busy,
    /// It was so busy that what comes until the next measurement counts.
    projected: bool,
    /// Endpoints it had when the latest measurement ended.
    endpoints_then: usize,
    /// Whose work that measurement holds: the most endpoints of its beginning and its end.
    measured_endpoints: usize,
    governor: Governor,
    ceiling: Ceiling,
    /// Share of its time that what came had to wait for too long.
    late: f32,
}

impl WorkerLoad {
    fn new(effort: EffortRange) -> Self {
        Self {
            sessions: 0,
            endpoints: 0,
            busy: Busy::default(),
            projected: false,
            endpoints_then: 0,
            measured_endpoints: 0,
            governor: Governor::new(effort),
            ceiling: Ceiling::new(),
            late: 0.0,
        }
    }

    /// How busy it is to be taken for: what came since the measurement is as much work as what was there.
    fn expected(&self) -> Busy {
        if !self.projected || self.endpoints <= self.measured_endpoints {
            return self.busy;
        }
        self.busy
            .times(self.endpoints as f32 / self.measured_endpoints.max(1) as f32)
    }

    /// The share of its time without which it cannot do what it was given, however little effort it makes.
    fn expected_busy(&self) -> f32 {
        self.governor.at_least(self.expected())
    }
}

impl Host {
    /// A host with nothing on it. `boot_id` differs with every start of the process; `seed` is unpredictable.
    ///
    /// # Errors
    /// Names the interface and what to change.
    pub fn new(config: HostConfig, boot_id: &str, seed: u64, now: Now) -> Result<Self, HostConfigError> {
        check(&config)?;
        let mut random = Random(seed);
        let mut ports_of = |interface: &Interface| {
            let Interface {
                port_min,
                port_max,
                addresses,
                ..
            } = interface;
            let each = |_| Ports::new(*port_min, *port_max, config.quarantine, random.next());
            addresses.iter().map(each).collect::<Vec<_>>()
        };
        let ports = config.interfaces.iter().map(&mut ports_of).collect();
        Ok(Self {
            boot_id: boot_id.into(),
            started: now,
            random,
            secrets: None,
            ports,
            sessions: Sessions::default(),
            links: Links::default(),
            leases: Leases::new(config.lease),
            events: EventRing::new(config.events_keep),
            workers: vec![WorkerLoad::new(config.effort); config.workers],
            draining: false,
            orders: std::collections::VecDeque::new(),
            next_key: 1,
            config,
        })
    }

    /// Changes with every start of the process.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Stops taking new sessions, or takes them again.
    pub fn drain(&mut self, drain: bool) {
        self.draining = drain;
    }

    /// How busy a worker was with its media, and for which share of its time, 0 to 1, what came waited longer than
    /// [`HostConfig::late_after`]; measured by the caller about twice a second.
    pub fn worker_busy(&mut self, worker: usize, busy: Busy, late: f32) -> Option<Taking> {
        let configured = self.busy_configured();
        let minds = self.config.late_after.is_some();
        let load = &mut self.workers[worker];
        load.late = late;
        let taking = minds
            .then(|| load.ceiling.measured(busy.media, late, configured))
            .flatten();
        let max = load.ceiling.max(configured);
        load.busy = busy;
        load.projected = busy.media >= limits::WORKER_BUSY_PROJECTED * max;
        load.measured_endpoints = load.endpoints.max(load.endpoints_then);
        load.endpoints_then = load.endpoints;
        let (from, to) = (load.governor.effort(), load.governor.measured(busy, max));
        self.make_effort(worker, from, to);
        taking
    }

    /// A worker was given something to do that it may have no time for with the effort it makes.
    fn expect_more(&mut self, worker: usize) {
        let max = self.busy_max(worker);
        let load = &mut self.workers[worker];
        let (from, to) = (
            load.governor.effort(),
            load.governor.expected(load.expected(), max),
        );
        self.make_effort(worker, from, to);
    }

    /// The effort of a worker's encoders is another one from here on.
    fn make_effort(&mut self, worker: usize, from: u8, to: Option<u8>) {
        let Some(to) = to else { return };
        let load = &mut self.workers[worker];
        load.busy = load.busy.with_effort(from, to);
        self.orders.push_back((worker, Command::OpusComplexity(to)));
    }

    /// Up to which share of its time a worker takes new sessions.
    fn busy_max(&self, worker: usize) -> f32 {
        self.workers[worker].ceiling.max(self.busy_configured())
    }

    fn busy_configured(&self) -> f32 {
        f32::from(self.config.busy_percent_max) / 100.0
    }

    /// A controller opened its stream or asked for another lease (`None`: the default). Its sessions are owned again.
    ///
    /// # Errors
    /// Too many controllers.
    pub fn hello(
        &mut self,
        now: Now,
        controller: &Name,
        lease: Option<Duration>,
    ) -> Result<Duration, Refusal> {
        let (granted, revived) = self.leases.connect(now.mono, controller, lease)?;
        if revived {
            self.owned_again(controller);
        }
        Ok(granted)
    }

    /// The controller's stream is gone; its lease runs from now.
    pub fn disconnected(&mut self, now: Now, controller: &Name) {
        self.leases.disconnect(now.mono, controller);
    }

    /// Renews a lease without the stream.
    ///
    /// # Errors
    /// Too many controllers.
    pub fn renew(
        &mut self,
        now: Now,
        controller: &Name,
        lease: Option<Duration>,
    ) -> Result<Duration, Refusal> {
        let (granted, revived) = self.leases.renew(now.mono, controller, lease)?;
        if revived {
            self.owned_again(controller);
        }
        Ok(granted)
    }

    /// Takes a session over under a higher epoch.
    ///
    /// # Errors
    /// The session is not there, or the epoch is not above its own.
    pub fn adopt(&mut self, now: Now, session: &Name, owner: &Owner) -> Result<(usize, SessionKey), Refusal> {
        // Also when it is refused: a controller that speaks is there, and what it owns is owned again.
        self.renew(now, &owner.controller, None)?;
        let entry = self.sessions.by_name_mut(session)?;
        if owner.epoch <= entry.owner.epoch {
            return Err(Refusal::StaleEpoch {
                session: session.clone(),
                current: entry.owner.epoch,
                given: owner.epoch,
                remedy: "adopt with a higher epoch",
            });
        }
        entry.owner = owner.clone();
        let (key, worker) = (entry.key, entry.worker);
        let kind = Happening::OwnerChanged {
            controller: owner.controller.clone(),
            epoch: owner.epoch,
        };
        self.events.push(
            now.mono,
            now.wall,
            owner.controller.clone(),
            session.clone(),
            None,
            kind,
        );
        // It may have been an orphan of its former owner.
        self.owned_again(&owner.controller);
        Ok((worker, key))
    }

    /// Begins to end a session: its name is free at once, its ports once the worker answered with [`Host::ended`].
    ///
    /// # Errors
    /// Not there, not the caller's, stale epoch.
    pub fn delete(
        &mut self,
        now: Now,
        session: &Name,
        owner: &Owner,
    ) -> Result<(usize, SessionKey), Refusal> {
        self.end_for(now, session, owner, EndReason::Deleted)
    }

    /// As [`Host::delete`], for who is not the owner's control stream: the owner is told by the event.
    ///
    /// # Errors
    /// Not there, not the caller's, stale epoch.
    pub fn remove(
        &mut self,
        now: Now,
        session: &Name,
        owner: &Owner,
    ) -> Result<(usize, SessionKey), Refusal> {
        self.end_for(now, session, owner, EndReason::Removed)
    }

    fn end_for(
        &mut self,
        now: Now,
        session: &Name,
        owner: &Owner,
        reason: EndReason,
    ) -> Result<(usize, SessionKey), Refusal> {
        self.check_owner(now, session, owner)?;
        let key = self.sessions.by_name(session)?.key;
        Ok((self.end(key, reason), key))
    }

    /// The worker has let go of a session: its ports go into quarantine, its end becomes an event.
    pub fn ended(&mut self, now: Now, key: SessionKey) {
        let Some((session, reason)) = self.sessions.remove_ending(key) else {
            return;
        };
        for local in &session.local {
            self.ports[local.interface][local.address].release(now.mono, local.rtp_port);
        }
        let load = &mut self.workers[session.worker];
        load.sessions -= 1;
        load.endpoints -= session.spec.endpoint_count();
        let kind = Happening::SessionEnded(reason);
        self.events.push(
            now.mono,
            now.wall,
            session.owner.controller.clone(),
            session.name.clone(),
            None,
            kind,
        );
    }

    /// Something a worker's engine saw.
    pub fn engine_event(&mut self, now: Now, event: EngineEvent) {
        let Some(entry) = self.sessions.by_key(event.session) else {
            return;
        };
        if event.kind == EventKind::Silent {
            if entry.orphaned_at.is_some() {
                self.order_end(event.session, EndReason::Orphaned);
            }
            return;
        }
        let (controller, name) = (entry.owner.controller.clone(), entry.name.clone());
        self.events.push(
            now.mono,
            event.at,
            controller,
            name,
            event.subject,
            Happening::Engine(event.kind),
        );
    }

    /// Events were lost between a worker and here: watchers must take a snapshot.
    pub fn lost_events(&mut self) {
        self.events.break_here();
    }

    /// Events numbered above `after` under `boot_id`, of `controller` or of all, that `takes` says yes to, at most
    /// `count_max` of them.
    pub fn events_after(
        &self,
        boot_id: &str,
        after: u64,
        controller: Option<&str>,
        takes: impl Fn(&Happening) -> bool,
        count_max: usize,
    ) -> Events {
        if *boot_id != *self.boot_id {
            return Events::Lost(format!(
                "the host restarted: its boot id is {}, not {boot_id}",
                self.boot_id
            ));
        }
        self.events.after(after, controller, takes, count_max)
    }

    /// Number of the latest event.
    pub fn last_event(&self) -> u64 {
        self.events.next() - 1
    }

    /// Where a session lives, for asking its worker.
    ///
    /// # Errors
    /// It is not there.
    pub fn locate(&self, session: &Name) -> Result<(usize, SessionKey), Refusal> {
        self.sessions
            .by_name(session)
            .map(|entry| (entry.worker, entry.key))
    }

    /// Everything known of a session, its worker's report included.
    pub fn described(&self, key: SessionKey, report: SessionReport) -> Option<Described> {
        let entry = self.sessions.by_key(key)?;
        let locals = entry
            .local
            .iter()
            .map(|local| self.local_address(local))
            .collect();
        Some(Described {
            summary: entry.summary(),
            spec: entry.spec.clone(),
            locals,
            taps: taps::reports(&entry.taps),
            report,
        })
    }

    /// A page of sessions in the order of their names, after `after`, of `controller` or of all.
    pub fn list(&self, controller: Option<&str>, after: &str, count_max: usize) -> Vec<Summary> {
        self.sessions
            .after(after)
            .filter(|entry| controller.is_none_or(|c| *entry.owner.controller == *c))
            .take(count_max)
            .map(Session::summary)
            .collect()
    }

    /// Something to tell a worker beside what a request asked for: call after [`Host::handle_timeout`],
    /// [`Host::engine_event`], [`Host::hello`], [`Host::renew`], [`Host::adopt`], [`Host::worker_busy`] and [`Host::tune`], and, once its own message is on its way,
    /// after [`Host::commit`] and [`Host::delete`].
    pub fn poll_order(&mut self) -> Option<(usize, Command)> {
        self.orders.pop_front()
    }

    /// When [`Host::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.leases
            .next_expiry()
            .into_iter()
            .chain(self.sessions.next_cap())
            .min()
    }

    /// Expires leases; ends sessions that nobody claimed for too long.
    pub fn handle_timeout(&mut self, now: Now) {
        self.events.forget(now.mono);
        while let Some(controller) = self.leases.pop_expired(now.mono) {
            for (worker, key) in self.sessions.orphan(now.mono, &controller) {
                self.orders.push_back((worker, Command::Orphaned(key, true)));
            }
        }
        while let Some(key) = self.sessions.pop_capped(now.mono) {
            self.order_end(key, EndReason::OrphanCap);
        }
        let sessions = &self.sessions;
        self.leases
            .forget_idle(|controller| sessions.owns_any(controller));
    }

    fn owned_again(&mut self, controller: &Name) {
        for (worker, key) in self.sessions.unorphan(controller) {
            self.orders.push_back((worker, Command::Orphaned(key, false)));
        }
    }

    fn order_end(&mut self, key: SessionKey, reason: EndReason) {
        let worker = self.end(key, reason);
        self.orders.push_back((worker, Command::End(key, HOST_TOKEN)));
    }

    fn end(&mut self, key: SessionKey, reason: EndReason) -> usize {
        if let Some(session) = self.sessions.by_key(key) {
            let (links, orders) = (&mut self.links, &mut self.orders);
            links.end(&session.name, &mut |worker, command| {
                orders.push_back((worker, command))
            });
            session.taps.iter().for_each(|rings| rings.port.close());
        }
        self.sessions
            .begin_end(key, reason)
            .expect("only sessions that exist are ended")
    }

    /// The caller owns the session under its present epoch; that it speaks renews its lease.
    fn check_owner(&mut self, now: Now, session: &Name, owner: &Owner) -> Result<(), Refusal> {
        let entry = self.sessions.by_name(session)?;
        if entry.owner.controller != owner.controller {
            return Err(Refusal::NotOwner {
                session: session.clone(),
                owner: entry.owner.controller.clone(),
                caller: owner.controller.clone(),
            });
        }
        if entry.owner.epoch != owner.epoch {
            let remedy = if owner.epoch < entry.owner.epoch {
                "another instance has adopted it; stop using this session"
            } else {
                "adopt it under the new epoch first"
            };
            return Err(Refusal::StaleEpoch {
                session: session.clone(),
                current: entry.owner.epoch,
                given: owner.epoch,
                remedy,
            });
        }
        self.renew(now, &owner.controller, None).map(drop)
    }

    fn next_ssrc(&mut self) -> Ssrc {
        Ssrc(self.random.next() as u32)
    }
}

/// Token of ends the host orders itself; callers use others.
pub const HOST_TOKEN: ReplyToken = ReplyToken(0);

fn check(config: &HostConfig) -> Result<(), HostConfigError> {
    if config.workers == 0 {
        return Err(HostConfigError::NoWorker);
    }
    if config.interfaces.is_empty() {
        return Err(HostConfigError::NoInterface);
    }
    let mut names = BTreeMap::new();
    for interface in &config.interfaces {
        let Interface {
            name,
            port_min,
            port_max,
            ..
        } = interface;
        if names.insert(name, ()).is_some() {
            return Err(HostConfigError::InterfaceTwice(name.clone()));
        }
        if interface.addresses.is_empty() {
            return Err(HostConfigError::NoAddress(name.clone()));
        }
        if *port_min == 0 || u32::from(port_min.div_ceil(2)) * 2 + 1 > u32::from(*port_max) {
            return Err(HostConfigError::NoPorts {
                name: name.clone(),
                port_min: *port_min,
                port_max: *port_max,
            });
        }
    }
    for (at, first) in config.interfaces.iter().enumerate() {
        for second in &config.interfaces[at + 1..] {
            check_overlap(first, second)?;
        }
    }
    Ok(())
}

fn check_overlap(first: &Interface, second: &Interface) -> Result<(), HostConfigError> {
    let ranges_meet = first.port_min <= second.port_max && second.port_min <= first.port_max;
    let shared = first
        .addresses
        .iter()
        .find(|a| second.addresses.iter().any(|b| a.bind == b.bind));
    match shared {
        Some(address) if ranges_meet => Err(HostConfigError::Overlap {
            first: first.name.clone(),
            second: second.name.clone(),
            address: address.bind,
        }),
        _ => Ok(()),
    }
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// SplitMix64: SSRCs and starting points need spread, not secrecy.
///
/// # Source
/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
