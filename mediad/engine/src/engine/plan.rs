//! From "who hears whom" to what is done for each packet, decided when the graph changes and never again.
//!
//! A listener has exactly one plan; a source fans out to all plans that name it. The plans here forward single packets.
//! Plans that decode (transcode, mix) will be further kinds of the same list: they take the source's packets into a
//! jitter buffer instead of a hop, and write to the listener's line on a tick.

use crate::{
    command::PlanKind,
    spec::{Codec, EdgeSpec, EndpointSpec, NodeKind, PayloadFormat, SessionSpec},
};

/// What happens to a payload on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// It stays as it is.
    Forward,
    /// µ-law becomes A-law.
    UlawToAlaw,
    /// A-law becomes µ-law.
    AlawToUlaw,
    /// The listener is not to get it.
    Withhold,
}

/// How one format of a source reaches one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Payload type towards the listener.
    pub(crate) payload_type: u8,
    /// What happens to the payload.
    pub(crate) op: Op,
}

const WITHHELD: Mapping = Mapping {
    payload_type: 0,
    op: Op::Withhold,
};

/// The plan towards one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What kind of work it is.
    pub(crate) kind: PlanKind,
    /// Index of the node it hears.
    pub(crate) source: Option<u32>,
    /// One for each format of the source.
    pub(crate) mappings: Box<[Mapping]>,
}

impl Plan {
    fn silent() -> Self {
        Self {
            kind: PlanKind::Silent,
            source: None,
            mappings: Box::default(),
        }
    }
}

/// The plan of every node of `spec`, in its order.
pub(crate) fn compile(spec: &SessionSpec) -> Box<[Plan]> {
    let mut plans: Box<[Plan]> = spec.nodes.iter().map(|_| Plan::silent()).collect();
    // Muted edges keep their place and carry nothing. Edges are sorted: of two sources that a graph should not have
    // let through, the first is heard.
    for edge in spec.edges.iter().filter(|edge| !edge.muted) {
        let (Some(from), Some(to)) = (position(spec, &edge.from), position(spec, &edge.to)) else {
            continue;
        };
        let (NodeKind::Endpoint(speaker), NodeKind::Endpoint(listener)) =
            (&spec.nodes[from].kind, &spec.nodes[to].kind);
        if plans[to].source.is_none() && speaker.direction.receives() && listener.direction.sends() {
            plans[to] = plan(from as u32, speaker, listener, edge);
        }
    }
    plans
}

fn position(spec: &SessionSpec, id: &str) -> Option<usize> {
    spec.nodes.binary_search_by(|node| (*node.id).cmp(id)).ok()
}

fn plan(source: u32, speaker: &EndpointSpec, listener: &EndpointSpec, edge: &EdgeSpec) -> Plan {
    let mappings: Box<[Mapping]> = speaker
        .receive
        .iter()
        .map(|from| mapping(from, listener, edge))
        .collect();
    let changes = |(from, to): (&PayloadFormat, &Mapping)| match to.op {
        Op::Withhold => false,
        Op::UlawToAlaw | Op::AlawToUlaw => true,
        Op::Forward => from.payload_type.value() != to.payload_type,
    };
    let rewrites = speaker.receive.iter().zip(&mappings).any(changes);
    let kind = if rewrites {
        PlanKind::Rewrite
    } else {
        PlanKind::Relay
    };
    Plan {
        kind,
        source: Some(source),
        mappings,
    }
}

fn mapping(from: &PayloadFormat, listener: &EndpointSpec, edge: &EdgeSpec) -> Mapping {
    if from.codec == Codec::TelephoneEvent && edge.block_digits {
        return WITHHELD;
    }
    let forward = |to: &PayloadFormat| Mapping {
        payload_type: to.payload_type.value(),
        op: Op::Forward,
    };
    let candidates = || listener.send.iter().filter(|to| is_same(from, to));
    // The same number, where the listener has it, tells apart what only its parameters distinguish.
    let exact = candidates().find(|to| to.payload_type == from.payload_type);
    if let Some(to) = exact
        .or_else(|| candidates().find(|to| to.fmtp == from.fmtp))
        .or_else(|| candidates().next())
    {
        return forward(to);
    }
    let other_law = |codec| {
        listener
            .send
            .iter()
            .find(|to| to.codec == codec && to.clock == from.clock)
    };
    let (op, to) = match from.codec {
        Codec::Pcmu => (Op::UlawToAlaw, other_law(Codec::Pcma)),
        Codec::Pcma => (Op::AlawToUlaw, other_law(Codec::Pcmu)),
        Codec::G722
        | Codec::Opus
        | Codec::L16
        | Codec::TelephoneEvent
        | Codec::ComfortNoise
        | Codec::Opaque => {
            return WITHHELD;
        }
    };
    to.map_or(WITHHELD, |to| Mapping { op, ..forward(to) })
}

fn is_same(a: &PayloadFormat, b: &PayloadFormat) -> bool {
    a.codec == b.codec && a.clock == b.clock && a.channels == b.channels
}
