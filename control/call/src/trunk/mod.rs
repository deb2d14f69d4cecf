//! Trunks: which are there, which are up, which takes the next call, and how numbers are written towards them.
//!
//! State and decisions only; what goes over SIP is the controller's (`controller/trunk.rs`).

pub(crate) mod config;
mod gauge;
pub mod numbers;
mod reconfigure;

use std::{net::IpAddr, time::Instant};

use sip::{auth::ClientSession, uri::Uri};

use crate::domain::Name;
pub use config::{Destination, Dialplan, HeaderRules, Identity, Network, Route, Trunk};
pub(crate) use gauge::{Full, Gauge, Rate};

/// A trunk. Its number is never another's, whatever the configuration becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrunkId(pub(crate) usize);

/// One target of one trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetId {
    pub(crate) trunk: TrunkId,
    pub(crate) target: usize,
}

/// Whether calls are sent to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known yet: calls go there.
    Unknown,
    /// It answers.
    Up,
    /// It does not; calls go there only when nothing else is left.
    Down,
}

/// Where a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// None is wanted.
    Off,
    /// The first one is under way, or one that failed is tried again.
    Trying,
    /// It stands.
    Registered,
    /// Refused, with the status; it is tried again later.
    Refused(u16),
}

#[derive(Debug)]
pub(crate) struct TargetState {
    pub(crate) uri: Uri,
    /// Its place in the configuration; `None`: it was taken out, and has calls perhaps.
    pub(crate) place: Option<usize>,
    pub(crate) priority: u16,
    pub(crate) health: Health,
    /// Answers missed in a row.
    pub(crate) missed: u32,
    /// It wants no calls until then, as it said.
    pub(crate) rests_until: Option<Instant>,
    /// When it is asked next whether it is there.
    pub(crate) probe_at: Option<Instant>,
    pub(crate) calls: usize,
}

impl TargetState {
    fn new(config: &Destination, place: usize) -> Self {
        Self {
            uri: config.uri.clone(),
            place: Some(place),
            priority: config.priority,
            health: Health::Unknown,
            missed: 0,
            rests_until: None,
            probe_at: None,
            calls: 0,
        }
    }

    fn reach(&self, now: Instant) -> Reach {
        match self.health {
            Health::Down => Reach::Down,
            Health::Unknown | Health::Up if self.rests_until.is_some_and(|until| now < until) => Reach::Rests,
            Health::Unknown | Health::Up => Reach::Takes,
        }
    }
}

/// How soon a target is thought of for a call, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Takes,
    /// It is there, and wants no calls for now.
    Rests,
    Down,
}

/// A trunk as it is.
#[derive(Debug)]
pub(crate) struct TrunkState {
    pub(crate) config: Trunk,
    pub(crate) name: Name,
    /// It is configured. Otherwise it was taken out, and its calls go on.
    pub(crate) is_open: bool,
    /// Those that were taken out among them: their numbers stand in calls.
    pub(crate) targets: Vec<TargetState>,
    pub(crate) registration: Registration,
    /// When it is registered with next.
    pub(crate) register_at: Option<Instant>,
    /// It takes no registration for less, in seconds.
    pub(crate) register_min_s: u32,
    /// Name and password of the registration that was ended last.
    pub(crate) former: (String, String),
    /// The target registered with.
    pub(crate) registrar: usize,
    /// The Call-ID and sequence of its registrations.
    pub(crate) register_call_id: String,
    pub(crate) register_cseq: u32,
    /// Failures in a row, for growing pauses.
    pub(crate) register_failures: u32,
    /// What answers its challenges.
    pub(crate) session: Option<ClientSession>,
    /// Calls both ways at once, and calls out each second.
    pub(crate) gauge: Gauge,
    /// Calls in each second.
    pub(crate) rx_rate: Rate,
    pub(crate) tx_calls: u64,
    pub(crate) rx_calls: u64,
    pub(crate) tx_failures: u64,
}

impl TrunkState {
    fn new(config: &Trunk) -> Self {
        let targets = config.targets.iter().enumerate();
        Self {
            name: config.name.as_str().into(),
            is_open: true,
            targets: targets
                .map(|(place, target)| TargetState::new(target, place))
                .collect(),
            registration: if config.register_s > 0 {
                Registration::Trying
            } else {
                Registration::Off
            },
            register_at: None,
            register_min_s: 0,
            former: Default::default(),
            registrar: 0,
            register_call_id: String::new(),
            register_cseq: 0,
            register_failures: 0,
            session: None,
            gauge: Gauge::new(config.calls_max, config.tx_calls_per_s),
            rx_rate: Rate::new(config.rx_calls_per_s),
            tx_calls: 0,
            rx_calls: 0,
            tx_failures: 0,
            config: config.clone(),
        }
    }

    /// Its targets in the order in which a call tries them: those that are up or unknown before those that rest and
    /// those that are down, then by priority, then the one with fewer calls.
    fn order(&self, now: Instant) -> Vec<usize> {
        let mut order: Vec<usize> = self.open_targets().collect();
        order.sort_by_key(|index| {
            let target = &self.targets[*index];
            (target.reach(now), target.priority, target.calls, target.place)
        });
        order
    }

    /// The numbers of those that are configured.
    pub(crate) fn open_targets(&self) -> impl Iterator<Item = usize> {
        let targets = self.targets.iter().enumerate();
        targets.filter_map(|(index, target)| target.place.map(|_| index))
    }

    /// That of its best target.
    fn reach(&self, now: Instant) -> Reach {
        let targets = self.open_targets().map(|index| self.targets[index].reach(now));
        targets.min().unwrap_or(Reach::Down)
    }
}

/// All trunks and the routes to them.
#[derive(Debug)]
pub(crate) struct Trunks {
    /// Those that were taken out among them.
    trunks: Vec<TrunkState>,
    /// Those that are configured, in their order.
    order: Vec<TrunkId>,
    dialplan: Dialplan,
    /// Calls that begin, whoever calls.
    pub(crate) rate: Rate,
}

impl Trunks {
    pub(crate) fn new(trunks: &[Trunk], dialplan: &Dialplan) -> Self {
        Self {
            trunks: trunks.iter().map(TrunkState::new).collect(),
            order: (0..trunks.len()).map(TrunkId).collect(),
            rate: Rate::new(dialplan.calls_per_s),
            dialplan: sorted(dialplan),
        }
    }

    pub(crate) fn get(&self, id: TrunkId) -> &TrunkState {
        &self.trunks[id.0]
    }

    pub(crate) fn get_mut(&mut self, id: TrunkId) -> &mut TrunkState {
        &mut self.trunks[id.0]
    }

    /// Those that are configured.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TrunkId, &TrunkState)> {
        self.order.iter().map(|id| (*id, self.get(*id)))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<TrunkId> {
        self.iter()
            .find(|(_, trunk)| *trunk.name == *name)
            .map(|(id, _)| id)
    }

    /// The trunk whose calls come from this address. Of several, the first in the configuration.
    pub(crate) fn of_source(&self, source: IpAddr) -> Option<TrunkId> {
        let holds = |trunk: &TrunkState| trunk.config.sources.iter().any(|network| network.holds(source));
        self.iter().find(|(_, trunk)| holds(trunk)).map(|(id, _)| id)
    }

    /// The trunk that proves itself by this account's password.
    pub(crate) fn of_account(&self, account: &str) -> Option<TrunkId> {
        self.iter()
            .find(|(_, trunk)| trunk.config.account == account && !account.is_empty())
            .map(|(id, _)| id)
    }

    /// What is dialled here, after the dialplan's own rules.
    pub(crate) fn dialled(&self, number: &str) -> String {
        numbers::rewrite(&self.dialplan.rewrite, &numbers::plain(number))
    }

    /// The ways out for a number, best first: every target of every trunk of every route that matches. `from`: the
    /// trunk or the account that calls.
    pub(crate) fn ways(&self, now: Instant, number: &str, from: Origin<'_>) -> Vec<TargetId> {
        let mut trunks = self.towards(number, from);
        // One that rests or is down is tried when all others have failed.
        trunks.sort_by_key(|trunk| self.get(*trunk).reach(now));
        let targets = |trunk: TrunkId| {
            let order = self.get(trunk).order(now);
            order.into_iter().map(move |target| TargetId { trunk, target })
        };
        trunks.into_iter().flat_map(targets).collect()
    }

    /// True when a route leads out for this number, and may be used from there.
    pub(crate) fn leads_out(&self, number: &str, from: Origin<'_>) -> bool {
        !self.towards(number, from).is_empty()
    }

    /// The trunks of every route that matches, in the routes' order.
    fn towards(&self, number: &str, from: Origin<'_>) -> Vec<TrunkId> {
        let may = |route: &&Route| match from {
            Origin::Trunk(trunk) => self.get(trunk).config.transit && route.accounts.is_empty(),
            Origin::Account(account) => {
                route.accounts.is_empty() || route.accounts.iter().any(|allowed| allowed == account)
            }
            Origin::Stranger => false,
            Origin::Operator => true,
        };
        let mut trunks = Vec::new();
        for route in self
            .dialplan
            .routes
            .iter()
            .filter(|route| route.pattern.matches(number))
            .filter(may)
        {
            for trunk in route.trunks.iter().filter_map(|name| self.by_name(name)) {
                let comes_from_there = matches!(from, Origin::Trunk(other) if other == trunk);
                if !trunks.contains(&trunk) && !comes_from_there {
                    trunks.push(trunk);
                }
            }
        }
        trunks
    }

    /// True when a route leads anywhere for this number, whoever may use it.
    pub(crate) fn knows(&self, number: &str) -> bool {
        self.dialplan
            .routes
            .iter()
            .any(|route| route.pattern.matches(number))
    }

    /// It is configured.
    pub(crate) fn has(&self, id: TargetId) -> bool {
        let trunk = self.get(id.trunk);
        trunk.is_open && trunk.targets[id.target].place.is_some()
    }

    /// A call goes to a target from now on, or why not.
    pub(crate) fn take(&mut self, now: Instant, id: TargetId) -> Result<(), Full> {
        if !self.has(id) {
            return Err(Full::TakenOut);
        }
        let trunk = &mut self.trunks[id.trunk.0];
        trunk.gauge.take(now)?;
        trunk.tx_calls += 1;
        trunk.targets[id.target].calls += 1;
        Ok(())
    }

    /// A call from before a restart.
    pub(crate) fn adopt(&mut self, from: Option<TrunkId>, to: Option<TargetId>) {
        if let Some(from) = from {
            self.trunks[from.0].gauge.adopt();
        }
        if let Some(to) = to {
            let trunk = &mut self.trunks[to.trunk.0];
            trunk.gauge.adopt();
            trunk.targets[to.target].calls += 1;
        }
    }

    /// The opposite of [`Trunks::adopt`]: the call is over.
    pub(crate) fn release(&mut self, from: Option<TrunkId>, to: Option<TargetId>) {
        if let Some(from) = from {
            self.trunks[from.0].gauge.give_back();
        }
        self.give_back_all(to);
    }

    /// Calls are gone from these.
    pub(crate) fn give_back_all(&mut self, ways: impl IntoIterator<Item = TargetId>) {
        for way in ways {
            self.give_back(way);
        }
    }

    /// The call is gone from there.
    pub(crate) fn give_back(&mut self, id: TargetId) {
        let trunk = &mut self.trunks[id.trunk.0];
        trunk.gauge.give_back();
        let target = &mut trunk.targets[id.target];
        target.calls = target.calls.saturating_sub(1);
    }
}

/// The dialplan with its routes in the order in which they are tried.
fn sorted(dialplan: &Dialplan) -> Dialplan {
    let mut dialplan = dialplan.clone();
    dialplan
        .routes
        .sort_by_key(|route| (route.priority, std::cmp::Reverse(route.pattern.weight())));
    dialplan
}

/// Who wants to call out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    Trunk(TrunkId),
    Account(&'a str),
    Stranger,
    /// By the management interface.
    Operator,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunks(text: &str) -> Trunks {
        #[derive(serde::Deserialize)]
        struct Both {
            trunks: Vec<Trunk>,
            dialplan: Dialplan,
        }
        let both: Both = toml::from_str(text).unwrap();
        Trunks::new(&both.trunks, &both.dialplan)
    }

    fn three() -> Trunks {
        trunks(
            r#"
            trunks = [
                { name = "a", targets = [{ uri = "sip:10.0.0.1", priority = 2 }, { uri = "sip:10.0.0.2", priority = 1 }] },
                { name = "b", targets = [{ uri = "sip:10.0.0.3" }], sources = ["10.0.0.0/24"] },
                { name = "c", targets = [{ uri = "sip:10.0.0.4" }], account = "pbx", transit = true },
            ]
            [dialplan]
            routes = [
                { pattern = "+.", trunks = ["a", "b"] },
                { pattern = "+44.", trunks = ["b"] },
                { pattern = "+1.", trunks = ["c"], priority = 5, accounts = ["alice"] },
            ]
            "#,
        )
    }

    fn way(trunks: &Trunks, number: &str, from: Origin<'_>) -> Vec<String> {
        #[allow(clippy::disallowed_methods, reason = "only differences count")]
        let now = Instant::now();
        let name = |id: TargetId| format!("{}{}", trunks.get(id.trunk).name, id.target);
        trunks.ways(now, number, from).into_iter().map(name).collect()
    }

    #[test]
    fn a_number_has_its_ways_in_order() {
        let mut trunks = three();
        let alice = Origin::Account("alice");
        assert_eq!(way(&trunks, "+49301", alice), ["a1", "a0", "b0"]);
        assert_eq!(
            way(&trunks, "+44201", alice),
            ["b0", "a1", "a0"],
            "the pattern that says more"
        );
        assert_eq!(
            way(&trunks, "+1212", alice),
            ["a1", "a0", "b0", "c0"],
            "by priority"
        );
        assert_eq!(way(&trunks, "+1212", Origin::Account("bob")), ["a1", "a0", "b0"]);
        assert!(way(&trunks, "110", alice).is_empty() && !trunks.knows("110"));
        trunks.get_mut(TrunkId(0)).targets[1].health = Health::Down;
        assert_eq!(
            way(&trunks, "+49301", alice),
            ["a0", "a1", "b0"],
            "one that is down comes last"
        );
        trunks.get_mut(TrunkId(0)).targets[0].health = Health::Down;
        assert_eq!(
            way(&trunks, "+49301", alice),
            ["b0", "a1", "a0"],
            "and a trunk that is down"
        );
    }

    #[test]
    fn nobody_calls_out_who_may_not() {
        let trunks = three();
        assert!(way(&trunks, "+49301", Origin::Stranger).is_empty());
        assert!(
            way(&trunks, "+49301", Origin::Trunk(TrunkId(1))).is_empty(),
            "no transit"
        );
        assert_eq!(
            way(&trunks, "+49301", Origin::Trunk(TrunkId(2))),
            ["a1", "a0", "b0"]
        );
        assert_eq!(way(&trunks, "+1212", Origin::Operator), ["a1", "a0", "b0", "c0"]);
    }

    #[test]
    fn a_trunk_is_known_by_its_address_or_account() {
        let trunks = three();
        assert_eq!(trunks.of_source([10, 0, 0, 9].into()), Some(TrunkId(1)));
        assert_eq!(trunks.of_source([10, 0, 1, 9].into()), None);
        assert_eq!(trunks.of_account("pbx"), Some(TrunkId(2)));
        assert_eq!(trunks.of_account(""), None);
    }

    #[test]
    fn calls_are_spread_over_equal_targets() {
        let mut trunks = trunks(
            "trunks = [{ name = 'a', calls_max = 2, targets = [{ uri = 'sip:10.0.0.1' }, { uri = 'sip:10.0.0.2' }] }]\n\
             [dialplan]\nroutes = [{ pattern = '!', trunks = ['a'] }]",
        );
        #[allow(clippy::disallowed_methods, reason = "only differences count")]
        let now = Instant::now();
        let first = trunks.ways(now, "1", Origin::Operator)[0];
        assert_eq!(trunks.take(now, first), Ok(()));
        let second = trunks.ways(now, "1", Origin::Operator)[0];
        assert_ne!(first, second);
        assert_eq!(trunks.take(now, second), Ok(()));
        assert_eq!(trunks.take(now, first), Err(Full::Calls));
        trunks.give_back(first);
        assert_eq!(trunks.take(now, first), Ok(()));
    }
}
