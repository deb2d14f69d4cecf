//! Every bound of the engine, with its policy when full.
