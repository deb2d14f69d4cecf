//! Settings of what is offered around a call: music, transfers, conferences, recordings, and calls that machines ask for.

use std::{collections::BTreeMap, time::Duration};

use proto::mediad::v1 as pb;
use serde::Deserialize;

use crate::config::{ConfigError, invalid};

/// What callers hear while they wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Music {
    /// A prompt of the media hosts, played for ever. Empty (default): the melody they have built in.
    pub prompt: String,
    /// The tone that stands for the built-in melody.
    pub tone: String,
    /// The tone of a phone that rings, for callers who cannot make it themselves: they were answered already, or
    /// another phone of the same user sends early media. Default: `ringback-us`.
    pub ringback: String,
    /// Who is put on hold hears our music; what the holder sends is not passed on. Default: yes. Otherwise the
    /// holder's phone plays music, or there is silence.
    pub on_hold: bool,
}

impl Default for Music {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            tone: "melody".to_owned(),
            ringback: "ringback-us".to_owned(),
            on_hold: true,
        }
    }
}

impl Music {
    /// Played to who waits. `prompt` of a queue goes before the general one.
    pub(crate) fn player(&self, prompt: &str) -> pb::Player {
        use pb::play_item::Source;
        let prompt = if prompt.is_empty() { &self.prompt } else { prompt };
        shared(match prompt.is_empty() {
            true => Source::Tone(self.tone.clone()),
            false => Source::Prompt(prompt.to_owned()),
        })
    }

    /// Played instead of a prompt that the media host does not have.
    pub(crate) fn built_in(&self) -> pb::Player {
        shared(pb::play_item::Source::Tone(self.tone.clone()))
    }

    pub(crate) fn ringback(&self) -> pb::Player {
        for_ever(pb::play_item::Source::Tone(self.ringback.clone()))
    }
}

/// One source for everybody who hears the same: a thousand callers cost one decoder, and who comes late comes into the
/// middle of it.
fn shared(source: pb::play_item::Source) -> pb::Player {
    pb::Player {
        shared_group: "music".to_owned(),
        ..for_ever(source)
    }
}

/// What asks where there is no prompt.
pub(crate) fn dial_tone() -> pb::play_item::Source {
    pb::play_item::Source::Tone("dial-us".to_owned())
}

/// Played once.
pub(crate) fn once(source: pb::play_item::Source) -> pb::Player {
    pb::Player {
        repeat: Some(1),
        ..for_ever(source)
    }
}

pub(crate) fn for_ever(source: pb::play_item::Source) -> pb::Player {
    let item = pb::PlayItem {
        source: Some(source),
        start_ms: 0,
    };
    pb::Player {
        items: vec![item],
        repeat: Some(0),
        ..pb::Player::default()
    }
}

/// Who may move calls to others by REFER or Replaces, and have rooms call somebody or let somebody go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfers {
    /// Our accounts. The default: a stranger could make us call anybody.
    #[default]
    Users,
    /// Everybody in a call.
    All,
    /// Nobody.
    None,
}

/// Calls that machines ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Originating {
    /// Such calls at once; more are refused. 0: no limit. Default 100.
    pub calls_max: usize,
    /// Such calls that may begin in a second; more are refused. 0: no limit. Default 10.
    pub calls_per_s: u32,
    /// The first party's phones ring this long, when the request does not say. Default 30.
    pub ring_timeout_s: u64,
    /// A request with the key of an earlier one is that one for this long. Default: a day.
    pub keys_kept_s: u64,
}

impl Default for Originating {
    fn default() -> Self {
        Self {
            calls_max: 100,
            calls_per_s: 10,
            ring_timeout_s: 30,
            keys_kept_s: 24 * 3_600,
        }
    }
}

/// Meetings: whoever dials the prefix and a name meets the others who did.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conferences {
    /// What dialled users begin with, such as `room-` (default) in `room-7`. Empty: there are no conferences.
    pub prefix: String,
    /// Conferences at once; above: 503. Default 500.
    pub count_max: usize,
    /// Members of one; above: 486. Default 100.
    pub members_max: usize,
    /// Mixing rate in Hz: 8000, 16000 (default) or 48000.
    pub sample_rate_hz: u32,
    /// Only the loudest of those who talk are mixed; 0 (default): all.
    pub top_talkers: u32,
    /// A prompt of the media hosts that all hear when somebody comes in, and one when somebody leaves. Empty (default):
    /// none.
    pub join_prompt: String,
    /// See `join_prompt`.
    pub leave_prompt: String,
    /// Two short notes that the media hosts have built in, upwards when somebody comes in, instead of a prompt or where a
    /// media host lacks it. Default: no.
    pub join_tone: bool,
    /// As `join_tone`, downwards when somebody leaves.
    pub leave_tone: bool,
    /// PINs of rooms, by room: digits that each member types before it is in, `#` ends them early. Others are open.
    pub pins: BTreeMap<String, String>,
    /// A prompt of the media hosts that asks for the PIN. Empty (default): a dial tone asks.
    pub pin_prompt: String,
    /// From the question to the first digit, and from each digit to the next, in seconds. Default 10.
    pub pin_timeout_s: u64,
    /// So often a member may try. Default 3.
    pub pin_tries_max: u32,
}

impl Default for Conferences {
    fn default() -> Self {
        Self {
            prefix: "room-".to_owned(),
            count_max: 500,
            members_max: 100,
            sample_rate_hz: 16_000,
            top_talkers: 0,
            join_prompt: String::new(),
            leave_prompt: String::new(),
            join_tone: false,
            leave_tone: false,
            pins: BTreeMap::new(),
            pin_prompt: String::new(),
            pin_timeout_s: 10,
            pin_tries_max: 3,
        }
    }
}

impl Conferences {
    /// The room that a dialled user names.
    pub(crate) fn room<'a>(&self, user: &'a str) -> Option<&'a str> {
        let name = user
            .strip_prefix(&self.prefix)
            .filter(|_| !self.prefix.is_empty())?;
        let is_name = (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_name.then_some(user)
    }

    /// What asks for the PIN: the prompt, if the media host has it.
    pub(crate) fn question(&self, has_prompt: bool) -> pb::Player {
        once(match self.pin_prompt.is_empty() || !has_prompt {
            true => dial_tone(),
            false => pb::play_item::Source::Prompt(self.pin_prompt.clone()),
        })
    }

    pub(crate) fn node(&self) -> pb::Room {
        pb::Room {
            sample_rate_hz: self.sample_rate_hz,
            top_talkers: self.top_talkers,
            ..pb::Room::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if ![8_000, 16_000, 48_000].contains(&self.sample_rate_hz) {
            let value = self.sample_rate_hz.to_string();
            let key = "conferences.sample_rate_hz";
            return Err(invalid(
                key,
                &value,
                "no rate of a mixer",
                "use 8000, 16000 or 48000",
            ));
        }
        for (room, pin) in &self.pins {
            let is_pin = (1..=16).contains(&pin.len()) && pin.bytes().all(|digit| digit.is_ascii_digit());
            let key = format!("conferences.pins.{room}");
            if !is_pin {
                return Err(invalid(&key, "", "is no PIN", "use 1 to 16 digits"));
            }
            if self.room(room).is_none() {
                return Err(invalid(
                    &key,
                    room,
                    "is no room",
                    "write its name as it is dialled, such as room-7",
                ));
            }
        }
        if self.pin_timeout_s == 0 || self.pin_tries_max == 0 {
            let value = format!("{} {}", self.pin_timeout_s, self.pin_tries_max);
            let problem = "pin_timeout_s and pin_tries_max must be at least 1";
            return Err(invalid("conferences", &value, problem, "raise them"));
        }
        Ok(())
    }
}

/// What recordings are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingFormat {
    /// Stereo: caller left, who serves it right.
    WavStereo,
    /// Both in one channel.
    WavMono,
    /// Both in one channel, compressed.
    OggOpus,
}

impl RecordingFormat {
    pub(crate) fn to_wire(self) -> pb::RecordingFormat {
        match self {
            Self::WavStereo => pb::RecordingFormat::WavStereo,
            Self::WavMono => pb::RecordingFormat::WavMono,
            Self::OggOpus => pb::RecordingFormat::OggOpus,
        }
    }
}

/// Recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recording {
    /// Default: `wav_stereo`.
    pub format: RecordingFormat,
    /// A recording is told of once its call ended; the call's detail waits for that so long. Default 5.
    pub wait_s: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Self {
            format: RecordingFormat::WavStereo,
            wait_s: 5,
        }
    }
}

impl Recording {
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn music_is_shared_and_ringback_begins_at_its_beginning() {
        let music = Music::default();
        let group = |player: pb::Player| player.shared_group;
        assert_eq!(group(music.player("")), "music");
        assert_eq!(group(music.player("queue.wav")), "music");
        assert_eq!(group(music.built_in()), "music");
        assert_eq!(group(music.ringback()), "");
    }
}
