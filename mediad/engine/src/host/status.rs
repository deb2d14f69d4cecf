//! What a host says of itself.

use std::{net::IpAddr, time::Duration};

use rtp::time::Now;

use super::{Host, WorkerLoad, lease::LeaseState};
use crate::spec::Name;

/// The host as a whole; workers' own figures are the caller's.
#[derive(Debug, Clone, PartialEq)]
pub struct HostStatus {
    /// When the process started.
    pub started: std::time::SystemTime,
    /// Takes no new sessions.
    pub draining: bool,
    /// In service.
    pub sessions: usize,
    /// At most.
    pub sessions_max: usize,
    /// Of all sessions.
    pub endpoints: usize,
    /// In their order.
    pub workers: Vec<WorkerState>,
    /// Ports.
    pub interfaces: Vec<InterfaceState>,
    /// Who holds leases.
    pub controllers: Vec<ControllerState>,
    /// Number of the next event, and of the oldest kept.
    pub event_next: u64,
    /// See `event_next`.
    pub event_oldest: u64,
}

/// What a worker has to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkerState {
    /// In service, and ending.
    pub sessions: usize,
    /// Of these.
    pub endpoints: usize,
    /// Effort of its Opus encoders, 0 to 10.
    pub opus_complexity: u8,
    /// Up to which share of its time, 0 to 1, it takes new sessions.
    pub busy_max: f32,
    /// Share of its time that it was late when it was measured last, 0 to 1.
    pub late: f32,
}

/// Ports of an interface, in pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct InterfaceState {
    /// Its name.
    pub name: Name,
    /// Bound.
    pub addresses: Vec<IpAddr>,
    /// Told to peers.
    pub advertised: Vec<IpAddr>,
    /// First port.
    pub port_min: u16,
    /// Last port.
    pub port_max: u16,
    /// In sessions.
    pub used: usize,
    /// Resting after use.
    pub quarantined: usize,
    /// Held by other programs when we tried.
    pub foreign: usize,
    /// To be had.
    pub free: usize,
}

/// A controller's lease.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerState {
    /// Its name.
    pub controller: Name,
    /// What it owns.
    pub sessions: usize,
    /// Until the lease runs out; zero when it has.
    pub left: Duration,
    /// A stream is open.
    pub connected: bool,
}

impl WorkerLoad {
    fn state(&self, busy_configured: f32) -> WorkerState {
        WorkerState {
            sessions: self.sessions,
            endpoints: self.endpoints,
            opus_complexity: self.governor.effort(),
            busy_max: self.ceiling.max(busy_configured),
            late: self.late,
        }
    }
}

impl Host {
    /// The host as it is now.
    pub fn status(&self, now: Now) -> HostStatus {
        let busy_configured = self.busy_configured();
        let state = |worker: &WorkerLoad| worker.state(busy_configured);
        HostStatus {
            started: self.started.wall,
            draining: self.draining,
            sessions: self.sessions.count(),
            sessions_max: self.config.sessions_max,
            endpoints: self.workers.iter().map(|w| w.endpoints).sum(),
            workers: self.workers.iter().map(state).collect(),
            interfaces: (0..self.config.interfaces.len())
                .map(|at| self.interface_state(at))
                .collect(),
            controllers: self.controllers(now),
            event_next: self.events.next(),
            event_oldest: self.events.oldest(),
        }
    }

    fn interface_state(&self, at: usize) -> InterfaceState {
        let interface = &self.config.interfaces[at];
        let ports = &self.ports[at];
        InterfaceState {
            name: interface.name.clone(),
            addresses: interface.addresses.iter().map(|a| a.bind).collect(),
            advertised: interface.addresses.iter().map(|a| a.advertise).collect(),
            port_min: interface.port_min,
            port_max: interface.port_max,
            used: ports.iter().map(|p| p.used()).sum(),
            quarantined: ports.iter().map(|p| p.resting()).sum(),
            foreign: ports.iter().map(|p| p.foreign()).sum(),
            free: ports.iter().map(|p| p.free()).sum(),
        }
    }

    fn controllers(&self, now: Now) -> Vec<ControllerState> {
        self.leases
            .iter()
            .map(|(name, lease)| ControllerState {
                controller: name.clone(),
                sessions: self.sessions.owned_count(name),
                left: match lease.state {
                    LeaseState::Connected => lease.duration,
                    LeaseState::Until(at) => at.saturating_duration_since(now.mono),
                    LeaseState::Expired => Duration::ZERO,
                },
                connected: lease.state == LeaseState::Connected,
            })
            .collect()
    }
}
