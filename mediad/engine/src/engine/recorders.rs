//! Recorders of a session: which packets and which mixes are copied for the file thread. Nothing that is heard waits for it.

use std::{ops::Range, time::Instant};

use codecs::{CodecKind, mix::gain_from_db};
use rtp::time::Now;

use super::{
    Egress, Engine,
    line::Arrival,
    mixer::MixBranch,
    plan,
    prefetch::{prefetch, prefetch_all},
    silence::{ComfortNoise, Description},
    slab::Key,
};
use crate::{
    command::RecorderFeed,
    limits,
    recording::{Placing, RecordingFeed},
    spec::{Codec, EdgeSpec, EndpointSpec, Name, NodeKind, RecorderSpec, SessionSpec},
};

/// A recorder in use.
#[derive(Debug)]
pub(crate) struct Recorder {
    node: Name,
    feed: RecordingFeed,
    /// Whoever it heard so far; each is a leg of the recording, by its place here.
    legs: Vec<Name>,
    /// Longest duration in ms and largest size in bytes, as told.
    limits: Option<(u64, u64)>,
}

/// A way from an endpoint to a recorder.
#[derive(Debug)]
pub(crate) struct Branch {
    feed: RecordingFeed,
    placing: Placing,
    /// One for each format the peer may send; unset where it cannot be heard.
    carried: Box<[Option<Carried>]>,
}

/// What packets of a format carry.
#[derive(Debug, Clone, Copy)]
enum Carried {
    Sound(CodecKind),
    /// Descriptions of silence, on this clock.
    Noise(u32),
    /// Telephone-events: that one came, since there is no sound meanwhile.
    Event,
}

impl Branch {
    /// Bytes of the record of 20 ms with G.711, about.
    const RECORD: Range<usize> = 0..256;

    /// A hint: a packet follows …
    pub(crate) fn prefetch_far(&self, tx: &impl Egress) {
        prefetch_all(tx, &*self.carried);
        let (ring, bytes) = self.feed.state();
        prefetch(tx, ring, 0..bytes);
        tx.prefetch(ring.wrapping_add(bytes - 1));
    }

    /// … and it has come near.
    pub(crate) fn prefetch_near(&self, tx: &impl Egress) {
        prefetch(tx, self.feed.next(), Self::RECORD);
    }

    /// Copies a packet, unless it says nothing of sound.
    #[inline]
    pub(crate) fn packet(&self, now: Instant, arrival: &Arrival, format: usize, payload: &[u8]) {
        let position = (arrival.stream.0, arrival.ext.0, arrival.timestamp.0);
        match self.carried.get(format) {
            Some(Some(Carried::Sound(kind))) => {
                self.feed.packet(self.placing, now, position, *kind, payload);
            }
            Some(Some(Carried::Noise(hz))) => self.feed.noise(self.placing, now, position, *hz, payload),
            Some(Some(Carried::Event)) => self.feed.event(self.placing, now, position),
            Some(None) | None => {}
        }
    }
}

impl Branch {
    /// Whoever it brings in has been silent for a while, and said so like this.
    fn silence(&self, now: Instant, description: &Description) {
        let (format, payload, gone_ms) = description.get(now);
        if let Some(Some(Carried::Noise(hz))) = self.carried.get(format)
            && gone_ms < limits::COMFORT_NOISE_MS_MAX
        {
            let (stream, ext, timestamp) = description.place(now);
            let position = (stream.0, ext.0, timestamp.0);
            self.feed.noise(self.placing, now, position, *hz, payload);
        }
    }
}

impl Recorder {
    fn limit(&mut self, wanted: &RecorderSpec) {
        let duration_ms = wanted.duration_max.map_or(u64::MAX, |max| max.as_millis() as u64);
        let limits = (duration_ms, wanted.size_bytes_max.unwrap_or(u64::MAX));
        if self.limits.replace(limits) != Some(limits) {
            self.feed.limits(limits.0, limits.1);
        }
    }

    /// How what comes by `edge` is placed, and whether that is a new leg, whose name it then tells.
    fn placing(&mut self, edge: &EdgeSpec) -> Option<(Placing, bool)> {
        let known = self.legs.iter().position(|leg| *leg == edge.from);
        let leg = known.unwrap_or(self.legs.len());
        let number = u16::try_from(leg).ok()?;
        if known.is_none() {
            self.legs.push(edge.from.clone());
            self.feed.leg(number, &edge.from);
        }
        let placing = Placing {
            leg: number,
            right: edge.right,
            gain: gain_from_db(edge.gain_db),
        };
        Some((placing, known.is_none()))
    }
}

impl Engine {
    /// Begins, pauses and ends the recordings of a session as `spec` says, and gives its endpoints their branches.
    pub(super) fn install_recorders(
        &mut self,
        now: Now,
        session: Key,
        spec: &SessionSpec,
        endpoints: &[Key],
        given: Vec<RecorderFeed>,
    ) {
        let Some(entry) = self.sessions.get_mut(session) else {
            return;
        };
        let mut before = std::mem::take(&mut entry.recorders);
        let mut recorders = recorders(now, &mut before, spec, &given);
        for gone in before {
            gone.feed.close(now.mono);
        }
        let mut branches: Vec<Vec<Branch>> = endpoints.iter().map(|_| Vec::new()).collect();
        for edge in spec.edges.iter().filter(|edge| !edge.muted) {
            let recorder = recorders.iter_mut().find(|recorder| recorder.node == edge.to);
            let from = spec.nodes.binary_search_by(|node| node.id.cmp(&edge.from));
            if let (Some(recorder), Ok(from)) = (recorder, from)
                && let NodeKind::Endpoint(speaker) = &spec.nodes[from].kind
                && !plan::is_recorded_decoded(edge, speaker)
                && let Some((placing, is_new)) = recorder.placing(edge)
            {
                let branch = Branch {
                    feed: recorder.feed.clone(),
                    placing,
                    carried: carried(speaker),
                };
                if is_new && let Some(description) = self.silence_of(endpoints[from]) {
                    branch.silence(now.mono, description);
                }
                branches[from].push(branch);
            }
        }
        for (key, branches) in endpoints.iter().zip(branches) {
            if let Some(endpoint) = self.endpoints.get_mut(*key) {
                endpoint.ingress.branches = branches.into();
            }
        }
        if let Some(entry) = self.sessions.get_mut(session) {
            entry.recorders = recorders;
        }
    }

    /// How the peer of an endpoint described the silence that goes on.
    fn silence_of(&self, endpoint: Key) -> Option<&Description> {
        let ingress = &self.endpoints.get(endpoint)?.ingress;
        ingress.description.as_deref().filter(|_| ingress.silent)
    }

    /// The mixes that recorders hear, for the mixer; to be called after [`Self::install_recorders`].
    pub(super) fn mix_branches(
        &mut self,
        session: Key,
        spec: &SessionSpec,
        wanted: &[plan::Branch],
    ) -> Box<[MixBranch]> {
        let Some(entry) = self.sessions.get_mut(session) else {
            return Box::default();
        };
        let branch = |wanted: &plan::Branch| {
            let edge = spec.edges.get(wanted.edge as usize)?;
            let mut recorders = entry.recorders.iter_mut();
            let recorder = recorders.find(|recorder| recorder.node == edge.to)?;
            let (placing, _) = recorder.placing(edge)?;
            Some(MixBranch::new(wanted.term.into(), recorder.feed.clone(), placing))
        };
        wanted.iter().filter_map(branch).collect()
    }
}

/// Ends what a session that is gone recorded.
pub(super) fn close(now: Now, recorders: &[Recorder]) {
    for recorder in recorders {
        recorder.feed.close(now.mono);
    }
}

/// The recorders of `spec`: those that go on are taken out of `before`.
fn recorders(
    now: Now,
    before: &mut Vec<Recorder>,
    spec: &SessionSpec,
    given: &[RecorderFeed],
) -> Vec<Recorder> {
    let recorder = |node: &std::sync::Arc<crate::spec::NodeSpec>| {
        let NodeKind::Recorder(wanted) = &node.kind else {
            return None;
        };
        let mut recorder = match given.iter().find(|given| given.node == node.id) {
            Some(given) => {
                given.feed.begin(now.mono);
                Recorder {
                    node: node.id.clone(),
                    feed: given.feed.clone(),
                    legs: Vec::new(),
                    limits: None,
                }
            }
            None => {
                let at = before.iter().position(|before| before.node == node.id)?;
                before.swap_remove(at)
            }
        };
        recorder.limit(wanted);
        recorder.feed.pause(now.mono, wanted.paused);
        Some(recorder)
    };
    spec.nodes.iter().filter_map(recorder).collect()
}

fn carried(speaker: &EndpointSpec) -> Box<[Option<Carried>]> {
    let carried = |format| match plan::codec_kind(format) {
        Some(kind) => Some(Carried::Sound(kind)),
        None if format.codec == Codec::TelephoneEvent => Some(Carried::Event),
        None => ComfortNoise::rate_of(format).map(Carried::Noise),
    };
    speaker.receive.iter().map(carried).collect()
}
