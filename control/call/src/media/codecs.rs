//! What may be spoken, by whom, and what one side's choice means for the other.

use std::collections::BTreeMap;

use sdp::Codec;

use crate::{
    config::{ComfortNoise, Config},
    domain::Name,
};

/// The codec a configuration names.
pub(crate) fn codec_named(name: &str) -> Option<Codec> {
    // RFC 7587 §7: what our decoder likes to get; 10 ms is what it can do at least.
    let opus = Codec::opus(Some("minptime=10;useinbandfec=1"));
    let known = [Codec::pcmu(), Codec::pcma(), Codec::g722(), opus];
    known
        .into_iter()
        .find(|codec| codec.name.eq_ignore_ascii_case(name))
}

/// Whose list of codecs counts for a party.
#[derive(Debug, Clone, Default)]
pub(crate) struct Party {
    /// One of our users.
    pub(crate) user: Option<Name>,
    /// It is reached, or came, by this trunk.
    pub(crate) trunk: Option<Name>,
}

/// What each party may speak. Media hosts translate, so that the two of a call need no codec in common.
#[derive(Debug, Clone)]
pub(crate) struct CodecPolicy {
    outside: Vec<Codec>,
    inside: Vec<Codec>,
    accounts: BTreeMap<String, Vec<Codec>>,
    trunks: BTreeMap<String, Vec<Codec>>,
    passes_through: bool,
    noise: ComfortNoise,
}

impl CodecPolicy {
    pub(crate) fn new(config: &Config) -> Self {
        let named =
            |names: &[String]| -> Vec<Codec> { names.iter().filter_map(|name| codec_named(name)).collect() };
        let outside = named(&config.media.codecs);
        let inside = match named(&config.media.codecs_inside) {
            none if none.is_empty() => outside.clone(),
            some => some,
        };
        let own = config
            .accounts
            .iter()
            .filter(|account| !account.codecs.is_empty());
        let trunks = config.trunks.iter().filter(|trunk| !trunk.codecs.is_empty());
        Self {
            accounts: own
                .map(|account| (account.user.clone(), named(&account.codecs)))
                .collect(),
            trunks: trunks
                .map(|trunk| (trunk.name.clone(), named(&trunk.codecs)))
                .collect(),
            passes_through: config.media.pass_through,
            noise: config.media.comfort_noise,
            outside,
            inside,
        }
    }

    /// What is accepted of a party that offers, preferred first, with telephone-events and comfort noise at each clock
    /// rate, and telephone-events at 8 kHz always.
    pub(crate) fn of(&self, party: &Party) -> Vec<Codec> {
        self.beside(party, None)
    }

    /// As [`CodecPolicy::of`], for a party whose counterpart speaks `chosen`: that first, because then nothing has to
    /// be translated.
    pub(crate) fn beside(&self, party: &Party, chosen: Option<&Codec>) -> Vec<Codec> {
        Self::with_companions(self.preferred(party, chosen), self.noise != ComfortNoise::Off)
    }

    /// What is offered to a party whose counterpart speaks `chosen`: as [`CodecPolicy::beside`], but comfort noise only if
    /// the counterpart `describes_silence`, or everybody is offered that.
    pub(crate) fn offered(
        &self,
        party: &Party,
        chosen: Option<&Codec>,
        describes_silence: bool,
    ) -> Vec<Codec> {
        let noise = match self.noise {
            ComfortNoise::Off => false,
            ComfortNoise::Accept => describes_silence,
            ComfortNoise::Offer => true,
        };
        Self::with_companions(self.preferred(party, chosen), noise)
    }

    fn preferred(&self, party: &Party, chosen: Option<&Codec>) -> Vec<Codec> {
        let mut codecs = self.audio_of(party).to_vec();
        if let Some(chosen) = chosen.filter(|_| self.passes_through) {
            codecs.sort_by_key(|codec| !codec.matches(chosen));
        }
        codecs
    }

    fn with_companions(mut codecs: Vec<Codec>, noise: bool) -> Vec<Codec> {
        let mut clocks: Vec<u32> = codecs.iter().map(|codec| codec.clock_hz).collect();
        clocks.sort_unstable();
        clocks.dedup();
        // Opus describes its silence itself.
        let described = clocks.iter().copied().filter(|hz| noise && *hz <= 16_000);
        let noises = described.map(Codec::comfort_noise);
        // Many who have Opus know telephone-events at 8 kHz alone.
        let at_8_khz = Some(8_000).filter(|hz| !clocks.contains(hz));
        let events = at_8_khz.into_iter().chain(clocks.iter().copied());
        codecs.extend(events.map(Codec::telephone_event).chain(noises));
        codecs
    }

    /// True when a party should follow its counterpart's choice where it can.
    pub(crate) fn passes_through(&self) -> bool {
        self.passes_through
    }

    fn audio_of(&self, party: &Party) -> &[Codec] {
        let of_trunk = party.trunk.as_ref().and_then(|trunk| self.trunks.get(&**trunk));
        match (of_trunk, &party.user) {
            (Some(codecs), _) => codecs,
            (None, Some(user)) => self.accounts.get(&**user).unwrap_or(&self.inside),
            (None, None) => &self.outside,
        }
    }
}
