//! RTCP of one endpoint: our own reports, what the peer's tell, and the quality that follows from both.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rtp::{
    quality::{CodecImpairment, QualityInputs, mos},
    receive::LastSr,
    rtcp::{
        Compound, IntervalInputs, NoSpace, Packet, ReportBlock, RtcpWriter, SenderInfo, round_trip_time,
        transmission_interval,
    },
    time::{Now, NtpTimestamp},
    units::{ClockRate, Ssrc},
};

use super::{
    MosThresholds,
    endpoint::{Egress, Ingress},
    outbox::ByeReason,
};
use crate::{
    command::QualityReport,
    spec::{Codec, Name},
};

/// RTCP bandwidth of a call: 5 % of 64 kbit/s, in bytes per second (RFC 3550 §6.2).
const BANDWIDTH: u32 = 400;
/// SR with one block and a short CNAME, with its IP and UDP headers.
const AVERAGE_BYTES: u32 = 120;

/// Fewer packets say nothing about quality: a lost one of five is chance. They count with the next.
const EVALUATED_PACKETS_MIN: u32 = 50;

/// So long after it was last seen that there is nothing to tell, and nobody to tell it, it is looked whether that is so still.
const RESTS: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Participant {
    due: Option<Instant>,
    /// It was seen that there is nothing to tell.
    rests: bool,
    cname: Name,
    /// RTCP was sent.
    sent: bool,
    poor: bool,
    /// RTP packets sent up to the latest report.
    reported_packets: u64,
    /// Received and lost up to the latest evaluation, modulo 2^32.
    received_prior: u32,
    lost_prior: i32,
    last_sr: Option<LastSr>,
    /// Whose it was.
    last_sr_of: Ssrc,
    /// When the session began, by the wall clock of our latest report; as reports are told of.
    began: u32,
    goodbye: Option<Ssrc>,
    /// A `Duration` is twice as large.
    round_trip_us: Option<NonZeroU32>,
    /// What the peer last said about our stream.
    heard: Option<ReportBlock>,
    /// See [`Heard::loss_percent`].
    loss_percent: u8,
    /// Largest jitter the peer told; in us, for the clock of what it is sent may change.
    heard_jitter_us_max: u32,
    /// Hundredths; 0 is unknown.
    mos_ingress: u16,
    mos_egress: u16,
    /// What came up to the latest evaluation.
    judged: Judged,
}

/// The quality of a stream from its beginning on. Hundredths of MOS.
#[derive(Debug, Clone, Copy, Default)]
struct Judged {
    /// Each evaluation's as often as there were packets in it.
    sum: u64,
    packets: u32,
    /// Of the worst evaluation; 0 before the first.
    worst: u16,
}

impl Judged {
    fn add(&mut self, mos: u16, packets: u32) {
        self.sum += u64::from(mos) * u64::from(packets);
        self.packets = self.packets.saturating_add(packets);
        self.worst = if self.worst == 0 { mos } else { self.worst.min(mos) };
    }

    fn mean(&self) -> u16 {
        // Before the first evaluation the sum is 0, too.
        (self.sum / u64::from(self.packets.max(1))) as u16
    }
}

/// Since the latest evaluation.
struct Interval {
    received: u32,
    lost: u32,
}

impl Interval {
    fn packets(&self) -> u32 {
        self.received + self.lost
    }
}

/// What a compound packet of the peer meant.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The peer left.
    pub(crate) goodbye: Option<ByeReason>,
    /// The share of what it is sent that it is expected to lose, in percent, where it told of that.
    pub(crate) loss_percent: Option<u8>,
}

/// A change of quality worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QualityCrossing {
    pub(crate) mos: u16,
    pub(crate) previous: u16,
}

impl Participant {
    pub(crate) fn new(cname: Name) -> Self {
        Self {
            due: None,
            rests: false,
            cname,
            sent: false,
            poor: false,
            reported_packets: 0,
            received_prior: 0,
            lost_prior: 0,
            last_sr: None,
            last_sr_of: Ssrc(0),
            began: 0,
            goodbye: None,
            round_trip_us: None,
            heard: None,
            loss_percent: 0,
            heard_jitter_us_max: 0,
            mos_ingress: 0,
            mos_egress: 0,
            judged: Judged::default(),
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// RFC 3550 §6.2: about 5 s apart, the first after half of that, randomised so that peers do not synchronise.
    pub(crate) fn schedule(&mut self, now: Instant, we_sent: bool, random: u32) {
        let interval = transmission_interval(
            &IntervalInputs {
                members: 2,
                senders: 1 + u32::from(we_sent),
                we_sent,
                rtcp_bandwidth: BANDWIDTH,
                average_size: AVERAGE_BYTES,
                initial: self.due.is_none(),
                reduced_minimum_kbps: None,
            },
            random,
        );
        self.due = Some(now + interval);
    }

    /// Nothing came, and reports have no destination: until something happens to the endpoint.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.due = Some(now + RESTS);
        self.rests = true;
    }

    /// Something happened to the endpoint.
    pub(crate) fn rouse(&mut self, now: Instant, random: impl FnOnce() -> u32) {
        if std::mem::take(&mut self.rests) {
            self.schedule(now, false, random());
        }
    }

    /// RTP came since the latest evaluation.
    pub(crate) fn has_received_rtp(&self, ingress: &Ingress) -> bool {
        ingress.packets as u32 != self.received_prior
    }

    /// RTP went out since the latest report.
    pub(crate) fn has_sent_rtp(&self, egress: &Egress) -> bool {
        egress.packets > self.reported_packets
    }

    /// Write a report to `slot`, `passed` after the session began; the length.
    ///
    /// # Errors
    /// [`NoSpace`] if the slot is shorter than a report with the CNAME.
    pub(crate) fn report(
        &mut self,
        now: Now,
        passed: Duration,
        slot: &mut [u8],
        ingress: &mut Ingress,
        egress: &Egress,
    ) -> Result<usize, NoSpace> {
        if self.has_sent_rtp(egress) {
            let middle = NtpTimestamp::from_wall(now.wall).middle();
            self.began = middle.wrapping_sub(units(passed));
        }
        let mut writer = RtcpWriter::new(slot);
        self.write(now, &mut writer, ingress, egress)?;
        self.sent = true;
        Ok(writer.len())
    }

    /// Write a last report and a BYE; `None` if the peer never got anything, since RFC 3550 §6.3.7 forbids it then.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    pub(crate) fn goodbye(
        &mut self,
        now: Now,
        slot: &mut [u8],
        ingress: &mut Ingress,
        egress: &Egress,
        reason: &str,
    ) -> Result<Option<usize>, NoSpace> {
        if !self.sent && egress.packets == 0 {
            return Ok(None);
        }
        let mut writer = RtcpWriter::new(slot);
        self.write(now, &mut writer, ingress, egress)?;
        writer.bye(&[egress.ssrc], reason.as_bytes())?;
        Ok(Some(writer.len()))
    }

    fn write(
        &mut self,
        now: Now,
        writer: &mut RtcpWriter<'_>,
        ingress: &mut Ingress,
        egress: &Egress,
    ) -> Result<(), NoSpace> {
        let block = ingress.ssrc.and_then(|ssrc| {
            let last_sr = self.last_sr.filter(|_| self.last_sr_of == ssrc);
            ingress.stats.report_block(ssrc, last_sr, now)
        });
        let blocks = block.as_slice();
        if self.has_sent_rtp(egress) {
            let info = SenderInfo {
                ntp: NtpTimestamp::from_wall(now.wall),
                rtp: egress.line.timestamp_at(now.mono),
                packet_count: egress.packets as u32,
                octet_count: egress.bytes as u32,
            };
            writer.sender_report(egress.ssrc, &info, blocks)?;
            self.reported_packets = egress.packets;
        } else {
            writer.receiver_report(egress.ssrc, blocks)?;
        }
        writer.sdes_cname(egress.ssrc, self.cname.as_bytes())
    }

    /// Take in a compound packet of the peer, `passed` after the session began.
    pub(crate) fn hear(
        &mut self,
        now: Now,
        passed: Duration,
        compound: &Compound<'_>,
        ingress: &Ingress,
        egress: &Egress,
    ) -> Heard {
        let mut heard = Heard::default();
        for packet in compound.packets() {
            match packet {
                Packet::SenderReport(report) => {
                    // Before RTP arrived the author's SSRC is not known; then it is the one that will come.
                    if ingress.ssrc.is_none_or(|ssrc| ssrc == report.ssrc) {
                        let arrival = now.mono;
                        self.last_sr = Some(LastSr {
                            ntp_middle: report.info.ntp.middle(),
                            arrival,
                        });
                        self.last_sr_of = report.ssrc;
                    }
                    self.hear_blocks(passed, report.reports, egress, &mut heard);
                }
                Packet::ReceiverReport(report) => {
                    self.hear_blocks(passed, report.reports, egress, &mut heard);
                }
                Packet::Bye(bye) => {
                    let leaves = |ssrc| bye.sources().any(|source| source == ssrc);
                    if let Some(ssrc) = ingress.ssrc
                        && leaves(ssrc)
                        && self.goodbye != Some(ssrc)
                    {
                        self.goodbye = Some(ssrc);
                        heard.goodbye = Some(ByeReason::new(bye.reason().unwrap_or_default()));
                    }
                }
                Packet::SourceDescription(_)
                | Packet::App(_)
                | Packet::TransportFeedback(_)
                | Packet::PayloadFeedback(_)
                | Packet::ExtendedReport(_)
                | Packet::Unknown(_) => {}
            }
        }
        heard
    }

    fn hear_blocks(
        &mut self,
        passed: Duration,
        blocks: impl Iterator<Item = ReportBlock>,
        egress: &Egress,
        heard: &mut Heard,
    ) {
        for block in blocks.filter(|block| block.ssrc == egress.ssrc) {
            if let Some(round_trip) = self.round_trip(passed, &block) {
                let us = u32::try_from(round_trip.as_micros()).ok();
                self.round_trip_us = us.and_then(|us| NonZeroU32::new(us.max(1)));
            }
            let jitter = egress.line.clock().duration(block.jitter.into());
            let jitter_us = u32::try_from(jitter.as_micros()).unwrap_or(u32::MAX);
            self.heard_jitter_us_max = self.heard_jitter_us_max.max(jitter_us);
            self.heard = Some(block);
            // One good report is no good line yet: half of what was lost is expected again.
            let percent = (u32::from(block.fraction_lost) * 100).div_ceil(256) as u8;
            self.loss_percent = percent.max(self.loss_percent / 2);
            heard.loss_percent = Some(self.loss_percent);
        }
    }

    /// From our latest report on by the clock that nobody sets.
    fn round_trip(&self, passed: Duration, block: &ReportBlock) -> Option<Duration> {
        let middle = self.began.wrapping_add(units(passed));
        round_trip_time(NtpTimestamp(u64::from(middle) << 16), block)
    }

    /// Judge the quality since the last time; a crossing of the thresholds is returned.
    pub(crate) fn evaluate(
        &mut self,
        ingress: &Ingress,
        egress: &Egress,
        thresholds: &MosThresholds,
    ) -> Option<QualityCrossing> {
        let codec = ingress
            .current_format()
            .map(|format| (format.codec, format.clock));
        if let (Some(block), Some(impairment)) = (self.heard, codec.and_then(|(codec, _)| impairment(codec)))
        {
            let loss = f32::from(block.fraction_lost) / 256.0;
            let jitter = egress.line.clock().duration(u64::from(block.jitter));
            self.mos_egress = self.score(impairment, loss, jitter);
        }
        codec?;
        let interval = self.interval(ingress)?;
        self.received_prior = ingress.packets as u32;
        self.lost_prior = lost(ingress) as i32;
        let previous = self.mos_ingress;
        self.mos_ingress = self.score_of_interval(ingress, &interval)?;
        self.judged.add(self.mos_ingress, interval.packets());
        self.crossing(previous, thresholds)
    }

    /// What came since the latest evaluation, where that is enough to judge by.
    fn interval(&self, ingress: &Ingress) -> Option<Interval> {
        let lost = (lost(ingress) as i32).wrapping_sub(self.lost_prior);
        let interval = Interval {
            received: (ingress.packets as u32).wrapping_sub(self.received_prior),
            lost: u32::try_from(lost).unwrap_or(0),
        };
        (interval.packets() >= EVALUATED_PACKETS_MIN).then_some(interval)
    }

    fn score_of_interval(&self, ingress: &Ingress, interval: &Interval) -> Option<u16> {
        let format = ingress.current_format()?;
        let loss = interval.lost as f32 / interval.packets() as f32;
        Some(self.score(impairment(format.codec)?, loss, jitter(ingress, format.clock)))
    }

    /// What we received from the beginning until now, with what no evaluation had its turn for: a call may end before.
    fn judged_until_now(&self, ingress: &Ingress) -> Judged {
        let mut judged = self.judged;
        if let Some(interval) = self.interval(ingress)
            && let Some(mos) = self.score_of_interval(ingress, &interval)
        {
            judged.add(mos, interval.packets());
        }
        judged
    }

    fn crossing(&mut self, previous: u16, thresholds: &MosThresholds) -> Option<QualityCrossing> {
        let crossed = if self.poor {
            self.mos_ingress > thresholds.good
        } else {
            self.mos_ingress < thresholds.poor
        };
        if !crossed {
            return None;
        }
        self.poor = !self.poor;
        Some(QualityCrossing {
            mos: self.mos_ingress,
            previous,
        })
    }

    /// Hundredths of MOS. The jitter buffer at the listener is taken as twice the jitter, beside one packet.
    fn score(&self, codec: CodecImpairment, loss: f32, jitter: Duration) -> u16 {
        let one_way = Duration::from_micros(self.round_trip_us.map_or(0, NonZeroU32::get).into()) / 2;
        let delay = one_way + 2 * jitter.min(Duration::from_secs(1)) + Duration::from_millis(20);
        (mos(&QualityInputs {
            codec,
            loss,
            burst_ratio: 1.0,
            delay,
        }) * 100.0)
            .round() as u16
    }

    /// Milliseconds.
    pub(crate) fn round_trip_ms(&self) -> Option<f32> {
        self.round_trip_us.map(|us| us.get() as f32 / 1e3)
    }

    /// What the peer last said about our stream.
    pub(crate) fn heard(&self) -> Option<&ReportBlock> {
        self.heard.as_ref()
    }

    /// Largest jitter the peer told.
    pub(crate) fn heard_jitter_max(&self) -> Duration {
        Duration::from_micros(self.heard_jitter_us_max.into())
    }

    pub(crate) fn quality(&self, ingress: &Ingress) -> QualityReport {
        let judged = self.judged_until_now(ingress);
        QualityReport {
            ingress: score_of(self.mos_ingress),
            ingress_mean: score_of(judged.mean()),
            ingress_min: score_of(judged.worst),
            egress: score_of(self.mos_egress),
        }
    }
}

/// In 1/65536 s, modulo 2^32, as [`NtpTimestamp::middle`] counts.
fn units(duration: Duration) -> u32 {
    ((duration.as_nanos() << 16) / 1_000_000_000) as u32
}

fn score_of(hundredths: u16) -> Option<f64> {
    (hundredths > 0).then(|| f64::from(hundredths) / 100.0)
}

/// Packets lost on all streams of an ingress.
pub(crate) fn lost(ingress: &Ingress) -> i64 {
    i64::from(ingress.past.lost) + i64::from(ingress.stats.lost())
}

fn jitter(ingress: &Ingress, clock: ClockRate) -> Duration {
    ingress.stats.jitter(clock)
}

fn impairment(codec: Codec) -> Option<CodecImpairment> {
    match codec {
        // Telephones conceal lost packets.
        Codec::Pcmu | Codec::Pcma | Codec::L16 => Some(CodecImpairment::G711_CONCEALED),
        Codec::G722 => Some(CodecImpairment::G722),
        Codec::Opus => Some(CodecImpairment::OPUS),
        Codec::TelephoneEvent | Codec::ComfortNoise | Codec::Opaque => None,
    }
}
