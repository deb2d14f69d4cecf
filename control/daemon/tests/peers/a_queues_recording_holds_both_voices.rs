use std::{fs, path::Path};

use sha2::{Digest as _, Sha256};

use crate::{
    program::{free_ports, wait_for},
    sipp::{Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice, share},
};

const CUSTOMER_HZ: f64 = 700.0;
const AGENT_HZ: f64 = 1_100.0;
const QUEUE: &str = "queues=[{name='support', agents=['alice', 'bob'], ring_timeout_s=2, record=true}]";

/// The two channels of a WAV file of 16 bits, and its rate.
fn channels(file: &[u8]) -> ([Vec<i16>; 2], f64) {
    assert_eq!((&file[..4], &file[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
    let (mut at, mut rate) = (12, 0);
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    loop {
        let (name, length) = (&file[at..at + 4], word(at + 4) as usize);
        if name == b"fmt " {
            assert_eq!(&file[at + 8..at + 12], [1, 0, 2, 0], "PCM of two channels");
            rate = word(at + 12);
        } else if name == b"data" {
            let frames = file[at + 8..at + 8 + length].chunks_exact(4);
            let channel = |of: usize| {
                let frames = frames.clone();
                frames
                    .map(|frame| i16::from_le_bytes([frame[of], frame[of + 1]]))
                    .collect()
            };
            return ([channel(0), channel(2)], f64::from(rate));
        }
        at += 8 + length + length % 2;
    }
}

/// What the record says of the file is so, and the customer is left, the agent right.
fn assert_recording(directory: &Path, told: &serde_json::Value, hz: [f64; 2]) {
    let path = directory.join(told["path"].as_str().unwrap());
    let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(told["size_bytes"], file.len());
    let digest = Sha256::digest(&file);
    let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(told["sha256"], sum.as_str());
    assert_eq!((&told["problem"], &told["segment"]), (&"".into(), &1.into()));
    let (channels, rate) = channels(&file);
    let long_ms = channels[0].len() as f64 * 1_000.0 / rate;
    let told_ms = told["duration_ms"].as_f64().unwrap();
    assert!((long_ms - told_ms).abs() < 50.0, "{long_ms} ms, told {told_ms}");
    for (channel, own, other) in [(0, hz[0], hz[1]), (1, hz[1], hz[0])] {
        // Who was quick to answer was heard before it said anything.
        let samples = &channels[channel];
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        let own_share = share(middle, own, rate);
        assert!(
            own_share > 0.95,
            "channel {channel}: {own} Hz only to {own_share:.3}"
        );
        let other_share = share(middle, other, rate);
        assert!(
            other_share < 0.01,
            "channel {channel}: {other} Hz to {other_share:.3}"
        );
    }
}

/// What waits for an acknowledgement, by the marks that the media host keeps.
fn unacknowledged(directory: &Path) -> usize {
    fs::read_dir(directory.join(".pending")).map_or(0, Iterator::count)
}

/// The only call has one recording, which its media host knows to be accounted for. Gives its length.
fn assert_only_recording(site: &Site) -> u64 {
    let call = site.only_call();
    let told = call["recordings"].as_array().unwrap();
    assert_eq!(told.len(), 1, "{call:#}");
    assert_eq!(told[0]["host"], "a");
    let directory = site.dir.join("recordings/a");
    assert_recording(&directory, &told[0], [CUSTOMER_HZ, AGENT_HZ]);
    wait_for("the media host knows that it is accounted for", || {
        (unacknowledged(&directory) == 0).then_some(())
    });
    told[0]["duration_ms"].as_u64().unwrap()
}

#[test]
fn left_and_right() {
    let site = Plan::new("recorded").with(QUEUE).start();
    let (mut customer_voice, mut agent_voice) =
        (Voice::new(Law::A, CUSTOMER_HZ), Voice::new(Law::Mu, AGENT_HZ));
    let agent_port = free_ports(2);
    register(&site, "alice", agent_port, false);
    let mut agent = Sipp::new("agent")
        .at(agent_port)
        .with("MEDIA_PORT", agent_voice.port())
        .with("LAW", Law::Mu.payload_type())
        .with("LAW_NAME", Law::Mu.name())
        .play(&site);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with("MEDIA_PORT", customer_voice.port())
        .with("LAW", Law::A.payload_type())
        .with("LAW_NAME", Law::A.name())
        .pausing_ms(3_000)
        .play(&site);
    agent_voice.talk_to(agent.description().0);
    customer_voice.talk_to(caller.description().0);
    caller.assert_done();
    agent.assert_done();
    customer_voice.end();
    agent_voice.end();
    assert_only_recording(&site);
}

/// It is one file, from the answer to the end, though the controller was killed in between.
#[test]
fn through_the_death_of_its_controller() {
    let mut site = Plan::new("recorded-killed").with(QUEUE).start();
    let (mut customer_voice, mut agent_voice) =
        (Voice::new(Law::A, CUSTOMER_HZ), Voice::new(Law::Mu, AGENT_HZ));
    let agent_port = free_ports(2);
    register(&site, "alice", agent_port, false);
    let agent = Sipp::new("agent").at(agent_port).argument("-aa");
    let mut agent = agent.with_audio(&agent_voice).play(&site);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .until_told()
        .argument("-aa")
        .with_audio(&customer_voice)
        .play(&site);
    agent_voice.talk_to(agent.description().0);
    customer_voice.talk_to(caller.description().0);
    let before = site.wait_for_call("talking");
    customer_voice.listen().assert_is(AGENT_HZ, &[CUSTOMER_HZ]);
    site.kill_controld();
    customer_voice.listen().assert_is(AGENT_HZ, &[CUSTOMER_HZ]);
    site.start_controld_again();
    assert_eq!(site.wait_for_call("talking")["call"], before["call"]);
    customer_voice.listen().assert_is(AGENT_HZ, &[CUSTOMER_HZ]);
    agent_voice.listen().assert_is(CUSTOMER_HZ, &[AGENT_HZ]);
    caller.go_on();
    caller.assert_done();
    agent.assert_done();
    customer_voice.end();
    agent_voice.end();
    let duration_ms = assert_only_recording(&site);
    // Four times 1.6 s were listened to.
    assert!(duration_ms >= 4_800, "{duration_ms} ms");
}
