//! Where a dialled address leads.

use bytes::Bytes;
use sip::{
    message::StatusCode,
    uri::{Host, Uri},
};

use crate::{config::Config, domain::Name, registrar::Registrar, services::Conferences};

/// Whom a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// All devices of a user, in parallel.
    User(Name),
    /// The agents of a queue, one after the other.
    Queue(Name),
    /// Where the keys lead that the caller presses.
    Menu(Name),
    /// Whoever else dialled the same room.
    Room(Name),
    /// A number that leads to trunks, one target after the other.
    Out(Name),
}

impl Destination {
    /// The queue that it is.
    pub(crate) fn queue(&self) -> Option<&Name> {
        match self {
            Self::Queue(queue) => Some(queue),
            Self::User(_) | Self::Menu(_) | Self::Room(_) | Self::Out(_) => None,
        }
    }
}

/// The hosts that are ours, and what is dialled there.
#[derive(Debug)]
pub(crate) struct Routing {
    hosts: Vec<Host>,
    queues: Vec<Name>,
    menus: Vec<Name>,
    conferences: Conferences,
}

impl Routing {
    pub(crate) fn new(config: &Config) -> Self {
        let named = config.domains.iter().cloned();
        let reached = config
            .listeners
            .iter()
            .map(|listener| match listener.advertised() {
                std::net::SocketAddr::V4(address) => address.ip().to_string(),
                std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
            });
        let hosts = named
            .chain(reached)
            .filter_map(|name| Host::parse(Bytes::from(name)));
        Self {
            hosts: hosts.collect(),
            conferences: config.conferences.clone(),
            queues: config
                .queues
                .iter()
                .map(|queue| queue.name.as_str().into())
                .collect(),
            menus: config
                .menus
                .iter()
                .map(|menu| menu.name.as_str().into())
                .collect(),
        }
    }

    /// True when a request for this address is for us.
    pub(crate) fn is_ours(&self, uri: &Uri) -> bool {
        uri.is_sip()
            && uri
                .host()
                .is_some_and(|host| self.hosts.iter().any(|own| own.matches(host)))
    }

    /// Where a dialled address leads, or the status that says why nowhere.
    pub(crate) fn route(&self, uri: &Uri, registrar: &Registrar) -> Result<Destination, StatusCode> {
        if !self.is_ours(uri) {
            return Err(StatusCode::NOT_FOUND);
        }
        if let Some(device) = registrar.gruu(uri) {
            return device.map(|(user, _)| Destination::User(user));
        }
        let user = uri.user_unescaped().ok_or(StatusCode::NOT_FOUND)?;
        let user = std::str::from_utf8(&user).map_err(|_| StatusCode::NOT_FOUND)?;
        if let Some(queue) = self.queues.iter().find(|queue| &***queue == user) {
            return Ok(Destination::Queue(queue.clone()));
        }
        if let Some(menu) = self.menus.iter().find(|menu| &***menu == user) {
            return Ok(Destination::Menu(menu.clone()));
        }
        if let Some(room) = self.conferences.room(user) {
            return Ok(Destination::Room(room.into()));
        }
        let user = registrar.account(user).ok_or(StatusCode::NOT_FOUND)?;
        if registrar.bindings(&user).is_empty() {
            return Err(StatusCode::TEMPORARILY_UNAVAILABLE);
        }
        Ok(Destination::User(user))
    }
}
