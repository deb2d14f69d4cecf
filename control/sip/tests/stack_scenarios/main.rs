//! Stacks that talk to each other over a network in virtual time: one scenario per file.

#![allow(unreachable_pub, reason = "a test binary: its modules share what they share")]

mod a_call_is_set_up_and_torn_down;
mod world;
