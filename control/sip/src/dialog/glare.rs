//! Who may offer: INVITE and UPDATE inside a dialog (RFC 3261 §14, RFC 3311 §5).

/// What is outstanding in a dialog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offers {
    /// An INVITE of ours has no final response yet.
    pub invite_sent: bool,
    /// An INVITE of the peer has no final response yet.
    pub invite_received: bool,
    /// The peer's INVITE held an offer that no reliable response has answered yet.
    pub offer_received: bool,
    /// An UPDATE of ours has no final response yet.
    pub update_sent: bool,
    /// An UPDATE of the peer has no final response yet.
    pub update_received: bool,
}

/// What a request that collides with another gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glare {
    /// 491: ours is on its way.
    RequestPending,
    /// 500 with a random Retry-After up to 10 s: the peer's last one is not answered yet.
    Busy,
}

impl Offers {
    /// A re-INVITE came.
    ///
    /// # Errors
    /// It collides.
    pub fn receive_invite(&mut self, has_offer: bool) -> Result<(), Glare> {
        // RFC 3261 §14.2.
        if self.invite_received {
            return Err(Glare::Busy);
        }
        if self.invite_sent || self.update_sent {
            return Err(Glare::RequestPending);
        }
        if self.update_received {
            return Err(Glare::Busy);
        }
        self.invite_received = true;
        self.offer_received = has_offer;
        Ok(())
    }

    /// An UPDATE came. One without offer collides with nothing (RFC 3311 §5.2).
    ///
    /// While an INVITE of ours is open in an early dialog, only the user knows whether its offer was answered by a reliable
    /// response: the UPDATE is let through.
    ///
    /// # Errors
    /// It collides.
    pub fn receive_update(&mut self, has_offer: bool, early: bool) -> Result<(), Glare> {
        // RFC 3311 §5.2: a second UPDATE before the first is answered.
        if self.update_received {
            return Err(Glare::Busy);
        }
        if has_offer {
            if (self.invite_sent && !early) || self.update_sent {
                return Err(Glare::RequestPending);
            }
            if self.offer_received {
                return Err(Glare::Busy);
            }
        }
        self.update_received = true;
        Ok(())
    }

    /// True when we may send a re-INVITE (RFC 3261 §14.1).
    pub fn may_send_invite(&self) -> bool {
        !(self.invite_sent || self.invite_received || self.update_sent || self.update_received)
    }

    /// True when we may send an UPDATE (RFC 3311 §5.1).
    ///
    /// While an INVITE of ours is open, its offer may be answered by a reliable response, which only the user knows:
    /// an UPDATE is let through in an early dialog and refused in a confirmed one.
    pub fn may_send_update(&self, has_offer: bool, early: bool) -> bool {
        !self.update_sent
            && (!has_offer || !(self.update_received || self.offer_received || (self.invite_sent && !early)))
    }
}
