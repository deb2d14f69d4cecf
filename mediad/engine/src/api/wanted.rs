//! Which events a watcher wants.

use proto::mediad::v1::{self as pb, EventKind as Of};

use crate::{
    command::EventKind,
    host::{EndReason, Happening},
};

/// What a watcher wants to be told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only events of sessions of this controller.
    pub controller: Option<String>,
    /// A bit for each kind; 0 is all.
    kinds: u32,
}

/// What a watcher asks for. A kind that only a newer version knows never happens here, and is passed over.
pub fn wanted(request: &pb::WatchRequest) -> Wanted {
    let known = request.only.iter().filter_map(|kind| Of::try_from(*kind).ok());
    Wanted {
        controller: (!request.controller.is_empty()).then(|| request.controller.clone()),
        kinds: known.fold(0, |kinds, kind| kinds | bit(kind)),
    }
}

impl Wanted {
    /// It is of a kind that is wanted.
    pub fn takes(&self, what: &Happening) -> bool {
        self.kinds == 0 || self.kinds & kinds_of(what) != 0
    }
}

const fn bit(kind: Of) -> u32 {
    1 << kind as u32
}

/// The kinds that an event is of.
fn kinds_of(what: &Happening) -> u32 {
    match what {
        Happening::Engine(kind) => engine_kinds(kind),
        Happening::SessionEnded(EndReason::Deleted) => bit(Of::SessionEnded),
        Happening::SessionEnded(EndReason::Removed | EndReason::Orphaned | EndReason::OrphanCap) => {
            bit(Of::SessionEnded) | bit(Of::SessionLost)
        }
        Happening::RecordingFinalised(_) => bit(Of::RecordingFinalised),
        Happening::OwnerChanged { .. } => bit(Of::OwnerChanged),
    }
}

fn engine_kinds(kind: &EventKind) -> u32 {
    match kind {
        EventKind::DigitStarted { .. } => bit(Of::DigitStarted),
        EventKind::DigitEnded { .. } => bit(Of::DigitEnded),
        EventKind::MediaStarted { resumed: false, .. } => bit(Of::MediaStarted),
        EventKind::MediaStarted { resumed: true, .. } => bit(Of::MediaStarted) | bit(Of::MediaResumed),
        EventKind::MediaTimeout { .. } => bit(Of::MediaTimeout),
        EventKind::SourceLearned { .. } => bit(Of::SourceLearned),
        EventKind::PeerBye { .. } => bit(Of::PeerBye),
        EventKind::QualityChanged { .. } => bit(Of::QualityChanged),
        EventKind::DigitsCollected { .. } => bit(Of::DigitsCollected),
        EventKind::PlayFinished(_) => bit(Of::PlayFinished),
        EventKind::EndpointRemoved(_) => bit(Of::EndpointRemoved),
        EventKind::TalkStarted => bit(Of::TalkStarted),
        EventKind::TalkStopped { .. } => bit(Of::TalkStopped),
        // Between engine and host only.
        EventKind::Silent => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_kinds_gets_those_and_who_names_none_gets_all() {
        let ended = Happening::SessionEnded(EndReason::Deleted);
        let lost = Happening::SessionEnded(EndReason::Removed);
        let talk = Happening::Engine(EventKind::TalkStarted);
        let takes = |only: &[Of]| {
            let newer = 99;
            let only = only.iter().map(|kind| *kind as i32);
            let wanted = wanted(&pb::WatchRequest {
                only: only.chain([newer]).collect(),
                ..pb::WatchRequest::default()
            });
            [&ended, &lost, &talk].map(|what| wanted.takes(what))
        };
        assert_eq!(takes(&[]), [true, true, true]);
        assert_eq!(takes(&[Of::SessionEnded]), [true, true, false]);
        assert_eq!(takes(&[Of::SessionLost]), [false, true, false]);
        assert_eq!(takes(&[Of::TalkStarted, Of::PeerBye]), [false, false, true]);
        assert_eq!(takes(&[Of::PeerBye]), [false, false, false]);
    }
}
