//! What befalls the media hosts of a world: `m1`, and `m2` if there is one.

use std::net::SocketAddr;

use call_control::{HostId, MediaInput};
use proto::mediad::v1 as pb;

use super::{Packet, World};
use crate::media_host::MediaHost;

impl World {
    /// All that there are.
    pub fn hosts(&self) -> impl Iterator<Item = (&'static str, &MediaHost)> {
        let other = self.other_media.as_ref().map(|host| ("m2", host));
        [("m1", &self.media)].into_iter().chain(other)
    }

    pub fn host_mut(&mut self, name: &str) -> Option<&mut MediaHost> {
        match name {
            "m1" => Some(&mut self.media),
            "m2" => self.other_media.as_mut(),
            _ => None,
        }
    }

    /// The host, the session and the node of an endpoint that receives there.
    pub fn endpoint_at(&self, at: SocketAddr) -> Option<(&'static str, String, String)> {
        self.hosts().find_map(|(name, host)| {
            let (session, node) = host.endpoint_at(at)?;
            Some((name, session, node))
        })
    }

    /// A second media host comes up, with ports of its own.
    pub fn add_media_host(&mut self) {
        self.other_media = Some(MediaHost::with_ports_from(30_000));
        let at = self.clocks();
        let up = MediaInput::HostUp {
            host: "m2".into(),
            boot_id: "boot-1".into(),
        };
        self.controller.handle_media(at, up);
    }

    /// The controller has a command for it.
    pub(super) fn send_media(&mut self, host: HostId, command: pb::Command) {
        let by = self.restarts;
        match self.host_mut(host.as_str()) {
            Some(it) if it.is_cut => {
                let (at, commands) = (self.clocks(), vec![command.id]);
                self.controller
                    .handle_media(at, MediaInput::Unanswered { host, commands });
            }
            Some(_) => self.put(1, Packet::ToMedia(host, command, by)),
            None => self.put(1, Packet::FromMedia(host, MediaHost::full(command.id))),
        }
    }

    /// A command arrives there, from who still hears the reply or is gone.
    pub(super) fn media_works(&mut self, host: &HostId, command: pb::Command, is_heard: bool) {
        let Some(it) = self.host_mut(host.as_str()) else {
            return;
        };
        let id = command.id;
        let reply = it.handle(command);
        let events = std::mem::take(&mut it.removed);
        match reply {
            Some(reply) if is_heard => self.put(1, Packet::FromMedia(host.clone(), reply)),
            None if is_heard => drop(it.unanswered.insert(id)),
            _ => {}
        }
        let at = self.clocks();
        for event in events {
            let (host, event) = (host.clone(), Box::new(event));
            self.controller
                .handle_media(at, MediaInput::Event { host, event });
        }
    }

    /// Its process goes on, with what it was sent while it stood still.
    pub fn host_goes_on(&mut self, name: &str) {
        let Some(it) = self.host_mut(name) else { return };
        let waiting = it.stopped.take().unwrap_or_default();
        for command in waiting {
            let it = self.host_mut(name).expect("it is there");
            let is_heard = it.unanswered.remove(&command.id);
            self.media_works(&name.into(), command, is_heard);
        }
    }

    /// The connection to `m1` breaks and stays broken. Commands under way arrive there, or are lost.
    pub fn cut_link(&mut self, arrive: bool) {
        self.cut_link_to("m1", arrive);
    }

    /// As [`World::cut_link`].
    pub fn cut_link_to(&mut self, name: &str, arrive: bool) {
        self.pump();
        let Some(it) = self.host_mut(name) else { return };
        it.is_cut = true;
        let mut commands: Vec<u64> = std::mem::take(&mut it.unanswered).into_iter().collect();
        for packet in std::mem::take(&mut self.wire) {
            match packet {
                (_, Packet::ToMedia(host, command, _)) if host.as_str() == name => {
                    commands.push(command.id);
                    if let Some(it) = self.host_mut(name).filter(|_| arrive) {
                        let _lost = it.handle(command);
                    }
                }
                (_, Packet::FromMedia(host, reply)) if host.as_str() == name => commands.push(reply.id),
                (key, packet) => drop(self.wire.insert(key, packet)),
            }
        }
        self.trace.push(format!("------- the link to {name} is cut"));
        let (at, host) = (self.clocks(), HostId::from(name));
        self.controller
            .handle_media(at, MediaInput::LinkLost { host: host.clone() });
        self.controller
            .handle_media(at, MediaInput::Unanswered { host, commands });
    }

    /// The connection to `m1` is there again.
    pub fn mend_link(&mut self) {
        self.mend_link_to("m1");
    }

    /// As [`World::mend_link`]. A process that stood still must go on to say so.
    pub fn mend_link_to(&mut self, name: &str) {
        self.trace
            .push(format!("------- the link to {name} is there again"));
        self.host_goes_on(name);
        self.host_is_up(name);
    }

    /// The media host is killed, and nobody answers in its place.
    pub fn lose_media_host(&mut self) {
        self.lose_host("m1");
    }

    /// As [`World::lose_media_host`]. Should it come back, it is another start of it.
    pub fn lose_host(&mut self, name: &str) {
        self.cut_link_to(name, false);
        if let Some(it) = self.host_mut(name) {
            it.die();
            self.give_up_host(name, "connection refused");
        }
    }

    /// `m1` does not answer for so long that it counts as lost.
    pub fn give_up_media_host(&mut self) {
        self.give_up_host("m1", "no answer");
    }

    /// As [`World::give_up_media_host`].
    pub fn give_up_host(&mut self, name: &str, reason: &str) {
        let (at, host, reason) = (self.clocks(), name.into(), reason.into());
        self.controller
            .handle_media(at, MediaInput::HostDown { host, reason });
    }

    /// The media host is killed and there again.
    pub fn restart_media_host(&mut self, ports_are_free: bool) {
        self.media.restart(ports_are_free);
        let (at, boot_id) = (self.clocks(), self.media.boot_id());
        let host = "m1".into();
        self.controller
            .handle_media(at, MediaInput::HostUp { host, boot_id });
    }

    /// The controller that knew them is gone, and nobody has connected to them yet.
    pub(super) fn hosts_await_the_next(&mut self) {
        for host in [Some(&mut self.media), self.other_media.as_mut()]
            .into_iter()
            .flatten()
        {
            host.unanswered.clear();
            host.is_cut = true;
        }
    }

    /// It is connected to, and tells its sessions.
    pub fn host_is_up(&mut self, name: &str) {
        let at = self.clocks();
        let Some(it) = self.host_mut(name) else { return };
        it.is_cut = false;
        let (boot_id, sessions) = (it.boot_id(), it.found());
        let host = HostId::from(name);
        let up = MediaInput::HostUp {
            host: host.clone(),
            boot_id,
        };
        self.controller.handle_media(at, up);
        self.controller
            .handle_media(at, MediaInput::Sessions { host, sessions });
    }

    /// It was let go, and is wanted again.
    pub(super) fn host_is_connected_to(&mut self, host: &HostId) {
        if self.host_mut(host.as_str()).is_some_and(|it| !it.is_cut) {
            self.host_goes_on(host.as_str());
            self.host_is_up(host.as_str());
        }
    }
}
