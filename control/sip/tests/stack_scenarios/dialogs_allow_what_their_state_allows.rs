//! Every state of a dialog with every request: of ours, whether it goes out; of the peer's, what it is answered by the stack,
//! or that our user gets it.

use super::phone::*;
use super::world::*;
use sip::dialog::DialogState;
use sip::message::{Method, Response, StatusCode};
use sip::stack::{DialogKey, DialogRequest, Event, ServerTxn, StackError};

const METHODS: [Method; 10] = [
    Method::Invite,
    Method::Update,
    Method::Info,
    Method::Message,
    Method::Options,
    Method::Refer,
    Method::Notify,
    Method::Prack,
    Method::Bye,
    Method::Ack,
];

/// Bob has Alice's INVITE, and did not answer it.
fn invited() -> (World, Phone, ServerTxn, DialogKey) {
    let mut world = World::new(11, Weather::FINE);
    let mut phone = Phone::new("asks");
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let offer = format!(
        "Content-Type: application/sdp\r\nContent-Length: {}\r\n",
        sdp.len()
    );
    let text = phone.text("INVITE", 1, &offer) + sdp;
    let trying = phone.send(&mut world, &text);
    assert!(trying.is_none_or(|response| response.status == StatusCode::TRYING));
    match world.event(BOB) {
        Event::Request {
            txn,
            dialog: Some(dialog),
            ..
        } => (world, phone, txn, dialog),
        other => panic!("{other:?}"),
    }
}

fn respond(world: &mut World, phone: &mut Phone, txn: ServerTxn, status: StatusCode) {
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    bob.respond(now, txn, Response::new(status)).unwrap();
    let (response, _) = answer(world).unwrap();
    let to = response.headers.to().unwrap();
    phone.to_tag = String::from_utf8_lossy(to.tag().unwrap()).into_owned();
}

fn early() -> (World, Phone, DialogKey) {
    let (mut world, mut phone, txn, dialog) = invited();
    respond(&mut world, &mut phone, txn, StatusCode::RINGING);
    (world, phone, dialog)
}

fn answered() -> (World, Phone, DialogKey) {
    let (mut world, mut phone, txn, dialog) = invited();
    respond(&mut world, &mut phone, txn, StatusCode::OK);
    (world, phone, dialog)
}

fn confirmed() -> (World, Phone, DialogKey) {
    let (mut world, mut phone, dialog) = answered();
    let ack = phone.text("ACK", 1, "");
    assert!(phone.send(&mut world, &ack).is_none());
    assert!(matches!(world.event(BOB), Event::Ack { .. }));
    (world, phone, dialog)
}

/// A BYE of Bob's has no answer yet; `subscribed`: he owes Alice the end of a transfer too.
fn ending(subscribed: bool) -> (World, Phone, DialogKey) {
    let (mut world, mut phone, dialog) = confirmed();
    let now = world.now;
    if subscribed {
        let refer = phone.text("REFER", 2, "Refer-To: <sip:carol@192.0.2.3>\r\n");
        assert!(phone.send(&mut world, &refer).is_none());
        let Event::Request { txn, .. } = world.event(BOB) else {
            panic!("a REFER is a request")
        };
        respond(&mut world, &mut phone, txn, StatusCode::ACCEPTED);
    }
    let bob = &mut world.ends[BOB].stack;
    bob.dialog_request(now, dialog, DialogRequest::new(Method::Bye))
        .unwrap();
    assert!(bob.poll_transmit().is_some());
    (world, phone, dialog)
}

fn sent(begin: impl Fn() -> (World, Phone, DialogKey), method: &Method) -> String {
    let (mut world, _, dialog) = begin();
    let now = world.now;
    let bob = &mut world.ends[BOB].stack;
    let mut request = DialogRequest::new(method.clone());
    if *method == Method::Notify {
        request = request.with_header("Event", "refer").unwrap();
        request = request.with_header("Subscription-State", "active").unwrap();
    }
    match bob.dialog_request(now, dialog, request) {
        Ok(_) if bob.poll_transmit().is_some() => "goes".to_owned(),
        Ok(_) => "waits".to_owned(),
        Err(StackError::WrongState) => "-".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

fn received(begin: impl Fn() -> (World, Phone, DialogKey), method: &Method) -> String {
    let (mut world, mut phone, _) = begin();
    if phone.to_tag.is_empty() {
        return "does not know of it".to_owned();
    }
    let more = match method {
        Method::Refer => "Refer-To: <sip:carol@192.0.2.3>\r\n",
        Method::Notify => "Event: refer\r\nSubscription-State: active\r\n",
        Method::Prack => "RAck: 1 1 INVITE\r\n",
        _ => "",
    };
    let number = if *method == Method::Ack { 1 } else { 7 };
    let text = phone.text(method.as_str(), number, more);
    let response = phone.send(&mut world, &text);
    let told = match world.ends[BOB].stack.poll_event() {
        None => "",
        Some(Event::Request { .. }) => "told",
        Some(Event::Bye { .. }) => "told",
        Some(Event::Ack { .. }) => "told",
        Some(other) => panic!("{other:?}"),
    };
    let status = response.map(|response| response.status.code());
    match status {
        Some(100) | None => format!("{told:-<1}"),
        Some(status) if told.is_empty() => status.to_string(),
        Some(status) => format!("{status}+{told}"),
    }
}

#[test]
fn whatever_comes_and_whatever_is_to_go() {
    type Begin = fn() -> (World, Phone, DialogKey);
    let states: [(&str, Begin); 6] = [
        ("invited", || {
            let (world, phone, _, dialog) = invited();
            (world, phone, dialog)
        }),
        ("early", early),
        ("answered", answered),
        ("confirmed", confirmed),
        ("ending", || ending(false)),
        ("ending, subscribed", || ending(true)),
    ];
    assert_eq!(
        {
            let (world, _, dialog) = early();
            world.ends[BOB].stack.dialog(dialog).unwrap().state
        },
        DialogState::Early
    );
    let mut table = String::new();
    for (name, begin) in states {
        table += &format!("{name}\n");
        for method in &METHODS {
            let (ours, theirs) = (sent(begin, method), received(begin, method));
            table += &format!("  {:<8} we: {ours:<16} peer: {theirs}\n", method.as_str());
        }
    }
    insta::assert_snapshot!(table);
}
