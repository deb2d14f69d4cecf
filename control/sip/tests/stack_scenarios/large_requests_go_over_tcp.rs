use super::world::*;
use sip::message::{Method, Request};
use sip::stack::{Event, Flow, FlowId, Identity, Stack, StackConfig, StackError, Target, Transport};

/// A stack with a socket of each kind.
fn stack(transports: &[Transport]) -> Stack {
    let identity = |&transport: &Transport| Identity::new(transport, address(ALICE), address(ALICE));
    Stack::new(
        StackConfig::new(transports.iter().map(identity).collect()),
        [3; 32],
    )
}

fn large(bytes: usize) -> Request {
    of_method(Method::Options, bytes)
}

fn of_method(method: Method, bytes: usize) -> Request {
    let world = World::new(1, Weather::FINE);
    let mut request = world.request_to(method, ALICE, BOB);
    request.body = vec![b'x'; bytes].into();
    request
}

fn sent(stack: &mut Stack) -> (Transport, String) {
    let transmit = stack.poll_transmit().unwrap();
    assert_eq!(stack.poll_transmit(), None);
    let text = String::from_utf8_lossy(&transmit.bytes);
    let via = text.lines().nth(1).unwrap().to_owned();
    (transmit.target.transport(), via)
}

#[test]
fn a_request_of_more_than_1300_bytes_goes_over_tcp_and_back_to_udp_when_nobody_listens() {
    let mut stack = stack(&[Transport::Udp, Transport::Tcp]);
    let (now, target) = (first_instant(), Target::address(Transport::Udp, address(BOB)));
    stack
        .request(now, large(2_000), std::slice::from_ref(&target))
        .unwrap();
    let (transport, via) = sent(&mut stack);
    assert_eq!(transport, Transport::Tcp);
    assert!(via.starts_with("Via: SIP/2.0/TCP 192.0.2.1:5060;"), "{via}");
    let tcp = Target::address(Transport::Tcp, address(BOB));
    stack.handle_transport_error(now, &tcp);
    let (transport, via) = sent(&mut stack);
    assert_eq!(transport, Transport::Udp);
    assert!(via.starts_with("Via: SIP/2.0/UDP 192.0.2.1:5060;"), "{via}");
    assert_eq!(stack.stats().too_large_for_udp, 1);

    stack.request(now, large(100), &[target]).unwrap();
    assert_eq!(sent(&mut stack).0, Transport::Udp);
}

#[test]
fn a_flow_is_never_left_and_without_tcp_there_is_no_choice() {
    let now = first_instant();
    let flow = Flow {
        transport: Transport::Udp,
        local: address(ALICE),
        remote: address(BOB),
        id: FlowId(0),
    };
    let mut both = stack(&[Transport::Udp, Transport::Tcp]);
    both.request(now, large(2_000), &[Target::Flow(flow)]).unwrap();
    assert_eq!(sent(&mut both).0, Transport::Udp);
    let mut one = stack(&[Transport::Udp]);
    let target = Target::address(Transport::Udp, address(BOB));
    one.request(now, large(2_000), &[target]).unwrap();
    assert_eq!(sent(&mut one).0, Transport::Udp);
}

/// RFC 3428 §8.
#[test]
fn no_message_above_1300_bytes_goes_over_udp() {
    let now = first_instant();
    let (udp, tcp) = (
        [Target::address(Transport::Udp, address(BOB))],
        Target::address(Transport::Tcp, address(BOB)),
    );
    let flow = |transport| {
        Target::Flow(Flow {
            transport,
            local: address(ALICE),
            remote: address(BOB),
            id: FlowId(1),
        })
    };
    let mut both = stack(&[Transport::Udp, Transport::Tcp]);
    let txn = both
        .request(now, of_method(Method::Message, 2_000), &udp)
        .unwrap();
    assert_eq!(sent(&mut both).0, Transport::Tcp);
    both.handle_transport_error(now, &tcp);
    assert_eq!(both.poll_transmit(), None);
    assert_eq!(
        both.poll_event(),
        Some(Event::TransportFailed { txn, dialog: None })
    );
    // The next way is taken instead, if there is one.
    let ways = [flow(Transport::Udp), flow(Transport::Tcp)];
    both.request(now, of_method(Method::Message, 2_000), &ways)
        .unwrap();
    assert_eq!(sent(&mut both).0, Transport::Tcp);
    let refused = both.request(now, of_method(Method::Message, 2_000), &ways[..1]);
    assert_eq!(refused, Err(StackError::TooLarge));
    both.request(now, of_method(Method::Message, 500), &ways).unwrap();
    assert_eq!(sent(&mut both).0, Transport::Udp);
    let mut one = stack(&[Transport::Udp]);
    let refused = one.request(now, of_method(Method::Message, 2_000), &udp);
    assert_eq!(refused, Err(StackError::TooLarge));
    assert_eq!(one.poll_transmit(), None);
}
