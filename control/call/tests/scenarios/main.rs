//! Calls in virtual time: real SIP stacks as phones, a media host that checks every command.
#![allow(
    unreachable_pub,
    reason = "a test is one crate; everything in it is for itself"
)]

mod media_host;
mod phone;
mod world;

mod a_queued_caller_is_answered_and_both_hear_each_other;
