//! CPU per whole call, INVITE to BYE, through two stacks joined by memory.
//!
//! `cargo run --release -p sip --example call_cost -- 100000`

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "it measures real time, and stops at the first surprise"
)]

use bytes::Bytes;
use sip::header::NameAddr;
use sip::message::{HeaderName, Method, Request, Response, StatusCode};
use sip::stack::{
    Content, DialogRequest, Event, Flow, FlowId, Identity, Stack, StackConfig, Target, Transport,
};
use sip::uri::Uri;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 6000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n";

struct Side {
    stack: Stack,
    spent: Duration,
    flow: Flow,
}

impl Side {
    fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let identity = Identity::new(Transport::Udp, local, local);
        Self {
            stack: Stack::new(StackConfig::new(vec![identity]), [local.port() as u8; 32]),
            spent: Duration::ZERO,
            flow: Flow {
                transport: Transport::Udp,
                local,
                remote,
                id: FlowId(1),
            },
        }
    }

    /// Runs one step and adds up its time.
    fn timed<T>(&mut self, step: impl FnOnce(&mut Stack) -> T) -> T {
        let start = Instant::now();
        let result = step(&mut self.stack);
        self.spent += start.elapsed();
        result
    }
}

fn call(now: Instant, sides: &mut [Side; 2], uris: &(Uri, Uri)) {
    let target = [Target::address(Transport::Udp, sides[1].flow.local)];
    sides[0].timed(|stack| {
        let mut invite = Request::new(Method::Invite, &uris.1);
        invite
            .headers
            .push_value(HeaderName::From, &NameAddr::new(uris.0.clone()));
        invite
            .headers
            .push_value(HeaderName::To, &NameAddr::new(uris.1.clone()));
        invite
            .headers
            .push(HeaderName::ContentType, "application/sdp")
            .unwrap();
        invite.body = Bytes::from_static(SDP);
        stack.request(now, invite, &target).unwrap();
    });
    loop {
        let mut moved = false;
        for index in 0..2 {
            let to = 1 - index;
            while let Some(transmit) = sides[index].timed(Stack::poll_transmit) {
                moved = true;
                let flow = sides[to].flow;
                sides[to].timed(|stack| {
                    stack.handle_message(now, flow, transmit.bytes);
                    while let Some(event) = stack.poll_event() {
                        react(now, stack, event, to == 1);
                    }
                });
            }
        }
        if !moved {
            return;
        }
    }
}

fn react(now: Instant, stack: &mut Stack, event: Event, is_bob: bool) {
    match event {
        Event::Request { txn, .. } => {
            stack
                .respond(now, txn, Response::new(StatusCode::RINGING))
                .unwrap();
            let mut ok = Response::new(StatusCode::OK);
            ok.headers
                .push(HeaderName::ContentType, "application/sdp")
                .unwrap();
            ok.body = Bytes::from_static(SDP);
            stack.respond(now, txn, ok).unwrap();
        }
        Event::Response {
            response,
            dialog: Some(dialog),
            ..
        } if response.status.is_success() && !is_bob && stack.ack(dialog, None::<Content>).is_ok() => {
            stack
                .dialog_request(now, dialog, DialogRequest::new(Method::Bye))
                .unwrap();
        }
        _ => {}
    }
}

fn main() {
    let calls: u32 = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(20_000);
    let addresses: [SocketAddr; 2] = [
        "192.0.2.1:5060".parse().unwrap(),
        "192.0.2.2:5061".parse().unwrap(),
    ];
    let mut sides = [
        Side::new(addresses[0], addresses[1]),
        Side::new(addresses[1], addresses[0]),
    ];
    let uri = |user: &str, address: SocketAddr| Uri::sip(Some(user), &address.ip().into(), None);
    let uris = (uri("alice", addresses[0]), uri("bob", addresses[1]));
    let start = Instant::now();
    for index in 0..calls {
        // 1 000 calls/s in the stacks' time, so that finished transactions live as long as they would.
        let now = start + Duration::from_millis(index.into());
        call(now, &mut sides, &uris);
        for side in &mut sides {
            side.timed(|stack| stack.handle_timeout(now));
        }
    }
    for (name, side) in [("caller", &sides[0]), ("callee", &sides[1])] {
        let stats = side.stack.stats();
        println!(
            "{name}: {:.1} us per call; {} client and {} server transactions, {} dialogs, {} timers left",
            side.spent.as_secs_f64() * 1e6 / f64::from(calls),
            stats.client_transactions,
            stats.server_transactions,
            stats.dialogs,
            stats.timers,
        );
    }
}
