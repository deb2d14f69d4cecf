//! A peer whose messages are written by hand: what other stacks really send.

use super::world::*;
use sip::message::{Message, Response};
use sip::stack::{Flow, Transmit};

/// Bob's peer at Alice's address.
pub struct Phone {
    pub tag: String,
    pub call_id: String,
    pub to_tag: String,
    branch: u32,
}

impl Phone {
    pub fn new(name: &str) -> Self {
        Self {
            tag: format!("tag-{name}"),
            call_id: format!("call-{name}"),
            to_tag: String::new(),
            branch: 0,
        }
    }

    pub fn text(&mut self, method: &str, cseq: u32, extra: &str) -> String {
        self.branch += 1;
        let (tag, call_id, branch) = (&self.tag, &self.call_id, self.branch);
        let to_tag = if self.to_tag.is_empty() {
            String::new()
        } else {
            format!(";tag={}", self.to_tag)
        };
        format!(
            "{method} sip:user@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{call_id}{branch}\r\n\
            From: <sip:phone@192.0.2.1>;tag={tag}\r\nTo: <sip:user@192.0.2.2>{to_tag}\r\nCall-ID: {call_id}\r\n\
            CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:phone@192.0.2.1:5060>\r\n{extra}\r\n"
        )
    }

    /// Hands a message to Bob and gives his answer.
    pub fn send(&mut self, world: &mut World, text: &str) -> Option<Response> {
        let flow = world.flow(BOB, address(ALICE));
        receive(world, flow, text).map(|(response, _)| response)
    }
}

pub fn receive(world: &mut World, flow: Flow, text: &str) -> Option<(Response, Transmit)> {
    let now = world.now;
    let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
    world.ends[BOB].stack.handle_message(now, flow, bytes);
    answer(world)
}

pub fn answer(world: &mut World) -> Option<(Response, Transmit)> {
    let transmit = world.ends[BOB].stack.poll_transmit()?;
    let parsed = sip::message::parse_datagram(transmit.bytes.clone(), &sip::limits::Limits::DEFAULT);
    match parsed {
        Ok(Message::Response(response)) => Some((response, transmit)),
        other => panic!("{other:?}"),
    }
}
