//! Calls that machines ask for. The phones of the first party are rung as those of a called user are, in a round of
//! their own; who answers takes the caller's seat, and from there on it is a call as every other.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use sip::{
    header::{NameAddr, Reason},
    message::{Request, StatusCode},
    stack::{ClientTxn, DialogKey},
    uri::Uri,
};

use super::{CHECK_EVERY, Controller, Now, calling::text, unix_us};
use crate::{
    call::{Call, CallId, Side, Summons},
    cdr::{CallOrigin, OriginKind},
    domain::Name,
    journal::{EndedBy, RecordKind},
    leg::{Invite, Leg},
    media::MediaPlan,
    originate::{Kept, Originate, OriginateError, Originated, horizon},
    pool::HostId,
    routing::Destination,
    security::Security,
};

impl Controller {
    /// Calls the first party, and brings it to the second once it has answered. A request with the key of an earlier
    /// one is that one.
    ///
    /// # Errors
    /// Why no call was made.
    pub fn originate(
        &mut self,
        now: Now,
        request: Originate,
        key: Option<&str>,
    ) -> Result<Originated, OriginateError> {
        self.keys
            .expire(horizon(now.wall, self.config.originate.keys_kept_s));
        if let Some(known) = key.and_then(|key| self.keys.get(key)) {
            let call = known.call.clone();
            if known.request != request {
                return Err(OriginateError::KeyUsed { call });
            }
            return Ok(Originated {
                call,
                is_repeated: true,
            });
        }
        request.check()?;
        let first = self.first_party(&request.from)?;
        let second = self.party("to", &request.to)?;
        if first == second {
            return Err(OriginateError::Invalid {
                field: "to",
                value: request.to,
                problem: "is the first party itself",
                remedy: "give another",
            });
        }
        if self.is_stopping {
            return Err(OriginateError::Stopping);
        }
        self.may_originate(now)?;
        let host = self.pool.take().ok_or(OriginateError::NoMediaHost)?;
        let call = self.summon(now, &request, (first, second), host);
        let asked_unix_us = unix_us(now.wall);
        let record = RecordKind::CallOriginated {
            call: call.clone(),
            key: key.map(str::to_owned),
            request: Box::new(request.clone()),
            asked_unix_us,
        };
        self.record(now, record);
        if let Some(key) = key {
            let kept = Kept {
                call: call.clone(),
                request,
                asked_unix_us,
            };
            self.keys.put(key, kept);
        }
        self.advance(now);
        Ok(Originated {
            call,
            is_repeated: false,
        })
    }

    fn first_party(&self, from: &str) -> Result<Destination, OriginateError> {
        match self.party("from", from)? {
            Destination::Queue(_) | Destination::Menu(_) | Destination::Room(_) => {
                Err(OriginateError::Invalid {
                    field: "from",
                    value: from.to_owned(),
                    problem: "has no phone that could be rung",
                    remedy: "give an account or a number, and this as to",
                })
            }
            party @ (Destination::User(_) | Destination::Out(_)) => Ok(party),
        }
    }

    /// Where an extension or number leads, for who may call whom it likes.
    fn party(&self, field: &'static str, dialled: &str) -> Result<Destination, OriginateError> {
        self.destination_for_operator(dialled)
            .map_err(|status| match status {
                StatusCode::TEMPORARILY_UNAVAILABLE => OriginateError::Unreachable {
                    field,
                    value: dialled.to_owned(),
                },
                _ => OriginateError::Invalid {
                    field,
                    value: dialled.to_owned(),
                    problem: "leads nowhere",
                    remedy: "give an account, a queue, a menu or a room, or add a route for it to dialplan.routes",
                },
            })
    }

    fn may_originate(&mut self, now: Now) -> Result<(), OriginateError> {
        let settings = self.config.originate;
        let all = self.calls.len() + self.members.len();
        if all >= self.config.calls.count_max {
            return Err(OriginateError::TooMany {
                count: all,
                what: "calls",
            });
        }
        let by_machines = self
            .calls
            .values()
            .filter(|call| call.origin.kind == OriginKind::Api && call.ended.is_none());
        let count = by_machines.count();
        if settings.calls_max > 0 && count >= settings.calls_max {
            return Err(OriginateError::TooMany {
                count,
                what: "calls that were asked for (originate.calls_max)",
            });
        }
        let too_fast = |per_s, key| move |wait: Duration| OriginateError::TooFast { per_s, key, wait };
        self.originate_rate
            .take(now.mono)
            .map_err(too_fast(settings.calls_per_s, "originate.calls_per_s"))?;
        let per_s = self.config.dialplan.calls_per_s;
        self.trunks
            .rate
            .take(now.mono)
            .map_err(too_fast(per_s, "dialplan.calls_per_s"))
    }

    /// Makes the call. Its first party's phones ring once a media host has room for it.
    pub(super) fn summon(
        &mut self,
        now: Now,
        request: &Originate,
        (first, second): (Destination, Destination),
        host: HostId,
    ) -> String {
        self.last_call += 1;
        let id = CallId(self.last_call);
        let name = id.name(&self.stack.random_token());
        let address = |user: &str| NameAddr::new(Uri::sip(Some(user), &self.own_host(), None));
        let dialled = |party: &Destination| match party {
            Destination::User(name)
            | Destination::Queue(name)
            | Destination::Menu(name)
            | Destination::Room(name)
            | Destination::Out(name) => address(name),
        };
        let (caller, called) = (dialled(&first), dialled(&second));
        let nobody = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let mut leg = Leg::new(Invite::Due, caller, nobody, "caller", Security::default());
        if let Destination::User(user) = &first {
            leg.user = Some(user.clone());
        }
        leg.joined_unix_us = unix_us(now.wall);
        let ring_s = request
            .ring_timeout_s
            .unwrap_or(self.config.originate.ring_timeout_s);
        let shown = match &request.display_name {
            Some(display) => called.clone().with_display(display),
            None => called.clone(),
        };
        let media = &self.config.media;
        let plan = MediaPlan::new(&name, &self.config.controller, media, host);
        let mut call = Call::new(name.clone(), first, leg, plan, (now.mono, unix_us(now.wall)));
        call.to = text(called.uri.as_bytes());
        call.max_forwards = 70;
        call.check_at = now.mono + CHECK_EVERY;
        call.origin = CallOrigin {
            kind: OriginKind::Api,
            reference: request.reference.clone(),
        };
        call.caller_id.clone_from(&request.caller_id);
        call.summons = Some(Summons {
            next: second,
            shown,
            ring: Duration::from_secs(ring_s),
            auto_answer: request.auto_answer,
        });
        self.note_started(now, &call);
        self.begin(now, id, call);
        name
    }

    /// The first party answered: it takes the caller's seat and goes where it was to go.
    pub(super) fn seat_first(&mut self, now: Now, id: CallId, txn: ClientTxn, dialog: DialogKey) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let branches = call.round.as_mut().map(|round| &mut round.branches);
        let found = branches.and_then(|branches| {
            let at = branches.iter().position(|leg| leg.invite == Invite::Sent(txn))?;
            Some(branches.remove(at))
        });
        let (Some(mut leg), true) = (found, call.stage.on_round_over()) else {
            return false;
        };
        let Some(summons) = call.summons.take() else {
            return false;
        };
        leg.dialog = Some(dialog);
        leg.state.on_answered();
        leg.is_described = true;
        leg.joined_unix_us = unix_us(now.wall);
        leg.address = call.caller.address.clone();
        if self.stack.ack(dialog, None).is_ok() {
            leg.state.on_acknowledged();
        }
        if let Some(media) = &leg.media {
            call.plan.put(&leg.endpoint, leg.endpoint_for(media));
        }
        call.withdraw_endpoints(|name| name == leg.endpoint);
        call.early = None;
        (call.caller_way, call.last_way) = (call.way.take(), None);
        call.ways.clear();
        call.caller = leg;
        if let Some(dialog) = self.stack.dialog(dialog) {
            call.sip_call_id = text(&dialog.id.call_id);
        }
        call.destination = summons.next;
        if let Destination::Queue(queue) = &call.destination {
            call.queue = Some(queue.clone());
        }
        self.by_dialog.insert(dialog, (id, Side::Caller));
        let elsewhere = Reason::new("SIP", 200, "Call completed elsewhere");
        self.cancel_round(now, id, &elsewhere, StatusCode::OK);
        self.proceed(now, id);
        self.send_media(now, id);
        true
    }

    /// What an INVITE to the first party says beside what all say: its phone is asked to answer by itself (RFC 5373,
    /// and the way that phones knew before).
    pub(super) fn call_in(&self, id: CallId, request: &mut Request) {
        let summons = self.calls.get(&id).and_then(|call| call.summons.as_ref());
        if !summons.is_some_and(|summons| summons.auto_answer) {
            return;
        }
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        // Neither text holds a line break.
        let _fine = request.headers.set("Answer-Mode", "Auto");
        let _fine = request
            .headers
            .set("Call-Info", format!("<sip:{domain}>;answer-after=0"));
    }

    /// Somebody who called, or was called first, wants to be in a room: it leaves its call for it.
    pub(super) fn enter_room(&mut self, now: Now, id: CallId, room: &Name) {
        match self.move_to_room(now, id, room) {
            Ok(member) => {
                self.tell_inviter(now, id, StatusCode::OK);
                let reason = format!("went on as call {member} in {room}");
                self.end(now, id, EndedBy::System, StatusCode::OK, &reason);
            }
            Err(refusal) => {
                let reason = text(refusal.reason());
                self.nobody_came(now, id, EndedBy::System, refusal.status, &reason);
            }
        }
    }
}
