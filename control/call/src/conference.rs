//! Conferences: whoever dials the same room hears everybody else in it.

use std::{collections::BTreeSet, time::Instant};

use proto::mediad::v1 as pb;
use sip::header::NameAddr;

use crate::{
    call::{CallId, End},
    controller::Displacement,
    domain::Name,
    leg::Leg,
    media::{MediaPlan, Scene},
    services::{Conferences, once},
    trunk::{TargetId, TrunkId},
};

/// How far a member is. Every `on_` method makes its step and says true, or changes nothing and says false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberStage {
    /// Its endpoint is being made.
    Preparing,
    /// It has our 200 with an offer, and will answer by its ACK.
    AwaitingAnswer,
    /// It hears and is heard.
    Joined,
    /// It left. A sink.
    Left,
}

impl MemberStage {
    pub(crate) fn on_late_offer(&mut self) -> bool {
        self.step(&[Self::Preparing], Self::AwaitingAnswer)
    }

    pub(crate) fn on_joined(&mut self) -> bool {
        self.step(&[Self::Preparing, Self::AwaitingAnswer], Self::Joined)
    }

    pub(crate) fn on_left(&mut self) -> bool {
        self.step(&[Self::Preparing, Self::AwaitingAnswer, Self::Joined], Self::Left)
    }

    fn step(&mut self, from: &[Self], to: Self) -> bool {
        let allowed = from.contains(self);
        if allowed {
            *self = to;
        }
        allowed
    }
}

/// One party of a conference.
#[derive(Debug)]
pub(crate) struct Member {
    /// Our name for its call.
    pub(crate) name: String,
    pub(crate) stage: MemberStage,
    pub(crate) conference: CallId,
    pub(crate) from: NameAddr,
    pub(crate) to: String,
    pub(crate) sip_call_id: String,
    pub(crate) leg: Leg,
    /// The trunk it came from, or by whose target it was called: which counts it.
    pub(crate) rx_trunk: Option<TrunkId>,
    pub(crate) way: Option<TargetId>,
    /// By an operator: it hears and is not heard.
    pub(crate) is_muted: bool,
    /// It is not in yet: the room has a PIN.
    pub(crate) gate: Option<Gate>,
    pub(crate) started: Instant,
    pub(crate) started_unix_us: u64,
    pub(crate) answered: Option<(Instant, u64)>,
    pub(crate) ended: Option<(Instant, End)>,
    pub(crate) check_at: Instant,
}

/// What a member typed so far of a room's PIN.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) typed: String,
    /// Wrong ones before.
    pub(crate) tries: u32,
    /// When this try is over; once it was answered.
    pub(crate) until: Option<Instant>,
}

/// What all hear when somebody comes or goes.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) node: String,
    /// Empty: the tone.
    pub(crate) prompt: String,
    /// One that every media host has, for where the prompt is not.
    pub(crate) tone: Option<&'static str>,
    /// It is over by then.
    pub(crate) until: Instant,
}

impl Sound {
    fn source(&self) -> pb::play_item::Source {
        match self.tone.filter(|_| self.prompt.is_empty()) {
            Some(tone) => pb::play_item::Source::Tone(tone.to_owned()),
            None => pb::play_item::Source::Prompt(self.prompt.clone()),
        }
    }
}

/// A room with its session on a media host.
#[derive(Debug)]
pub(crate) struct Conference {
    pub(crate) room: Name,
    pub(crate) plan: MediaPlan,
    /// As configured when it began, or this process did.
    pub(crate) mix: pb::Room,
    pub(crate) members: BTreeSet<CallId>,
    /// It lost its session, and has no other yet.
    pub(crate) displaced: Option<Displacement>,
    /// Who left: told of when the media host has said what it counted.
    pub(crate) last: Vec<Member>,
    /// The media host does not have the prompt that asks for the PIN.
    pub(crate) lacks_prompt: bool,
    pub(crate) sounds: Vec<Sound>,
    pub(crate) sounds_made: u64,
    /// It does not have those of who comes and goes.
    pub(crate) lacks_sounds: bool,
    pub(crate) started: Instant,
    pub(crate) started_unix_us: u64,
}

/// Everybody hears the room, which nobody hears itself in, and is heard in it, but for who is muted or holds: what a
/// phone plays to a held party is nothing for a meeting.
pub(crate) fn scene<'a>(
    members: impl Iterator<Item = &'a Member>,
    settings: &Conferences,
    mix: pb::Room,
    has_prompt: bool,
    sounds: &[Sound],
) -> Scene {
    let mut scene = Scene::default();
    scene.room("room", mix);
    for sound in sounds {
        scene.play(&sound.node, once(sound.source()), "room");
    }
    for member in members.filter(|member| member.leg.media.is_some()) {
        let endpoint = &member.leg.endpoint;
        if let Some(gate) = &member.gate {
            // Another question each time: a player that has played plays no more.
            let question = format!("question-{endpoint}-{}", gate.tries);
            if gate.typed.is_empty() {
                scene.play(&question, settings.question(has_prompt), endpoint);
            }
            continue;
        }
        scene.hear("room", endpoint);
        if !member.is_muted && !member.leg.holds() {
            scene.hear(endpoint, "room");
        }
    }
    scene
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_moves_by_its_own_events_only() {
        type On = fn(&mut MemberStage) -> bool;
        let events: [(&str, On); 3] = [
            ("late_offer", MemberStage::on_late_offer),
            ("joined", MemberStage::on_joined),
            ("left", MemberStage::on_left),
        ];
        let stages = [
            MemberStage::Preparing,
            MemberStage::AwaitingAnswer,
            MemberStage::Joined,
            MemberStage::Left,
        ];
        let mut table = String::new();
        for stage in stages {
            table += &format!("{stage:?}:");
            for (name, on) in events {
                let mut next = stage;
                if on(&mut next) {
                    table += &format!(" {name}>{next:?}");
                } else {
                    assert_eq!(next, stage, "a lost race changes nothing");
                }
            }
            table += "\n";
        }
        let expected = "\
Preparing: late_offer>AwaitingAnswer joined>Joined left>Left
AwaitingAnswer: joined>Joined left>Left
Joined: left>Left
Left:
";
        assert_eq!(table, expected);
    }
}
