//! Calls in virtual time: real SIP stacks as phones, a media host that checks every command.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by stopping")]
#![allow(
    unreachable_pub,
    reason = "a test is one crate; everything in it is for itself"
)]

mod media_host;
mod phone;
mod world;

mod a_brief_loss_of_the_media_link_ends_no_call;
mod a_call_is_transferred;
mod a_call_over_a_trunk_is_transferred;
mod a_call_without_offer_is_connected_by_its_ack;
mod a_caller_who_gives_up_frees_the_agent;
mod a_conference_moves_from_a_lost_media_host;
mod a_device_is_reached_by_its_flows;
mod a_digit_sent_by_info_reaches_the_other_party;
mod a_gruu_leads_to_one_device;
mod a_lost_media_host_ends_its_calls;
mod a_machine_asks_for_a_call;
mod a_message_reaches_who_it_is_for;
mod a_new_call_waits_for_a_media_host;
mod a_new_configuration_is_taken_while_calls_go_on;
mod a_new_offer_is_answered_whatever_the_call_does;
mod a_party_on_hold_is_not_heard;
mod a_phone_is_heard_before_it_answers;
mod a_phone_registers_with_its_password_only;
mod a_phone_sends_its_calls_elsewhere;
mod a_queued_caller_is_answered_and_both_hear_each_other;
mod a_queues_calls_are_recorded;
mod a_registered_user_is_called_on_all_devices;
mod a_ringing_call_is_picked_up;
mod a_room_with_a_pin_lets_in_who_knows_it;
mod a_talking_call_is_watched;
mod an_agent_is_what_its_phones_and_calls_are;
mod an_answer_that_was_lost_with_the_controller_is_told_again;
mod an_offer_of_ours_keeps_every_line;
mod audio_is_encrypted_as_the_policy_says;
mod callers_choose_in_a_menu;
mod calls_survive_a_restart;
mod calls_that_lead_nowhere_are_told_why;
mod conferences_survive_a_restart;
mod digits_reach_each_party_in_its_form;
mod each_side_speaks_what_the_policy_says;
mod lost_messages_change_nothing;
mod members_of_a_conference_hear_the_others;
mod nothing_is_stuck_whatever_happens;
mod of_an_answer_and_a_cancel_that_cross_one_wins;
mod of_two_offers_that_cross_both_are_carried_out;
mod parties_are_brought_into_a_conference;
mod silence_is_described_where_it_was_offered;
mod the_next_agent_is_rung_when_one_does_not_take_the_call;
mod trunks_lead_out_and_in;
mod two_callers_share_one_agent;
mod while_messages_wait_new_calls_are_refused;
mod who_may_transfer_what;
mod who_waits_hears_music;
mod wrong_settings_are_named_with_their_remedy;
