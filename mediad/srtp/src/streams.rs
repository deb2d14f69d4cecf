//! What a context remembers of each SSRC, in a table of fixed size.

use crate::{index::Window, limits::SSRCS_MAX};

/// Indices of one SSRC.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stream {
    ssrc: u32,
    /// When it was last used, in uses of the table; 0 is a free place.
    used: u32,
    pub(crate) rtp: Window,
    pub(crate) rtcp: Window,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    /// Place of the latest one.
    latest: usize,
    uses: u32,
    places: [Stream; SSRCS_MAX],
}

impl Streams {
    /// What is known of `ssrc`; nothing, as of a new one, if it is not there.
    #[inline]
    pub(crate) fn find(&self, ssrc: u32) -> Option<&Stream> {
        self.place_of(ssrc).map(|place| &self.places[place])
    }

    /// The entry of `ssrc`, which takes the place of the one silent longest if it is new.
    #[inline]
    pub(crate) fn entry(&mut self, ssrc: u32) -> &mut Stream {
        let place = match self.place_of(ssrc) {
            Some(place) => place,
            None => self.place_for(ssrc),
        };
        if place != self.latest || self.uses == 0 {
            self.touch(place);
        }
        &mut self.places[place]
    }

    #[inline]
    fn place_of(&self, ssrc: u32) -> Option<usize> {
        let is_it = |stream: &Stream| stream.used != 0 && stream.ssrc == ssrc;
        if is_it(&self.places[self.latest]) {
            return Some(self.latest);
        }
        self.places.iter().position(is_it)
    }

    #[cold]
    fn place_for(&mut self, ssrc: u32) -> usize {
        let oldest = (0..SSRCS_MAX).min_by_key(|place| self.places[*place].used);
        let place = oldest.unwrap_or(0);
        self.places[place] = Stream {
            ssrc,
            ..Stream::default()
        };
        self.touch(place);
        place
    }

    fn touch(&mut self, place: usize) {
        if self.uses == u32::MAX {
            // After years of two SSRCs taking turns: who comes next counts as equally old.
            self.uses = 1;
            for stream in &mut self.places {
                stream.used = stream.used.min(1);
            }
        }
        self.uses += 1;
        self.places[place].used = self.uses;
        self.latest = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_silent_longest_makes_room() {
        let mut streams = Streams::default();
        assert!(streams.find(0).is_none(), "zero is an SSRC like any other");
        for ssrc in 0..SSRCS_MAX as u32 {
            streams.entry(ssrc).rtp.insert(u64::from(ssrc));
        }
        assert_eq!(streams.entry(0).rtp.newest(), Some(0));
        assert_eq!(streams.entry(99).rtp.newest(), None);
        assert!(streams.find(1).is_none());
        assert!(streams.find(0).is_some() && streams.find(2).is_some());
        streams.uses = u32::MAX;
        assert_eq!(streams.entry(2).rtp.newest(), Some(2));
        assert_eq!(streams.entry(3).rtp.newest(), Some(3));
        assert!(streams.find(99).is_some());
    }
}
