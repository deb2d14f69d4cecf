//! Prompts: files read by the caller, decoded here once for all who play them, kept up to a bound.

use std::{collections::BTreeMap, sync::Arc};

use codecs::resample::file;

use super::{Host, Prepared, wav};
use crate::{
    command::Prompt,
    limits,
    refusal::Refusal,
    spec::{Name, NodeKind, PlaySource, SessionSpec},
};

/// A prompt's file, as the caller of [`Host::load_prompts`] found it.
#[derive(Debug, PartialEq, Eq)]
pub enum PromptFile {
    /// It has the version that is known.
    Same,
    /// It is new or has changed.
    New {
        /// Differs whenever the content does: time and size, for example.
        version: u64,
        /// All of it.
        bytes: Vec<u8>,
    },
}

/// Decoded prompts by name. Those not used for longest go first; who plays one keeps it.
#[derive(Debug, Default)]
pub(super) struct Prompts {
    kept: BTreeMap<Name, Kept>,
    samples: usize,
    turn: u64,
}

#[derive(Debug)]
struct Kept {
    prompt: Arc<Prompt>,
    version: u64,
    used: u64,
}

impl Host {
    /// Gives an edit the prompts its players need. `load` finds a file by its name, relative to the prompt directory,
    /// given the version that is known; its error ends a sentence that begins with the name. To be called between
    /// [`Host::prepare`] and [`Host::commit`].
    ///
    /// # Errors
    /// A file is not there or cannot be played; give the edit to [`Host::abort`].
    pub fn load_prompts(
        &mut self,
        prepared: &mut Prepared,
        mut load: impl FnMut(&Name, Option<u64>) -> Result<PromptFile, String>,
    ) -> Result<(), Refusal> {
        let spec = prepared.spec().clone();
        let current = prepared.session().and_then(|key| self.sessions.by_key(key));
        let mut found: Vec<Arc<Prompt>> = Vec::new();
        for (node, name) in wanted(&spec) {
            if found.iter().any(|prompt| prompt.name == *name) {
                continue;
            }
            // What plays already needs no file any more.
            let same_node = |before: &&super::session::Session| before.spec.node(node) == spec.node(node);
            let playing = current
                .filter(same_node)
                .and_then(|session| session.prompts.iter().find(|prompt| prompt.name == *name));
            let prompt = match playing {
                Some(prompt) => prompt.clone(),
                None => self
                    .prompts
                    .get(name, &mut load)
                    .map_err(|reason| Refusal::Prompt {
                        node: node.clone(),
                        prompt: name.to_string(),
                        reason,
                    })?,
            };
            found.push(prompt);
        }
        prepared.give_prompts(found);
        Ok(())
    }
}

/// Every player's prompts: player and name.
pub(super) fn wanted(spec: &SessionSpec) -> impl Iterator<Item = (&Name, &Name)> {
    spec.nodes.iter().flat_map(|node| {
        let items = match &node.kind {
            NodeKind::Player(player) => &player.items[..],
            NodeKind::Endpoint(_) | NodeKind::Room(_) | NodeKind::Tap(_) | NodeKind::Recorder(_) => &[],
        };
        items.iter().filter_map(|item| match &item.source {
            PlaySource::Prompt(name) => Some((&node.id, name)),
            PlaySource::Tone(..) | PlaySource::Silence(_) => None,
        })
    })
}

impl Prompts {
    fn get(
        &mut self,
        name: &Name,
        load: &mut impl FnMut(&Name, Option<u64>) -> Result<PromptFile, String>,
    ) -> Result<Arc<Prompt>, String> {
        self.turn += 1;
        let known = self.kept.get(name).map(|kept| kept.version);
        let (version, bytes) = match (load(name, known)?, self.kept.get_mut(name)) {
            (PromptFile::Same, Some(kept)) => {
                kept.used = self.turn;
                return Ok(kept.prompt.clone());
            }
            (PromptFile::Same, None) => return Err("was not read".into()),
            (PromptFile::New { version, bytes }, _) => (version, bytes),
        };
        let prompt = Arc::new(decode(name, &bytes)?);
        self.samples += samples(&prompt);
        let used = self.turn;
        let kept = Kept {
            prompt: prompt.clone(),
            version,
            used,
        };
        if let Some(before) = self.kept.insert(name.clone(), kept) {
            self.samples -= samples(&before.prompt);
        }
        while self.samples > limits::PROMPT_CACHE_SAMPLES_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            if let Some(gone) = self.kept.remove(&oldest) {
                self.samples -= samples(&gone.prompt);
            }
        }
        Ok(prompt)
    }
}

fn samples(prompt: &Prompt) -> usize {
    prompt.pcm_8k.len() + prompt.pcm_16k.len()
}

fn decode(name: &Name, bytes: &[u8]) -> Result<Prompt, String> {
    let wav = wav::read(bytes)?;
    let ms = wav.pcm.len() as u64 * 1_000 / u64::from(wav.rate_hz);
    if ms > limits::PROMPT_MS_MAX {
        return Err(format!(
            "is {} s long, at most {} s are played",
            ms / 1_000,
            limits::PROMPT_MS_MAX / 1_000
        ));
    }
    let at = |hz| {
        let converted =
            file::convert(&wav.pcm, wav.rate_hz, hz).map_err(|error| format!("cannot be played: {error}"));
        converted.map(Vec::into_boxed_slice)
    };
    Ok(Prompt {
        name: name.clone(),
        pcm_8k: at(8_000)?,
        pcm_16k: at(16_000)?,
    })
}
