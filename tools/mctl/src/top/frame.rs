//! How the model looks: one frame, from the terminal's size and nothing else.

use std::collections::BTreeMap;

use proto::mediad::v1 as pb;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, Wrap},
};

use super::{
    model::{Model, Order},
    sample::{Figures, loss_percent},
};
use crate::{
    look::{address, span},
    reflect,
};

/// Lines of the header without those of the workers.
const HEADER: u16 = 5;
/// Lines of workers at most.
const WORKERS: u16 = 3;
/// Columns of one worker.
const WORKER: u16 = 20;
/// Cells of the load bar.
const BAR: usize = 20;

/// Lines that are not rows of the table, on a terminal this wide.
pub(super) fn lines_around(model: &Model, width: u16) -> u16 {
    // The header, the table's headings, the keys.
    header_lines(model, width) + 2
}

fn header_lines(model: &Model, width: u16) -> u16 {
    let workers = model
        .sample
        .as_ref()
        .map_or(1, |sample| sample.status.workers.len());
    let lines = workers.div_ceil(usize::from((width / WORKER).max(1)));
    HEADER + (lines as u16).clamp(1, WORKERS)
}

/// Draws everything.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) {
    let header = header_lines(model, frame.area().width);
    let parts = [
        Constraint::Length(header),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [head, body, foot] = Layout::vertical(parts).areas(frame.area());
    draw_header(model, frame, head);
    match opened(model) {
        Some(description) => draw_session(model, description, frame, body),
        None => draw_sessions(model, frame, body),
    }
    draw_footer(model, frame, foot);
}

fn opened(model: &Model) -> Option<&pb::SessionDescription> {
    let session = model.selected.as_ref().filter(|_| model.open)?;
    model.sample.as_ref()?.details.get(session)
}

fn draw_header(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let Some(sample) = &model.sample else {
        frame.render_widget(
            Paragraph::new(format!("mediad at {}: no answer yet", model.host)),
            area,
        );
        return;
    };
    let status = &sample.status;
    let up = span(sample.unix_us.saturating_sub(status.started_unix_us) / 1_000_000);
    let state = Span::raw(reflect::short("HostState", status.state)).bold();
    let state = match status.state() {
        pb::HostState::Serving => state.green(),
        pb::HostState::Draining | pb::HostState::Unspecified => state.yellow(),
    };
    let mut lines = vec![
        Line::from(vec![
            format!("mediad {}  {}  ", status.version, model.host).bold(),
            state,
            format!("  up {up}  {}", backend(&status.backend)).into(),
        ]),
        capacity(status),
        traffic(model, status),
        lateness(status),
        drops(model),
    ];
    let width = usize::from((area.width / WORKER).max(1));
    let rows = usize::from(area.height.saturating_sub(HEADER));
    for (at, chunk) in status.workers.chunks(width).take(rows).enumerate() {
        let mut line: Vec<Span<'_>> = chunk.iter().flat_map(worker).collect();
        let hidden = status.workers.len().saturating_sub(rows * width);
        if at + 1 == rows && hidden > 0 {
            line.pop();
            line.push(format!("+{hidden} more").dim());
        }
        lines.push(Line::from(line));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// "io_uring" of "io_uring: …": the name is what fits.
fn backend(text: &str) -> String {
    text.rsplit("using ").next().unwrap_or_default().to_owned()
}

fn capacity(status: &pb::StatusReply) -> Line<'_> {
    let sum = |count: fn(&pb::InterfaceStatus) -> u32| status.interfaces.iter().map(count).sum::<u32>();
    let (used, resting, free) = (
        sum(|i| i.ports_used),
        sum(|i| i.ports_quarantined),
        sum(|i| i.ports_free),
    );
    let ports = if free == 0 {
        format!("{used} used, {resting} resting, 0 free").red()
    } else {
        format!("{used} used, {resting} resting, {free} free").into()
    };
    Line::from(vec![
        "sessions ".dim(),
        format!("{}/{}", status.sessions, status.sessions_max).bold(),
        "   endpoints ".dim(),
        status.endpoints.to_string().into(),
        "   port pairs ".dim(),
        ports,
    ])
}

fn traffic<'a>(model: &Model, status: &pb::StatusReply) -> Line<'a> {
    let filled = (status.load.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let colour = match status.load {
        load if load >= 0.85 => Color::Red,
        load if load >= 0.6 => Color::Yellow,
        _ => Color::Green,
    };
    let packets = model.rates.map_or_else(
        || "rx -  tx -".to_owned(),
        |rates| format!("rx {:.1}  tx {:.1}", rates.rx, rates.tx),
    );
    Line::from(vec![
        "load ".dim(),
        "[".dim(),
        Span::styled("|".repeat(filled), colour),
        " ".repeat(BAR - filled).into(),
        "]".dim(),
        format!(" {:>3.0} %", status.load * 100.0).bold(),
        "   packets/s ".dim(),
        packets.into(),
    ])
}

fn lateness<'a>(status: &pb::StatusReply) -> Line<'a> {
    let worst = |of: fn(&pb::WorkerStatus) -> u64| status.workers.iter().map(of).max().unwrap_or_default();
    let mailbox = status.workers.iter().map(|w| w.mailbox_used).max().unwrap_or(0);
    let late = status.workers.iter().map(|w| w.late).fold(0.0, f64::max);
    let too_late = format!("{:.1} %", late * 100.0);
    let too_late = match late {
        late if late > 0.01 => too_late.red(),
        _ => too_late.into(),
    };
    Line::from(vec![
        "tick late ".dim(),
        format!(
            "p50 {}  p99 {}",
            short(worst(|w| w.lateness_p50_us)),
            short(worst(|w| w.lateness_p99_us))
        )
        .into(),
        "   too late ".dim(),
        too_late,
        "   mailbox ".dim(),
        mailbox.to_string().into(),
        "   controllers ".dim(),
        status.controllers.len().to_string().into(),
    ])
}

fn short(us: u64) -> String {
    if us < 1_000 {
        format!("{us} us")
    } else {
        format!("{:.1} ms", us as f64 / 1e3)
    }
}

/// The host's total, and what the sessions looked at say about why.
fn drops<'a>(model: &Model) -> Line<'a> {
    let mut by_reason: BTreeMap<i32, f64> = BTreeMap::new();
    let now = model.sample.as_ref().map(|sample| sample.at);
    let fresh = model.figures.values().filter(|figures| Some(figures.at) == now);
    for (reason, rate) in fresh.flat_map(|figures| &figures.drop_rates) {
        *by_reason.entry(*reason).or_default() += rate;
    }
    let reasons: Vec<String> = by_reason
        .iter()
        .map(|(reason, rate)| format!("{} {rate:.1}", reflect::short("DropReason", *reason)))
        .collect();
    let total = match model.rates {
        None => "-".into(),
        Some(rates) if rates.drops > 0.0 => format!("{:.1}", rates.drops).yellow(),
        Some(_) => "0".into(),
    };
    let mut spans = vec!["drops/s ".dim(), total];
    if !reasons.is_empty() {
        spans.push("   of the sessions looked at: ".dim());
        spans.push(reasons.join("  ").yellow());
    }
    Line::from(spans)
}

fn worker(worker: &pb::WorkerStatus) -> [Span<'_>; 3] {
    let cpu = if worker.cpu < 0 {
        String::new()
    } else {
        format!("@{}", worker.cpu)
    };
    let name = format!("worker {}{cpu} ", worker.worker);
    let busy = format!("{:.1} %", worker.busy * 100.0);
    let used = name.chars().count() + busy.chars().count();
    [
        name.dim(),
        busy.bold(),
        " ".repeat(usize::from(WORKER).saturating_sub(used)).into(),
    ]
}

fn draw_sessions(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let Some(sample) = &model.sample else { return };
    let headings = [
        ("session", Some(Order::Name)),
        ("owner", None),
        ("age", Some(Order::Age)),
        ("wkr", None),
        ("packets", Some(Order::Packets)),
        ("rx/s", None),
        ("loss %", Some(Order::Loss)),
        ("jit ms", Some(Order::Jitter)),
        ("MOS", Some(Order::Mos)),
    ];
    let heading = |(text, order): &(&'static str, Option<Order>)| {
        let style = if *order == Some(model.order) {
            Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            Style::new().add_modifier(Modifier::BOLD)
        };
        let line = Line::styled((*text).to_owned(), style);
        let left = matches!(*text, "session" | "owner");
        Cell::from(if left { line } else { line.right_aligned() })
    };
    let widths = [
        Constraint::Min(14),
        Constraint::Max(12),
        Constraint::Length(10),
        Constraint::Length(3),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(4),
    ];
    let rows = usize::from(area.height.saturating_sub(1));
    let by_name = |name: &String| {
        let at = sample.sessions.binary_search_by(|s| s.session.cmp(name)).ok()?;
        sample.sessions.get(at)
    };
    let in_sight = model.shown.iter().skip(model.top).take(rows).filter_map(by_name);
    let table = Table::new(in_sight.map(|summary| session_row(model, summary)), widths)
        .header(Row::new(headings.iter().map(heading)))
        .column_spacing(1);
    frame.render_widget(table, area);
    if model.shown.is_empty() && area.height > 1 {
        let below = Rect {
            y: area.y + 1,
            height: 1,
            ..area
        };
        frame.render_widget(Paragraph::new("no sessions".dim()), below);
    }
}

fn session_row<'a>(model: &Model, summary: &pb::SessionSummary) -> Row<'a> {
    let unix_us = model.sample.as_ref().map_or(0, |sample| sample.unix_us);
    let figures = model.figures.get(&summary.session);
    let mut cells = vec![Cell::from(summary.session.clone()), owner(summary)];
    cells.push(right(span(
        unix_us.saturating_sub(summary.created_unix_us) / 1_000_000,
    )));
    cells.push(right(summary.worker.to_string()));
    match figures {
        None => cells.extend((0..5).map(|_| right("-".into()))),
        Some(figures) => cells.extend(quality(figures)),
    }
    let row = Row::new(cells);
    if model.selected.as_ref() == Some(&summary.session) {
        row.style(Style::new().add_modifier(Modifier::REVERSED))
    } else {
        row
    }
}

fn owner<'a>(summary: &pb::SessionSummary) -> Cell<'a> {
    let owner = summary.owner.clone().unwrap_or_default().controller;
    if summary.orphaned {
        Cell::from(format!("!{owner}").yellow())
    } else {
        Cell::from(owner)
    }
}

fn quality<'a>(figures: &Figures) -> [Cell<'a>; 5] {
    let per_second = figures.per_second.map_or("-".into(), |rate| format!("{rate:.1}"));
    [
        right(figures.packets.to_string()),
        right(per_second),
        right(format!("{:.1}", figures.loss_percent)).style(loss_style(figures.loss_percent)),
        right(format!("{:.1}", figures.jitter_ms)),
        right(mos(figures.mos.unwrap_or(0.0))).style(mos_style(figures.mos.unwrap_or(0.0))),
    ]
}

fn right<'a>(text: String) -> Cell<'a> {
    Cell::from(Line::from(text).right_aligned())
}

fn mos(mos: f64) -> String {
    if mos > 0.0 {
        format!("{mos:.2}")
    } else {
        "-".into()
    }
}

/// Packet loss as heard with concealment: 1 % can be noticed, 5 % annoys.
fn loss_style(percent: f64) -> Style {
    match percent {
        percent if percent >= 5.0 => Style::new().red(),
        percent if percent >= 1.0 => Style::new().yellow(),
        _ => Style::new(),
    }
}

/// User satisfaction of ITU-T G.107 annex B: below 3.6 many are dissatisfied, below 3.1 nearly all.
fn mos_style(mos: f64) -> Style {
    match mos {
        mos if mos > 0.0 && mos < 3.1 => Style::new().red(),
        mos if mos > 0.0 && mos < 3.6 => Style::new().yellow(),
        _ => Style::new(),
    }
}

fn draw_session(model: &Model, description: &pb::SessionDescription, frame: &mut Frame<'_>, area: Rect) {
    let summary = description.summary.clone().unwrap_or_default();
    let streams = description.endpoint_stats.len() as u16 * 2 + 1;
    let parts = [
        Constraint::Length(2),
        Constraint::Max(streams),
        Constraint::Length(1),
        Constraint::Min(3),
    ];
    let [head, table, _, found] = Layout::vertical(parts).areas(area);
    let labels: Vec<String> = summary
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let plans: Vec<String> = description
        .plans
        .iter()
        .map(|plan| {
            let kind = reflect::short("PlanKind", plan.kind);
            format!("{} hears {} by {kind}", plan.node, plan.sources.join("+"))
        })
        .collect();
    let title = format!(
        "{}  revision {}  {}",
        summary.session,
        summary.revision,
        labels.join(" ")
    );
    frame.render_widget(
        Paragraph::new(vec![title.bold().into(), plans.join("   ").into()]),
        head,
    );
    draw_streams(model, description, &summary.session, frame, table);
    let findings = model.sample.as_ref().and_then(|sample| sample.findings.as_ref());
    let lines: Vec<Line<'_>> = findings
        .filter(|(session, _)| *session == summary.session)
        .map(|(_, findings)| findings.iter().map(finding).collect())
        .unwrap_or_default();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), found);
}

fn finding(finding: &pb::Finding) -> Line<'_> {
    let (mark, style) = match finding.severity() {
        pb::Severity::Ok => ("ok      ", Style::new().green()),
        pb::Severity::Notice => ("notice  ", Style::new().cyan()),
        pb::Severity::Warning => ("WARNING ", Style::new().yellow()),
        pb::Severity::Problem => ("PROBLEM ", Style::new().red()),
        pb::Severity::Unspecified => ("        ", Style::new()),
    };
    Line::from(vec![
        Span::styled(mark, style.add_modifier(Modifier::BOLD)),
        format!("{}: ", finding.subject).dim(),
        finding.text.as_str().into(),
    ])
}

fn draw_streams(
    model: &Model,
    description: &pb::SessionDescription,
    session: &str,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let headings = [
        "endpoint", "", "codec", "packets", "/s", "loss %", "jit ms", "MOS", "peer",
    ];
    let heading = |(at, text): (usize, &&'static str)| {
        let line = Line::from((*text).bold());
        Cell::from(if (3..8).contains(&at) {
            line.right_aligned()
        } else {
            line
        })
    };
    let widths = [
        Constraint::Max(14),
        Constraint::Length(2),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Min(15),
    ];
    let rows = description.endpoint_stats.iter().flat_map(|stats| {
        let rate = model.node_rates.get(&(session.to_owned(), stats.node.clone()));
        let peer = peer(description, &stats.node);
        [
            stream_row(
                &stats.node,
                "rx",
                stats.ingress,
                rate.copied(),
                stats.mos_ingress,
                peer,
            ),
            stream_row(
                "",
                "tx",
                stats.egress,
                None,
                stats.mos_egress,
                round_trip(stats.round_trip_ms),
            ),
        ]
    });
    let table = Table::new(rows, widths)
        .header(Row::new(headings.iter().enumerate().map(heading)))
        .column_spacing(1);
    frame.render_widget(table, area);
}

fn stream_row<'a>(
    node: &str,
    side: &'a str,
    stream: Option<pb::StreamStats>,
    rate: Option<f64>,
    quality: f64,
    note: String,
) -> Row<'a> {
    let stream = stream.unwrap_or_default();
    let codec = if stream.codec == 0 {
        String::new()
    } else {
        reflect::short("Codec", stream.codec)
    };
    let loss = loss_percent(&stream);
    Row::new([
        Cell::from(node.to_owned()),
        Cell::from(side),
        Cell::from(codec),
        right(stream.packets.to_string()),
        right(rate.map_or(String::new(), |rate| format!("{rate:.1}"))),
        right(format!("{loss:.1}")).style(loss_style(loss)),
        right(format!("{:.1}", stream.jitter_ms)),
        right(mos(quality)).style(mos_style(quality)),
        Cell::from(note),
    ])
}

/// Where the endpoint's packets go and come from.
fn peer(description: &pb::SessionDescription, node: &str) -> String {
    let endpoint = description.nodes.iter().find(|have| have.id == node);
    let transport = endpoint.and_then(|node| match &node.kind {
        Some(pb::node::Kind::Endpoint(endpoint)) => Some(&endpoint.transport),
        _ => None,
    });
    let stats = transport.and_then(|id| description.transport_stats.iter().find(|s| s.transport == *id));
    stats.map_or(String::new(), |stats| address(stats.remote.as_ref()))
}

fn round_trip(ms: f64) -> String {
    if ms > 0.0 {
        format!("round trip {ms:.1} ms")
    } else {
        String::new()
    }
}

fn draw_footer(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let line = match &model.trouble {
        Some(trouble) => Line::from(format!("{trouble}; trying again").red().bold()),
        None if model.open => Line::from("esc back   up/down other session   q quit".dim()),
        None => {
            let keys = "order by initial: s a p l j m, r turns it   enter open   q quit".dim();
            let count = format!("   {}-{} of {}", first(model), last(model), model.shown.len()).dim();
            Line::from(vec![keys, count])
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn first(model: &Model) -> usize {
    (model.top + 1).min(model.shown.len())
}

fn last(model: &Model) -> usize {
    (model.top + model.rows).min(model.shown.len())
}
