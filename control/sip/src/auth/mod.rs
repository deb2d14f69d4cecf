//! Digest authentication (RFC 7616 and 2617, RFC 8760 for SIP): server and client.
//!
//! Passwords are never needed: an account is stored as its [`Ha1`], one per hash. Keys, random text and the wall
//! clock come in as arguments.

mod client;
mod digest;
mod nonce;
mod server;

pub use client::{ClientChallenge, ClientSession, choose_challenge};
pub use digest::{Algorithm, DigestInput, Ha1, HashKind, Hex, Qop, digest_response};
pub use nonce::{NonceKey, NonceUse};
pub use server::{Attempt, AttemptError, DigestServer, ServerConfig, Verification};
