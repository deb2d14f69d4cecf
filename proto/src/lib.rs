//! The wire contracts, compiled from the `.proto` files beside this crate.
//!
//! Owns the message types of `mediad.v1` (a media host's API) and, with the feature `grpc`, its services. Knows
//! nothing of how either side works: `mediad` and the controller meet only here.
//!
//! ```
//! use proto::mediad::v1::{ApplyRequest, Edge};
//!
//! let request = ApplyRequest {
//!     session: "call-1".into(),
//!     put_edges: vec![Edge { from: "caller".into(), to: "agent".into(), ..Edge::default() }],
//!     ..ApplyRequest::default()
//! };
//! assert_eq!(request.put_edges.len(), 1);
//! ```
#![forbid(unsafe_code)]

/// The media host's contracts.
pub mod mediad {
    /// Version 1 of the media API.
    #[allow(
        missing_docs,
        clippy::all,
        reason = "generated; the .proto files carry the documentation"
    )]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mediad.v1.rs"));
    }
}

impl std::fmt::Debug for mediad::v1::SdesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SdesKey")
            .field("suite", &self.suite())
            .field("key_salt", &format_args!("{} secret bytes", self.key_salt.len()))
            .field("tag", &self.tag)
            .finish()
    }
}

/// The compiled descriptors of every `.proto` file, for gRPC reflection and for tools.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
