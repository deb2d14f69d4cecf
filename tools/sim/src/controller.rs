//! The simulated controllers: random edits that must be taken, mistakes that must be refused, and life's other turns.

use std::{collections::BTreeMap, net::SocketAddr, rc::Rc};

use media_engine::{
    api,
    host::ActOutcome,
    refusal::{Code, Refusal},
};
use proto::mediad::v1 as pb;

use crate::{
    cipher::{SUITES, Sdes},
    model::{Binding, Direction, Edge, Graph, Life, Node, Policy, Rtcp, Sound, Transport},
    phone::{HOST_VOLUME, Server},
    request::{owner, owner_of, patch, put_edge, put_node, put_transport, socket_address, text, whole},
    server::Message,
    world::World,
};

/// Names of sessions.
const SESSIONS: [&str; 4] = ["s0", "s1", "s2", "s3"];
/// Names of legs; node `a` rides on transport `t-a` unless it was moved.
const LEGS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Names of controllers.
pub const CONTROLLERS: [&str; 2] = ["c1", "c2"];

impl World {
    /// One random act of a controller that has to succeed.
    pub fn act(&mut self) {
        let lives = self.model.in_service();
        if lives.is_empty() || lives.len() < SESSIONS.len() && self.percent(15) {
            return self.create();
        }
        let life = self.pick(&lives);
        match self.rng.below(100) {
            0..=74 => self.edit(life),
            75..=79 => self.rebind(life),
            80..=85 => self.delete(life),
            86..=90 => self.adopt(life),
            _ => self.send_digits(life),
        }
    }

    fn create(&mut self) {
        let free: Vec<&str> = SESSIONS
            .into_iter()
            .filter(|name| self.model.find(name).is_none())
            .collect();
        if free.is_empty() {
            return;
        }
        let name = self.pick(&free);
        let mut graph = Graph::default();
        for _ in 0..=self.rng.below(3) {
            self.add_leg(&mut graph);
        }
        for _ in 0..4 {
            self.edit_edges(&mut graph);
        }
        let owner = (self.pick(&CONTROLLERS).to_owned(), 1);
        self.create_as(name, owner, graph);
    }

    /// Creates a session, or finds that it is refused for want of room.
    pub fn create_as(&mut self, name: &str, owner: (String, u64), graph: Graph) {
        let request = pb::ApplyRequest {
            if_revision: Some(0),
            ..whole(name, &owner, &graph)
        };
        self.log(format!("create {name} for {} with {}", owner.0, text(&graph)));
        let applied = match self.server.apply(self.now, &request) {
            Ok(applied) => applied,
            Err(refusal) => return self.excuse(&refusal),
        };
        let Some(commit) = &applied.commit else {
            return self
                .judge
                .object(|| format!("{name} was created without a commit"));
        };
        let at = self.model.lives.len();
        self.model.lives.push(Life {
            name: name.into(),
            key: commit.session,
            worker: applied.worker,
            owner,
            revision: 0,
            asked: Rc::new(Graph::default()),
            in_force: Vec::new(),
            ssrc: BTreeMap::new(),
            local: BTreeMap::new(),
            ended: false,
        });
        self.committed(at, graph, applied);
    }

    /// Applies the step from what a session is to `next`; transports in `anew` get other ports.
    fn apply(&mut self, at: usize, next: Graph, anew: &[String]) {
        let life = &self.model.lives[at];
        let (name, owner, asked) = (life.name.clone(), life.owner.clone(), life.asked.clone());
        // A transport that gets another phone is another transport under the same name.
        let is_other = |(id, wish): &(&String, &Transport)| {
            asked
                .transports
                .get(*id)
                .is_some_and(|was| was.phone != wish.phone)
        };
        let others = next.transports.iter().filter(is_other).map(|(id, _)| id);
        let anew: &[String] = &anew.iter().chain(others).cloned().collect::<Vec<_>>();
        let mut request = if anew.is_empty() && self.percent(20) {
            pb::ApplyRequest {
                replace: true,
                ..whole(&name, &owner, &next)
            }
        } else {
            patch(&name, &owner, &asked, &next, anew)
        };
        if self.percent(30) {
            request.if_revision = Some(self.model.lives[at].revision);
        }
        self.log(format!(
            "edit {name} to {}{}",
            text(&next),
            if anew.is_empty() { "" } else { ", another port" }
        ));
        match self.server.apply(self.now, &request) {
            Ok(applied) => self.committed(at, next, applied),
            Err(refusal) => self.excuse(&refusal),
        }
    }

    /// Only a want of room excuses the refusal of a good edit.
    fn excuse(&mut self, refusal: &Refusal) {
        self.log(format!("refused: {refusal}"));
        if refusal.code() != Code::ResourceExhausted {
            let trouble = refusal.to_string();
            self.judge
                .object(|| format!("a good edit was refused: {trouble}"));
        }
    }

    fn committed(&mut self, at: usize, next: Graph, applied: crate::server::Applied) {
        self.edits += 1;
        let now = self.now.mono;
        let life = &mut self.model.lives[at];
        let changed = life.revision == 0 || *life.asked != next || !applied.wants.is_empty();
        life.revision += u64::from(changed);
        if life.revision != applied.reply.revision || changed != applied.commit.is_some() {
            let (ours, theirs, name) = (life.revision, applied.reply.revision, life.name.clone());
            return self
                .judge
                .object(|| format!("{name} should be at revision {ours}, the host says {theirs}"));
        }
        for endpoint in &applied.reply.endpoints {
            let promised = life.ssrc.entry(endpoint.id.clone()).or_default();
            if promised.last() != Some(&endpoint.ssrc) {
                promised.push(endpoint.ssrc);
            }
        }
        life.asked = Rc::new(next);
        let graph = life.asked.clone();
        let (key, worker) = (life.key, life.worker);
        for want in &applied.wants {
            for (local, rtcp) in [(Some(want.rtp), false), (want.rtcp, true)] {
                let Some(local) = local else { continue };
                let binding = Binding {
                    life: at,
                    transport: want.transport.to_string(),
                    rtcp,
                    since: now,
                };
                self.model.bindings.entry(local).or_default().push(binding);
            }
        }
        for state in &applied.reply.transports {
            self.answer(
                at,
                &graph,
                state,
                applied.wants.iter().any(|want| *want.transport == *state.id),
            );
        }
        if let Some(commit) = applied.commit {
            assert_eq!(
                (commit.session, applied.worker),
                (key, worker),
                "sessions stay on their worker"
            );
            self.server.post(
                now,
                worker,
                Message::Commit(commit, applied.wants, at, graph),
                &mut self.rng,
            );
        }
    }

    /// The phone of a transport learns where to send and what.
    fn answer(&mut self, at: usize, graph: &Graph, state: &pb::TransportState, is_new: bool) {
        let Some(local) = state.local.as_ref().map(socket_address) else {
            return;
        };
        self.model.lives[at].local.insert(state.id.clone(), local);
        let Transport { phone, sdes, .. } = graph.transports[&state.id];
        let sabotage = self.sabotage.as_mut();
        let told = state.local_sdes.first();
        if let (Some(sdes), Some(local)) = (sdes, told)
            && !sabotage.is_some_and(crate::sabotage::Sabotage::keeps_key)
        {
            let leg = (at, state.id.clone());
            self.host_keys.told(leg, sdes.suite(), &local.key_salt);
        }
        let node = graph.node_on(&state.id).map(|(_, node)| node.clone());
        if is_new {
            let rtcp = state.local_rtcp.as_ref().map(socket_address);
            self.phones[phone].attach(self.now.mono, (at, state.id.clone()), Server { rtp: local, rtcp });
        }
        if self.phones[phone].leg == Some((at, state.id.clone()))
            && self.phones[phone].encrypt(self.now.mono, sdes, &mut self.rng)
        {
            self.disturb(phone);
        }
        let Some(node) = node else { return };
        let agreed = node.sounds.contains(&self.phones[phone].sound);
        if !agreed || self.phones[phone].digit_type != node.digits {
            let sound = self.pick(&node.sounds);
            self.disturb(phone);
            let phone = &mut self.phones[phone];
            phone.sound = sound;
            phone.payload_type = sound.payload_type();
            phone.digit_type = node.digits;
            phone.dialling = None;
        }
    }

    fn edit(&mut self, at: usize) {
        let mut next = (*self.model.lives[at].asked).clone();
        for _ in 0..=self.rng.below(3) {
            match self.rng.below(100) {
                0..=11 => self.add_leg(&mut next),
                12..=19 => self.drop_part(&mut next),
                20..=59 => self.edit_edges(&mut next),
                60..=76 => self.edit_node(&mut next),
                77..=84 => self.edit_remote(&mut next),
                85..=88 => self.rekey(&mut next),
                _ => self.move_node(&mut next),
            }
        }
        self.apply(at, next, &[]);
    }

    fn rebind(&mut self, at: usize) {
        let mut next = (*self.model.lives[at].asked).clone();
        let transports: Vec<String> = next.transports.keys().cloned().collect();
        if transports.is_empty() {
            return;
        }
        let transport = transports[self.rng.below(transports.len() as u64) as usize].clone();
        if self.is_attacked(next.transports[&transport].phone) {
            return;
        }
        if let Some(transport) = next.transports.get_mut(&transport) {
            transport.requested_port = 0;
        }
        self.apply(at, next, &[transport]);
    }

    fn add_leg(&mut self, graph: &mut Graph) {
        let taken = |phone: usize| {
            graph
                .transports
                .values()
                .any(|transport| transport.phone == phone)
        };
        let idle: Vec<usize> = (0..self.phones.len())
            .filter(|at| {
                self.phones[*at].leg.is_none()
                    && self.phones[*at].server.is_none()
                    && !taken(*at)
                    && !self.is_asked_for(*at)
            })
            .collect();
        let free = LEGS.iter().find(|leg| {
            !graph.nodes.contains_key(**leg) && !graph.transports.contains_key(&format!("t-{leg}"))
        });
        let (Some(leg), false) = (free, idle.is_empty()) else {
            return;
        };
        let phone = self.pick(&idle);
        let (remote, policy) = self.signal(phone);
        let transport = Transport {
            phone,
            remote,
            policy,
            rtcp: self.pick(&[Rtcp::Separate, Rtcp::Mux, Rtcp::Off]),
            requested_port: 0,
            interface: if self.phones[phone].rtp.is_ipv4() {
                self.pick(&["", "outside", "inside"])
            } else {
                "outside"
            },
            sdes: self.percent(40).then(|| Sdes {
                suite: self.rng.below(SUITES.len() as u64) as usize,
                seed: self.rng.next_u64(),
                generation: self.rng.below(3) as u32,
            }),
        };
        let id = format!("t-{leg}");
        graph.transports.insert(id.clone(), transport);
        if self.percent(92) {
            let (sounds, digits) = (self.sounds(), self.digit_type());
            let direction = Direction {
                receives: true,
                sends: true,
            };
            graph.nodes.insert(
                (*leg).into(),
                Node {
                    transport: id,
                    sounds,
                    digits,
                    direction,
                },
            );
        }
    }

    /// Some graph on its way to a worker still has the phone.
    fn is_asked_for(&self, phone: usize) -> bool {
        self.model.lives.iter().filter(|life| !life.ended).any(|life| {
            life.asked
                .transports
                .values()
                .any(|transport| transport.phone == phone)
        })
    }

    fn sounds(&mut self) -> Vec<Sound> {
        // Always one of the laws, so that every edge can be carried out.
        let law = self.pick(&[Sound::Ulaw, Sound::Alaw]);
        match self.rng.below(8) {
            0 => vec![Sound::Ulaw, Sound::Alaw],
            1 => vec![Sound::Alaw, Sound::Ulaw],
            2 => vec![law, Sound::G722],
            3 => vec![Sound::G722, law],
            _ => vec![law],
        }
    }

    fn digit_type(&mut self) -> Option<u8> {
        self.pick(&[Some(101), Some(101), Some(96), None])
    }

    /// What the controller believes of a phone's address, and whom the host is to trust.
    fn signal(&mut self, phone: usize) -> (Option<SocketAddr>, Policy) {
        let phone = &self.phones[phone];
        let nobody = if phone.rtp.is_ipv4() {
            "203.0.113.250:9"
        } else {
            "[2001:db8:bad::9]:9"
        };
        let nobody = nobody.parse().expect("an address");
        let (right, natted) = (phone.outside, phone.natted);
        let believed = if natted { phone.rtp } else { right };
        match self.rng.below(100) {
            0..=19 => (None, self.pick(&[Policy::Learn, Policy::Immediate])),
            20..=29 => (
                Some(nobody),
                self.pick(&[Policy::Learn, Policy::Learn, Policy::Immediate, Policy::Signalled]),
            ),
            30..=59 if !natted => (Some(believed), Policy::Signalled),
            60..=69 => (Some(believed), Policy::Immediate),
            _ => (Some(believed), Policy::Learn),
        }
    }

    fn drop_part(&mut self, graph: &mut Graph) {
        let nodes: Vec<String> = graph.nodes.keys().cloned().collect();
        let Some(id) = nodes.get(self.rng.below(nodes.len().max(1) as u64) as usize) else {
            return;
        };
        let transport = graph.nodes[id].transport.clone();
        graph.remove_node(id);
        if self.percent(80) {
            graph.transports.remove(&transport);
        }
    }

    fn edit_edges(&mut self, graph: &mut Graph) {
        let nodes: Vec<String> = graph.nodes.keys().cloned().collect();
        if nodes.len() < 2 {
            return;
        }
        let from = nodes[self.rng.below(nodes.len() as u64) as usize].clone();
        let to = nodes[self.rng.below(nodes.len() as u64) as usize].clone();
        if from == to {
            return;
        }
        let key = (from, to);
        if graph.edges.contains_key(&key) && self.percent(40) {
            graph.edges.remove(&key);
            return;
        }
        let edge = Edge {
            muted: self.percent(20),
            block_digits: self.percent(20),
        };
        // One source at a time: whoever was heard before is muted or goes.
        if !edge.muted
            && let Some(other) = graph.source_of(&key.1).cloned().filter(|other| *other != key.0)
        {
            let other = (other, key.1.clone());
            if self.percent(50) {
                graph.edges.remove(&other);
            } else if let Some(edge) = graph.edges.get_mut(&other) {
                edge.muted = true;
            }
        }
        graph.edges.insert(key, edge);
    }

    fn edit_node(&mut self, graph: &mut Graph) {
        let nodes: Vec<String> = graph.nodes.keys().cloned().collect();
        let Some(id) = nodes.get(self.rng.below(nodes.len().max(1) as u64) as usize) else {
            return;
        };
        let (sounds, digits) = (self.sounds(), self.digit_type());
        let direction = match self.rng.below(5) {
            0 => Direction {
                receives: true,
                sends: false,
            },
            1 => Direction {
                receives: false,
                sends: true,
            },
            2 => Direction {
                receives: false,
                sends: false,
            },
            _ => Direction {
                receives: true,
                sends: true,
            },
        };
        let formats = self.percent(30);
        let Some(node) = graph.nodes.get_mut(id) else {
            return;
        };
        if formats {
            node.sounds = sounds;
            node.digits = digits;
        } else {
            node.direction = direction;
        }
    }

    fn edit_remote(&mut self, graph: &mut Graph) {
        let transports: Vec<String> = graph.transports.keys().cloned().collect();
        let Some(id) = transports.get(self.rng.below(transports.len().max(1) as u64) as usize) else {
            return;
        };
        let phone = graph.transports[id].phone;
        if self.is_attacked(phone) {
            return;
        }
        let (remote, policy) = self.signal(phone);
        self.disturb(phone);
        if let Some(transport) = graph.transports.get_mut(id) {
            (transport.remote, transport.policy) = (remote, policy);
        }
    }

    /// Keys of an encrypted leg change: the host's, the phone's, or both with the suite.
    fn rekey(&mut self, graph: &mut Graph) {
        let encrypted = graph.transports.iter().filter(|(_, wish)| wish.sdes.is_some());
        let encrypted: Vec<String> = encrypted.map(|(id, _)| id.clone()).collect();
        let Some(id) = encrypted.get(self.rng.below(encrypted.len().max(1) as u64) as usize) else {
            return;
        };
        let Some(transport) = graph.transports.get_mut(id) else {
            return;
        };
        let phone = transport.phone;
        if let Some(sdes) = &mut transport.sdes {
            sdes.change(&mut self.rng);
        }
        self.disturb(phone);
    }

    /// A lock that the controller gives up while strangers send may be theirs next: no fault of the host.
    fn is_attacked(&self, phone: usize) -> bool {
        self.now.mono < self.phones[phone].attacked_until
    }

    /// A node goes to a transport that carries none, or a transport without a node gets one.
    fn move_node(&mut self, graph: &mut Graph) {
        let free: Vec<String> = graph
            .transports
            .keys()
            .filter(|id| graph.node_on(id).is_none())
            .cloned()
            .collect();
        let Some(transport) = free.first().cloned() else {
            return;
        };
        let nodes: Vec<String> = graph.nodes.keys().cloned().collect();
        self.disturb(graph.transports[&transport].phone);
        let unused = LEGS.iter().find(|leg| !graph.nodes.contains_key(**leg));
        if let Some(leg) = unused.filter(|_| nodes.is_empty() || self.percent(50)) {
            let (sounds, digits) = (self.sounds(), self.digit_type());
            let direction = Direction {
                receives: true,
                sends: true,
            };
            graph.nodes.insert(
                (*leg).into(),
                Node {
                    transport,
                    sounds,
                    digits,
                    direction,
                },
            );
        } else if let Some(id) = nodes.get(self.rng.below(nodes.len().max(1) as u64) as usize)
            && let Some(node) = graph.nodes.get_mut(id)
        {
            let before = std::mem::replace(&mut node.transport, transport);
            let phone = graph.transports[&before].phone;
            self.disturb(phone);
        }
    }

    /// Ends a session.
    pub fn delete(&mut self, at: usize) {
        let life = &self.model.lives[at];
        let (name, owner) = (life.name.clone(), life.owner.clone());
        self.log(format!("delete {name}"));
        let request = pb::DeleteRequest {
            session: name.clone(),
            owner: Some(owner_of(&owner)),
        };
        let deleted = api::delete(&request)
            .and_then(|(session, owner)| self.server.host.delete(self.now, &session, &owner));
        match deleted {
            Ok((worker, key)) => {
                self.model.lives[at].ended = true;
                if !self
                    .sabotage
                    .as_mut()
                    .is_some_and(crate::sabotage::Sabotage::leaks)
                {
                    self.server.post_end(self.now.mono, worker, key, &mut self.rng);
                }
            }
            Err(refusal) => self
                .judge
                .object(|| format!("{name} cannot be deleted: {refusal}")),
        }
        self.pass_orders();
    }

    fn adopt(&mut self, at: usize) {
        let life = &self.model.lives[at];
        let (name, (_, epoch)) = (life.name.clone(), life.owner.clone());
        let next = (self.pick(&CONTROLLERS).to_owned(), epoch + 1);
        self.log(format!("{} adopts {name} under epoch {}", next.0, next.1));
        let adopted = self
            .server
            .host
            .adopt(self.now, &name.as_str().into(), &owner(&next));
        if let Err(refusal) = adopted {
            return self
                .judge
                .object(|| format!("{name} cannot be adopted: {refusal}"));
        }
        self.model.lives[at].owner = next;
        let again = self.server.host.adopt(
            self.now,
            &name.as_str().into(),
            &owner(&self.model.lives[at].owner),
        );
        self.must_refuse(
            "adopting under the epoch in force",
            Code::FailedPrecondition,
            again.err(),
        );
        self.pass_orders();
    }

    /// The host itself sends digits to a phone.
    pub fn send_digits(&mut self, at: usize) {
        let life = &self.model.lives[at];
        let nodes: Vec<String> = life.asked.nodes.keys().cloned().collect();
        let (name, owner) = (life.name.clone(), life.owner.clone());
        let Some(node) = nodes.get(self.rng.below(nodes.len().max(1) as u64) as usize) else {
            return;
        };
        self.log(format!("send digits to {name}/{node}"));
        // Two digits, each with a gap, and a pause between them.
        let lasts = std::time::Duration::from_millis(2 * (60 + 40) + 500);
        self.judge.expect_digits(at, self.now.mono, lasts);
        let request = pb::ActRequest {
            session: name,
            owner: Some(owner_of(&owner)),
            node: node.clone(),
            request: format!("act-{}", self.rng.next_u64()),
            act: Some(pb::act_request::Act::SendDigits(pb::SendDigits {
                digits: "1,#".into(),
                duration_ms: 60,
                gap_ms: 40,
                volume: Some(u32::from(HOST_VOLUME)),
            })),
        };
        self.post_act(&request, false);
        self.post_act(&request, true);
    }

    fn post_act(&mut self, request: &pb::ActRequest, is_repeat: bool) {
        let outcome = api::act(request).and_then(|act| self.server.host.act(self.now, act));
        match outcome {
            Ok(ActOutcome::Order(worker, command)) if !is_repeat => {
                self.server
                    .post(self.now.mono, worker, Message::Command(command), &mut self.rng);
            }
            Ok(ActOutcome::Repeated) if is_repeat => {}
            other => self
                .judge
                .object(|| format!("sending digits (repeat: {is_repeat}) gave {other:?}")),
        }
        self.pass_orders();
    }

    /// Connects or loses a controller, or renews its lease.
    pub fn flap(&mut self) {
        let at = self.rng.below(2) as usize;
        let name = CONTROLLERS[at].into();
        if self.connected[at] {
            self.log(format!("{name} is gone"));
            self.server.host.disconnected(self.now, &name);
        } else {
            self.log(format!("{name} is back"));
            if let Err(refusal) = self.server.host.hello(self.now, &name, None) {
                self.judge.object(|| format!("{name} cannot connect: {refusal}"));
            }
        }
        self.connected[at] = !self.connected[at];
        self.pass_orders();
    }

    /// Passes on what the host wants told to workers.
    pub fn pass_orders(&mut self) {
        let mut outcomes = Vec::new();
        self.server.pass_orders(self.now, &mut outcomes, &mut self.rng);
        self.take(outcomes);
    }

    /// `kill -9` and a new process: the owners apply their sessions again, with the ports they had.
    pub fn restart_host(&mut self) {
        // A host that knows nothing cannot tell a stranger who already sends from a peer it is to learn.
        if (0..self.phones.len()).any(|phone| self.is_attacked(phone)) {
            return;
        }
        self.log("kill -9 and restart");
        let lives = self.model.in_service();
        self.server.restart(self.now, &mut self.rng);
        self.judge.restarted();
        self.connected = [false; 2];
        for life in &mut self.model.lives {
            life.ended = true;
            if life.now().is_some() {
                life.in_force.push((self.now.mono, None));
            }
            // Keys start over in the next process.
            life.key.0 = u64::MAX;
        }
        let mut wanted = Vec::new();
        for at in lives {
            let life = &self.model.lives[at];
            let mut graph = (*life.asked).clone();
            for (id, transport) in &mut graph.transports {
                transport.requested_port = life.local.get(id).map_or(0, SocketAddr::port);
            }
            wanted.push((life.name.clone(), life.owner.clone(), graph));
        }
        for phone in 0..self.phones.len() {
            if self.phones[phone].leg.is_some() {
                self.disturb(phone);
                self.release(phone);
            }
        }
        // As the daemon does before it serves: ports on which packets arrive are left alone.
        let listens = 250 + self.rng.below(750);
        self.pass(std::time::Duration::from_millis(listens));
        for (name, owner, graph) in wanted {
            if self.percent(85) {
                self.create_as(&name, owner, graph);
            }
        }
    }

    /// A request that must be refused, with this code, and change nothing.
    fn must_refuse(&mut self, what: &str, code: Code, refusal: Option<Refusal>) {
        self.refused += 1;
        let got = refusal.as_ref().map(Refusal::code);
        if got != Some(code) {
            self.judge
                .object(|| format!("{what} should be refused with {code:?}, got {refusal:?}"));
        }
    }

    /// One mistake, which must change nothing.
    pub fn blunder(&mut self) {
        let lives = self.model.in_service();
        if lives.is_empty() {
            return;
        }
        let at = self.pick(&lives);
        let before = (
            self.server.host.status(self.now).interfaces,
            self.server.host.list(None, "", 100),
        );
        let (what, code, request) = self.mistake(at);
        self.log(format!("{what} on {}", self.model.lives[at].name));
        match self.server.apply(self.now, &request) {
            Err(refusal) => {
                self.log(format!("refused: {refusal}"));
                self.must_refuse(what, code, Some(refusal));
            }
            Ok(applied) => {
                let reply = applied.reply;
                return self.judge.object(|| format!("{what} was taken: {reply:?}"));
            }
        }
        self.pass_orders();
        let mut after = (
            self.server.host.status(self.now).interfaces,
            self.server.host.list(None, "", 100),
        );
        for (summary, was) in after.1.iter_mut().zip(&before.1) {
            // Whoever speaks is alive, also when it is wrong.
            summary.orphaned = was.orphaned;
        }
        if before.1 != after.1
            || before
                .0
                .iter()
                .zip(&after.0)
                .any(|(before, after)| before.used != after.used)
        {
            self.judge
                .object(|| format!("{what} was refused and changed {before:?} to {after:?}"));
        }
    }

    fn mistake(&mut self, at: usize) -> (&'static str, Code, pb::ApplyRequest) {
        let life = &self.model.lives[at];
        let (name, mine, graph, revision) = (
            life.name.clone(),
            life.owner.clone(),
            life.asked.clone(),
            life.revision,
        );
        let empty = patch(&name, &mine, &graph, &graph, &[]);
        let other = CONTROLLERS[usize::from(mine.0 == CONTROLLERS[0])].to_owned();
        // Each takes a port first, so that giving it back is tried as well.
        let port = put_transport("t-new", &sample_transport(), false);
        let with_port = pb::ApplyRequest {
            put_transports: vec![port.clone()],
            ..empty.clone()
        };
        let node = |id: &str, transport: &str| put_node(id, &sample_node(transport));
        match self.rng.below(12) {
            0 => (
                "a stale revision",
                Code::FailedPrecondition,
                pb::ApplyRequest {
                    if_revision: Some(revision + 1),
                    ..with_port
                },
            ),
            1 => (
                "a stale epoch",
                Code::FailedPrecondition,
                pb::ApplyRequest {
                    owner: Some(owner_of(&(mine.0, mine.1 + 7))),
                    ..with_port
                },
            ),
            2 => (
                "another's session",
                Code::FailedPrecondition,
                pb::ApplyRequest {
                    owner: Some(owner_of(&(other, mine.1))),
                    ..with_port
                },
            ),
            3 => (
                "an unknown transport",
                Code::InvalidArgument,
                pb::ApplyRequest {
                    put_nodes: vec![node("x", "t-none")],
                    ..with_port
                },
            ),
            4 => {
                let put_nodes = vec![node("x", "t-new"), node("y", "t-new")];
                (
                    "a shared transport",
                    Code::InvalidArgument,
                    pb::ApplyRequest {
                        put_nodes,
                        ..with_port
                    },
                )
            }
            5 => {
                let put_edges = vec![put_edge(
                    "x",
                    "nobody",
                    Edge {
                        muted: false,
                        block_digits: false,
                    },
                )];
                (
                    "an edge to nobody",
                    Code::InvalidArgument,
                    pb::ApplyRequest {
                        put_nodes: vec![node("x", "t-new")],
                        put_edges,
                        ..with_port
                    },
                )
            }
            6 => {
                let put_edges = vec![put_edge(
                    "x",
                    "x",
                    Edge {
                        muted: false,
                        block_digits: false,
                    },
                )];
                (
                    "a node that hears itself",
                    Code::InvalidArgument,
                    pb::ApplyRequest {
                        put_nodes: vec![node("x", "t-new")],
                        put_edges,
                        ..with_port
                    },
                )
            }
            7 => (
                "removing nothing",
                Code::NotFound,
                pb::ApplyRequest {
                    remove_nodes: vec!["nobody".into()],
                    ..with_port
                },
            ),
            8 => {
                let nothing = pb::Node {
                    id: "r".into(),
                    kind: None,
                };
                (
                    "a node of no kind",
                    Code::InvalidArgument,
                    pb::ApplyRequest {
                        put_nodes: vec![nothing],
                        ..with_port
                    },
                )
            }
            9 => (
                "the same transport twice",
                Code::InvalidArgument,
                pb::ApplyRequest {
                    put_transports: vec![port.clone(), port],
                    ..empty
                },
            ),
            10 => {
                let odd = put_transport(
                    "t-odd",
                    &Transport {
                        requested_port: 40_001,
                        ..sample_transport()
                    },
                    false,
                );
                let put_transports = vec![port, odd];
                (
                    "an odd port",
                    Code::ResourceExhausted,
                    pb::ApplyRequest {
                        put_transports,
                        ..empty
                    },
                )
            }
            _ => {
                let alien = Transport {
                    remote: Some(([198, 51, 100, 9], 9).into()),
                    ..sample_transport()
                };
                let alien = put_transport("t-v6", &alien, true);
                (
                    "a remote of the other family",
                    Code::InvalidArgument,
                    pb::ApplyRequest {
                        put_transports: vec![alien],
                        ..empty
                    },
                )
            }
        }
    }
}

fn sample_transport() -> Transport {
    Transport {
        phone: 0,
        remote: None,
        policy: Policy::Learn,
        rtcp: Rtcp::Separate,
        requested_port: 0,
        interface: "outside",
        sdes: None,
    }
}

fn sample_node(transport: &str) -> Node {
    let direction = Direction {
        receives: true,
        sends: true,
    };
    Node {
        transport: transport.into(),
        sounds: vec![Sound::Ulaw],
        digits: None,
        direction,
    }
}
