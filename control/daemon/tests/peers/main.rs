//! Calls with phones that are not ours: sipp, baresip and Kamailio against a real controld and a real mediad on loopback. One
//! scenario a file, named as a sentence; `sipp/` holds the scenarios that sipp plays.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own processes, sockets and clocks"
)]

mod api;
mod baresip;
mod cipher;
mod kamailio;
#[path = "../scenarios/past_calls.rs"]
mod past_calls;
mod program;
mod sipp;
mod site;
mod tether;
mod voice;

mod a_broken_link_to_mediad_ends_no_call;
mod a_call_goes_over_ipv6;
mod a_call_says_who_hears_whom;
mod a_caller_with_baresip_is_heard;
mod a_gruu_leads_to_one_device;
mod a_killed_daemon_takes_no_call_with_it;
mod a_machine_calls_two_phones_together;
mod a_party_is_heard_early_and_hears_music_on_hold;
mod a_phone_is_called_over_its_own_connection;
mod a_queued_caller_hears_its_echo;
mod a_queues_recording_holds_both_voices;
mod a_reload_ends_no_call;
mod an_agent_transfers_a_call;
mod an_agent_with_baresip_is_heard;
mod an_encrypted_call_is_heard;
mod callers_choose_in_a_menu;
mod calls_end_in_every_way_they_can;
mod calls_go_out_and_in_over_trunks;
mod calls_go_through_kamailio;
mod digits_of_phones_with_opus_are_events;
mod members_of_a_conference_hear_each_other;
mod messages_reach_who_they_are_for;
mod parties_are_brought_into_a_room;
mod phones_register_with_digest_over_udp_and_tcp;
mod requests_outside_calls_get_their_answers;
mod the_page_shows_what_goes_on;
mod three_real_phones_confer;
mod tones_cross_between_two_users;
mod who_waits_hears_music;
