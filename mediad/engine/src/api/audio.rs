//! Players, from the contract and back.

use proto::mediad::v1 as pb;

use super::request::{id as name, out_of_range};
use crate::{
    limits,
    refusal::Refusal,
    spec::{BargeIn, CallProgress, Country, Name, PlayItem, PlaySource, PlayerSpec},
};

/// Every tone, by its name in the contract.
const TONES: [(&str, Country, CallProgress); 33] = [
    ("dial-us", Country::Us, CallProgress::Dial),
    ("dial-uk", Country::Uk, CallProgress::Dial),
    ("dial-de", Country::De, CallProgress::Dial),
    ("dial-fr", Country::Fr, CallProgress::Dial),
    ("dial-it", Country::It, CallProgress::Dial),
    ("dial-es", Country::Es, CallProgress::Dial),
    ("ringback-us", Country::Us, CallProgress::Ringback),
    ("ringback-uk", Country::Uk, CallProgress::Ringback),
    ("ringback-de", Country::De, CallProgress::Ringback),
    ("ringback-fr", Country::Fr, CallProgress::Ringback),
    ("ringback-it", Country::It, CallProgress::Ringback),
    ("ringback-es", Country::Es, CallProgress::Ringback),
    ("busy-us", Country::Us, CallProgress::Busy),
    ("busy-uk", Country::Uk, CallProgress::Busy),
    ("busy-de", Country::De, CallProgress::Busy),
    ("busy-fr", Country::Fr, CallProgress::Busy),
    ("busy-it", Country::It, CallProgress::Busy),
    ("busy-es", Country::Es, CallProgress::Busy),
    ("congestion-us", Country::Us, CallProgress::Congestion),
    ("congestion-uk", Country::Uk, CallProgress::Congestion),
    ("congestion-de", Country::De, CallProgress::Congestion),
    ("congestion-fr", Country::Fr, CallProgress::Congestion),
    ("congestion-it", Country::It, CallProgress::Congestion),
    ("congestion-es", Country::Es, CallProgress::Congestion),
    ("waiting-us", Country::Us, CallProgress::Waiting),
    ("waiting-uk", Country::Uk, CallProgress::Waiting),
    ("waiting-de", Country::De, CallProgress::Waiting),
    ("waiting-fr", Country::Fr, CallProgress::Waiting),
    ("waiting-it", Country::It, CallProgress::Waiting),
    ("waiting-es", Country::Es, CallProgress::Waiting),
    ("melody", Country::Us, CallProgress::Melody),
    ("join", Country::Us, CallProgress::Join),
    ("leave", Country::Us, CallProgress::Leave),
];

/// A player with every value checked; whether its prompts are there is the host's to find out.
pub(super) fn player(id: &Name, subject: &str, given: &pb::Player) -> Result<PlayerSpec, Refusal> {
    let barge_in = given.barge_in.as_ref().map(|given| barge_in(id, given));
    let shared_group = match given.shared_group.as_str() {
        "" => None,
        group => Some(name("player.shared_group", group, limits::NODE_ID_BYTES_MAX)?),
    };
    if barge_in.is_some() && shared_group.is_some() {
        return Err(Refusal::SharedPlayer(id.clone()));
    }
    if !given.gain_db.is_finite() || !(-60.0..=20.0).contains(&given.gain_db) {
        return out_of_range(subject, "gain_db", given.gain_db, "-60 to 20");
    }
    if given.items.is_empty() {
        return Err(Refusal::Missing {
            subject: subject.into(),
            field: "items",
        });
    }
    if given.items.len() > limits::PLAY_ITEMS_MAX {
        return Err(Refusal::TooMany {
            subject: subject.into(),
            what: "items",
            count: given.items.len(),
            max: limits::PLAY_ITEMS_MAX,
        });
    }
    let items: Box<[PlayItem]> = given
        .items
        .iter()
        .map(|given| item(id, subject, given))
        .collect::<Result<_, _>>()?;
    let before_last = &items[..items.len() - 1];
    if before_last
        .iter()
        .any(|item| matches!(item.source, PlaySource::Tone(_, tone) if !tone.ends()))
    {
        return Err(Refusal::AfterTone(id.clone()));
    }
    Ok(PlayerSpec {
        items,
        repeat: match given.repeat {
            None => Some(1),
            Some(0) => None,
            Some(times) => Some(times),
        },
        gain_db: given.gain_db,
        paused: given.paused,
        barge_in: barge_in.transpose()?,
        shared_group,
    })
}

/// Whether the endpoint is there is seen in the whole graph.
fn barge_in(id: &Name, given: &pb::BargeIn) -> Result<BargeIn, Refusal> {
    if !given.on_digit && !given.on_speech {
        return Err(Refusal::Missing {
            subject: format!("node:{id}"),
            field: "barge_in.on_digit or on_speech",
        });
    }
    Ok(BargeIn {
        node: name("barge_in.node", &given.node, limits::NODE_ID_BYTES_MAX)?,
        on_digit: given.on_digit,
        on_speech: given.on_speech,
    })
}

fn item(id: &Name, subject: &str, given: &pb::PlayItem) -> Result<PlayItem, Refusal> {
    let source = match &given.source {
        Some(pb::play_item::Source::Tone(name)) => {
            let tone = TONES.iter().find(|(known, ..)| known == name);
            let (_, country, tone) = tone.ok_or_else(|| Refusal::UnknownTone {
                node: id.clone(),
                tone: name.chars().take(64).collect(),
                known: TONES.map(|(name, ..)| name).join(", "),
            })?;
            PlaySource::Tone(*country, *tone)
        }
        Some(pb::play_item::Source::SilenceMs(ms @ 1..=86_400_000)) => PlaySource::Silence(*ms),
        Some(pb::play_item::Source::SilenceMs(ms)) => {
            return out_of_range(subject, "items.silence_ms", ms, "1 to 86400000");
        }
        Some(pb::play_item::Source::Prompt(name)) => PlaySource::Prompt(prompt_name(id, name)?),
        None => {
            return Err(Refusal::Missing {
                subject: subject.into(),
                field: "items.source",
            });
        }
    };
    Ok(PlayItem {
        source,
        start_ms: given.start_ms,
    })
}

/// A name below the prompt directory, and never out of it.
fn prompt_name(id: &Name, given: &str) -> Result<Name, Refusal> {
    let below = |part: &str| !part.is_empty() && part != "." && part != "..";
    let fits = given.len() <= limits::PROMPT_NAME_BYTES_MAX
        && !given.chars().any(|c| c.is_control() || c == '\\')
        && given.split('/').all(below);
    if fits {
        return Ok(given.into());
    }
    Err(Refusal::Prompt {
        node: id.clone(),
        prompt: given.chars().take(64).collect(),
        reason: "is no relative name of a file, such as \"en/welcome.wav\"".into(),
    })
}

/// A player in the contract's words.
pub(super) fn described(spec: &PlayerSpec) -> pb::Player {
    let item = |item: &PlayItem| pb::PlayItem {
        source: Some(match &item.source {
            PlaySource::Prompt(name) => pb::play_item::Source::Prompt(name.to_string()),
            PlaySource::Silence(ms) => pb::play_item::Source::SilenceMs(*ms),
            PlaySource::Tone(country, tone) => {
                let known = TONES.iter().find(|(_, c, t)| c == country && t == tone);
                pb::play_item::Source::Tone(known.map_or("", |(name, ..)| name).into())
            }
        }),
        start_ms: item.start_ms,
    };
    pb::Player {
        items: spec.items.iter().map(item).collect(),
        repeat: Some(spec.repeat.unwrap_or(0)),
        gain_db: spec.gain_db,
        paused: spec.paused,
        barge_in: spec.barge_in.as_ref().map(|barge_in| pb::BargeIn {
            node: barge_in.node.to_string(),
            on_digit: barge_in.on_digit,
            on_speech: barge_in.on_speech,
        }),
        shared_group: spec.shared_group.as_deref().unwrap_or_default().into(),
    }
}
