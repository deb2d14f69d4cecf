//! Quiet moments: once nothing disturbs, what should be heard is heard, and every figure and answer agrees.

use std::{collections::BTreeSet, time::Duration};

use media_engine::{
    api,
    command::{DropReason, SessionReport},
    explain::{self, Code, Severity},
};

use crate::{
    model::Graph,
    server::{EVENTS_KEEP, RELEARN_AFTER},
    world::World,
};

/// How long frames are counted.
const PROBE: Duration = Duration::from_millis(300);

/// Digits of `from` reach `to` as tones.
fn takes_tones(graph: &Graph, from: &str, to: &str) -> bool {
    let digits = |id: &str| graph.nodes.get(id).is_some_and(|node| node.digits.is_some());
    let edge = graph.edges.get(&(from.to_owned(), to.to_owned()));
    digits(from) && !digits(to) && edge.is_some_and(|edge| !edge.block_digits)
}

impl World {
    /// Calms everything down, waits, and looks closely.
    pub fn settle(&mut self) {
        self.log("all is calm");
        self.clear_skies();
        // Old datagrams arrive, leftovers hang up, locks on old addresses expire, phones are learned.
        self.pass(RELEARN_AFTER + Duration::from_millis(3_500));
        if self.judge.violation.is_some() {
            return;
        }
        if !self.server.is_idle() {
            return self
                .judge
                .object(|| "messages to workers are still waiting".into());
        }
        self.probe();
        for at in self.model.in_service() {
            self.check_session(at);
        }
        if let Some(what) = self.server.miscounted() {
            self.judge.object(|| what);
        }
        self.judge.all_told(&self.phones);
        self.check_sessions_listed();
        self.poll_events();
    }

    /// A round of frames, and a digit from some.
    fn probe(&mut self) {
        let first: Vec<u32> = self.phones.iter().map(|phone| phone.frame).collect();
        for phone in &mut self.phones {
            phone.heard.clear();
            phone.spoken.clear();
        }
        self.judge.flowed.clear();
        let mut dialling = BTreeSet::new();
        for at in 0..self.phones.len() {
            let speaks = (self.phones[at].leg.as_ref())
                .is_some_and(|(life, _)| self.phones[at].speaks(&self.model.lives[*life].asked));
            if speaks && self.percent(30) {
                self.dial(at);
                dialling.insert(at);
            }
        }
        self.pass(PROBE);
        let last: Vec<u32> = self.phones.iter().map(|phone| phone.frame).collect();
        self.pass(Duration::from_millis(60));
        let spoken: Vec<Vec<u32>> = (self.phones.iter().enumerate())
            .map(|(at, phone)| {
                phone
                    .spoken
                    .iter()
                    .copied()
                    .filter(|frame| (first[at]..last[at]).contains(frame))
                    .collect()
            })
            .collect();
        for at in self.model.in_service() {
            let graph = self.model.lives[at].asked.clone();
            for (from, to) in graph.edges.keys() {
                let by_tones = takes_tones(&graph, from, to)
                    && graph
                        .phone_of(from)
                        .is_some_and(|phone| dialling.contains(&phone));
                // Then a tone takes the place of what it speaks after the digit.
                if !by_tones {
                    self.check_heard(at, &graph, (from, to), &spoken);
                }
            }
        }
        self.pass(Duration::from_millis(700));
    }

    fn check_heard(&mut self, at: usize, graph: &Graph, (from, to): (&String, &String), spoken: &[Vec<u32>]) {
        if self.should_flow(graph, from, to) != Some(true) {
            return;
        }
        let (Some(speaker), Some(listener)) = (graph.phone_of(from), graph.phone_of(to)) else {
            return;
        };
        let name = &self.model.lives[at].name;
        let key = (at, to.clone(), speaker as u8);
        if !self.judge.flowed.contains_key(&key) && !spoken[speaker].is_empty() {
            let what =
                format!("{name}: nothing of {from} (phone {speaker}) is sent to {to} (phone {listener})");
            return self.judge.object(|| what);
        }
        let reachable = self.phones[listener].speaks(graph) && self.is_trusted(graph, listener);
        if !reachable {
            return;
        }
        let heard = self.phones[listener]
            .heard
            .iter()
            .filter(|mark| usize::from(mark.speaker) == speaker);
        let heard: Vec<u32> = heard.map(|mark| mark.frame).collect();
        let missing = spoken[speaker].iter().find(|frame| !heard.contains(frame));
        if let Some(frame) = missing {
            let what = format!(
                "{name}: {to} (phone {listener}) misses frame {frame} of {from} (phone {speaker}): heard {heard:?}"
            );
            return self.judge.object(|| what);
        }
        if !heard.is_sorted() {
            let what = format!("{name}: {to} (phone {listener}) hears {from} out of order: {heard:?}");
            self.judge.object(|| what);
        }
    }

    /// Whether packets of `from` leave towards `to`; `None` if that depends on what was before.
    fn should_flow(&self, graph: &Graph, from: &str, to: &str) -> Option<bool> {
        let (speaker, listener) = (graph.phone_of(from)?, graph.phone_of(to)?);
        let phone = &self.phones[speaker];
        let agreed = phone.sound.towards(&graph.nodes[to].sounds).is_some();
        if !graph.may_hear(from, to) || !phone.speaks(graph) || !self.is_trusted(graph, speaker) || !agreed {
            return Some(false);
        }
        let signalled = graph.transports[&graph.nodes[to].transport].remote.is_some();
        let learned = self.phones[listener].speaks(graph) && self.is_trusted(graph, listener);
        (signalled || learned).then_some(true)
    }

    fn check_session(&mut self, at: usize) {
        let life = &self.model.lives[at];
        let (name, key, worker, graph) = (life.name.clone(), life.key, life.worker, life.asked.clone());
        let Some(report) = self.server.report(self.now, worker, key) else {
            return self
                .judge
                .object(|| format!("worker {worker} does not know {name}"));
        };
        self.check_counters(at, &graph, &report);
        let Some(described) = self.server.host.described(key, report) else {
            return self.judge.object(|| format!("the host does not know {name}"));
        };
        if let Some(what) = differs(&graph, &api::description(&described)) {
            self.judge
                .object(|| format!("{name} is described wrongly: {what}"));
        }
        for from in graph.nodes.keys() {
            for to in graph.nodes.keys().filter(|to| *to != from) {
                let findings = explain::explain(
                    &described,
                    Some(&from.as_str().into()),
                    Some(&to.as_str().into()),
                    self.now.wall,
                );
                let findings = findings.expect("both nodes are in the session");
                if let Some(what) = self.misexplained(&graph, from, to, &findings) {
                    self.judge
                        .object(|| format!("{name}: {from} > {to} is explained by {findings:?}; {what}"));
                }
            }
        }
    }

    /// rx = taken + dropped; tx = handed to the network.
    fn check_counters(&mut self, at: usize, graph: &Graph, report: &SessionReport) {
        let name = self.model.lives[at].name.clone();
        for (id, transport) in report
            .transports
            .iter()
            .map(|report| (&*report.transport, report))
        {
            let Some(rtp) = self.model.lives[at].local.get(id).copied() else {
                return self.judge.object(|| format!("{name}/{id} was never bound"));
            };
            let mut tally = self.server.tallies.get(&rtp).copied().unwrap_or_default();
            let rtcp = std::net::SocketAddr::new(rtp.ip(), rtp.port() + 1);
            let separate = graph
                .transports
                .get(id)
                .is_some_and(|wish| wish.rtcp == crate::model::Rtcp::Separate);
            if let Some(more) = self.server.tallies.get(&rtcp).filter(|_| separate) {
                tally.rx += more.rx;
                tally.rx_bytes += more.rx_bytes;
                tally.rx_rtcp += more.rx_rtcp;
                tally.tx += more.tx;
                tally.tx_bytes += more.tx_bytes;
            }
            let theirs = (
                transport.rx_packets,
                transport.rx_bytes,
                transport.tx_packets,
                transport.tx_bytes,
            );
            let ours = (tally.rx, tally.rx_bytes, tally.tx, tally.tx_bytes);
            if theirs != ours {
                return self.judge.object(|| {
                    format!("{name}/{id} counts (rx, bytes, tx, bytes) {theirs:?}, the wire {ours:?}")
                });
            }
            let dropped: u64 = DropReason::ALL
                .iter()
                .zip(transport.drops)
                .filter(|(why, _)| **why != DropReason::EgressFull)
                .map(|(_, count)| count)
                .sum();
            let Some((node, _)) = graph.node_on(id) else {
                continue;
            };
            let Some(endpoint) = report.endpoints.iter().find(|endpoint| *endpoint.node == **node) else {
                continue;
            };
            let taken = endpoint.ingress.packets;
            if !self.was_moved(at, id)
                && (taken + dropped > tally.rx || tally.rx - taken - dropped > tally.rx_rtcp)
            {
                let rx = tally.rx;
                return self.judge.object(|| {
                    format!("{name}/{id}: of {rx} datagrams {taken} were taken and {dropped} dropped")
                });
            }
        }
    }

    /// A transport was bound anew, or its node came from or went to another: counters of both are not comparable.
    fn was_moved(&self, at: usize, id: &str) -> bool {
        let life = &self.model.lives[at];
        let uses = self.model.bindings.values().flatten();
        let bound = uses.filter(|used| used.life == at && *used.transport == *id && !used.rtcp);
        let graphs = life.in_force.iter().filter_map(|(_, graph)| graph.as_ref());
        let riders: BTreeSet<Option<&String>> = graphs
            .clone()
            .filter(|graph| graph.transports.contains_key(id))
            .map(|graph| graph.node_on(id).map(|(node, _)| node))
            .collect();
        let elsewhere = |node: &&String| {
            graphs
                .clone()
                .any(|graph| graph.nodes.get(*node).is_some_and(|node| node.transport != id))
        };
        let renewed = |node: &&String| life.ssrc.get(*node).is_some_and(|promised| promised.len() > 1);
        bound.count() != 1
            || riders.len() != 1
            || riders
                .iter()
                .flatten()
                .any(|node| elsewhere(node) || renewed(node))
    }

    fn misexplained(
        &self,
        graph: &Graph,
        from: &str,
        to: &str,
        findings: &[explain::Finding],
    ) -> Option<String> {
        let has = |code| {
            findings
                .iter()
                .any(|finding| finding.code == code && finding.severity == Severity::Problem)
        };
        let says_flowing = findings.iter().any(|finding| finding.code == Code::Flowing);
        let Some(edge) = graph.edges.get(&(from.to_owned(), to.to_owned())) else {
            return (!has(Code::NoEdge) || says_flowing).then(|| "there is no edge".into());
        };
        if let Some(flows) = self.should_flow(graph, from, to)
            && flows != says_flowing
        {
            return Some(format!("that it flows is {flows}"));
        }
        if edge.muted && !has(Code::Muted) {
            return Some("the edge is muted".into());
        }
        let (speaker, listener) = (&graph.nodes[from], &graph.nodes[to]);
        if (!speaker.direction.receives || !listener.direction.sends) && !has(Code::Direction) {
            return Some("the direction forbids it".into());
        }
        let phone = &self.phones[graph.phone_of(from)?];
        let refused = [
            Code::WrongSource,
            Code::NoPacketsEver,
            Code::PacketsStopped,
            Code::PayloadType,
            Code::Malformed,
            Code::Probation,
        ];
        if speaker.direction.receives && !phone.speaks(graph) && !refused.into_iter().any(has) {
            return Some("its phone sends nothing that can be taken".into());
        }
        if speaker.direction.receives
            && !self.is_trusted(graph, phone.id)
            && phone.speaks(graph)
            && !has(Code::WrongSource)
        {
            return Some("its phone is not where the signalling says".into());
        }
        None
    }

    /// The host's list is the model's.
    fn check_sessions_listed(&mut self) {
        let listed = self.server.host.list(None, "", 1_000);
        let listed: BTreeSet<(String, u64, String, u64)> = listed
            .iter()
            .map(|line| {
                (
                    line.name.to_string(),
                    line.revision,
                    line.owner.controller.to_string(),
                    line.owner.epoch,
                )
            })
            .collect();
        let lives = self
            .model
            .in_service()
            .into_iter()
            .map(|at| &self.model.lives[at]);
        let asked = lives
            .map(|life| {
                (
                    life.name.clone(),
                    life.revision,
                    life.owner.0.clone(),
                    life.owner.1,
                )
            })
            .collect();
        if listed != asked {
            self.judge
                .object(|| format!("the host lists {listed:?}, the model {asked:?}"));
        }
    }

    /// The watcher catches up.
    pub fn poll_events(&mut self) {
        if self
            .sabotage
            .as_mut()
            .is_some_and(crate::sabotage::Sabotage::skips_event)
        {
            self.watch.skip();
        }
        loop {
            let page = 1 + self.rng.below(50) as usize;
            match self.watch.poll(self.now.mono, &self.server.host, page) {
                Ok(true) => {}
                Ok(false) => return,
                Err(what) => return self.judge.object(|| what),
            }
        }
    }

    /// Everything ends; nothing may be left.
    pub fn tear_down(&mut self) {
        self.log("everything ends");
        self.clear_skies();
        for at in self.model.in_service() {
            self.delete(at);
        }
        self.pass(Duration::from_secs(6));
        if self.judge.violation.is_some() {
            return;
        }
        if let Some(what) = self
            .server
            .miscounted()
            .or_else(|| self.server.left_over(self.now))
        {
            self.judge.object(|| what);
        }
        self.poll_events();
        // What is no longer kept cannot be resumed from, and that is said.
        self.pass(EVENTS_KEEP);
        self.poll_events();
    }
}

/// What the host says of a graph and what was asked, if they differ.
fn differs(graph: &Graph, described: &proto::mediad::v1::SessionDescription) -> Option<String> {
    let transports: BTreeSet<&str> = described
        .transports
        .iter()
        .map(|transport| transport.id.as_str())
        .collect();
    if !transports
        .iter()
        .copied()
        .eq(graph.transports.keys().map(String::as_str))
    {
        return Some(format!("transports {transports:?}"));
    }
    let nodes: BTreeSet<&str> = described.nodes.iter().map(|node| node.id.as_str()).collect();
    if !nodes.iter().copied().eq(graph.nodes.keys().map(String::as_str)) {
        return Some(format!("nodes {nodes:?}"));
    }
    let edges: BTreeSet<(&str, &str, bool)> = described
        .edges
        .iter()
        .map(|edge| (edge.from.as_str(), edge.to.as_str(), edge.muted))
        .collect();
    if !edges.iter().copied().eq(graph
        .edges
        .iter()
        .map(|((from, to), edge)| (from.as_str(), to.as_str(), edge.muted)))
    {
        return Some(format!("edges {edges:?}"));
    }
    described.plans.iter().find_map(|plan| {
        let heard = graph
            .source_of(&plan.node)
            .filter(|from| graph.may_hear(from, &plan.node));
        let sources: Vec<&String> = heard.into_iter().collect();
        let same = plan.sources.iter().eq(sources.iter().copied());
        (!same).then(|| format!("{} hears {:?}, asked was {sources:?}", plan.node, plan.sources))
    })
}
