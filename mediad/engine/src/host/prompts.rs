//! Prompts: what the players of an edit need, fetched between prepare and commit.

use std::sync::Arc;

use super::{Host, Prepared, session::Session};
use crate::{
    command::{PlayerPrompts, Prompt, PromptSound, SampleStream},
    engine::plan,
    refusal::Refusal,
    spec::{Name, NodeSpec, PlaySource, PlayerSpec, SessionSpec},
};

/// Where prompts come from. Names are relative to the prompt directory; an error ends a sentence that begins with the
/// name.
pub trait Library {
    /// The file as it is now: its version, and the rate at which nothing of it is lost.
    ///
    /// # Errors
    /// It is not there, or cannot be played.
    fn find(&mut self, name: &Name) -> Result<(u64, u32), String>;

    /// The prompt at `rate_hz`, or to be streamed if it is too long to keep.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn load(&mut self, name: &Name, rate_hz: u32) -> Result<Arc<Prompt>, String>;

    /// A stream of a prompt that is too long to keep, which begins at `start_ms`, also each time it comes round.
    ///
    /// # Errors
    /// As [`Self::find`], or there are too many.
    fn stream(
        &mut self,
        name: &Name,
        rate_hz: u32,
        start_ms: u32,
    ) -> Result<Box<dyn SampleStream>, StreamError>;
}

/// Why a prompt cannot be streamed, in words that follow its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamError {
    /// It cannot be played.
    Broken(String),
    /// As many are read as the host can read at once.
    Full(String),
}

/// The prompts of one player, in the order of its items.
pub(super) type Given = (Name, Box<[Arc<Prompt>]>);

impl Host {
    /// Gives an edit the prompts its players need. To be called between [`Host::prepare`] and [`Host::commit`].
    ///
    /// # Errors
    /// A file is not there or cannot be played; give the edit to [`Host::abort`].
    pub fn load_prompts(
        &mut self,
        prepared: &mut Prepared,
        library: &mut impl Library,
    ) -> Result<(), Refusal> {
        let spec = prepared.spec().clone();
        if wanted(&spec).next().is_none() {
            return Ok(());
        }
        let current = prepared.session().and_then(|key| self.sessions.by_key(key));
        let mut found = Vec::new();
        for (node, player) in wanted(&spec) {
            found.push(find(node, player, current, library)?);
        }
        let mut natives = found.iter();
        let natives: Vec<u32> = spec
            .nodes
            .iter()
            .map(|node| match plays_prompts(node) {
                Some(_) => natives.next().map_or(0, |found| found.native_hz),
                None => 0,
            })
            .collect();
        let session_hz = plan::mix_rate(&spec, &|node| natives[node as usize]).unwrap_or(8_000);
        let worker = prepared.worker();
        let mut given = Vec::new();
        for ((node, player), found) in wanted(&spec).zip(found) {
            let rate_hz = match player.shared_group {
                // Listeners of many sessions hear it, each at its own rate.
                Some(_) => plan::rate_over(found.native_hz),
                None => session_hz,
            };
            let is_played = self.sessions.is_shared(worker, player);
            given.push(load(node, player, found, rate_hz, is_played, library)?);
        }
        prepared.give_prompts(given);
        Ok(())
    }
}

/// Every player that plays prompts.
fn wanted(spec: &SessionSpec) -> impl Iterator<Item = (&Arc<NodeSpec>, &PlayerSpec)> {
    spec.nodes
        .iter()
        .filter_map(|node| Some((node, plays_prompts(node)?)))
}

fn plays_prompts(node: &NodeSpec) -> Option<&PlayerSpec> {
    node.player().filter(|player| player.plays_prompts())
}

/// Whether `spec` has what it needs of `given`.
pub(super) fn is_complete(spec: &SessionSpec, given: &[PlayerPrompts]) -> bool {
    wanted(spec).all(|(node, player)| {
        let of_node = given.iter().find(|given| given.node == node.id);
        of_node.is_some_and(|given| given.prompts.len() == names(player).count())
    })
}

/// Index, start and name of the items that are prompts.
fn names(player: &PlayerSpec) -> impl Iterator<Item = (usize, u32, &Name)> {
    let items = player.items.iter().enumerate();
    items.filter_map(|(index, item)| match &item.source {
        PlaySource::Prompt(name) => Some((index, item.start_ms, name)),
        PlaySource::Tone(..) | PlaySource::Silence(_) => None,
    })
}

/// What is known of a player's prompts before they are loaded.
struct Found {
    native_hz: u32,
    /// Those that it plays already.
    playing: Box<[Arc<Prompt>]>,
    /// Versions of the others.
    versions: Vec<u64>,
}

fn find(
    node: &NodeSpec,
    player: &PlayerSpec,
    current: Option<&Session>,
    library: &mut impl Library,
) -> Result<Found, Refusal> {
    let before = current.and_then(|session| {
        let before = session.spec.node(&node.id)?.player()?;
        let (_, prompts) = session.prompts.iter().find(|(id, _)| *id == node.id)?;
        // What plays goes on, whatever became of its files.
        player.continues(before).then(|| prompts.clone())
    });
    let playing = before.unwrap_or_default();
    let natives = playing.iter().map(|prompt| prompt.native_hz);
    let mut native_hz = natives.max().unwrap_or(0);
    let mut versions = Vec::new();
    for (_, _, name) in names(player).skip(playing.len()) {
        let (version, hz) = library.find(name).map_err(|reason| refusal(node, name, reason))?;
        native_hz = native_hz.max(hz);
        versions.push(version);
    }
    Ok(Found {
        native_hz,
        playing,
        versions,
    })
}

fn load(
    node: &NodeSpec,
    player: &PlayerSpec,
    found: Found,
    rate_hz: u32,
    is_played: bool,
    library: &mut impl Library,
) -> Result<PlayerPrompts, Refusal> {
    let (mut prompts, mut streams) = (Vec::new(), Vec::new());
    for (at, (index, start_ms, name)) in names(player).enumerate() {
        if let Some(playing) = found.playing.get(at) {
            prompts.push(at_rate(playing, rate_hz, library));
            continue;
        }
        let refused = |reason| refusal(node, name, reason);
        let prompt = library.load(name, rate_hz).map_err(refused)?;
        if prompt.sound == PromptSound::Streamed && !is_played {
            let stream = library
                .stream(name, rate_hz, start_ms)
                .map_err(|error| match error {
                    StreamError::Broken(reason) => refused(reason),
                    StreamError::Full(reason) => Refusal::PromptsFull {
                        node: node.id.clone(),
                        prompt: name.to_string(),
                        reason,
                    },
                })?;
            streams.push((index, stream));
        }
        prompts.push(prompt);
    }
    debug_assert_eq!(prompts.len(), found.playing.len() + found.versions.len());
    Ok(PlayerPrompts {
        node: node.id.clone(),
        prompts: prompts.into(),
        streams,
    })
}

/// What plays, at another rate if the session has another now and the file is still the same; else as it is, and the
/// engine converts it while it plays.
fn at_rate(playing: &Arc<Prompt>, rate_hz: u32, library: &mut impl Library) -> Arc<Prompt> {
    let fits = match &playing.sound {
        PromptSound::Whole { rate_hz: has, .. } => *has == rate_hz,
        PromptSound::Streamed => true,
    };
    if fits {
        return playing.clone();
    }
    let other = library.load(&playing.name, rate_hz).ok();
    let same = other.filter(|other| other.version == playing.version && other.sound != PromptSound::Streamed);
    same.unwrap_or_else(|| playing.clone())
}

fn refusal(node: &NodeSpec, name: &Name, reason: String) -> Refusal {
    Refusal::Prompt {
        node: node.id.clone(),
        prompt: name.to_string(),
        reason,
    }
}

/// Players of a session that share their sound with others.
pub(super) fn shared(spec: &SessionSpec) -> impl Iterator<Item = &PlayerSpec> {
    let players = spec.nodes.iter().filter_map(|node| node.player());
    players.filter(|player| player.shared_group.is_some())
}
