//! Frames from fixed figures, and what keys do.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use proto::mediad::v1 as pb;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    as_text,
    model::{Model, Order, Then},
    sample::Sample,
};

const BORN: u64 = 1_000_000_000;

/// A session whose one endpoint received `packets`, of which `lost` are missing.
fn description(session: &str, packets: u64, lost: i64, mos: f64) -> pb::SessionDescription {
    let transport = pb::Transport {
        id: "ta".into(),
        ..Default::default()
    };
    let endpoint = pb::Endpoint {
        transport: "ta".into(),
        ..Default::default()
    };
    let ingress = pb::StreamStats {
        codec: pb::Codec::Pcmu.into(),
        packets,
        lost,
        jitter_ms: 1.5,
        ..Default::default()
    };
    pb::SessionDescription {
        summary: Some(pb::SessionSummary {
            session: session.into(),
            revision: 3,
            ..Default::default()
        }),
        transports: vec![transport],
        nodes: vec![pb::Node {
            id: "caller".into(),
            kind: Some(pb::node::Kind::Endpoint(endpoint)),
        }],
        transport_stats: vec![pb::TransportStats {
            transport: "ta".into(),
            remote: Some(pb::Address {
                ip: "192.0.2.7".into(),
                port: 4000,
            }),
            drops: vec![pb::DropCount {
                reason: pb::DropReason::WrongSource.into(),
                packets: packets / 50,
            }],
            ..Default::default()
        }],
        endpoint_stats: vec![pb::EndpointStats {
            node: "caller".into(),
            ingress: Some(ingress),
            mos_ingress: mos,
            ..Default::default()
        }],
        plans: vec![pb::PlanDescription {
            node: "caller".into(),
            kind: pb::PlanKind::Relay.into(),
            sources: vec!["agent".into()],
        }],
        ..Default::default()
    }
}

fn sample(at: Instant, packets: u64) -> Sample {
    let details = BTreeMap::from([
        ("call-1".to_owned(), description("call-1", packets, 0, 4.4)),
        ("call-2".to_owned(), description("call-2", 900, 100, 2.5)),
    ]);
    let summary = |at: u64| pb::SessionSummary {
        session: format!("call-{at}"),
        owner: Some(pb::Owner {
            controller: "controld".into(),
            epoch: 1,
        }),
        created_unix_us: BORN + at * 60_000_000,
        worker: 1,
        ..Default::default()
    };
    let worker = |worker: u32| pb::WorkerStatus {
        worker,
        cpu: worker as i32 + 2,
        rx_packets: packets,
        tx_packets: packets * 2,
        drops: packets / 10,
        busy: 0.25,
        late: 0.034,
        lateness_p50_us: 16,
        lateness_p99_us: 128,
        ..Default::default()
    };
    let status = pb::StatusReply {
        boot_id: "one".into(),
        version: "0.1.0".into(),
        started_unix_us: BORN,
        state: pb::HostState::Serving.into(),
        sessions: 3,
        sessions_max: 20_000,
        endpoints: 6,
        load: 0.25,
        workers: vec![worker(0), worker(1)],
        interfaces: vec![pb::InterfaceStatus {
            ports_used: 6,
            ports_quarantined: 2,
            ports_free: 92,
            ..Default::default()
        }],
        ..Default::default()
    };
    Sample {
        at,
        unix_us: BORN + 600_000_000,
        status,
        sessions: (1..=3).map(summary).collect(),
        details,
        findings: None,
    }
}

fn model() -> Model {
    let mut model = Model::new("127.0.0.1:8700", 16);
    let at = Instant::now();
    model.take(sample(at, 1_000));
    model.take(sample(at + Duration::from_secs(2), 1_100));
    model
}

fn press(model: &mut Model, code: KeyCode) -> Then {
    model.key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Words of the line that begins with `start`.
fn words(lines: &[String], start: &str) -> Vec<String> {
    let line = lines.iter().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no line begins with {start:?} in\n{}", lines.join("\n")));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_frame_has_the_host_and_its_sessions() {
    let lines = as_text(&mut model(), 80, 24);
    let text = lines.join("\n");
    for part in [
        "mediad 0.1.0  127.0.0.1:8700  serving  up 10 min 0 s",
        "sessions 3/20000   endpoints 6   port pairs 6 used, 2 resting, 92 free",
        "load [|||||               ]  25 %   packets/s rx 100.0  tx 200.0",
        "tick late p50 16 us  p99 128 us   too late 3.4 %   mailbox 0   controllers 0",
        "drops/s 10.0   of the sessions looked at: wrong_source 1.0",
        "worker 0@2 25.0 %   worker 1@3 25.0 %",
        "1-3 of 3",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(
        words(&lines, "call-1"),
        [
            "call-1", "controld", "9", "min", "0", "s", "1", "1100", "50.0", "0.0", "1.5", "4.40"
        ]
    );
    assert_eq!(
        words(&lines, "call-2")[7..],
        ["900", "0.0", "10.0", "1.5", "2.50"]
    );
    assert_eq!(words(&lines, "call-3")[7..], ["-"; 5], "not asked for yet");
    assert_eq!(lines.len(), 24);
}

#[test]
fn keys_order_the_table_from_its_first_row() {
    let mut model = model();
    assert_eq!(model.shown, ["call-3", "call-2", "call-1"], "the youngest first");
    assert_eq!(model.selected.as_deref(), Some("call-3"));
    press(&mut model, KeyCode::Char('l'));
    assert_eq!(
        model.shown,
        ["call-2", "call-1", "call-3"],
        "the worst first, the unknown last"
    );
    assert_eq!((model.position(), model.order), (Some(0), Order::Loss));
    press(&mut model, KeyCode::Char('l'));
    assert_eq!(
        model.shown,
        ["call-1", "call-2", "call-3"],
        "the same key turns it"
    );
    press(&mut model, KeyCode::Char('m'));
    assert_eq!(model.shown[0], "call-2");
    press(&mut model, KeyCode::Char('p'));
    assert_eq!(model.shown[0], "call-1");
    press(&mut model, KeyCode::End);
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::Char('m'));
    assert_eq!(
        (model.selected.as_deref(), model.open),
        (Some("call-3"), true),
        "the open one stays"
    );
    assert_eq!(press(&mut model, KeyCode::Char('q')), Then::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.key(control_c), Then::Quit);
}

#[test]
fn an_open_session_shows_its_streams_and_what_is_wrong() {
    let mut model = model();
    press(&mut model, KeyCode::End);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.wanted().opened.as_deref(), Some("call-1"));
    let mut next = sample(Instant::now() + Duration::from_secs(4), 1_200);
    let finding = pb::Finding {
        severity: pb::Severity::Problem.into(),
        subject: "edge:agent>caller".into(),
        text: "no packets from agent since it joined; ".repeat(4),
        ..Default::default()
    };
    next.findings = Some(("call-1".into(), vec![finding]));
    model.take(next);
    let lines = as_text(&mut model, 80, 24);
    let text = lines.join("\n");
    for part in [
        "call-1  revision 3",
        "caller hears agent by relay",
        "PROBLEM edge:agent>caller: no packets",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let rx = words(&lines, "caller ");
    assert_eq!(rx[0], "caller");
    let rx = lines.iter().find(|line| line.contains("192.0.2.7:4000")).unwrap();
    assert!(rx.contains("pcmu") && rx.contains("1200"), "{rx}");
    press(&mut model, KeyCode::Esc);
    assert!(as_text(&mut model, 80, 24).join("\n").contains("1-3 of 3"));
}

#[test]
fn sessions_that_end_take_the_selection_to_their_neighbour() {
    let mut model = model();
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Enter);
    let mut next = sample(Instant::now() + Duration::from_secs(9), 1_200);
    next.sessions.retain(|summary| summary.session != "call-2");
    next.details.remove("call-2");
    model.take(next);
    assert_eq!((model.selected.as_deref(), model.open), (Some("call-1"), false));
    assert!(!model.figures.contains_key("call-2"));
}

#[test]
fn a_restarted_host_is_counted_anew() {
    let mut model = model();
    assert!(model.rates.is_some());
    let mut next = sample(Instant::now() + Duration::from_secs(9), 2_000);
    next.status.boot_id = "two".into();
    model.take(next);
    let text = as_text(&mut model, 80, 24).join("\n");
    assert!(
        text.contains("packets/s rx -  tx -") && text.contains("drops/s -"),
        "{text}"
    );
    assert_eq!(model.figures["call-1"].per_second, None);
    assert!(model.node_rates.is_empty());
}

#[test]
fn a_host_that_does_not_answer_stays_in_sight() {
    let mut model = model();
    model.fail("cannot reach it".into());
    let text = as_text(&mut model, 80, 24).join("\n");
    assert!(
        text.contains("cannot reach it; trying again") && text.contains("call-1"),
        "{text}"
    );
}

#[test]
fn small_and_empty_terminals_are_drawn() {
    let mut model = model();
    for (width, height) in [(1, 1), (20, 5), (80, 9), (200, 60)] {
        assert_eq!(as_text(&mut model, width, height).len(), usize::from(height));
    }
    let mut long = Model::new("h", 16);
    let mut many = sample(Instant::now(), 1_000);
    let one = many.sessions[0].clone();
    many.sessions = (0..100)
        .map(|at| pb::SessionSummary {
            session: format!("s{at:03}"),
            ..one.clone()
        })
        .collect();
    many.details.clear();
    long.take(many);
    press(&mut long, KeyCode::Char('s'));
    press(&mut long, KeyCode::End);
    let text = as_text(&mut long, 80, 24).join("\n");
    assert!(
        text.contains("s099") && !text.contains("s050") && text.contains("of 100"),
        "{text}"
    );
    assert!(long.wanted().sessions.contains(&"s099".to_owned()));
    assert!(as_text(&mut Model::new("h", 16), 80, 24)[0].contains("no answer yet"));
}
