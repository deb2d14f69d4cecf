//! The wall clock's time of something that happened once, in half the room of an `Option<SystemTime>`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// µs since 1970; 0 before it happened.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct UnixMicros(u64);

impl UnixMicros {
    pub(crate) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn get(self) -> Option<SystemTime> {
        (self.0 != 0).then(|| UNIX_EPOCH + Duration::from_micros(self.0))
    }
}
