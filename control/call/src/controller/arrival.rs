//! Who begins something with us, and where it is to lead: the same for calls and for messages.

use sip::{
    header::NameAddr,
    message::{Request, Response, StatusCode},
    stack::Flow,
    uri::Uri,
};

use super::{Controller, Now};
use crate::{domain::Name, routing::Destination, trunk::TrunkId};

/// A request outside of dialogs whose sender may send it.
pub(super) struct Arrival {
    /// The account that sent it, if it is one.
    pub(super) account: Option<Name>,
    /// The trunk it came from.
    pub(super) trunk: Option<TrunkId>,
    /// What was dialled.
    pub(super) uri: Uri,
    /// The sender as it names itself.
    pub(super) from: NameAddr,
    /// The sender as it is named here.
    pub(super) address: NameAddr,
    /// What goes on may pass so many hops.
    pub(super) max_forwards: u8,
    /// Whom it is for.
    pub(super) destination: Destination,
}

impl Controller {
    /// Who sent it and where it leads, or what it is refused with.
    pub(super) fn arrive(
        &mut self,
        now: Now,
        request: &Request,
        flow: Flow,
    ) -> Result<Arrival, Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        let account = self.authorise(now, request, flow)?;
        let trunk = self.trunk_of(flow.remote.ip(), account.as_ref());
        let uri = request.uri().map_err(|_| refuse(StatusCode::BAD_REQUEST))?;
        let from = request
            .headers
            .from()
            .map_err(|_| refuse(StatusCode::BAD_REQUEST))?;
        let hops = request.headers.max_forwards().ok().flatten().unwrap_or(70);
        // RFC 7332 §5.1.4: a back-to-back user agent ends loops as a proxy does.
        let max_forwards = hops
            .checked_sub(1)
            .ok_or_else(|| refuse(StatusCode::TOO_MANY_HOPS))?;
        let destination = self
            .destination_of(&uri, trunk, account.as_ref())
            .map_err(refuse)?;
        let address = trunk.map_or_else(|| from.clone(), |trunk| self.caller_from(trunk, request, &from));
        Ok(Arrival {
            account,
            trunk,
            uri,
            from,
            address,
            max_forwards,
            destination,
        })
    }

    /// Who may call: trusted addresses, our accounts with their password, and strangers if that is allowed. Gives the
    /// account that calls, if it is one.
    pub(super) fn authorise(
        &mut self,
        now: Now,
        request: &Request,
        flow: Flow,
    ) -> Result<Option<Name>, Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        if self.trunks.of_source(flow.remote.ip()).is_some() {
            // Known by its address; whoever it says calls is none of our accounts.
            return Ok(None);
        }
        let from = request
            .headers
            .from()
            .map_err(|_| refuse(StatusCode::BAD_REQUEST))?;
        let user = from.uri.user_unescaped().unwrap_or_default();
        let user = std::str::from_utf8(&user).unwrap_or_default();
        let claimed = self
            .registrar
            .account(user)
            .filter(|_| self.routing.is_ours(&from.uri));
        let strangers_may = claimed.is_none() && self.config.allow_anonymous_calls;
        if strangers_may || self.config.trusted.contains(&flow.remote.ip()) {
            return Ok(claimed);
        }
        match self.registrar.authenticate(now, request) {
            Ok(user) if claimed.as_ref() == Some(&user) => Ok(claimed),
            // A trunk brings callers of its own.
            Ok(user) if self.trunks.of_account(&user).is_some() => Ok(Some(user)),
            // Nobody speaks in another's name.
            Ok(_) => Err(refuse(StatusCode::FORBIDDEN)),
            Err((response, wrong)) => {
                if wrong {
                    self.wrong_password(flow);
                }
                Err(Box::new(response))
            }
        }
    }
}
