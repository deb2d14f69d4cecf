//! What is known of a host at one moment, and what two such moments tell: rates.

use std::{collections::BTreeMap, time::Instant};

use proto::mediad::v1 as pb;

/// Sessions out of sight that are looked at with each sample, so that an order by quality gets to know all of them
/// without asking for all of them at once.
const SWEEP: usize = 32;

/// A host at one moment.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// Unix time, for ages.
    pub(super) unix_us: u64,
    pub(super) status: pb::StatusReply,
    pub(super) sessions: Vec<pb::SessionSummary>,
    /// By session id: those that were asked for and still exist.
    pub(super) details: BTreeMap<String, pb::SessionDescription>,
    /// Session id and what was found, for the one that is open.
    pub(super) findings: Option<(String, Vec<pb::Finding>)>,
}

/// Per second, between two samples of one life of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct HostRates {
    pub(super) rx: f64,
    pub(super) tx: f64,
    pub(super) drops: f64,
}

/// The last figures known of a session.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) at: Instant,
    /// Received by all endpoints.
    pub(super) packets: u64,
    /// Since the figures before; `None` until there are two.
    pub(super) per_second: Option<f64>,
    /// Of the worst endpoint, percent.
    pub(super) loss_percent: f64,
    /// Of the worst endpoint.
    pub(super) jitter_ms: f64,
    /// Of the worst endpoint; `None` while unknown.
    pub(super) mos: Option<f64>,
    /// By reason.
    pub(super) drops: BTreeMap<i32, u64>,
    /// Dropped per second by reason, where that is not zero.
    pub(super) drop_rates: BTreeMap<i32, f64>,
}

/// Counters only rise within one life of a host; `None` when they fell or no time passed.
pub(super) fn rate(earlier: u64, now: u64, seconds: f64) -> Option<f64> {
    let risen = now.checked_sub(earlier)?;
    (seconds > 0.0).then(|| risen as f64 / seconds)
}

/// `None` across a restart of the host.
pub(super) fn host_rates(earlier: &Sample, now: &Sample) -> Option<HostRates> {
    if earlier.status.boot_id != now.status.boot_id {
        return None;
    }
    let seconds = now.at.saturating_duration_since(earlier.at).as_secs_f64();
    let of = |count: fn(&pb::WorkerStatus) -> u64| {
        let sum = |status: &pb::StatusReply| status.workers.iter().map(count).sum();
        rate(sum(&earlier.status), sum(&now.status), seconds)
    };
    Some(HostRates {
        rx: of(|worker| worker.rx_packets)?,
        tx: of(|worker| worker.tx_packets)?,
        drops: of(|worker| worker.drops)?,
    })
}

impl Figures {
    /// From a description, and from the figures before when they are of the same session.
    pub(super) fn new(at: Instant, description: &pb::SessionDescription, earlier: Option<&Self>) -> Self {
        let ingress = description
            .endpoint_stats
            .iter()
            .filter_map(|endpoint| Some((endpoint, endpoint.ingress.as_ref()?)));
        let mut figures = Self {
            at,
            packets: 0,
            per_second: None,
            loss_percent: 0.0,
            jitter_ms: 0.0,
            mos: None,
            drops: BTreeMap::new(),
            drop_rates: BTreeMap::new(),
        };
        for (endpoint, stream) in ingress {
            figures.packets += stream.packets;
            figures.loss_percent = figures.loss_percent.max(loss_percent(stream));
            figures.jitter_ms = figures.jitter_ms.max(stream.jitter_ms);
            if endpoint.mos_ingress > 0.0 {
                let worst = figures.mos.unwrap_or(f64::INFINITY);
                figures.mos = Some(worst.min(endpoint.mos_ingress));
            }
        }
        for drop in description.transport_stats.iter().flat_map(|stats| &stats.drops) {
            *figures.drops.entry(drop.reason).or_default() += drop.packets;
        }
        if let Some(earlier) = earlier {
            figures.compare(earlier);
        }
        figures
    }

    fn compare(&mut self, earlier: &Self) {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        self.per_second = rate(earlier.packets, self.packets, seconds);
        for (reason, count) in &self.drops {
            let before = earlier.drops.get(reason).copied().unwrap_or(0);
            if let Some(rate) = rate(before, *count, seconds)
                && rate > 0.0
            {
                self.drop_rates.insert(*reason, rate);
            }
        }
    }
}

/// Share of a stream that is missing; a negative loss (duplicates, RFC 3550 A.3) is none.
pub(super) fn loss_percent(stream: &pb::StreamStats) -> f64 {
    let lost = stream.lost.max(0) as f64;
    let expected = stream.packets as f64 + lost;
    if expected == 0.0 {
        0.0
    } else {
        100.0 * lost / expected
    }
}

/// Which sessions to ask for: those in sight, and the next few out of sight after `cursor`, which moves on.
pub(super) fn wanted(
    in_sight: &[String],
    sessions: &[pb::SessionSummary],
    cursor: &mut usize,
) -> Vec<String> {
    let mut wanted = in_sight.to_vec();
    let others = sessions.len().min(SWEEP);
    for step in 0..others {
        let name = &sessions[(*cursor + step) % sessions.len()].session;
        if !in_sight.contains(name) {
            wanted.push(name.clone());
        }
    }
    *cursor = (*cursor + others) % sessions.len().max(1);
    wanted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(at: Instant, boot_id: &str, rx: u64, drops: u64) -> Sample {
        let worker = pb::WorkerStatus {
            rx_packets: rx,
            tx_packets: 2 * rx,
            drops,
            ..Default::default()
        };
        let status = pb::StatusReply {
            boot_id: boot_id.into(),
            workers: vec![worker, worker],
            ..Default::default()
        };
        Sample {
            at,
            unix_us: 0,
            status,
            sessions: Vec::new(),
            details: BTreeMap::new(),
            findings: None,
        }
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let at = Instant::now();
        let earlier = sample(at, "one", 100, 5);
        let now = sample(at + Duration::from_secs(2), "one", 200, 6);
        let rates = host_rates(&earlier, &now).unwrap();
        assert_eq!((rates.rx, rates.tx, rates.drops), (100.0, 200.0, 1.0));
    }

    #[test]
    fn a_restart_of_the_host_has_no_rates() {
        let at = Instant::now();
        let later = at + Duration::from_secs(1);
        let earlier = sample(at, "one", 100, 5);
        assert_eq!(
            host_rates(&earlier, &sample(later, "two", 500, 9)),
            None,
            "another life"
        );
        assert_eq!(
            host_rates(&earlier, &sample(later, "one", 3, 0)),
            None,
            "counters fell"
        );
        assert_eq!(
            host_rates(&earlier, &sample(at, "one", 200, 6)),
            None,
            "no time passed"
        );
    }

    fn description(packets: [u64; 2], lost: [i64; 2], mos: [f64; 2], dropped: u64) -> pb::SessionDescription {
        let endpoint = |at: usize| pb::EndpointStats {
            ingress: Some(pb::StreamStats {
                packets: packets[at],
                lost: lost[at],
                jitter_ms: at as f64,
                ..Default::default()
            }),
            mos_ingress: mos[at],
            ..Default::default()
        };
        let drops = vec![pb::DropCount {
            reason: pb::DropReason::WrongSource.into(),
            packets: dropped,
        }];
        pb::SessionDescription {
            endpoint_stats: vec![endpoint(0), endpoint(1)],
            transport_stats: vec![pb::TransportStats {
                drops,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn a_session_is_as_good_as_its_worst_endpoint() {
        let at = Instant::now();
        let before = Figures::new(at, &description([90, 40], [10, -1], [4.2, 0.0], 7), None);
        assert_eq!((before.packets, before.loss_percent), (130, 10.0));
        assert_eq!(
            (before.jitter_ms, before.mos, before.per_second),
            (1.0, Some(4.2), None)
        );
        let later = at + Duration::from_secs(2);
        let after = Figures::new(
            later,
            &description([190, 40], [0, 0], [4.2, 3.1], 13),
            Some(&before),
        );
        assert_eq!((after.per_second, after.mos), (Some(50.0), Some(3.1)));
        let wrong_source = pb::DropReason::WrongSource.into();
        assert_eq!(after.drop_rates, BTreeMap::from([(wrong_source, 3.0)]));
        let anew = Figures::new(later, &description([10, 0], [0, 0], [0.0, 0.0], 0), Some(&before));
        assert_eq!(
            (anew.per_second, anew.mos),
            (None, None),
            "the session began anew under its old name"
        );
        assert!(anew.drop_rates.is_empty());
    }

    #[test]
    fn those_out_of_sight_get_their_turn() {
        let summary = |at: usize| pb::SessionSummary {
            session: format!("s{at:02}"),
            ..Default::default()
        };
        let sessions: Vec<_> = (0..40).map(summary).collect();
        let in_sight = ["s01".to_owned()];
        let mut cursor = 0;
        let first = wanted(&in_sight, &sessions, &mut cursor);
        assert_eq!((first.len(), first[0].as_str(), cursor), (32, "s01", 32));
        let second = wanted(&in_sight, &sessions, &mut cursor);
        assert!(second.contains(&"s39".to_owned()) && second.contains(&"s02".to_owned()));
        assert!(wanted(&[], &[], &mut cursor).is_empty());
    }
}
