//! What to do about audio that does not arrive, and where it stops.

use proto::mediad::v1::FindingCode;

use super::report::Party;

/// Where on its way from the speaker to the listener audio stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Between the speaker's phone and the media host.
    Before,
    /// In the media host, because of what the call wants.
    At,
    /// Between the media host and the listener's phone.
    After,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Before => "before_host",
            Self::At => "at_host",
            Self::After => "after_host",
        }
    }
}

/// What is wrong, told by who knows the call, in place of what the media host says; and whose doing it is.
pub(super) fn reason<'a>(
    code: FindingCode,
    place: Place,
    from: &'a Party,
    to: &'a Party,
) -> Option<(String, &'a Party)> {
    let holds = |party: &'a Party| (format!("{} has put the call on hold", party.name), party);
    match (code, place) {
        (FindingCode::NoEdge, _) if from.is_muted => {
            Some((format!("{} is muted by an operator", from.name), from))
        }
        (FindingCode::NoEdge, _) if from.is_on_hold => Some(holds(from)),
        (FindingCode::NoEdge, _) if to.is_on_hold => Some(holds(to)),
        (FindingCode::Direction, Place::After) if to.is_on_hold => Some(holds(to)),
        (FindingCode::Direction, Place::After) => {
            Some((format!("the phone of {} asked for no audio", to.name), to))
        }
        (FindingCode::Direction, _) => Some((
            format!("the phone of {} said that it sends no audio", from.name),
            from,
        )),
        _ => None,
    }
}

/// What a person can do, and who it is that has to be looked at.
pub(super) fn remedy(code: FindingCode, from: &Party, to: &Party) -> Option<String> {
    let (speaker, listener) = (&from.name, &to.name);
    let told = match code {
        FindingCode::NoPacketsEver => format!(
            "look at {speaker}: is its microphone muted, does its phone send at all, and does a firewall or NAT between \
             {speaker} and the media host let UDP to {} pass?",
            from.sends_to.as_deref().unwrap_or("its port")
        ),
        FindingCode::PacketsStopped => {
            format!("look at {speaker}: its phone or its network is gone, or a muted phone stopped sending")
        }
        FindingCode::WrongSource => format!(
            "look at {speaker}: a NAT, or a second network of its machine, changes the address that it sends from"
        ),
        FindingCode::PayloadType => {
            format!(
                "look at {speaker}: its phone sends another codec than it agreed to; set its list of codecs right"
            )
        }
        FindingCode::Authentication => format!(
            "look at {speaker}: its phone encrypts with another key than it signalled, or not at all; call again, or \
             set srtp of its account"
        ),
        FindingCode::Malformed => format!(
            "look at {speaker}: its phone sends what is no plain RTP; turn ICE, DTLS or ZRTP off there, or set srtp of \
             its account"
        ),
        FindingCode::NoCommonCodec => {
            format!("give {speaker} and {listener} a codec in common: in their phones, or in media.codecs")
        }
        FindingCode::NoDestination => format!(
            "look at {listener}: its phone did not say where it wants audio, and sent none that would tell"
        ),
        FindingCode::PeerReceivesNothing => format!(
            "look at {listener}: a firewall or NAT on its side keeps away what is sent to {}",
            to.receives_at.as_deref().unwrap_or("it")
        ),
        FindingCode::Loss => {
            format!("look at the network of {speaker}: Wi-Fi, VPN, or a line that is too full")
        }
        FindingCode::Probation | FindingCode::NotFound => "ask again in a second".to_owned(),
        FindingCode::NoEdge if from.is_muted => format!("unmute {speaker}"),
        FindingCode::NoEdge | FindingCode::Direction if from.is_on_hold => {
            format!("{speaker} has to take the call off hold")
        }
        FindingCode::NoEdge | FindingCode::Direction if to.is_on_hold => {
            format!("{listener} has to take the call off hold")
        }
        FindingCode::NoEdge => "the call is not so far yet; ask again when it is".to_owned(),
        FindingCode::Direction
        | FindingCode::Muted
        | FindingCode::LinkOpen
        | FindingCode::Flowing
        | FindingCode::Unspecified => return None,
    };
    Some(told)
}
