use super::world::*;
use proptest::prelude::*;
use sip::message::{Method, Response, StatusCode};
use sip::stack::{DialogRequest, Event, Transport};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the two users do.
#[derive(Debug, Clone, Copy)]
struct Plan {
    reliable_ringing: bool,
    answer: u16,
    cancel_after_ms: Option<u64>,
    reinvite: bool,
    both_reinvite: bool,
    callee_hangs_up: bool,
}

#[derive(Debug, Default)]
struct Outcome {
    answered: usize,
    byes: usize,
    told: BTreeMap<String, i64>,
}

/// Runs a call to its end; users that act on events alone, as ours will.
fn play(seed: u64, weather: Weather, transport: Transport, plan: Plan) -> (World, Outcome) {
    let mut world = World::with_configs(seed, weather, transport, |_| {});
    let mut outcome = Outcome::default();
    let (now, target) = (world.now, world.target(BOB));
    let invite = world.invite(ALICE, BOB);
    let txn = world.ends[ALICE].stack.request(now, invite, &[target]).unwrap();
    if let Some(ms) = plan.cancel_after_ms {
        world.run_with(Duration::from_millis(ms), |world, end, event| {
            act(world, end, event, plan, &mut outcome);
        });
        let now = world.now;
        let _over = world.ends[ALICE].stack.cancel(now, txn, None);
    }
    world.run_with(Duration::from_secs(400), |world, end, event| {
        act(world, end, event, plan, &mut outcome);
    });
    (world, outcome)
}

fn reinvite() -> DialogRequest {
    DialogRequest::new(Method::Invite).with_content(sdp().unwrap())
}

fn act(world: &mut World, end: usize, event: Event, plan: Plan, outcome: &mut Outcome) {
    let now = world.now;
    match event {
        Event::Request {
            txn,
            dialog,
            initial: true,
            ..
        } => {
            *outcome
                .told
                .entry(format!("{end} {:?}", dialog.unwrap()))
                .or_default() += 1;
            let ringing = Response::new(StatusCode::RINGING);
            let stack = &mut world.ends[end].stack;
            if plan.reliable_ringing {
                stack.respond_reliable(now, txn, ringing).unwrap();
            } else {
                stack.respond(now, txn, ringing).unwrap();
            }
            world.respond(end, txn, StatusCode::new(plan.answer).unwrap());
        }
        Event::Request { txn, .. } => world.respond(end, txn, StatusCode::OK),
        Event::Response {
            response,
            dialog,
            cancelled,
            ..
        } => {
            let is_invite = response.headers.cseq().unwrap().method == Method::Invite;
            let is_first = response.headers.cseq().unwrap().number == 1 && end == ALICE;
            if is_first && let Some(dialog) = dialog {
                *outcome.told.entry(format!("{end} {dialog:?}")).or_default() = 1;
            }
            if !(is_invite && response.status.is_success()) {
                return;
            }
            let dialog = dialog.unwrap();
            let stack = &mut world.ends[end].stack;
            if cancelled {
                stack.ack_and_bye(now, dialog, None).unwrap();
                return;
            }
            outcome.answered += 1;
            stack.ack(dialog, None).unwrap();
            if is_first && plan.reinvite {
                let _busy = stack.dialog_request(now, dialog, reinvite());
            } else if end == ALICE && !plan.callee_hangs_up {
                let _ending = stack.dialog_request(now, dialog, DialogRequest::new(Method::Bye));
            }
        }
        Event::Ack { dialog, .. } => {
            let stack = &mut world.ends[end].stack;
            if plan.both_reinvite
                && end == BOB
                && stack.dialog(dialog).is_some_and(|dialog| dialog.local_cseq == 0)
            {
                let _busy = stack.dialog_request(now, dialog, reinvite());
            } else if plan.callee_hangs_up && end == BOB {
                let _ending = stack.dialog_request(now, dialog, DialogRequest::new(Method::Bye));
            }
        }
        Event::AckTimedOut { dialog } | Event::SessionExpired { dialog } => {
            let stack = &mut world.ends[end].stack;
            let _ending = stack.dialog_request(now, dialog, DialogRequest::new(Method::Bye));
        }
        Event::GlareOver { dialog, .. } => {
            let _busy = world.ends[end].stack.dialog_request(now, dialog, reinvite());
        }
        // A user that gets no answer inside a dialog hangs up.
        Event::Timeout {
            dialog: Some(dialog), ..
        } => {
            let stack = &mut world.ends[end].stack;
            let _ending = stack.dialog_request(now, dialog, DialogRequest::new(Method::Bye));
        }
        Event::Bye { .. } => outcome.byes += 1,
        Event::DialogEnded { dialog, .. } => {
            *outcome.told.entry(format!("{end} {dialog:?}")).or_default() -= 1;
        }
        Event::Timeout { dialog: None, .. }
        | Event::TransportFailed { .. }
        | Event::Cancelled { .. }
        | Event::ProvisionalAcknowledged { .. }
        | Event::ProvisionalTimedOut { .. }
        | Event::AnswerTimedOut { .. }
        | Event::SessionRefreshDue { .. }
        | Event::SequenceMark { .. }
        | Event::Trying { .. }
        | Event::UnknownDialog { .. } => {}
    }
}

#[test]
fn nine_calls_of_ten_complete_at_a_fifth_of_loss() {
    let plan = Plan {
        reliable_ringing: false,
        answer: 200,
        cancel_after_ms: None,
        reinvite: false,
        both_reinvite: false,
        callee_hangs_up: false,
    };
    let mut complete = 0;
    for seed in 0..200 {
        let (mut world, outcome) = play(seed, Weather::STORM, Transport::Udp, plan);
        complete += usize::from(outcome.answered == 1 && outcome.byes == 1);
        world.assert_nothing_left();
    }
    assert!(complete >= 180, "{complete} of 200");
}

#[test]
fn one_seed_replays_the_same_call() {
    let plan = Plan {
        reliable_ringing: true,
        answer: 200,
        cancel_after_ms: Some(2500),
        reinvite: true,
        both_reinvite: true,
        callee_hangs_up: true,
    };
    let trace = |seed| play(seed, Weather::STORM, Transport::Udp, plan).0.trace;
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

#[test]
fn without_loss_every_plan_ends_as_planned() {
    for bits in 0..32u64 {
        let plan = Plan {
            reliable_ringing: bits & 1 > 0,
            answer: if bits & 2 > 0 { 200 } else { 486 },
            cancel_after_ms: None,
            reinvite: bits & 4 > 0,
            both_reinvite: bits & 8 > 0,
            callee_hangs_up: bits & 16 > 0,
        };
        let (mut world, outcome) = play(bits, Weather::FINE, Transport::Udp, plan);
        let trace = world.trace.join("\n");
        if plan.answer == 486 {
            assert_eq!((outcome.answered, outcome.byes), (0, 0), "{plan:?}\n{trace}");
        } else {
            assert!(outcome.answered >= 1, "{plan:?}\n{trace}");
            // A call that nobody ends by plan (the re-INVITE took its turn) is ended by the session timer.
            assert!(outcome.byes <= 1, "{plan:?}\n{trace}");
        }
        world.run_with(Duration::from_secs(2000), |world, end, event| {
            act(world, end, event, plan, &mut Outcome::default());
        });
        world.assert_nothing_left();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, doubled or overtaken, and whatever the users want: nothing is stuck, every dialog told is
    /// ended exactly once.
    #[test]
    fn nothing_is_ever_stuck(
        seed in any::<u64>(),
        loss in 0u64..60,
        duplication in 0u64..30,
        jitter_ms in 0u64..900,
        reliable_ringing in any::<bool>(),
        answer in prop::sample::select(vec![200u16, 200, 200, 302, 486, 603]),
        cancel_after_ms in prop::option::of(0u64..3000),
        reinvite in any::<bool>(),
        both_reinvite in any::<bool>(),
        callee_hangs_up in any::<bool>(),
        stream in any::<bool>(),
    ) {
        let weather = Weather { loss, duplication, delay_ms: 10, jitter_ms };
        let plan = Plan { reliable_ringing, answer, cancel_after_ms, reinvite, both_reinvite, callee_hangs_up };
        let transport = if stream { Transport::Tcp } else { Transport::Udp };
        let (mut world, mut outcome) = play(seed, weather, transport, plan);
        world.run_with(Duration::from_secs(4000), |world, end, event| act(world, end, event, plan, &mut outcome));
        world.assert_nothing_left();
        for (dialog, open) in &outcome.told {
            prop_assert_eq!(*open, 0, "{} {}\n{}", dialog, open, world.trace.join("\n"));
        }
    }
}
