//! Settings of what is offered around a call: music and transfers.

use proto::mediad::v1 as pb;
use serde::Deserialize;

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
        let source = match prompt.is_empty() {
            true => Source::Tone(self.tone.clone()),
            false => Source::Prompt(prompt.to_owned()),
        };
        for_ever(source)
    }

    /// Played instead of a prompt that the media host does not have.
    pub(crate) fn built_in(&self) -> pb::Player {
        for_ever(pb::play_item::Source::Tone(self.tone.clone()))
    }

    pub(crate) fn ringback(&self) -> pb::Player {
        for_ever(pb::play_item::Source::Tone(self.ringback.clone()))
    }
}

fn for_ever(source: pb::play_item::Source) -> pb::Player {
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

/// Who may move calls to others by REFER or Replaces.
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
