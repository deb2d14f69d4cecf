//! A controller's watch over the host's events: contiguous, resumable, and honest when something was lost.

use std::time::{Duration, Instant};

use media_engine::host::{EndReason, Event, Events, Happening, Host};

use crate::server::EVENTS_KEEP;

/// What a watcher knows.
#[derive(Debug)]
pub struct Watch {
    boot: String,
    after: u64,
    polled_at: Instant,
    /// Sessions told to have ended, with the reason, since the last break.
    pub ended: Vec<(String, EndReason)>,
    /// It had to take a snapshot.
    pub broken: u32,
}

impl Watch {
    /// Starts at what the host has now.
    pub fn new(now: Instant, host: &Host) -> Self {
        Self {
            boot: host.boot_id().into(),
            after: host.last_event(),
            polled_at: now,
            ended: Vec::new(),
            broken: 0,
        }
    }

    /// Reads a page of events; true if the page was full.
    ///
    /// # Errors
    /// Says what is wrong with the numbers.
    pub fn poll(&mut self, now: Instant, host: &Host, page: usize) -> Result<bool, String> {
        let away = now - std::mem::replace(&mut self.polled_at, now);
        match host.events_after(&self.boot, self.after, None, |_| true, page) {
            Events::After(events, last) => {
                let full = events.len() == page;
                self.take(events, last)?;
                Ok(full)
            }
            Events::Lost(why) => {
                if *self.boot == *host.boot_id() && away < EVENTS_KEEP - Duration::from_secs(1) {
                    return Err(format!(
                        "after {away:?} the host says that events are lost: {why}"
                    ));
                }
                *self = Self {
                    broken: self.broken + 1,
                    ended: Vec::new(),
                    ..Self::new(now, host)
                };
                Ok(false)
            }
        }
    }

    fn take(&mut self, events: Vec<Event>, last: u64) -> Result<(), String> {
        for event in events {
            if event.sequence != self.after + 1 {
                return Err(format!("event {} follows {}", event.sequence, self.after));
            }
            self.after = event.sequence;
            if let Happening::SessionEnded(reason) = event.kind {
                self.ended.push((event.session.to_string(), reason));
            }
        }
        if last == self.after {
            Ok(())
        } else {
            Err(format!("the last event is {}, the host says {last}", self.after))
        }
    }
}

impl Watch {
    /// Believes to have seen one event more than it has.
    pub fn skip(&mut self) {
        self.after = self.after.saturating_sub(1);
        self.after += 2;
    }
}
