//! Other trunks and routes while calls go over them.

use super::{Dialplan, TargetState, Trunk, TrunkId, TrunkState, Trunks, sorted};
use crate::limits;

impl TrunkState {
    /// Its settings from now on. Targets are known by their URIs.
    pub(crate) fn reconfigure(&mut self, config: &Trunk) {
        for target in &mut self.targets {
            target.place = None;
        }
        for (place, wanted) in config.targets.iter().enumerate() {
            let mut known = self.targets.iter_mut();
            match known.find(|known| known.place.is_none() && known.uri == wanted.uri) {
                Some(known) => (known.place, known.priority) = (Some(place), wanted.priority),
                None => self.targets.push(TargetState::new(wanted, place)),
            }
        }
        let open: Vec<usize> = self.open_targets().collect();
        if !open.contains(&self.registrar) {
            self.registrar = open.first().copied().unwrap_or(0);
        }
        self.gauge.set(config.calls_max, config.tx_calls_per_s);
        self.rx_rate.set(config.rx_calls_per_s);
        self.is_open = true;
        self.config = config.clone();
    }

    /// It is registered with, or is to be.
    pub(crate) fn wants_registration(&self) -> bool {
        self.is_open && self.config.register_s > 0
    }

    /// A registration is asked for, for so long.
    pub(crate) fn register_s(&self) -> u32 {
        self.config.register_s.max(self.register_min_s)
    }

    /// The target that is registered with after this one, and whether all had their turn.
    pub(crate) fn next_registrar(&self) -> (usize, bool) {
        let later = self.open_targets().find(|index| *index > self.registrar);
        let first = self.open_targets().next().unwrap_or(0);
        (later.unwrap_or(first), later.is_none())
    }
}

impl Trunks {
    /// Their numbers stand in calls, so they are never given away; this many more are remembered.
    pub(crate) fn has_room_for(&self, wanted: &[Trunk]) -> bool {
        let places = |trunks: usize, targets: usize| trunks + targets;
        let known = self
            .trunks
            .iter()
            .map(|trunk| places(1, trunk.targets.len()))
            .sum::<usize>();
        let more = wanted.iter().map(|trunk| places(1, trunk.targets.len()));
        known + more.sum::<usize>() <= limits::TRUNK_PLACES_MAX
    }

    /// One of this name, whether it is configured or was.
    pub(crate) fn ever_named(&self, name: &str) -> Option<TrunkId> {
        let found = self.trunks.iter().position(|trunk| *trunk.name == *name);
        found.map(TrunkId)
    }

    /// One more.
    pub(crate) fn add(&mut self, config: &Trunk) -> TrunkId {
        self.trunks.push(TrunkState::new(config));
        TrunkId(self.trunks.len() - 1)
    }

    /// These are configured from now on, in this order.
    pub(crate) fn set_order(&mut self, order: Vec<TrunkId>, dialplan: &Dialplan) {
        self.order = order;
        self.rate.set(dialplan.calls_per_s);
        self.dialplan = sorted(dialplan);
    }
}
