//! What the world does to calls: bad links, NATs that forget, phones that restart, strangers, floods.

use std::{net::SocketAddr, time::Duration};

use netem::{Link, Loss};
use rtp::{
    header::RtpHeader,
    units::{PayloadType, RtpTimestamp, Ssrc},
};

use crate::{
    model::Sound,
    phone::{Mark, STRANGERS},
    server::addresses,
    world::{Later, World},
};

/// A link that only takes a little time.
pub fn calm() -> Link {
    Link {
        delay: Duration::from_millis(5),
        ..Link::default()
    }
}

impl World {
    /// Something happens to the network.
    pub fn weather(&mut self) {
        match self.rng.below(100) {
            0..=39 => self.change_links(),
            40..=59 => self.cut_off(),
            60..=74 => self.rebind_nat(),
            75..=84 => {
                let lag = self.pick(&[0, 1_000, 30_000, 400_000]);
                self.log(format!("messages to workers take up to {lag} us"));
                self.server.lag = Duration::from_micros(lag);
            }
            85..=92 => {
                let worker = self.rng.below(self.server.workers() as u64) as usize;
                let length = Duration::from_millis(self.rng.below(100));
                self.log(format!("the send side of worker {worker} is full for {length:?}"));
                self.server.congest(worker, true);
                self.judge.congested_until = Some(self.now.mono + length);
                self.later(length, Later::Uncongest(worker));
            }
            _ => {
                let port = 40_000 + 2 * self.rng.below(24) as u16;
                self.log(format!("another program holds port {port}, or gives it back"));
                if !self.server.foreign.remove(&port) {
                    self.server.foreign.insert(port);
                }
            }
        }
    }

    fn change_links(&mut self) {
        let ms = |ms| Duration::from_millis(ms);
        let link = Link {
            delay: ms(self.rng.below(80)),
            jitter: ms(self.rng.below(40)),
            loss: match self.rng.below(4) {
                0 => Loss::Bernoulli(0.02),
                1 => Loss::bursts(0.1, 4.0),
                2 => Loss::bursts(0.3, 8.0),
                _ => Loss::None,
            },
            duplicate: self.pick(&[0.0, 0.02, 0.2]),
            reorder: self.pick(&[0.0, 0.02, 0.1]),
            reorder_delay: ms(25 + self.rng.below(40)),
            ..Link::default()
        };
        self.log(format!(
            "links now have {} ms + {} ms, {:?}, {} twice, {} late",
            link.delay.as_millis(),
            link.jitter.as_millis(),
            link.loss,
            link.duplicate,
            link.reorder
        ));
        self.net.set_default_link(link);
    }

    /// A phone cannot reach the host, or cannot be reached, for a while.
    fn cut_off(&mut self) {
        let phone = self.rng.below(self.phones.len() as u64) as usize;
        let length = Duration::from_millis(self.rng.below(4_000));
        let both = self.percent(60);
        self.log(format!(
            "phone {phone} is cut off {} for {length:?}",
            if both { "both ways" } else { "one way" }
        ));
        let (inside, outside) = (self.phones[phone].rtp.ip(), self.phones[phone].outside.ip());
        for server in addresses() {
            self.net.cut(inside, server);
            if both {
                self.net.cut(server, outside);
            }
        }
        self.later(length, Later::Heal(phone));
    }

    fn rebind_nat(&mut self) {
        let natted: Vec<usize> = (0..self.phones.len())
            .filter(|at| self.phones[*at].natted)
            .collect();
        let phone = self.pick(&natted);
        self.log(format!("the NAT of phone {phone} forgets everything"));
        let outside = self.phones[phone].outside.ip();
        self.net.rebind(outside, outside);
        self.disturb(phone);
    }

    /// A phone does something.
    pub fn phone_act(&mut self) {
        let in_use: Vec<usize> = (0..self.phones.len())
            .filter(|at| self.phones[*at].leg.is_some())
            .collect();
        if in_use.is_empty() {
            return;
        }
        let at = self.pick(&in_use);
        match self.rng.below(100) {
            0..=54 => self.dial(at),
            55..=64 => {
                self.log(format!("phone {at} restarts"));
                self.phones[at].restart(self.now.mono, &mut self.rng);
            }
            65..=74 => {
                self.log(format!("phone {at} jumps in sequence and timestamp"));
                self.phones[at].jump(self.now.mono, &mut self.rng);
            }
            75..=84 => {
                let sending = !self.phones[at].sending;
                self.log(format!(
                    "phone {at} {}",
                    if sending { "speaks again" } else { "falls silent" }
                ));
                self.disturb(at);
                self.phones[at].sending = sending;
                // Nobody holds a key down through that: the rest of a digit does not come when it speaks again.
                self.phones[at].dialling = None;
            }
            85..=91 => {
                let sound = self.pick(&[Sound::Ulaw, Sound::Alaw, Sound::G722]);
                self.log(format!("phone {at} now speaks {sound:?}, agreed or not"));
                self.disturb(at);
                self.phones[at].sound = sound;
                self.phones[at].payload_type = sound.payload_type();
            }
            _ => {
                self.log(format!("phone {at} uses payload type 20"));
                self.disturb(at);
                self.phones[at].payload_type = 20;
            }
        }
    }

    /// A key is pressed, if none is down.
    pub fn dial(&mut self, at: usize) {
        if self.phones[at].dialling.is_some()
            || self.phones[at].digit_type.is_none()
            || !self.phones[at].sending
        {
            return;
        }
        let Some((place, transport)) = self.phones[at].leg.clone() else {
            return;
        };
        let life = &self.model.lives[place];
        let settled = life.now().is_some_and(|graph| {
            let same = Some(graph) == Some(&life.asked);
            let ready = |node: &crate::model::Node| {
                node.direction.receives && node.digits == self.phones[at].digit_type
            };
            same && graph.node_on(&transport).is_some_and(|(_, node)| ready(node))
                && self.is_trusted(graph, at)
                && self.phones[at].speaks(graph)
        });
        let certain = settled && !life.ended && self.is_settled(at);
        // Neighbouring digits differ, so that it is clear which one is told of.
        let event = (self.phones[at].dialled.len() % 16) as u8;
        let length = 40 + self.rng.below(400) as u32;
        self.log(format!(
            "phone {at} dials {event} for {length} ms{}",
            if certain { "" } else { ", perhaps in vain" }
        ));
        let lasts = Duration::from_millis(u64::from(length));
        self.judge.expect_digits(place, self.now.mono, lasts);
        self.phones[at].dial(event, certain, length);
    }

    /// Strangers send to a call's port.
    pub fn attack(&mut self) {
        let settled: Vec<usize> = (0..self.phones.len())
            .filter(|at| self.phones[*at].leg.is_some() && self.is_settled(*at) && self.can_be_attacked(*at))
            .collect();
        if settled.is_empty() {
            return;
        }
        let at = self.pick(&settled);
        let Some(server) = self.phones[at].server else {
            return;
        };
        self.phones[at].attacked_until = self.now.mono + Duration::from_secs(2);
        let own = SocketAddr::new(self.phones[at].outside.ip(), self.phones[at].rtp.port());
        let stranger = |number: u16| match own {
            SocketAddr::V4(_) => SocketAddr::from(([192, 0, 2, 200], number)),
            SocketAddr::V6(_) => SocketAddr::from(([0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1], number)),
        };
        match self.rng.below(3) {
            0 => {
                self.log(format!("strangers flood the port of phone {at} with garbage"));
                for nth in 0..200 {
                    let from = if self.phones[at].natted { stranger(7) } else { own };
                    let bytes = self.garbage();
                    self.later(
                        Duration::from_millis(nth),
                        Later::Send(from, server.rtp, bytes.clone()),
                    );
                    if let Some(rtcp) = server.rtcp {
                        self.later(Duration::from_millis(nth), Later::Send(stranger(9), rtcp, bytes));
                    }
                }
            }
            1 => {
                self.log(format!("a stranger speaks to the port of phone {at}"));
                let (ssrc, sequence) = (self.rng.next_u64() as u32, self.rng.below(65_536) as u16);
                for nth in 0..15 {
                    let bytes =
                        strange_packet(at, ssrc, sequence.wrapping_add(nth), self.phones[at].payload_type);
                    self.later(
                        Duration::from_millis(20 * u64::from(nth)),
                        Later::Send(stranger(7), server.rtp, bytes),
                    );
                }
            }
            _ => {
                self.log(format!("many strangers speak to the port of phone {at}"));
                for nth in 0..100 {
                    let (ssrc, sequence) = (self.rng.next_u64() as u32, self.rng.below(65_536) as u16);
                    let bytes = strange_packet(at, ssrc, sequence, self.phones[at].payload_type);
                    self.later(
                        Duration::from_millis(3 * nth),
                        Later::Send(stranger(1_000 + nth as u16), server.rtp, bytes),
                    );
                }
            }
        }
    }

    /// Its lock holds: the phone speaks, and what it says is taken.
    fn can_be_attacked(&self, at: usize) -> bool {
        let Some((life, _)) = &self.phones[at].leg else {
            return false;
        };
        let life = &self.model.lives[*life];
        let graph = life.now().filter(|graph| **graph == life.asked);
        graph.is_some_and(|graph| self.is_trusted(graph, at) && self.phones[at].speaks(graph))
    }

    /// Nothing that can be taken for RTP of a call, from whomever it comes.
    fn garbage(&mut self) -> Vec<u8> {
        let length = self.rng.below(60) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| self.rng.next_u64() as u8).collect();
        match self.rng.below(3) {
            // Truncated RTP and RTCP.
            0 => {
                bytes.truncate(11);
                if let Some(first) = bytes.first_mut() {
                    *first = 0x80;
                }
            }
            // A payload type of nobody.
            1 => {
                if let [first, second, ..] = &mut bytes[..] {
                    (*first, *second) = (0x80, 50);
                }
            }
            // Any other protocol.
            _ => {
                if let Some(first) = bytes.first_mut() {
                    *first &= 0x7f;
                }
            }
        }
        bytes
    }

    /// The network is at its best, and everybody can be reached.
    pub fn clear_skies(&mut self) {
        self.net.heal_all();
        self.net.set_default_link(calm());
        self.server.lag = Duration::ZERO;
        for worker in 0..self.server.workers() {
            self.server.congest(worker, false);
        }
    }
}

fn strange_packet(at: usize, ssrc: u32, sequence: u16, payload_type: u8) -> Vec<u8> {
    let header = RtpHeader {
        marker: false,
        payload_type: PayloadType::from_low_bits(payload_type),
        sequence,
        timestamp: RtpTimestamp(u32::from(sequence) * 160),
        ssrc: Ssrc(ssrc),
    };
    let mark = Mark {
        speaker: STRANGERS + at as u8,
        stream: 0,
        frame: u32::from(sequence),
        timestamp: 0,
    };
    let sound = Sound::from_payload_type(payload_type).unwrap_or(Sound::Ulaw);
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(&mark.payload(sound));
    bytes
}
