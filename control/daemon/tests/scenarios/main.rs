//! controld as a process, without a media host: what the sockets and the shell around the core must do.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and owns sockets and processes"
)]

mod certificates;
mod name_server;
mod past_calls;
mod support;

mod a_broken_stream_is_answered_and_closed;
mod a_reload_changes_what_it_can_and_names_the_rest;
mod a_scanner_meets_silence;
mod a_taken_port_is_named;
mod agents_register_over_udp_and_tcp;
mod browsers_are_served_over_websockets;
mod it_ends_cleanly_and_says_who_it_is;
mod keepalives_are_answered_and_garbage_harms_nobody;
mod names_lead_to_proxies;
mod past_calls_are_searched;
mod phones_are_served_over_tls;
mod registrations_survive_a_restart;
mod the_api_is_strict_and_says_why;
mod too_many_connections_of_one_source_are_closed;
mod while_it_stops_it_is_not_ready;
mod who_says_nothing_is_sent_away;
mod without_a_media_host_it_is_not_ready;
