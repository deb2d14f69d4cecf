//! What is looked at: the samples, the order, the selection, and what keys do to them.

use std::{cmp::Ordering, collections::BTreeMap};

use proto::mediad::v1 as pb;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::sample::{Figures, HostRates, Sample, host_rates, wanted};

/// What the table is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Name,
    Age,
    Packets,
    Loss,
    Jitter,
    Mos,
}

/// What to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Ask the host now: something else is looked at.
    Ask,
    Quit,
}

/// What to ask the host for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) sessions: Vec<String>,
    /// The one that is explained too.
    pub(super) opened: Option<String>,
}

/// Everything a frame is drawn from.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) host: String,
    pub(super) sample: Option<Sample>,
    pub(super) rates: Option<HostRates>,
    /// By session id.
    pub(super) figures: BTreeMap<String, Figures>,
    /// Per second received, by (session, node), of sessions that were described twice.
    pub(super) node_rates: BTreeMap<(String, String), f64>,
    /// Session ids in the order they are shown.
    pub(super) shown: Vec<String>,
    pub(super) order: Order,
    pub(super) reversed: bool,
    /// Session id.
    pub(super) selected: Option<String>,
    /// The selected session is open.
    pub(super) open: bool,
    /// First row of the table in sight.
    pub(super) top: usize,
    /// Rows of the table, as the last frame had room.
    pub(super) rows: usize,
    /// Why the host did not answer.
    pub(super) trouble: Option<String>,
    cursor: usize,
}

impl Model {
    pub(super) fn new(host: &str, rows: usize) -> Self {
        Self {
            host: host.into(),
            sample: None,
            rates: None,
            figures: BTreeMap::new(),
            node_rates: BTreeMap::new(),
            shown: Vec::new(),
            order: Order::Age,
            reversed: false,
            selected: None,
            open: false,
            top: 0,
            rows,
            trouble: None,
            cursor: 0,
        }
    }

    /// What the next sample should hold.
    pub(super) fn wanted(&mut self) -> Wanted {
        let end = (self.top + self.rows).min(self.shown.len());
        let opened = self.selected.clone().filter(|_| self.open);
        let in_sight = match &opened {
            Some(session) => vec![session.clone()],
            None => self.shown[self.top.min(end)..end].to_vec(),
        };
        let sessions = self.sample.as_ref().map_or(&[][..], |sample| &sample.sessions);
        Wanted {
            sessions: wanted(&in_sight, sessions, &mut self.cursor),
            opened,
        }
    }

    /// Takes a sample in.
    pub(super) fn take(&mut self, sample: Sample) {
        self.trouble = None;
        let earlier = self.sample.take();
        let same_life = earlier
            .as_ref()
            .is_some_and(|earlier| earlier.status.boot_id == sample.status.boot_id);
        self.rates = earlier.as_ref().and_then(|earlier| host_rates(earlier, &sample));
        if !same_life {
            self.figures.clear();
        }
        let mut node_rates = BTreeMap::new();
        for (session, description) in &sample.details {
            let before = self.figures.get(session);
            let then = earlier.as_ref().and_then(|earlier| earlier.details.get(session));
            if let (Some(before), Some(then), true) = (before, then, same_life) {
                let seconds = sample.at.saturating_duration_since(before.at).as_secs_f64();
                node_rates.extend(rates_of_nodes(session, then, description, seconds));
            }
            let figures = Figures::new(sample.at, description, before);
            self.figures.insert(session.clone(), figures);
        }
        self.node_rates = node_rates;
        self.sample = Some(sample);
        self.arrange();
    }

    /// The host did not answer: what was known stays in sight.
    pub(super) fn fail(&mut self, trouble: String) {
        self.trouble = Some(trouble);
        self.rates = None;
    }

    /// Puts the sessions in order; the selection stays with its session while that exists.
    pub(super) fn arrange(&mut self) {
        let Some(sample) = &self.sample else { return };
        let mut sessions: Vec<&pb::SessionSummary> = sample.sessions.iter().collect();
        self.figures
            .retain(|name, _| sample.sessions.binary_search_by(|s| s.session.cmp(name)).is_ok());
        let (order, figures) = (self.order, &self.figures);
        sessions.sort_by(|a, b| {
            let by_key = compare(order, a, b, figures);
            let by_key = if self.reversed { by_key.reverse() } else { by_key };
            // Those of whom nothing is known yet come last either way.
            let known = |s: &pb::SessionSummary| order.needs_figures() && !figures.contains_key(&s.session);
            known(a)
                .cmp(&known(b))
                .then(by_key)
                .then_with(|| a.session.cmp(&b.session))
        });
        let at = self.position();
        self.shown = sessions.into_iter().map(|s| s.session.clone()).collect();
        if self.position().is_none() {
            // The neighbour of the one that ended; an open one closes.
            self.open = false;
            let near = at.unwrap_or(0).min(self.shown.len().saturating_sub(1));
            self.selected = self.shown.get(near).cloned();
        }
        self.keep_in_sight();
    }

    /// Row of the selection.
    pub(super) fn position(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.shown.iter().position(|name| name == selected)
    }

    /// The selection stays within the rows of the table.
    pub(super) fn keep_in_sight(&mut self) {
        let rows = self.rows.max(1);
        let at = self.position().unwrap_or(0);
        let last_top = self.shown.len().saturating_sub(rows);
        self.top = self.top.clamp((at + 1).saturating_sub(rows), at).min(last_top);
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Then {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Then::Quit,
                _ => Then::Nothing,
            };
        }
        match key.code {
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.open = false,
            KeyCode::Enter | KeyCode::Right => self.open = self.selected.is_some(),
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::PageUp => self.step(-(self.rows as isize)),
            KeyCode::PageDown => self.step(self.rows as isize),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Char('s') => self.order_by(Order::Name),
            KeyCode::Char('a') => self.order_by(Order::Age),
            KeyCode::Char('p') => self.order_by(Order::Packets),
            KeyCode::Char('l') => self.order_by(Order::Loss),
            KeyCode::Char('j') => self.order_by(Order::Jitter),
            KeyCode::Char('m') => self.order_by(Order::Mos),
            KeyCode::Char('r') => {
                self.reversed = !self.reversed;
                self.arrange_anew();
            }
            _ => return Then::Nothing,
        }
        Then::Ask
    }

    fn step(&mut self, rows: isize) {
        let last = self.shown.len().saturating_sub(1);
        let to = self.position().unwrap_or(0).saturating_add_signed(rows).min(last);
        self.selected = self.shown.get(to).cloned();
        self.keep_in_sight();
    }

    /// The same order again turns it round.
    fn order_by(&mut self, order: Order) {
        self.reversed = self.order == order && !self.reversed;
        self.order = order;
        self.arrange_anew();
    }

    /// Who asks for another order wants to see its beginning; an open session stays open.
    fn arrange_anew(&mut self) {
        if !self.open {
            self.selected = None;
        }
        self.arrange();
    }
}

impl Order {
    fn needs_figures(self) -> bool {
        !matches!(self, Self::Name | Self::Age)
    }
}

fn rates_of_nodes(
    session: &str,
    then: &pb::SessionDescription,
    now: &pb::SessionDescription,
    seconds: f64,
) -> Vec<((String, String), f64)> {
    let packets = |stats: &pb::EndpointStats| stats.ingress.map_or(0, |stream| stream.packets);
    let of = |stats: &pb::EndpointStats| {
        let before = then
            .endpoint_stats
            .iter()
            .find(|before| before.node == stats.node)?;
        let rate = super::sample::rate(packets(before), packets(stats), seconds)?;
        Some(((session.to_owned(), stats.node.clone()), rate))
    };
    now.endpoint_stats.iter().filter_map(of).collect()
}

/// What deserves a look comes first: the youngest, the busiest, the worst.
fn compare(
    order: Order,
    a: &pb::SessionSummary,
    b: &pb::SessionSummary,
    figures: &BTreeMap<String, Figures>,
) -> Ordering {
    let most = |of: fn(&Figures) -> f64| {
        let value = |s: &pb::SessionSummary| figures.get(&s.session).map_or(0.0, of);
        value(b).total_cmp(&value(a))
    };
    match order {
        Order::Name => a.session.cmp(&b.session),
        Order::Age => b.created_unix_us.cmp(&a.created_unix_us),
        Order::Packets => most(|figures| figures.packets as f64),
        Order::Loss => most(|figures| figures.loss_percent),
        Order::Jitter => most(|figures| figures.jitter_ms),
        Order::Mos => most(|figures| -figures.mos.unwrap_or(f64::INFINITY)),
    }
}
