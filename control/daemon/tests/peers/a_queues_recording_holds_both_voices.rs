use std::{fs, path::Path};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, register},
    site::{Plan, Site},
    voice::{Law, MOSTLY, Voice, holding, share},
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

/// What the record says of the file is so, and the customer is left, the agent right. Gives its length.
fn assert_recording(directory: &Path, told: &Value, hz: [f64; 2]) -> u64 {
    let path = directory.join(told["path"].as_str().unwrap());
    let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(told["size_bytes"], file.len());
    let digest = Sha256::digest(&file);
    let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(told["sha256"], sum.as_str());
    assert_eq!(told["problem"], "", "{told:#}");
    let (channels, rate) = channels(&file);
    let long_ms = channels[0].len() as f64 * 1_000.0 / rate;
    let told_ms = told["duration_ms"].as_f64().unwrap();
    assert!((long_ms - told_ms).abs() < 50.0, "{long_ms} ms, told {told_ms}");
    for (channel, own, other) in [(0, hz[0], hz[1]), (1, hz[1], hz[0])] {
        // Who was quick to answer was heard before it said anything.
        let samples = &channels[channel];
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        let holding = holding(middle, own, rate);
        assert!(
            holding > MOSTLY,
            "channel {channel}: {own} Hz in {holding:.3} of the time only"
        );
        let other_share = share(middle, other, rate);
        assert!(
            other_share < 0.01,
            "channel {channel}: {other} Hz to {other_share:.3}"
        );
    }
    told["duration_ms"].as_u64().unwrap()
}

/// What waits for an acknowledgement, by the marks that the media host keeps.
fn unacknowledged(directory: &Path) -> Vec<String> {
    names_in(&directory.join(".pending"))
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The only call was recorded in so many files, which its media host knows to be accounted for, and no other is there.
/// Gives what the detail says of each, in order, and their lengths.
fn assert_only_recordings(site: &Site, count: usize) -> Vec<(Value, u64)> {
    let call = site.only_call();
    let told = call["recordings"].as_array().unwrap();
    let segments: Vec<u64> = told
        .iter()
        .map(|told| told["segment"].as_u64().unwrap())
        .collect();
    assert_eq!(segments, (1..=count as u64).collect::<Vec<_>>(), "{call:#}");
    let directory = site.dir.join("recordings/a");
    let recordings = told.iter().map(|told| {
        assert_eq!(told["host"], "a");
        let duration_ms = assert_recording(&directory, told, [CUSTOMER_HZ, AGENT_HZ]);
        (told.clone(), duration_ms)
    });
    let recordings = recordings.collect();
    let mut files = names_in(&directory);
    files.retain(|name| Path::new(name).extension().is_some_and(|kind| kind == "wav"));
    assert_eq!(files.len(), count, "{files:?}");
    wait_for("the media host knows that they are accounted for", || {
        unacknowledged(&directory).is_empty().then_some(())
    });
    recordings
}

/// How often the journal has the record that this file of the call is whole.
fn journalled(site: &Site, segment: u32) -> usize {
    let directory = site.dir.join("journal");
    let files = names_in(&directory).into_iter();
    let text: String = files
        .map(|name| fs::read_to_string(directory.join(name)).unwrap_or_default())
        .collect();
    let segment = format!("\"segment\":{segment},");
    let records = text
        .lines()
        .filter(|line| line.contains("\"kind\":\"recorded\"") && line.contains(&segment));
    records.count()
}

/// A customer and an agent in a call that is recorded.
struct Talk {
    caller: Playing,
    agent: Playing,
    customer_voice: Voice,
    agent_voice: Voice,
    /// Our name for the call.
    call: Value,
}

impl Talk {
    fn begin(site: &Site) -> Self {
        let (mut customer_voice, mut agent_voice) =
            (Voice::new(Law::A, CUSTOMER_HZ), Voice::new(Law::Mu, AGENT_HZ));
        let agent_port = free_ports(2);
        register(site, "alice", agent_port, false);
        // A controller asks those who talk whether they are still there: `-aa` answers.
        let agent = Sipp::new("agent").at(agent_port).argument("-aa");
        let agent = agent.with_audio(&agent_voice).play(site);
        let caller = Sipp::new("caller")
            .with("USER", "customer")
            .with("CALLED", "support")
            .until_told()
            .argument("-aa")
            .with_audio(&customer_voice)
            .play(site);
        agent_voice.talk_to(agent.description().0);
        customer_voice.talk_to(caller.description().0);
        let call = site.wait_for_call("talking")["call"].clone();
        Self {
            caller,
            agent,
            customer_voice,
            agent_voice,
            call,
        }
    }

    /// 1.6 s and more in which each hears the other.
    #[track_caller]
    fn assert_both_hear(&self) {
        self.customer_voice.listen().assert_is(AGENT_HZ, &[CUSTOMER_HZ]);
        self.agent_voice.listen().assert_is(CUSTOMER_HZ, &[AGENT_HZ]);
    }

    #[track_caller]
    fn assert_goes_on(&self, site: &Site) {
        assert_eq!(site.wait_for_call("talking")["call"], self.call);
        self.assert_both_hear();
    }

    fn end(mut self) {
        self.caller.go_on();
        self.caller.assert_done();
        self.agent.assert_done();
        self.customer_voice.end();
        self.agent_voice.end();
    }
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
    assert_only_recordings(&site, 1);
}

/// It is one file, from the answer to the end, though the controller was killed in between.
#[test]
fn through_the_death_of_its_controller() {
    let mut site = Plan::new("recorded-killed").with(QUEUE).start();
    let talk = Talk::begin(&site);
    talk.assert_both_hear();
    site.kill_controld();
    talk.assert_both_hear();
    site.start_controld_again();
    talk.assert_goes_on(&site);
    talk.end();
    // Three times 1.6 s and more were listened to.
    let recordings = assert_only_recordings(&site, 1);
    assert!(recordings[0].1 >= 4_800, "{recordings:?}");
}

/// What was recorded until the media host was killed is one file, which the next one makes whole, and what came after
/// that is another.
#[test]
fn through_the_death_of_its_media_host() {
    let mut site = Plan::new("recorded-host-killed").with(QUEUE).start();
    let talk = Talk::begin(&site);
    for _ in 0..2 {
        talk.assert_both_hear();
    }
    site.restart_media_host("a");
    talk.assert_goes_on(&site);
    assert_first_is_accounted_for(&site);
    talk.assert_both_hear();
    talk.end();
    assert_two_files(&site);
}

/// The same while no controller is there: the next one hears of the first file from the next media host.
#[test]
fn through_the_death_of_both() {
    let mut site = Plan::new("recorded-both-killed").with(QUEUE).start();
    let talk = Talk::begin(&site);
    for _ in 0..2 {
        talk.assert_both_hear();
    }
    site.kill_controld();
    site.restart_media_host_alone("a");
    site.start_controld_again();
    talk.assert_goes_on(&site);
    assert_first_is_accounted_for(&site);
    talk.assert_both_hear();
    talk.end();
    assert_two_files(&site);
}

/// The media host forgets the file once the journal has it, and not before.
fn assert_first_is_accounted_for(site: &Site) {
    let directory = site.dir.join("recordings/a");
    wait_for("the first file is acknowledged", || {
        let marks = unacknowledged(&directory);
        (!marks.iter().any(|mark| mark.ends_with(".1"))).then_some(())
    });
    assert!(journalled(site, 1) >= 1);
    assert_eq!(journalled(site, 2), 0, "it is being written");
}

fn assert_two_files(site: &Site) {
    let recordings = assert_only_recordings(site, 2);
    let repaired: Vec<&Value> = recordings.iter().map(|(told, _)| &told["repaired"]).collect();
    assert_eq!(repaired, [&Value::from(true), &Value::from(false)]);
    // A killed host loses the last seconds that it had not written.
    assert!(recordings[0].1 >= 1_500, "{recordings:?}");
    assert!(recordings[1].1 >= 3_200, "{recordings:?}");
    assert!(journalled(site, 2) >= 1);
}
