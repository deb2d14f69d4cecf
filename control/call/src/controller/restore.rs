//! Going on after a restart: the journal is folded into what still stood, and what stood is made so again.
//!
//! [`Controller::replay`] takes the records, [`Controller::resume`] acts on them, once, before anything else comes in.
//! [`Controller::standing`] says it all again at the beginning of a new segment, so that older ones need not be read.

use std::collections::BTreeMap;

use super::{Controller, Now, unix_us};
use crate::{
    journal::{Record, RecordKind},
    registrar::source_of,
};

/// What stood at the end of the journal.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// [`RecordKind::Registered`] of each device, by account and Contact.
    pub(super) registrations: BTreeMap<(String, String), RecordKind>,
}

impl Past {
    fn fold(&mut self, kind: RecordKind) {
        match kind {
            RecordKind::Registered {
                ref user,
                ref contact,
                ..
            } => {
                let device = (user.clone(), contact.clone());
                self.registrations.insert(device, kind);
            }
            RecordKind::Unregistered { user, contact, .. } => {
                self.registrations.remove(&(user, contact));
            }
            // They tell people what the states tell us.
            _ => {}
        }
    }
}

impl Controller {
    /// One record of the journal of the process before this one, oldest first; then [`Controller::resume`].
    pub fn replay(&mut self, record: Record) {
        self.last_record = self.last_record.max(record.sequence);
        self.past.fold(record.kind);
    }

    /// Goes on from what was replayed. Before any other input.
    pub fn resume(&mut self, now: Now) {
        let Past { registrations } = std::mem::take(&mut self.past);
        drop(registrations);
        self.advance(now);
    }

    /// The beginning of a new segment: everything that still stands, said again.
    pub fn standing(&mut self, now: Now) -> Vec<Record> {
        let kinds: Vec<RecordKind> = self.registrations_standing(now).collect();
        let begin = RecordKind::Segment {
            standing: kinds.len() as u64,
        };
        let mut records = Vec::with_capacity(kinds.len() + 1);
        for kind in std::iter::once(begin).chain(kinds) {
            self.last_record += 1;
            records.push(Record {
                sequence: self.last_record,
                at_unix_us: unix_us(now.wall),
                repeated: !matches!(kind, RecordKind::Segment { .. }),
                kind,
            });
        }
        records
    }

    fn registrations_standing(&self, now: Now) -> impl Iterator<Item = RecordKind> {
        self.registrar.all().map(move |(user, binding)| {
            let left = binding.expires.saturating_duration_since(now.mono);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            RecordKind::Registered {
                user: user.to_string(),
                contact: text(binding.uri.as_bytes()),
                path: binding.path.iter().map(|hop| text(hop.uri.as_bytes())).collect(),
                source: source_of(binding.flow),
                expires_unix_us: unix_us(now.wall + left),
            }
        })
    }
}
