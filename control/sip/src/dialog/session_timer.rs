//! The session timer (RFC 4028): who refreshes, and how often.

use std::time::Duration;

use crate::header::{Refresher, SessionExpires};
use crate::message::{HeaderName, Headers};
use crate::stack::SessionTimerConfig;

/// RFC 4028 §5: a Min-SE that is not written is 90 s, and none may be shorter.
const MIN_SE: Duration = Duration::from_secs(90);

/// Our part in keeping a session alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTimerRole {
    /// We send the refreshes.
    Refresher,
    /// We hang up when none comes.
    Watcher,
}

/// The timer of one dialog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionTimer {
    /// The negotiated interval and our role; `None` without session timer.
    pub agreed: Option<(Duration, SessionTimerRole)>,
    /// The largest Min-SE a 422 has told us.
    pub min_se: Option<Duration>,
}

/// What a UAS does about the Session-Expires of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAnswer {
    /// No session timer.
    Off,
    /// 422 with this Min-SE.
    TooSmall(Duration),
    /// Agreed: goes into the 2xx.
    Agreed {
        /// The interval.
        interval: Duration,
        /// Who refreshes, seen from the request.
        refresher: Refresher,
        /// The 2xx must hold `Require: timer`.
        require: bool,
    },
}

impl SessionTimer {
    /// Decides on an INVITE or UPDATE received. `keep` is our role until now, which a refresh keeps.
    pub fn answer(&self, headers: &Headers, config: Option<&SessionTimerConfig>) -> SessionAnswer {
        let supports = headers.supported().is_ok_and(|tags| tags.contains("timer"));
        let requested = headers.session_expires().ok().flatten();
        let peer_min = headers.min_se().ok().flatten();
        let peer_min = peer_min.map_or(MIN_SE, |seconds| Duration::from_secs(seconds.into()).max(MIN_SE));
        let own_min = config.map_or(MIN_SE, |config| config.min_se.max(MIN_SE));
        match requested {
            // RFC 4028 §9: 422 only to those who say that they know the extension.
            Some(requested) if u64::from(requested.seconds) < own_min.as_secs() => {
                if supports {
                    SessionAnswer::TooSmall(own_min)
                } else {
                    // A proxy asked, the caller cannot: the interval may not be raised, so there is none.
                    SessionAnswer::Off
                }
            }
            Some(requested) => {
                let asked = Duration::from_secs(requested.seconds.into());
                // RFC 4028 §9: it may be lowered down to Min-SE, never raised.
                let ours = config.map_or(asked, |config| config.interval);
                let interval = asked.min(ours.max(peer_min).max(own_min));
                // RFC 4028 §9 table 2: what the request says stays; without the extension only we can refresh.
                let refresher = match (supports, requested.refresher) {
                    (false, _) => Refresher::Uas,
                    (true, Some(refresher)) => refresher,
                    (true, None) => Refresher::Uac,
                };
                SessionAnswer::Agreed {
                    interval,
                    refresher,
                    require: supports && refresher == Refresher::Uac,
                }
            }
            // RFC 4028 §9: the UAS may ask for a timer that the UAC did not ask for.
            None => match config {
                Some(config) => SessionAnswer::Agreed {
                    interval: config.interval.max(peer_min),
                    refresher: Refresher::Uas,
                    require: false,
                },
                None => SessionAnswer::Off,
            },
        }
    }

    /// Takes on what was agreed as UAS.
    pub fn agree_as_uas(&mut self, answer: SessionAnswer) {
        self.agreed = match answer {
            SessionAnswer::Off | SessionAnswer::TooSmall(_) => None,
            SessionAnswer::Agreed {
                interval, refresher, ..
            } => Some((interval, role(refresher, Refresher::Uas))),
        };
    }

    /// Takes on what the 2xx to our INVITE or UPDATE says; without Session-Expires the timer is off
    /// (RFC 4028 §7.2).
    pub fn agree_as_uac(&mut self, headers: &Headers) {
        self.agreed = headers.session_expires().ok().flatten().map(|value| {
            let interval = Duration::from_secs(value.seconds.into()).max(MIN_SE);
            // RFC 4028 §7.2 makes `refresher` mandatory here; where it is missing, refreshing ourselves is safe.
            let refresher = value.refresher.unwrap_or(Refresher::Uac);
            (interval, role(refresher, Refresher::Uac))
        });
    }

    /// Writes Session-Expires and Min-SE into a request of ours. A refresh names the refresher there is; a first
    /// request leaves it open (RFC 4028 §7.1, §7.4).
    pub fn write_request(&self, headers: &mut Headers, config: Option<&SessionTimerConfig>) {
        let interval = match (self.agreed, config) {
            (Some((interval, _)), _) => interval,
            (None, Some(config)) => config.interval,
            (None, None) => return,
        };
        let own_min = config.map_or(MIN_SE, |config| config.min_se);
        let min_se = own_min.max(self.min_se.unwrap_or(MIN_SE)).max(MIN_SE);
        let refresher = self.agreed.map(|(_, role)| match role {
            SessionTimerRole::Refresher => Refresher::Uac,
            SessionTimerRole::Watcher => Refresher::Uas,
        });
        let value = SessionExpires {
            seconds: seconds(interval.max(min_se)),
            refresher,
        };
        headers.set_value(HeaderName::SessionExpires, &value);
        if min_se > MIN_SE || self.min_se.is_some() {
            let value = SessionExpires {
                seconds: seconds(min_se),
                refresher: None,
            };
            headers.set_value(HeaderName::MinSe, &value);
        }
    }

    /// Takes note of the Min-SE of a 422, in seconds.
    pub(crate) fn raise_min_se(&mut self, seconds: u32) {
        let told = Duration::from_secs(seconds.into());
        self.min_se = self.min_se.max(Some(told));
    }

    /// How long after a refresh we act: send the next one at half of the interval, or hang up a third of it, at most
    /// 32 s, before its end (RFC 4028 §10).
    pub fn due_after(&self) -> Option<(Duration, SessionTimerRole)> {
        self.agreed.map(|(interval, role)| match role {
            SessionTimerRole::Refresher => (interval / 2, role),
            SessionTimerRole::Watcher => (interval - Duration::from_secs(32).min(interval / 3), role),
        })
    }
}

/// The interval in whole seconds, as the header has it.
pub(crate) fn seconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_secs()).unwrap_or(u32::MAX)
}

fn role(refresher: Refresher, ours: Refresher) -> SessionTimerRole {
    if refresher == ours {
        SessionTimerRole::Refresher
    } else {
        SessionTimerRole::Watcher
    }
}
