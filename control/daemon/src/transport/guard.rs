//! What one source may do: so many messages a second, no scanning, no guessing of passwords. Who goes too far meets
//! silence for a while: no answer tells a scanner that somebody lives here.
//!
//! A source is an IPv4 address or an IPv6 /64, which one customer has for himself.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use memchr::memmem;

use crate::{config::Sources, limits};

/// Why a source is silenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    /// Its User-Agent is a known scanner's.
    Scanner,
    /// It gave too many wrong passwords.
    WrongPasswords,
}

impl Offence {
    /// For pages and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scanner => "scanner",
            Self::WrongPasswords => "wrong_passwords",
        }
    }
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Pass,
    /// Its source sends too fast: a stream waits this long, a datagram is dropped.
    Wait(Duration),
    /// Its source is silenced.
    Silence,
}

/// A silenced source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silenced {
    pub(crate) source: IpAddr,
    pub(crate) offence: Offence,
    /// How much longer.
    pub(crate) left: Duration,
    /// Messages and connections that met silence.
    pub(crate) refused: u64,
}

/// What befell sources.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) silenced_scanner: AtomicU64,
    pub(crate) silenced_passwords: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) too_fast: AtomicU64,
}

/// Shared by all who read sockets. Locked for the time of a look-up.
#[derive(Debug)]
pub(crate) struct Guard {
    state: Mutex<State>,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
struct State {
    settings: Sources,
    sources: BTreeMap<IpAddr, Source>,
}

#[derive(Debug)]
struct Source {
    /// Messages it may send at once, in thousandths.
    credit: u64,
    /// Up to when credit was given.
    credited: Instant,
    failures: u32,
    failing_since: Instant,
    silence: Option<(Offence, Instant)>,
    refused: u64,
}

impl Guard {
    pub(crate) fn new(settings: Sources) -> Self {
        Self {
            state: Mutex::new(State {
                settings,
                sources: BTreeMap::new(),
            }),
            counters: Counters::default(),
        }
    }

    /// New settings; who is silenced stays so.
    pub(crate) fn reload(&self, settings: Sources) {
        self.state().settings = settings;
    }

    /// What to do with a message from there.
    pub(crate) fn admit(&self, now: Instant, from: IpAddr, message: &[u8]) -> Verdict {
        let mut state = self.state();
        if state.is_exempt(from) {
            return Verdict::Pass;
        }
        let is_scanner = state.is_scanner(message);
        let State { settings, sources } = &mut *state;
        let source = entry(sources, settings, now, from);
        if source.is_silenced(now) {
            source.refused += 1;
            self.counters.refused.fetch_add(1, Relaxed);
            return Verdict::Silence;
        }
        if is_scanner {
            source.refused += 1;
            self.silence(source, settings, now, from, Offence::Scanner);
            return Verdict::Silence;
        }
        let verdict = source.spend(settings, now);
        if verdict != Verdict::Pass {
            self.counters.too_fast.fetch_add(1, Relaxed);
        }
        verdict
    }

    /// True when a connection from there is closed unheard.
    pub(crate) fn refuses(&self, now: Instant, from: IpAddr) -> bool {
        let mut state = self.state();
        if state.is_exempt(from) {
            return false;
        }
        let Some(source) = state
            .sources
            .get_mut(&key(from))
            .filter(|source| source.is_silenced(now))
        else {
            return false;
        };
        source.refused += 1;
        self.counters.refused.fetch_add(1, Relaxed);
        true
    }

    /// A wrong password came from there. True: that was one too many.
    pub(crate) fn wrong_password(&self, now: Instant, from: IpAddr) -> bool {
        let mut state = self.state();
        if state.settings.failures_max == 0 || state.is_exempt(from) {
            return false;
        }
        let State { settings, sources } = &mut *state;
        let source = entry(sources, settings, now, from);
        let window = Duration::from_secs(settings.failures_within_s);
        if now.saturating_duration_since(source.failing_since) > window {
            (source.failures, source.failing_since) = (0, now);
        }
        source.failures += 1;
        let too_many = source.failures >= settings.failures_max && !source.is_silenced(now);
        if too_many {
            source.failures = 0;
            self.silence(source, settings, now, from, Offence::WrongPasswords);
        }
        too_many
    }

    fn silence(&self, source: &mut Source, settings: &Sources, now: Instant, from: IpAddr, offence: Offence) {
        let counter = match offence {
            Offence::Scanner => &self.counters.silenced_scanner,
            Offence::WrongPasswords => &self.counters.silenced_passwords,
        };
        counter.fetch_add(1, Relaxed);
        source.silence = Some((offence, now + Duration::from_secs(settings.silence_s)));
        let seconds = settings.silence_s;
        tracing::warn!(source = %from, offence = offence.name(), seconds, "a source is silenced");
    }

    /// Who is silenced.
    pub(crate) fn silenced(&self, now: Instant) -> Vec<Silenced> {
        let state = self.state();
        let found = state.sources.iter().filter_map(|(ip, source)| {
            let (offence, until) = source.silence.filter(|(_, until)| *until > now)?;
            Some(Silenced {
                source: *ip,
                offence,
                left: until - now,
                refused: source.refused,
            })
        });
        found.collect()
    }

    /// Forgives a source. False when it was not silenced.
    pub(crate) fn forgive(&self, now: Instant, source: IpAddr) -> bool {
        let mut state = self.state();
        let found = state
            .sources
            .get_mut(&key(source))
            .filter(|source| source.is_silenced(now));
        found.is_some_and(|source| source.silence.take().is_some())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nobody panics while holding the sources")
    }
}

impl State {
    fn is_exempt(&self, from: IpAddr) -> bool {
        self.settings.exempt.iter().any(|network| network.holds(from))
    }

    /// Looks at the beginning only: scanners send small messages.
    fn is_scanner(&self, message: &[u8]) -> bool {
        let head = &message[..message.len().min(limits::SCANNER_SEARCH_BYTES)];
        let Some(at) = memmem::find(head, b"ser-Agent:").or_else(|| memmem::find(head, b"ser-agent:")) else {
            return false;
        };
        let value = &head[at + b"ser-Agent:".len()..];
        let line = value.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let holds = |name: &String| {
            let name = name.as_bytes();
            line.windows(name.len())
                .any(|window| window.eq_ignore_ascii_case(name))
        };
        self.settings.scanners.iter().any(holds)
    }
}

impl Source {
    fn is_silenced(&self, now: Instant) -> bool {
        self.silence.is_some_and(|(_, until)| until > now)
    }

    fn spend(&mut self, settings: &Sources, now: Instant) -> Verdict {
        let (rate, burst) = (
            u64::from(settings.messages_per_s),
            u64::from(settings.messages_burst),
        );
        if rate == 0 {
            return Verdict::Pass;
        }
        let passed_us = now.saturating_duration_since(self.credited).as_micros();
        let earned = u64::try_from(passed_us).unwrap_or(u64::MAX).saturating_mul(rate) / 1_000;
        if earned > 0 {
            self.credit = self.credit.saturating_add(earned).min(burst * 1_000);
            self.credited = now;
        }
        if self.credit >= 1_000 {
            self.credit -= 1_000;
            return Verdict::Pass;
        }
        Verdict::Wait(Duration::from_micros((1_000 - self.credit) * 1_000 / rate + 1))
    }

    /// Nothing would be lost by forgetting it.
    fn is_at_rest(&self, settings: &Sources, now: Instant) -> bool {
        let rests = now.saturating_duration_since(self.credited) > Duration::from_secs(60);
        let window = Duration::from_secs(settings.failures_within_s);
        let fails = self.failures > 0 && now.saturating_duration_since(self.failing_since) <= window;
        rests && !fails && !self.is_silenced(now)
    }
}

/// The source's entry. A full table forgets those at rest, then anybody but the silenced.
fn entry<'a>(
    sources: &'a mut BTreeMap<IpAddr, Source>,
    settings: &Sources,
    now: Instant,
    from: IpAddr,
) -> &'a mut Source {
    let key = key(from);
    if sources.len() >= limits::SOURCES && !sources.contains_key(&key) {
        sources.retain(|_, source| !source.is_at_rest(settings, now));
        if sources.len() >= limits::SOURCES * 9 / 10 {
            sources.retain(|_, source| source.is_silenced(now));
        }
        if sources.len() >= limits::SOURCES {
            sources.clear();
        }
    }
    sources.entry(key).or_insert_with(|| Source {
        credit: u64::from(settings.messages_burst) * 1_000,
        credited: now,
        failures: 0,
        failing_since: now,
        silence: None,
        refused: 0,
    })
}

pub(super) fn key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Sources {
        Sources {
            messages_per_s: 10,
            messages_burst: 20,
            failures_max: 3,
            exempt: Vec::new(),
            ..Sources::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_then_a_message_each_tenth_of_a_second() {
        let (guard, start, from) = (Guard::new(settings()), Instant::now(), ip("192.0.2.1"));
        for _ in 0..20 {
            assert_eq!(guard.admit(start, from, b"OPTIONS"), Verdict::Pass);
        }
        let Verdict::Wait(wait) = guard.admit(start, from, b"OPTIONS") else {
            panic!()
        };
        assert!(wait <= Duration::from_millis(101), "{wait:?}");
        assert_eq!(guard.admit(start + wait, from, b"OPTIONS"), Verdict::Pass);
        assert!(matches!(
            guard.admit(start + wait, from, b"OPTIONS"),
            Verdict::Wait(_)
        ));
        assert_eq!(
            guard.admit(start, ip("192.0.2.2"), b"OPTIONS"),
            Verdict::Pass,
            "others"
        );
        assert_eq!(guard.counters.too_fast.load(Relaxed), 2);
    }

    #[test]
    fn a_scanner_meets_silence_for_a_while_and_can_be_forgiven() {
        let (guard, start, from) = (Guard::new(settings()), Instant::now(), ip("192.0.2.1"));
        let scan = b"OPTIONS sip:100@a SIP/2.0\r\nUser-Agent: Friendly-Scanner\r\n\r\n";
        let named = b"INVITE sip:a@b SIP/2.0\r\nSubject: friendly-scanner\r\nUser-Agent: desk\r\n\r\n";
        assert_eq!(
            guard.admit(start, from, named),
            Verdict::Pass,
            "not its User-Agent"
        );
        assert_eq!(guard.admit(start, from, scan), Verdict::Silence);
        assert_eq!(guard.admit(start, from, named), Verdict::Silence);
        assert!(guard.refuses(start, from));
        let silenced = guard.silenced(start);
        assert_eq!(
            (silenced[0].source, silenced[0].offence, silenced[0].refused),
            (from, Offence::Scanner, 3)
        );
        assert!(guard.forgive(start, from) && !guard.forgive(start, from));
        assert_eq!(guard.admit(start, from, named), Verdict::Pass);
        assert_eq!(guard.admit(start, from, scan), Verdict::Silence);
        let later = start + Duration::from_secs(601);
        assert_eq!(guard.admit(later, from, named), Verdict::Pass);
    }

    #[test]
    fn wrong_passwords_count_within_their_window_and_for_a_whole_ipv6_network() {
        let (guard, start) = (Guard::new(settings()), Instant::now());
        let neighbours = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(ip);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!guard.wrong_password(at(0), neighbours[0]));
        assert!(
            !guard.wrong_password(at(100), neighbours[1]),
            "the first one is long ago"
        );
        assert!(!guard.wrong_password(at(101), neighbours[2]));
        assert!(guard.wrong_password(at(102), neighbours[0]));
        assert!(guard.refuses(at(103), ip("2001:db8::9")) && !guard.refuses(at(103), ip("2001:db8:1::9")));
    }

    /// Anybody can write a carrier's address on a datagram.
    #[test]
    fn where_a_trunk_sends_from_is_never_silenced() {
        let (guard, now) = (Guard::new(settings()), Instant::now());
        let scan = b"REGISTER\r\nUser-Agent: sipvicious\r\n";
        let (carrier, other) = (ip("198.51.100.7"), ip("198.51.101.7"));
        guard.admit(now, carrier, scan);
        assert!(guard.refuses(now, carrier), "nobody knows it");
        let trunk = "name = 'carrier'\nsources = ['198.51.100.0/24']";
        guard.reload(settings().but_for(&[toml::from_str(trunk).unwrap()]));
        assert_eq!(guard.admit(now, carrier, scan), Verdict::Pass);
        assert!(!(0..9).any(|_| guard.wrong_password(now, carrier)));
        assert!(!guard.refuses(now, carrier));
        assert_eq!(guard.admit(now, other, scan), Verdict::Silence);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_is_silenced() {
        let (guard, now) = (Guard::new(settings()), Instant::now());
        let scan = b"REGISTER\r\nUser-Agent: sipvicious\r\n";
        guard.admit(now, ip("192.0.2.1"), scan);
        for number in 0..limits::SOURCES as u32 + 10 {
            guard.admit(now, std::net::Ipv4Addr::from(0x0a00_0000 + number).into(), b"x");
        }
        assert!(guard.state().sources.len() <= limits::SOURCES);
        assert!(guard.refuses(now, ip("192.0.2.1")));
    }
}
