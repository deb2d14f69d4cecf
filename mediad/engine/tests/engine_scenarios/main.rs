//! Scenarios of the per-core engine in virtual time, one per file. One binary, so that they link once.

mod world;

mod a_relay_keeps_one_line_both_ways;
mod a_source_is_learned_by_probation_and_then_locked;
mod payload_types_and_laws_are_rewritten;
