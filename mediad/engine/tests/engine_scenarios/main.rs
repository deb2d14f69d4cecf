//! Scenarios of the per-core engine in virtual time, one per file. One binary, so that they link once.

mod cipher;
mod keypad;
#[path = "../../../../codecs/src/test_signal.rs"]
#[expect(dead_code, reason = "shared with the tests of codecs")]
mod test_signal;
mod tones;
mod world;

mod a_peer_is_made_better_where_it_is_asked;
mod a_player_plays_what_it_is_told;
mod a_relay_keeps_one_line_both_ways;
mod a_room_is_heard_by_all_but_the_speaker;
mod a_source_fans_out_to_many_listeners;
mod a_source_is_learned_by_probation_and_then_locked;
mod a_tone_is_played_to_its_listeners_only;
mod an_edit_changes_only_what_it_names;
mod clocks_that_drift_are_followed;
mod codecs_that_differ_are_transcoded;
mod digits_are_converted;
mod digits_are_gathered_as_asked;
mod digits_are_heard_once_and_passed_on;
mod digits_count_on_a_clock_of_their_own;
mod digits_in_the_audio_are_told;
mod edits_at_random_are_seamless;
mod effort_falls_and_rises_without_a_seam;
mod garbage_is_counted_and_harms_nobody;
mod hints_come_before_what_they_are_of;
mod hold_lets_nothing_through_its_direction;
mod links_join_sessions;
mod music_is_played_once_for_all_who_hold;
mod no_seam_is_heard;
mod only_the_loudest_are_heard;
mod options_change_for_a_running_session;
mod opus_is_heard_at_its_level;
mod opus_makes_up_for_loss;
mod payload_types_and_laws_are_rewritten;
mod recorders_hear_beside_the_call;
mod reports_tell_loss_jitter_and_round_trip;
mod silence_is_described_not_lost;
mod silence_is_told_once_and_ends_an_orphan;
mod srtp_is_heard_like_plain_rtp;
mod talk_is_told_beside_the_relay;
mod taps_hear_and_speak;
mod the_line_survives_every_switch;
