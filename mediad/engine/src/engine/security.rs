//! The keys of a transport in use.

use std::{sync::Arc, time::Instant};

use srtp::{Inbound, Outbound, UnprotectError};

use crate::{
    command::DropReason,
    spec::{MasterKey, RemoteKey},
};

/// What a protected transport encrypts and decrypts with. A context stays as long as its key does, whatever is edited:
/// with a second one the same keystream would be used twice.
#[derive(Debug, Default)]
pub(crate) struct Security {
    /// The peer's key is known at present.
    accepts: bool,
    remote: Option<MasterKey>,
    inbound: Option<Inbound>,
    local: Option<Arc<MasterKey>>,
    /// While no endpoint has it.
    parked: Option<Box<Outbound>>,
}

impl Security {
    /// The peer's key and ours are these from now on.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        remote: Option<&RemoteKey>,
        sending: Option<&Arc<MasterKey>>,
    ) {
        self.accepts = remote.is_some();
        if let Some(RemoteKey { key, tag: _ }) = remote.filter(|new| self.remote.as_ref() != Some(&new.key)) {
            match &mut self.inbound {
                Some(inbound) => inbound.rekey(now, key),
                None => self.inbound = Some(Inbound::new(key)),
            }
            self.remote = Some(key.clone());
        }
        if let Some(key) = sending.filter(|new| self.local.as_ref() != Some(new)) {
            self.parked = Some(Box::new(Outbound::new(key)));
            self.local = Some(key.clone());
        }
    }

    /// Both keys are known: packets may go and come.
    pub(crate) fn is_ready(&self) -> bool {
        self.accepts && self.local.is_some()
    }

    pub(crate) fn park(&mut self, sealer: Box<Outbound>) {
        self.parked = Some(sealer);
    }

    pub(crate) fn take_sealer(&mut self) -> Option<Box<Outbound>> {
        if self.is_ready() { self.parked.take() } else { None }
    }

    #[inline]
    pub(crate) fn open_rtp(&mut self, now: Instant, packet: &mut [u8]) -> Result<usize, DropReason> {
        self.receiver()?.unprotect_rtp(now, packet).map_err(reason)
    }

    pub(crate) fn open_rtcp(&mut self, now: Instant, packet: &mut [u8]) -> Result<usize, DropReason> {
        self.receiver()?.unprotect_rtcp(now, packet).map_err(reason)
    }

    #[inline]
    fn receiver(&mut self) -> Result<&mut Inbound, DropReason> {
        self.inbound
            .as_mut()
            .filter(|_| self.accepts)
            .ok_or(DropReason::Authentication)
    }
}

fn reason(error: UnprotectError) -> DropReason {
    match error {
        UnprotectError::Replay => DropReason::Replay,
        UnprotectError::Authentication => DropReason::Authentication,
        // `UnprotectError` may grow; what it cannot name is not an SRTP packet.
        UnprotectError::Malformed | _ => DropReason::Malformed,
    }
}
