//! Stacks that talk to each other over a network in virtual time: one scenario per file.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by stopping")]
#![allow(unreachable_pub, reason = "a test binary: its modules share what they share")]

mod a_call_is_set_up_and_torn_down;
mod a_cancel_ends_a_ringing_call;
mod a_refer_outside_makes_a_dialog_of_its_own;
mod calls_survive_a_bad_network;
mod dialogs_allow_what_their_state_allows;
mod dialogs_move_to_another_process;
mod forks_make_dialogs_of_their_own;
mod large_requests_go_over_tcp;
mod names_are_looked_up_first;
mod no_message_breaks_a_stack;
mod offers_that_collide_get_491;
mod overload_is_refused_and_bounded;
mod phone;
mod provisional_responses_are_made_reliable;
mod requests_get_the_answers_a_stack_owes;
mod requests_go_to_the_next_target;
mod retransmissions_follow_the_rfc;
mod sessions_are_kept_alive;
mod transfers_run_inside_dialogs;
mod world;
