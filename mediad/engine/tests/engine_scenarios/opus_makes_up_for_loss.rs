//! A peer with Opus that asks for forward error correction and tells of loss gets copies of what it may have lost, and can
//! hear them; others do not pay for that.

use codecs::{
    CodecKind,
    opus::{Decoder, PacketInfo},
};
use media_engine::spec::{Codec, PayloadFormat};
use rtp::{
    rtcp::{ReportBlock, RtcpWriter},
    units::Ssrc,
};

use crate::{
    tones::{Voice, talk},
    world::{Graph, Party, SESSION, World, format, pcmu, peer, rtcp_socket, rtp_socket, ssrc},
};

const HZ: f64 = 440.0;

fn opus(fmtp: &str) -> PayloadFormat {
    PayloadFormat {
        fmtp: fmtp.into(),
        ..format(111, Codec::Opus, 48_000)
    }
}

/// A with PCMU speaks to B with Opus.
fn graph(fmtp: &str) -> Graph {
    let parties = vec![
        Party::new("a", 0).with_formats(vec![pcmu()]),
        Party::new("b", 1).with_formats(vec![opus(fmtp)]),
    ];
    Graph::of(parties, &[("a", "b"), ("b", "a")])
}

fn transcoded(fmtp: &str) -> World {
    let mut world = World::new();
    world.commit(SESSION, &graph(fmtp));
    world
}

/// B's peer reports that it lost so many 256ths of what it was sent.
fn report(world: &mut World, fraction_lost: u8) {
    let block = ReportBlock {
        ssrc: ssrc(1),
        fraction_lost,
        cumulative_lost: 25,
        highest_sequence: 100,
        jitter: 80,
        last_sr: 0,
        delay_since_last_sr: 0,
    };
    let mut buffer = [0; 512];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer
        .receiver_report(Ssrc(0xB), &[block])
        .expect("there is room");
    let datagram = writer.finish().to_vec();
    let mut from = peer(1);
    from.set_port(from.port() + 1);
    world.receive(rtcp_socket(1), from, &datagram);
}

/// What B is sent in `ms` while both speak, A in syllables: of what has no life in it the codec makes no copies.
fn payloads(world: &mut World, a: &mut Voice, b: &mut Voice, ms: u64) -> Vec<Vec<u8>> {
    world.sent_rtp();
    for part in 0..ms / 100 {
        a.loud = if part % 3 == 2 { 300.0 } else { 12_000.0 };
        talk(world, &mut [&mut *a, &mut *b], 100);
    }
    let sent = world.sent_rtp();
    let to_b = sent.iter().filter(|sent| sent.socket == rtp_socket(1));
    to_b.map(|sent| sent.payload().to_vec()).collect()
}

fn copies(payloads: &[Vec<u8>]) -> usize {
    let infos = payloads
        .iter()
        .map(|payload| PacketInfo::parse(payload).expect("a packet of Opus"));
    infos.filter(|info| info.has_fec).count()
}

fn voices() -> (Voice, Voice) {
    (Voice::pcmu(0, HZ), Voice::new(1, 620.0, CodecKind::Opus, 111))
}

#[test]
fn copies_are_sent_while_loss_is_told_and_can_be_heard() {
    let mut world = transcoded("minptime=10;useinbandfec=1");
    let (mut a, mut b) = voices();
    assert_eq!(
        copies(&payloads(&mut world, &mut a, &mut b, 1_000)),
        0,
        "nothing is lost yet"
    );
    report(&mut world, 40);
    payloads(&mut world, &mut a, &mut b, 200);
    let lossy = payloads(&mut world, &mut a, &mut b, 2_000);
    assert!(
        copies(&lossy) * 2 > lossy.len(),
        "{} of {}",
        copies(&lossy),
        lossy.len()
    );
    // Every tenth is lost; what the next one says about it sounds as it did.
    let mut decoder = Decoder::new(8_000).expect("a rate");
    let (mut frame, mut recovered) = ([0; 160], Vec::new());
    for (at, payload) in lossy.iter().enumerate().skip(10) {
        match at % 10 {
            0 => {}
            1 => {
                if decoder.recover(payload, &mut frame) {
                    recovered.extend(frame);
                }
                decoder.decode(payload, &mut frame).expect("a packet of Opus");
            }
            _ => drop(decoder.decode(payload, &mut frame).expect("a packet of Opus")),
        }
    }
    assert!(
        recovered.len() >= 5 * 160,
        "{} samples from copies",
        recovered.len()
    );
    let share: f64 = recovered
        .chunks_exact(160)
        .map(|frame| tone_share(frame, HZ))
        .sum();
    let share = share / (recovered.len() / 160) as f64;
    assert!(share > 0.9, "{share} of what came from copies is the tone");
    // Reports without loss: the copies end, though not with the first.
    report(&mut world, 0);
    assert!(copies(&payloads(&mut world, &mut a, &mut b, 500)) > 0);
    for _ in 0..6 {
        report(&mut world, 0);
    }
    payloads(&mut world, &mut a, &mut b, 200);
    assert_eq!(copies(&payloads(&mut world, &mut a, &mut b, 1_000)), 0);
}

/// An edit gives the listener another encoder; its peer goes on telling the same loss.
#[test]
fn another_encoder_makes_up_for_the_same_loss() {
    let mut world = transcoded("useinbandfec=1");
    let (mut a, mut b) = voices();
    payloads(&mut world, &mut a, &mut b, 500);
    report(&mut world, 40);
    world.commit(SESSION, &graph("useinbandfec=1;maxaveragebitrate=20000"));
    payloads(&mut world, &mut a, &mut b, 500);
    report(&mut world, 40);
    payloads(&mut world, &mut a, &mut b, 200);
    let lossy = payloads(&mut world, &mut a, &mut b, 1_000);
    assert!(
        copies(&lossy) * 3 > lossy.len(),
        "{} of {}",
        copies(&lossy),
        lossy.len()
    );
}

/// The share of energy that is at `hz`.
fn tone_share(pcm: &[i16], hz: f64) -> f64 {
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (at, sample) in pcm.iter().enumerate() {
        let (angle, value) = (
            std::f64::consts::TAU * hz * at as f64 / 8_000.0,
            f64::from(*sample),
        );
        re += value * angle.cos();
        im += value * angle.sin();
        all += value * value;
    }
    2.0 * (re * re + im * im) / (all * pcm.len() as f64).max(1.0)
}

#[test]
fn who_did_not_ask_gets_none() {
    let mut world = transcoded("minptime=10");
    let (mut a, mut b) = voices();
    payloads(&mut world, &mut a, &mut b, 500);
    report(&mut world, 40);
    let lossy = payloads(&mut world, &mut a, &mut b, 1_000);
    assert_eq!(copies(&lossy), 0);
}

#[test]
fn bit_rate_and_bandwidth_are_the_peers() {
    let bytes = |fmtp: &str| {
        let (mut a, mut b) = voices();
        let sent = payloads(&mut transcoded(fmtp), &mut a, &mut b, 2_000);
        sent.iter().map(Vec::len).sum::<usize>()
    };
    let (plain, small) = (bytes(""), bytes("maxaveragebitrate=8000"));
    assert!(small * 2 < plain, "{small} of {plain}");
}
