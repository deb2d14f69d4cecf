//! The wanted media graph.

use sdp::Codec;

/// The codec a configuration names.
pub(crate) fn codec_named(name: &str) -> Option<Codec> {
    let known = [Codec::pcmu(), Codec::pcma(), Codec::g722(), Codec::opus(None)];
    known
        .into_iter()
        .find(|codec| codec.name.eq_ignore_ascii_case(name))
}
