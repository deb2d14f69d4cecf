use super::phone::Phone;
use super::world::*;
use proptest::prelude::*;
use sip::message::{Response, StatusCode};
use sip::stack::Event;
use std::collections::BTreeSet;

const METHODS: [&str; 13] = [
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE",
    "REGISTER", "FLY",
];
const EXTRAS: [&str; 12] = [
    "",
    "Require: 100rel\r\n",
    "Supported: 100rel, timer\r\nSession-Expires: 90;refresher=uac\r\n",
    "Session-Expires: 1\r\nSupported: timer\r\n",
    "RAck: 1 1 INVITE\r\n",
    "RAck: x\r\n",
    "Record-Route: <sip:strict>, <sip:[::1];lr>\r\n",
    "Contact: *\r\n",
    "Replaces: call-p;to-tag=x;from-tag=tag-p\r\n",
    "Subscription-State: terminated\r\nEvent: refer\r\n",
    "Refer-To: <sip:x@y>\r\nRefer-Sub: false\r\n",
    "Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n",
];

#[derive(Debug, Clone)]
struct Step {
    method: usize,
    cseq: u32,
    extra: usize,
    in_dialog: bool,
    same_branch: bool,
    flip: Option<(usize, u8)>,
    status: u16,
    wait_ms: u64,
}

fn step() -> impl Strategy<Value = Step> {
    (
        (
            0..METHODS.len(),
            1u32..6,
            0..EXTRAS.len(),
            any::<bool>(),
            any::<bool>(),
        ),
        prop::option::weighted(0.2, (any::<usize>(), any::<u8>())),
        prop::sample::select(vec![100u16, 180, 183, 200, 200, 202, 302, 404, 486, 500, 603]),
        0u64..2000,
    )
        .prop_map(
            |((method, cseq, extra, in_dialog, same_branch), flip, status, wait_ms)| Step {
                method,
                cseq,
                extra,
                in_dialog,
                same_branch,
                flip,
                status,
                wait_ms,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any methods in any order, with bytes changed here and there and a user that answers anything: no panic, and
    /// nothing but dialogs is left when time has run.
    #[test]
    fn whatever_comes_in_whatever_order(steps in prop::collection::vec(step(), 1..30)) {
        let mut world = World::new(12, Weather::FINE);
        let mut phone = Phone::new("p");
        let mut dialogs = BTreeSet::new();
        for step in steps {
            let mut text = phone.text(METHODS[step.method], step.cseq, EXTRAS[step.extra]);
            if !step.in_dialog {
                text = text.replace(&format!("To: <sip:user@192.0.2.2>;tag={}", phone.to_tag), "To: <sip:user@192.0.2.2>");
            }
            if step.same_branch {
                let at = text.find("branch=").map_or(0, |at| at + 7);
                let end = text[at..].find("\r\n").map_or(at, |end| at + end);
                text.replace_range(at..end, &format!("z9hG4bK{}", step.cseq));
            }
            let mut bytes = text.into_bytes();
            if let Some((at, value)) = step.flip {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let (now, flow) = (world.now, world.flow(BOB, address(ALICE)));
            let stack = &mut world.ends[BOB].stack;
            stack.handle_message(now, flow, bytes.into());
            while let Some(event) = stack.poll_event() {
                match event {
                    Event::Request { txn, dialog, .. } => {
                        dialogs.extend(dialog);
                        let status = StatusCode::new(step.status).unwrap();
                        let _answered = stack.respond(now, txn, Response::new(status));
                        if let Some(dialog) = dialog.and_then(|dialog| stack.dialog(dialog)) {
                            phone.to_tag = String::from_utf8_lossy(&dialog.id.local_tag).into_owned();
                        }
                    }
                    Event::DialogEnded { dialog, .. } => prop_assert!(dialogs.remove(&dialog), "told twice or never"),
                    _ => {}
                }
            }
            world.run_ms(step.wait_ms);
            world.ends[BOB].events.retain(|event| !matches!(event, Event::DialogEnded { dialog, .. } if dialogs.remove(dialog)));
        }
        for dialog in dialogs {
            world.ends[BOB].stack.forget_dialog(dialog);
        }
        world.assert_nothing_left();
    }
}
