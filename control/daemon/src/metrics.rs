//! The Prometheus text exposition (format 0.0.4), written by hand: every figure already stands in a counter.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering::Relaxed,
    time::UNIX_EPOCH,
};

use call_control::{Counters, Live};
use sip::stack::{METHOD_NAMES, PerMethod};

use crate::{
    core::InputCounters,
    journal,
    reload::History,
    store::projector,
    transport::{
        self,
        guard::{Guard, Offence},
    },
};

/// Where the figures stand.
pub(crate) struct Sources<'a> {
    pub(crate) counters: &'a Counters,
    pub(crate) live: &'a Live,
    pub(crate) inputs: &'a InputCounters,
    pub(crate) transport: &'a transport::Counters,
    pub(crate) guard: &'a Guard,
    pub(crate) reloads: &'a History,
    pub(crate) journal: &'a journal::Shared,
    pub(crate) store: Option<&'a projector::Counters>,
}

/// The whole page.
pub(crate) fn page(sources: &Sources<'_>) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    page.family("controld_info", "gauge", "Version of this process.");
    page.sample("controld_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    calls(&mut page, sources.counters);
    queues(&mut page, sources.live);
    sip(&mut page, &sources.counters.sip);
    process(&mut page, sources);
    reloads(&mut page, sources.reloads);
    if let Some(counters) = sources.store {
        store(&mut page, counters);
    }
    page.0
}

fn calls(page: &mut Page, counters: &Counters) {
    let rows = [
        (
            "calls_started",
            "Calls accepted for routing.",
            counters.calls_started,
        ),
        (
            "calls_answered",
            "Calls in which two were connected.",
            counters.calls_answered,
        ),
        ("calls_ended", "Calls over.", counters.calls_ended),
        (
            "calls_replaced",
            "Calls, and members of conferences, whose media went on on a restarted or another media host.",
            counters.calls_replaced,
        ),
        (
            "calls_refused",
            "Calls refused before routing.",
            counters.calls_refused,
        ),
        (
            "srtp_refusals",
            "Calls and offers refused, and phones not rung, because of whether audio must be encrypted.",
            counters.srtp_refusals,
        ),
        (
            "srtp_second_offers",
            "Phones that refused keys on a line that may be answered without, or RTP/SAVP, and were asked again the other way.",
            counters.srtp_second_offers,
        ),
        (
            "srtp_keys_in_clear",
            "Offers with SRTP keys taken over signalling that is not encrypted.",
            counters.srtp_keys_in_clear,
        ),
        (
            "registrations",
            "Registrations accepted, refreshes included.",
            counters.registrations_accepted,
        ),
        (
            "authentication_failures",
            "Wrong passwords.",
            counters.authentication_failures,
        ),
        (
            "recordings_missing",
            "Recordings that media hosts did not tell of in time, or could not make.",
            counters.recordings_missing,
        ),
        (
            "keepalives_missed",
            "Keepalives that a registered device did not answer.",
            counters.keepalives_missed,
        ),
    ];
    totals(page, &rows);
    menus(page, counters);
    messages(page, counters);
    media(page, counters);
    calls_now(page, counters);
}

/// Counters: name, what they count, and how much.
fn totals(page: &mut Page, rows: &[(&str, &str, u64)]) {
    for (name, help, count) in rows {
        page.counter(&format!("controld_{name}_total"), help, *count);
    }
}

fn menus(page: &mut Page, counters: &Counters) {
    let rows = [
        (
            "menu_choices",
            "Choices of callers in menus, and those brought on who chose nothing.",
            counters.menu_choices,
        ),
        (
            "menu_failures",
            "Calls that ended in a menu: nothing was chosen, or nobody came.",
            counters.menu_failures,
        ),
    ];
    totals(page, &rows);
}

fn messages(page: &mut Page, counters: &Counters) {
    let rows = [
        (
            "messages_taken",
            "MESSAGEs that somebody took.",
            counters.messages_taken,
        ),
        (
            "messages_refused",
            "MESSAGEs that nobody took, or that were refused.",
            counters.messages_refused,
        ),
    ];
    totals(page, &rows);
}

fn media(page: &mut Page, counters: &Counters) {
    let rows = [
        (
            "media_commands",
            "Commands sent to media hosts.",
            counters.media_commands,
        ),
        ("media_errors", "Commands that failed.", counters.media_errors),
        (
            "media_retries",
            "Commands without reply, whose outcome was asked for before they were said again.",
            counters.media_retries,
        ),
    ];
    totals(page, &rows);
}

fn calls_now(page: &mut Page, counters: &Counters) {
    for (name, help, count) in [
        ("calls", "Calls now, ending ones included.", counters.calls),
        ("bindings", "Devices registered now.", counters.bindings),
        (
            "offers",
            "Offers to agents now, conversations included.",
            counters.offers,
        ),
        (
            "messages",
            "MESSAGEs on their way now, those within calls left out.",
            counters.messages,
        ),
        (
            "media_pending",
            "Commands without reply now.",
            counters.media_pending,
        ),
    ] {
        page.gauge(&format!("controld_{name}"), help, count);
    }
}

fn queues(page: &mut Page, live: &Live) {
    page.family("controld_queue_waiting", "gauge", "Callers waiting now.");
    for queue in &live.queues {
        page.sample("controld_queue_waiting", &[("queue", &queue.name)], queue.waiting);
    }
    page.family(
        "controld_queue_callers_total",
        "counter",
        "Callers by how their waiting ended.",
    );
    for queue in &live.queues {
        for (end, count) in [
            ("answered", queue.answered),
            ("abandoned", queue.abandoned),
            ("overdue", queue.overdue),
            ("turned_away", queue.turned_away),
        ] {
            let labels = [("queue", queue.name.as_str()), ("end", end)];
            page.sample("controld_queue_callers_total", &labels, count);
        }
    }
    page.family("controld_media_host_up", "gauge", "1 while a media host answers.");
    for host in &live.hosts {
        let up = u8::from(host.boot_id.is_some());
        page.sample("controld_media_host_up", &[("host", host.host.as_str())], up);
    }
    page.family(
        "controld_media_host_sessions",
        "gauge",
        "Our sessions on a media host.",
    );
    for host in &live.hosts {
        page.sample(
            "controld_media_host_sessions",
            &[("host", host.host.as_str())],
            host.sessions,
        );
    }
}

fn sip(page: &mut Page, stats: &sip::stack::Stats) {
    let methods = |page: &mut Page, name: &str, help: &str, counts: &PerMethod| {
        page.family(name, "counter", help);
        for (method, count) in METHOD_NAMES.iter().zip(counts.0) {
            page.sample(name, &[("method", method)], count);
        }
    };
    methods(
        page,
        "controld_sip_requests_received_total",
        "Requests received, retransmissions left out.",
        &stats.requests_received,
    );
    methods(
        page,
        "controld_sip_requests_sent_total",
        "Requests sent, retransmissions left out.",
        &stats.requests_sent,
    );
    for (name, help, counts) in [
        (
            "controld_sip_responses_received_total",
            "Responses received by class.",
            stats.responses_received,
        ),
        (
            "controld_sip_responses_sent_total",
            "Responses sent by class, retransmissions left out.",
            stats.responses_sent,
        ),
    ] {
        page.family(name, "counter", help);
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"].iter().zip(counts) {
            page.sample(name, &[("class", class)], count);
        }
    }
    sip_totals(page, stats);
}

fn sip_totals(page: &mut Page, stats: &sip::stack::Stats) {
    for (name, help, count) in [
        (
            "retransmissions_received",
            "Requests that came again and were absorbed.",
            stats.retransmissions_received,
        ),
        (
            "retransmissions_sent",
            "Messages sent again because a timer fired.",
            stats.retransmissions_sent,
        ),
        ("malformed", "Messages that could not be parsed.", stats.malformed),
        (
            "strays",
            "Responses and ACKs that belong to nothing here.",
            stats.strays,
        ),
        ("refused", "Requests refused by the stack.", stats.refused),
        (
            "overloaded",
            "Requests refused because a table was full, and new calls because messages waited for too long.",
            stats.overloaded,
        ),
        (
            "timeouts",
            "Client transactions without a final response.",
            stats.timeouts,
        ),
        (
            "too_large_for_udp",
            "Requests sent over TCP because they are too large for a datagram.",
            stats.too_large_for_udp,
        ),
    ] {
        page.counter(&format!("controld_sip_{name}_total"), help, count);
    }
    for (name, help, count) in [
        (
            "client_transactions",
            "Client transactions now.",
            stats.client_transactions,
        ),
        (
            "server_transactions",
            "Server transactions now.",
            stats.server_transactions,
        ),
        ("dialogs", "Dialogs now.", stats.dialogs),
        (
            "lookups",
            "Requests that wait for a name server now.",
            stats.lookups,
        ),
        ("timers", "Timers now.", stats.timers),
    ] {
        page.gauge(&format!("controld_sip_{name}"), help, count);
    }
}

fn process(page: &mut Page, sources: &Sources<'_>) {
    let (inputs, transport, journal) = (sources.inputs, sources.transport, sources.journal);
    for (name, help, count) in [
        (
            "inputs",
            "Inputs taken by the core thread's queue.",
            &inputs.taken,
        ),
        (
            "inputs_delayed",
            "Waits for the core thread's queue.",
            &inputs.delayed,
        ),
        ("udp_received", "Datagrams received.", &transport.udp_received),
        (
            "udp_overflowed",
            "Datagrams dropped by the kernel because the core thread was behind.",
            &transport.udp_overflowed,
        ),
        ("udp_sent", "Datagrams sent.", &transport.udp_sent),
        (
            "udp_keepalives",
            "Datagrams that hold a keepalive or nothing.",
            &transport.udp_keepalives,
        ),
        (
            "udp_strange",
            "Datagrams that hold another protocol.",
            &transport.udp_strange,
        ),
        (
            "udp_send_failures",
            "Datagrams the kernel did not send.",
            &transport.udp_send_failures,
        ),
        (
            "udp_stun",
            "STUN requests answered: keepalives of phones.",
            &transport.udp_stun,
        ),
        (
            "sources_refused",
            "Messages and connections of silenced sources.",
            &sources.guard.counters.refused,
        ),
        (
            "sources_too_fast",
            "Messages that came faster than one source may send: delayed, or dropped as datagrams.",
            &sources.guard.counters.too_fast,
        ),
        ("journal_records", "Records written.", &journal.records),
        (
            "journal_failures",
            "Failures to write or sync the journal.",
            &journal.failures,
        ),
    ] {
        page.counter(&format!("controld_{name}_total"), help, count.load(Relaxed));
    }
    connections(page, transport);
    silenced(page, sources.guard);
}

fn connections(page: &mut Page, transport: &transport::Counters) {
    for (kind, counters) in [
        ("tcp", &transport.tcp),
        ("tls", &transport.tls),
        ("ws", &transport.ws),
        ("wss", &transport.wss),
    ] {
        for (name, help, count) in [
            ("accepted", "Connections accepted.", &counters.accepted),
            ("opened", "Connections opened by us.", &counters.opened),
            (
                "refused",
                "Connections closed at once: too many.",
                &counters.refused,
            ),
            (
                "broken",
                "Connections that ended with an error.",
                &counters.broken,
            ),
            (
                "handshakes_failed",
                "Connections that ended before their TLS or WebSocket handshake was through.",
                &counters.handshakes_failed,
            ),
        ] {
            page.counter(
                &format!("controld_{kind}_{name}_total"),
                help,
                count.load(Relaxed),
            );
        }
        let now = counters.connections.load(Relaxed);
        page.gauge(&format!("controld_{kind}_connections"), "Connections now.", now);
    }
}

fn silenced(page: &mut Page, guard: &Guard) {
    let name = "controld_sources_silenced_total";
    page.family(name, "counter", "Sources that were silenced, by their offence.");
    for (offence, count) in [
        (Offence::Scanner, &guard.counters.silenced_scanner),
        (Offence::WrongPasswords, &guard.counters.silenced_passwords),
    ] {
        page.sample(name, &[("offence", offence.name())], count.load(Relaxed));
    }
}

fn reloads(page: &mut Page, history: &History) {
    let name = "controld_reloads_total";
    page.family(name, "counter", "How often the configuration was read again.");
    for (result, count) in [("ok", history.applied), ("failed", history.refused)] {
        page.sample(name, &[("result", result)], count);
    }
    let Some((at, done)) = &history.last else { return };
    page.gauge(
        "controld_last_reload_successful",
        "1 when the configuration could be used when it was read again last.",
        u8::from(done.is_some()),
    );
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    page.gauge(
        "controld_last_reload_timestamp_seconds",
        "When that was.",
        since.as_secs(),
    );
}

fn store(page: &mut Page, store: &projector::Counters) {
    page.gauge(
        "controld_store_up",
        "The database answers.",
        u8::from(store.is_up.load(Relaxed)),
    );
    for (name, help, count) in [
        (
            "store_records",
            "Records of the journal carried into the database.",
            &store.records,
        ),
        (
            "store_failures",
            "Attempts at the database that failed.",
            &store.failures,
        ),
    ] {
        page.counter(&format!("controld_{name}_total"), help, count.load(Relaxed));
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted() {
        let mut page = Page(String::new());
        page.sample("a", &[("q", "x\"y"), ("e", "z")], 3);
        assert_eq!(page.0, "a{q=\"x\\\"y\",e=\"z\"} 3\n");
    }
}
