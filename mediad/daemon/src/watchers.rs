//! Who waits for events: answered by the host thread when there is something for them, so that nobody is woken for events
//! that nobody wants.

use std::time::{Duration, Instant};

use media_engine::host::{Events, Host};

use crate::{limits, requests::EventsAfter};

/// A watcher for whom nothing happened is told so this often, when there were events for others: the ring forgets.
const ABREAST_EVERY: Duration = Duration::from_secs(2);

/// Those who wait. As many as there are streams: each asks again only when it was answered.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    asked: EventsAfter,
    since: Instant,
    /// Events for others were passed over.
    behind: bool,
}

impl Watchers {
    /// Answers, or keeps who asks for later.
    pub(crate) fn ask(&mut self, host: &Host, now: Instant, asked: EventsAfter) {
        self.waiting.retain(|waiting| !waiting.asked.reply.is_closed());
        let waiting = Waiting {
            asked,
            since: now,
            behind: false,
        };
        self.waiting.extend(waiting.answered(host));
    }

    /// There are new events.
    pub(crate) fn tell(&mut self, host: &Host) {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting
            .extend(waiting.into_iter().filter_map(|waiting| waiting.answered(host)));
    }

    /// Those who wait for long learn how far the numbers have come.
    pub(crate) fn keep_abreast(&mut self, now: Instant) {
        let is_due = |waiting: &mut Waiting| waiting.behind && now >= waiting.since + ABREAST_EVERY;
        for Waiting { asked, .. } in self.waiting.extract_if(.., is_due) {
            // Who asked may be gone.
            let _gone = asked.reply.send(Events::After(Vec::new(), asked.after));
        }
    }
}

impl Waiting {
    /// Answers; gives back who is to wait for longer.
    fn answered(mut self, host: &Host) -> Option<Self> {
        let EventsAfter {
            boot_id,
            after,
            wanted,
            ..
        } = &self.asked;
        let takes = |what: &_| wanted.takes(what);
        let controller = wanted.controller.as_deref();
        let events = host.events_after(boot_id, *after, controller, takes, limits::EVENTS_PER_READ);
        match events {
            Events::After(events, last) if events.is_empty() && self.asked.patient => {
                self.behind |= last != self.asked.after;
                self.asked.after = last;
                Some(self)
            }
            events => {
                let _gone = self.asked.reply.send(events);
                None
            }
        }
    }
}
