//! The players of a session: how they come and go with edits, and how they are moved and stopped.

use std::sync::Arc;

use rtp::time::Now;

use super::{
    Engine,
    playback::{Playback, Played},
    shared::SharedPlayers,
    slab::Key,
};
use crate::{
    command::{EventKind, PlayEnd, PlayerPrompts, SessionKey},
    engine::plan,
    spec::{Name, NodeSpec, SessionSpec},
};

/// What may stop a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    Digit,
    Speech,
}

/// A player of a session.
#[derive(Debug)]
pub(crate) enum Player {
    /// It plays for this session.
    Own(Box<Playback>),
    /// It plays for many.
    Shared {
        /// The node.
        node: Arc<NodeSpec>,
        /// Its place among the shared ones.
        slot: usize,
        /// That it came to its end was told.
        told: bool,
    },
}

impl Player {
    pub(crate) fn node(&self) -> &Arc<NodeSpec> {
        match self {
            Self::Own(playback) => &playback.node,
            Self::Shared { node, .. } => node,
        }
    }

    /// Nothing will come of itself.
    pub(crate) fn is_idle(&self, shared: &SharedPlayers) -> bool {
        match self {
            Self::Own(playback) => playback.is_idle(),
            Self::Shared { node, slot, .. } => is_paused(node) || shared.is_ended(*slot),
        }
    }

    /// Where it plays for many, if it does now.
    pub(crate) fn shared(&self) -> Option<usize> {
        match self {
            Self::Own(_) => None,
            Self::Shared { node, slot, .. } => (!is_paused(node)).then_some(*slot),
        }
    }

    /// The next tick in `frame`.
    pub(crate) fn play(
        &mut self,
        tick: u64,
        rate_hz: u32,
        shared: &mut SharedPlayers,
        frame: &mut [i16],
    ) -> Played {
        match self {
            Self::Own(playback) => playback.play(frame),
            Self::Shared { node, .. } if is_paused(node) => {
                frame.fill(0);
                Played::Nothing
            }
            Self::Shared { slot, told, .. } => {
                let sounds = shared.hear(*slot, tick, rate_hz, frame);
                if shared.is_ended(*slot) && !std::mem::replace(told, true) {
                    return Played::Finished(PlayEnd::End);
                }
                match sounds {
                    true => Played::Sound,
                    false => Played::Nothing,
                }
            }
        }
    }
}

fn is_paused(node: &NodeSpec) -> bool {
    node.player().is_none_or(|player| player.paused)
}

impl Engine {
    /// Gives the session the players of `spec`: those that go on do so where they are. What played and was taken away is
    /// given back, to fade.
    pub(super) fn put_players(
        &mut self,
        now: Now,
        key: Key,
        spec: &SessionSpec,
        rate_hz: Option<u32>,
        prompts: &mut [PlayerPrompts],
    ) -> Vec<(Name, Box<Playback>)> {
        let Some(session) = self.sessions.get(key) else {
            return Vec::new();
        };
        let mut before = self.players.remove(&key).unwrap_or_default();
        let mut players = Vec::new();
        for node in spec.nodes.iter().filter(|node| node.player().is_some()) {
            let was = before.iter().position(|player| player.node().id == node.id);
            let was = was.map(|at| before.swap_remove(at));
            let given = prompts.iter_mut().find(|given| given.node == node.id);
            players.push(put_player(
                &mut self.shared,
                node,
                was,
                given,
                rate_hz,
                &mut before,
            ));
        }
        let mut left = Vec::new();
        for gone in before {
            match gone {
                Player::Own(playback) if !playback.is_ended() => {
                    let kind = EventKind::PlayFinished(PlayEnd::Removed);
                    self.outbox
                        .event(session.handle, Some(&playback.node.id), now.wall, kind);
                    left.push((playback.node.id.clone(), playback));
                }
                Player::Own(_) => {}
                Player::Shared { slot, .. } => self.shared.leave(slot),
            }
        }
        if !players.is_empty() {
            self.players.insert(key, players);
        }
        left
    }

    /// A session's players end with it.
    pub(super) fn remove_players(&mut self, key: Key) {
        for player in self.players.remove(&key).unwrap_or_default() {
            if let Player::Shared { slot, .. } = player {
                self.shared.leave(slot);
            }
        }
    }

    pub(super) fn seek(&mut self, now: Now, handle: SessionKey, node: &Name, item: usize, position_ms: u32) {
        if let Some((key, playback)) = self.playback(handle, node) {
            playback.seek(item, position_ms);
            self.wake_session(now, key);
        }
    }

    /// Throws away what a player, or the program at a tap, still has to play.
    pub(super) fn flush(&mut self, now: Now, handle: SessionKey, node: &Name) {
        let session = self.keys.get(&handle).and_then(|key| self.sessions.get(*key));
        let taps = session.and_then(|session| session.mixer.as_deref()).into_iter();
        let tapping = taps.flat_map(|mixer| &mixer.taps).map(|tap| &tap.tapping);
        for tapping in tapping.filter(|tapping| tapping.node == *node) {
            tapping.flush();
            self.tapped = true;
        }
        if let Some((_, playback)) = self.playback(handle, node)
            && playback.stop()
        {
            let kind = EventKind::PlayFinished(PlayEnd::Removed);
            self.outbox.event(handle, Some(node), now.wall, kind);
        }
    }

    /// Stops the players of a session that `node` interrupts.
    pub(super) fn interrupt(&mut self, now: Now, key: Key, node: &Name, by: Interruption) {
        let (Some(session), Some(players)) = (self.sessions.get(key), self.players.get_mut(&key)) else {
            return;
        };
        for player in players {
            let Player::Own(playback) = player else { continue };
            let stops = playback.node.player().and_then(|player| player.barge_in.as_ref());
            let stops = stops.is_some_and(|barge_in| {
                let heeds = match by {
                    Interruption::Digit => barge_in.on_digit,
                    Interruption::Speech => barge_in.on_speech,
                };
                heeds && barge_in.node == *node
            });
            if stops && playback.stop() {
                let kind = EventKind::PlayFinished(PlayEnd::BargeIn);
                self.outbox
                    .event(session.handle, Some(&playback.node.id), now.wall, kind);
            }
        }
    }

    fn playback(&mut self, handle: SessionKey, node: &Name) -> Option<(Key, &mut Playback)> {
        let key = *self.keys.get(&handle)?;
        let players = self.players.get_mut(&key)?;
        players.iter_mut().find_map(|player| match player {
            Player::Own(playback) if playback.node.id == *node => Some((key, &mut **playback)),
            Player::Own(_) | Player::Shared { .. } => None,
        })
    }
}

/// What plays for `node` now. What played for it before and does not go on is put to those that are `gone`.
fn put_player(
    shared: &mut SharedPlayers,
    node: &Arc<NodeSpec>,
    was: Option<Player>,
    given: Option<&mut PlayerPrompts>,
    rate_hz: Option<u32>,
    gone: &mut Vec<Player>,
) -> Player {
    let Some(player) = node.player() else {
        unreachable!("only players are put")
    };
    if player.shared_group.is_some() {
        let kept = match &was {
            Some(Player::Shared {
                node: old,
                slot,
                told,
            }) => {
                let same = old.player().is_some_and(|old| player.shares_with(old));
                same.then_some((*slot, *told))
            }
            Some(Player::Own(_)) | None => None,
        };
        let (slot, told) = match kept {
            Some(kept) => kept,
            None => {
                gone.extend(was);
                let natives = given.iter().flat_map(|given| given.prompts.iter());
                let native_hz = natives.map(|prompt| prompt.native_hz).max().unwrap_or(0);
                (shared.join(node, given, plan::rate_over(native_hz)), false)
            }
        };
        if let Some(rate_hz) = rate_hz {
            shared.expect_rate(slot, rate_hz);
        }
        return Player::Shared {
            node: node.clone(),
            slot,
            told,
        };
    }
    let (before, other) = match was {
        Some(Player::Own(playback)) => {
            let old = playback.node.player();
            match old.is_some_and(|old| player.continues(old)) {
                true => (Some(*playback), None),
                false => (None, Some(Player::Own(playback))),
            }
        }
        other => (None, other),
    };
    gone.extend(other);
    let rate_hz = rate_hz
        .or(before.as_ref().map(Playback::rate_hz))
        .unwrap_or(8_000);
    Player::Own(Box::new(Playback::new(node.clone(), given, rate_hz, before)))
}
