//! The daemon as a whole: a real process on loopback, driven over gRPC, with real RTP and tones that prove who hears
//! whom. One scenario a file, named as a sentence.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own processes, sockets and clocks"
)]

mod control;
mod recording;
mod support;

mod a_bad_configuration_is_explained;
mod a_call_is_recorded_left_and_right;
mod a_call_is_relayed_both_ways;
mod a_call_joins_two_networks;
mod a_controller_drops_and_goes_on_where_it_was;
mod a_draining_host_takes_no_new_sessions;
mod a_full_disk_ends_recordings_and_nothing_else;
mod a_full_mailbox_refuses_before_anything_happens;
mod a_killed_host_repairs_its_recordings;
mod a_log_that_cannot_be_written_ends_nothing;
mod a_reload_changes_what_it_can_and_names_the_rest;
mod a_watcher_resumes_or_gets_a_reset;
mod beyond_loopback_only_known_controllers_get_in;
mod digits_are_told_and_sent_once;
mod edits_under_load_are_seamless;
mod exhausted_ports_name_range_and_use;
mod figures_stand_on_the_metrics_page;
mod garbage_at_one_port_leaves_other_calls_alone;
mod invalid_graphs_are_refused_and_nothing_is_applied;
mod killed_and_restarted_nobody_hears_a_stranger;
mod links_join_sessions_of_two_workers;
mod programs_hear_and_speak_through_taps;
mod prompts_come_and_go_over_files;
mod recordings_are_encrypted;
mod ringback_and_prompts_are_heard;
mod srtp_is_joined_with_plain_rtp;
mod stale_revisions_and_epochs_are_refused;
mod the_service_manager_hears_how_it_goes;
mod thousands_of_sessions_come_and_go_over_one_stream;
mod tools_find_health_and_reflection;
