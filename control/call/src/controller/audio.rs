//! Who is in a call's media session, for whoever asks its host who hears whom there.

use super::{Controller, live::display_name};
use crate::{call::Call, conference::Member, leg::Leg, pool::HostId};

/// Where a call's audio is, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallAudio {
    /// The media host, and the session's name there; `None` before a host was asked for one.
    pub at: Option<(HostId, String)>,
    /// Who is in it; of a conference the one that was asked for.
    pub parties: Vec<AudioParty>,
}

/// A party and its endpoint in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioParty {
    /// The endpoint.
    pub node: String,
    /// What it is in the call.
    pub role: AudioRole,
    /// The account, or else its address without scheme.
    pub name: String,
    /// What it calls itself: anything at all.
    pub display_name: Option<String>,
    /// A description was agreed on: it can be heard and hear.
    pub has_media: bool,
    /// It said that it does not listen.
    pub on_hold: bool,
    /// An operator said that it is not heard.
    pub muted: bool,
}

/// What a party is in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioRole {
    /// Who called, or was called first.
    Caller,
    /// Who answered, or is heard before that.
    Callee,
    /// It is in this room.
    Member {
        /// As dialled.
        room: String,
    },
}

impl Controller {
    /// Where the audio is of a call that goes on, or of a member of a conference, by our name for it.
    pub fn call_audio(&self, name: &str) -> Option<CallAudio> {
        if let Some(call) = self.calls.values().find(|call| call.name == name) {
            return Some(of_call(call));
        }
        let member = self.members.get(&self.member_named(name)?)?;
        let conference = self.conferences.get(&member.conference)?;
        let at = (
            conference.plan.host().clone(),
            conference.plan.session().to_owned(),
        );
        Some(CallAudio {
            at: conference.plan.may_exist().then_some(at),
            parties: vec![of_member(member, &conference.room)],
        })
    }
}

fn of_call(call: &Call) -> CallAudio {
    let early = call.early.as_ref().and_then(|endpoint| {
        let round = call.round.as_ref()?;
        let mut branches = round.branches.iter();
        branches.find(|leg| leg.endpoint == *endpoint)
    });
    let callee = call.callee.as_ref().or(early);
    let caller = party(&call.caller, AudioRole::Caller);
    let callee = callee.map(|leg| party(leg, AudioRole::Callee));
    let at = (call.plan.host().clone(), call.plan.session().to_owned());
    CallAudio {
        at: call.plan.may_exist().then_some(at),
        parties: [Some(caller), callee].into_iter().flatten().collect(),
    }
}

fn of_member(member: &Member, room: &str) -> AudioParty {
    let role = AudioRole::Member {
        room: room.to_owned(),
    };
    AudioParty {
        muted: member.is_muted,
        ..party(&member.leg, role)
    }
}

fn party(leg: &Leg, role: AudioRole) -> AudioParty {
    let address = String::from_utf8_lossy(leg.address.uri.as_bytes()).into_owned();
    let name = match &leg.user {
        Some(user) => user.to_string(),
        None => match address.split_once(':') {
            Some((_, rest)) => rest.to_owned(),
            None => address,
        },
    };
    AudioParty {
        node: leg.endpoint.clone(),
        role,
        name,
        display_name: display_name(&leg.address),
        has_media: leg.media.is_some(),
        on_hold: leg.holds(),
        muted: false,
    }
}
