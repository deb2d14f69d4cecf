//! Who hears whom in a call, as its state says.

use proto::mediad::v1 as pb;

use crate::{
    call::{Call, Stage},
    config::{Config, Queue},
    leg::Leg,
    media::{Digits, Scene},
    routing::Destination,
};

/// What a call is to sound like now. `queue`: the one it came by.
pub(crate) fn scene(call: &Call, config: &Config, queue: Option<&Queue>) -> Scene {
    let mut scene = Scene::default();
    match call.stage {
        Stage::Preparing | Stage::Ended => {}
        Stage::Waiting | Stage::Offering | Stage::Ringing => waiting(&mut scene, call, config, queue),
        Stage::Connecting | Stage::AwaitingAnswer | Stage::Talking => {
            talking(&mut scene, call, config, queue)
        }
    }
    record(&mut scene, call);
    scene
}

/// The caller, or who is being transferred, waits for somebody.
fn waiting(scene: &mut Scene, call: &Call, config: &Config, queue: Option<&Queue>) {
    let who = &call.caller;
    if !who.is_described || who.media.is_none() {
        // Its own phone makes the ringback.
        return;
    }
    if let Some(early) = &call.early {
        scene.join(&who.endpoint, early);
        return;
    }
    match call.destination {
        Destination::Queue(_) => music(scene, call, (config, queue), who),
        Destination::Menu(_) => {
            if let Some(selection) = &call.menu {
                selection.put(scene, &who.endpoint);
            }
        }
        Destination::User(_) | Destination::Room(_) | Destination::Out(_) => {
            scene.play("ringback", config.music.ringback(), &who.endpoint)
        }
    }
}

fn talking(scene: &mut Scene, call: &Call, config: &Config, queue: Option<&Queue>) {
    let Some(callee) = &call.callee else { return };
    let caller = &call.caller;
    let both_agreed = caller.media.is_some() && callee.media.is_some();
    if !both_agreed {
        return;
    }
    match (caller.holds(), callee.holds()) {
        (false, false) => converse(scene, config, caller, callee),
        (true, true) => {}
        (true, false) => held(scene, call, (config, queue), caller, callee),
        (false, true) => held(scene, call, (config, queue), callee, caller),
    }
}

/// `holder` does not listen: `held` hears music, ours or the holder's own.
fn held(
    scene: &mut Scene,
    call: &Call,
    (config, queue): (&Config, Option<&Queue>),
    holder: &Leg,
    held: &Leg,
) {
    if config.music.on_hold {
        music(scene, call, (config, queue), held);
    } else {
        converse(scene, config, holder, held);
    }
}

/// The two hear each other. A digit reaches each of them once, in the form it takes.
fn converse(scene: &mut Scene, config: &Config, a: &Leg, b: &Leg) {
    for (from, to) in [(a, b), (b, a)] {
        let digits = match (from.takes_events(), to.takes_events()) {
            // By INFO, whose tones nobody needs to hear.
            (true, false) if to.takes_info => Digits::Block,
            // Its key presses are tones in its audio, which the other side's machine may not look for.
            (false, true) if config.media.convert_digits => Digits::Convert,
            (true | false, _) => Digits::Pass,
        };
        scene.hear_digits(&from.endpoint, &to.endpoint, digits);
    }
}

fn music(scene: &mut Scene, call: &Call, (config, queue): (&Config, Option<&Queue>), to: &Leg) {
    let player = if call.lacks_prompt {
        config.music.built_in()
    } else {
        config.music.player(queue.map_or("", |queue| &queue.music))
    };
    scene.play("music", player, &to.endpoint);
}

/// Once begun, a recording goes on to the end of the call, whoever is in it: who called left, who serves right.
fn record(scene: &mut Scene, call: &Call) {
    let recorded = call.recorded.as_ref().filter(|_| call.stage != Stage::Ended);
    // Finished before the end of the call: its disk is full, or the host cannot record.
    let Some(recorded) = recorded.filter(|recorded| !recorded.is_finished()) else {
        return;
    };
    let recorder = pb::Recorder {
        recording: call.name.clone(),
        call: call.name.clone(),
        segment: recorded.segment,
        format: recorded.format.to_wire().into(),
        paused: recorded.is_paused,
        ..pb::Recorder::default()
    };
    let agreed = |leg: &&Leg| leg.media.is_some();
    let caller = Some(&call.caller).filter(agreed).map(|leg| leg.endpoint.as_str());
    let callee = call
        .callee
        .as_ref()
        .filter(agreed)
        .map(|leg| leg.endpoint.as_str());
    let channels = if call.is_turned {
        [callee, caller]
    } else {
        [caller, callee]
    };
    scene.record("recording", recorder, channels);
}
