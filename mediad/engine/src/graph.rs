//! Edits of a session's graph: from a graph and a patch to the next graph, or to the one mistake that stops it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    engine::plan,
    limits,
    refusal::Refusal,
    spec::{
        DigitPolicy, EdgeSpec, EndpointSpec, Name, NodeKind, NodeSpec, PayloadFormat, SessionOptions,
        SessionSpec, TransportKind, TransportSpec,
    },
};

/// Who commands, under which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Controller's name.
    pub controller: Name,
    /// Fencing number, at least 1.
    pub epoch: u64,
}

/// One atomic edit, with every value already checked by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The session to edit or create.
    pub session: Name,
    /// Who asks.
    pub owner: Owner,
    /// Revision the caller expects; `Some(0)`: the session must not exist.
    pub if_revision: Option<u64>,
    /// The session becomes exactly what is put.
    pub replace: bool,
    /// Transports new or changed.
    pub put_transports: Vec<Arc<TransportSpec>>,
    /// Transports to go.
    pub remove_transports: Vec<Name>,
    /// Nodes new or changed.
    pub put_nodes: Vec<Arc<NodeSpec>>,
    /// Nodes to go, with their edges.
    pub remove_nodes: Vec<Name>,
    /// Edges new or changed.
    pub put_edges: Vec<EdgeSpec>,
    /// Edges to go.
    pub remove_edges: Vec<(Name, Name)>,
    /// Session to be placed with.
    pub near: Option<Name>,
    /// Time-outs and labels to change.
    pub options: Option<OptionsPatch>,
}

/// Options as given; `None` is the host's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionsPatch {
    /// See [`SessionOptions::media_timeout`], ms.
    pub media_timeout_ms: Option<u32>,
    /// See [`SessionOptions::orphan_max`], ms.
    pub orphan_ms_max: Option<u32>,
    /// See [`SessionOptions::relearn_after`], ms.
    pub relearn_after_ms: Option<u32>,
    /// Shown in lists and descriptions.
    pub labels: Vec<(Box<str>, Box<str>)>,
}

/// The graph after `patch`, given the graph before; `options` are those in force after it.
///
/// # Errors
/// The first mistake found; the graph before stays what it was.
pub fn next(
    current: Option<&SessionSpec>,
    patch: &Patch,
    options: SessionOptions,
) -> Result<SessionSpec, Refusal> {
    let mut transports = BTreeMap::new();
    let mut nodes = BTreeMap::new();
    let mut edges = BTreeMap::new();
    if let (Some(current), false) = (current, patch.replace) {
        transports.extend(current.transports.iter().map(|t| (t.id.clone(), t.clone())));
        nodes.extend(current.nodes.iter().map(|n| (n.id.clone(), n.clone())));
        edges.extend(
            current
                .edges
                .iter()
                .map(|e| ((e.from.clone(), e.to.clone()), e.clone())),
        );
    }
    remove(patch, &mut transports, &mut nodes, &mut edges)?;
    put(current, patch, &mut transports, &mut nodes, &mut edges)?;

    let spec = SessionSpec {
        transports: transports.into_values().collect(),
        nodes: nodes.into_values().collect(),
        edges: edges.into_values().collect(),
        options,
    };
    check_counts(&patch.session, &spec)?;
    check_endpoints(&spec, &patch.remove_transports)?;
    check_players(&spec)?;
    check_edges(&spec)?;
    Ok(spec)
}

fn remove(
    patch: &Patch,
    transports: &mut BTreeMap<Name, Arc<TransportSpec>>,
    nodes: &mut BTreeMap<Name, Arc<NodeSpec>>,
    edges: &mut BTreeMap<(Name, Name), EdgeSpec>,
) -> Result<(), Refusal> {
    for key in &patch.remove_edges {
        edges.remove(key).ok_or_else(|| Refusal::NothingToRemove {
            subject: format!("edge:{}>{}", key.0, key.1),
        })?;
    }
    for id in &patch.remove_nodes {
        nodes.remove(id).ok_or_else(|| Refusal::NothingToRemove {
            subject: format!("node:{id}"),
        })?;
        edges.retain(|(from, to), _| from != id && to != id);
    }
    for id in &patch.remove_transports {
        transports.remove(id).ok_or_else(|| Refusal::NothingToRemove {
            subject: format!("transport:{id}"),
        })?;
    }
    Ok(())
}

fn put(
    current: Option<&SessionSpec>,
    patch: &Patch,
    transports: &mut BTreeMap<Name, Arc<TransportSpec>>,
    nodes: &mut BTreeMap<Name, Arc<NodeSpec>>,
    edges: &mut BTreeMap<(Name, Name), EdgeSpec>,
) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    let mut once = |subject: String| {
        if seen.contains(&subject) {
            return Err(Refusal::Twice { subject });
        }
        seen.insert(subject);
        Ok(())
    };
    for new in &patch.put_transports {
        once(format!("transport:{}", new.id))?;
        let kept =
            (!patch.remove_transports.contains(&new.id)).then(|| current.and_then(|c| c.transport(&new.id)));
        if let Some(old) = kept.flatten() {
            check_fixed(old, new)?;
        }
        transports.insert(new.id.clone(), unless_equal(kept.flatten(), new));
    }
    for new in &patch.put_nodes {
        once(format!("node:{}", new.id))?;
        nodes.insert(
            new.id.clone(),
            unless_equal(current.and_then(|c| c.node(&new.id)), new),
        );
    }
    for edge in &patch.put_edges {
        once(format!("edge:{}>{}", edge.from, edge.to))?;
        edges.insert((edge.from.clone(), edge.to.clone()), edge.clone());
    }
    Ok(())
}

/// Keeps the old allocation where nothing changed, so that an unchanged spec is also the same pointer.
fn unless_equal<T: PartialEq>(old: Option<&Arc<T>>, new: &Arc<T>) -> Arc<T> {
    match old {
        Some(old) if old == new => old.clone(),
        _ => new.clone(),
    }
}

/// A bound port keeps its interface, family and RTCP mode; a link may be given another peer.
fn check_fixed(old: &TransportSpec, new: &TransportSpec) -> Result<(), Refusal> {
    let fixed = |field| {
        Err(Refusal::TransportFixed {
            transport: new.id.clone(),
            field,
        })
    };
    let (old, port) = match (&old.kind, &new.kind) {
        (TransportKind::Udp(old), TransportKind::Udp(new)) => (old, new),
        (TransportKind::Link(_), TransportKind::Link(_)) => return Ok(()),
        (TransportKind::Udp(_), TransportKind::Link(_)) | (TransportKind::Link(_), TransportKind::Udp(_)) => {
            return fixed("kind");
        }
    };
    if old.interface != port.interface {
        return fixed("interface");
    }
    if old.family != port.family {
        return fixed("family");
    }
    if old.rtcp != port.rtcp {
        return fixed("rtcp");
    }
    if old.dscp != port.dscp {
        return fixed("dscp");
    }
    Ok(())
}

fn check_counts(session: &Name, spec: &SessionSpec) -> Result<(), Refusal> {
    let check = |what, count, max| {
        if count > max {
            return Err(Refusal::TooMany {
                subject: format!("session:{session}"),
                what,
                count,
                max,
            });
        }
        Ok(())
    };
    check(
        "transports",
        spec.transports.len(),
        limits::SESSION_TRANSPORTS_MAX,
    )?;
    check("nodes", spec.nodes.len(), limits::SESSION_NODES_MAX)?;
    check("edges", spec.edges.len(), limits::SESSION_EDGES_MAX)
}

fn check_endpoints(spec: &SessionSpec, removed: &[Name]) -> Result<(), Refusal> {
    let mut riders: BTreeMap<&Name, &Name> = BTreeMap::new();
    for node in &spec.nodes {
        let NodeKind::Endpoint(endpoint) = &node.kind else {
            continue;
        };
        if spec.transport(&endpoint.transport).is_none() {
            let (node, transport) = (node.id.clone(), endpoint.transport.clone());
            return Err(match removed.contains(&transport) {
                true => Refusal::TransportInUse { transport, node },
                false => Refusal::UnknownTransport { node, transport },
            });
        }
        if let Some(other) = riders.insert(&endpoint.transport, &node.id) {
            return Err(Refusal::TransportShared {
                node: node.id.clone(),
                transport: endpoint.transport.clone(),
                other: other.clone(),
            });
        }
        check_formats(&node.id, &endpoint.receive, "formats")?;
        check_formats(&node.id, &endpoint.send, "send_formats")?;
    }
    Ok(())
}

fn check_formats(node: &Name, formats: &[PayloadFormat], field: &'static str) -> Result<(), Refusal> {
    for (at, format) in formats.iter().enumerate() {
        if formats[..at]
            .iter()
            .any(|other| other.payload_type == format.payload_type)
        {
            return Err(Refusal::PayloadTypeTwice {
                node: node.clone(),
                payload_type: format.payload_type.value(),
            });
        }
    }
    if !formats.iter().any(|format| format.codec.is_audio()) {
        return Err(Refusal::NoAudioFormat {
            node: node.clone(),
            field,
        });
    }
    Ok(())
}

/// Whoever interrupts a player is there.
fn check_players(spec: &SessionSpec) -> Result<(), Refusal> {
    for node in &spec.nodes {
        let by = node.player().and_then(|player| player.barge_in.as_ref());
        if let Some(by) = by
            && !matches!(
                spec.node(&by.node).map(|node| &node.kind),
                Some(NodeKind::Endpoint(_))
            )
        {
            return Err(Refusal::BargeIn {
                node: node.id.clone(),
                by: by.node.clone(),
            });
        }
    }
    Ok(())
}

fn check_edges(spec: &SessionSpec) -> Result<(), Refusal> {
    let mut heard: BTreeMap<&Name, &EdgeSpec> = BTreeMap::new();
    for edge in &spec.edges {
        if edge.from == edge.to {
            return Err(Refusal::SelfEdge(edge.from.clone()));
        }
        let end = |id: &Name| {
            spec.node(id).ok_or_else(|| Refusal::EdgeEndMissing {
                from: edge.from.clone(),
                to: edge.to.clone(),
                missing: id.clone(),
            })
        };
        check_edge(edge, &end(&edge.from)?.kind, &end(&edge.to)?.kind)?;
        // Muted edges keep their place and are not heard.
        if edge.muted {
            continue;
        }
        // Who hears two of them hears a mix.
        if let Some(other) = heard.insert(&edge.to, edge) {
            check_mixed(spec, other)?;
            check_mixed(spec, edge)?;
        }
    }
    Ok(())
}

/// The sound of `from` can reach `to`.
fn check_edge(edge: &EdgeSpec, from: &NodeKind, to: &NodeKind) -> Result<(), Refusal> {
    let unimplemented = |what| {
        Err(Refusal::Unimplemented {
            subject: format!("edge:{}>{}", edge.from, edge.to),
            what,
        })
    };
    if let (DigitPolicy::Clamp, NodeKind::Endpoint(speaker)) = (edge.digits, from)
        && !plan::decodable(speaker)
    {
        return unimplemented("taking tones out of these formats");
    }
    if let (DigitPolicy::Clamp, NodeKind::Endpoint(listener)) = (edge.digits, to)
        && plan::encodable(listener).is_none()
    {
        return unimplemented("taking tones out of what is sent in these formats");
    }
    match (from, to) {
        (NodeKind::Recorder(_), _) => Err(Refusal::RecorderSpeaks {
            from: edge.from.clone(),
            to: edge.to.clone(),
        }),
        (_, NodeKind::Player(_)) => Err(Refusal::PlayerHears {
            from: edge.from.clone(),
            to: edge.to.clone(),
        }),
        (NodeKind::Room(_), NodeKind::Room(_)) => unimplemented("a room that hears a room"),
        (NodeKind::Player(_) | NodeKind::Tap(_), NodeKind::Room(_)) => Ok(()),
        (NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_), NodeKind::Tap(_)) => Ok(()),
        (NodeKind::Endpoint(speaker), NodeKind::Tap(_)) if !plan::decodable(speaker) => {
            unimplemented("decoding these formats for a tap")
        }
        (NodeKind::Endpoint(speaker), NodeKind::Room(_)) if !plan::decodable(speaker) => {
            unimplemented("decoding these formats for a room")
        }
        (NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_), NodeKind::Endpoint(listener))
            if plan::encodable(listener).is_none() =>
        {
            unimplemented("encoding the format that this endpoint prefers")
        }
        (NodeKind::Endpoint(speaker), NodeKind::Endpoint(listener)) => {
            let coded = plan::decodable(speaker) && plan::encodable(listener).is_some();
            match plan::can_relay(speaker, listener) {
                true if edge.gain_db == 0.0 || coded => Ok(()),
                true => unimplemented("gain on these formats"),
                false if coded => Ok(()),
                false => unimplemented("transcoding between these formats"),
            }
        }
        (NodeKind::Endpoint(speaker), NodeKind::Recorder(_)) if !plan::decodable(speaker) => {
            unimplemented("recording these formats")
        }
        (_, NodeKind::Recorder(_))
        | (NodeKind::Endpoint(_), NodeKind::Room(_) | NodeKind::Tap(_))
        | (NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_), NodeKind::Endpoint(_)) => Ok(()),
    }
}

/// Both ends of `edge` can take part in a mix.
fn check_mixed(spec: &SessionSpec, edge: &EdgeSpec) -> Result<(), Refusal> {
    let codes = |id: &Name, check: fn(&EndpointSpec) -> bool| match spec.node(id).map(|node| &node.kind) {
        Some(NodeKind::Endpoint(endpoint)) => check(endpoint),
        Some(NodeKind::Room(_) | NodeKind::Player(_) | NodeKind::Tap(_) | NodeKind::Recorder(_)) | None => {
            true
        }
    };
    if codes(&edge.from, plan::decodable) && codes(&edge.to, |to| plan::encodable(to).is_some()) {
        return Ok(());
    }
    Err(Refusal::Unimplemented {
        subject: format!("edge:{}>{}", edge.from, edge.to),
        what: "mixing these formats",
    })
}
