//! Bounds of the parser; a description beyond one is refused whole.

/// Bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 32 * 1024;
/// Bytes of one line.
pub const LINE_BYTES_MAX: usize = 2 * 1024;
/// Lines of a description.
pub const LINE_COUNT_MAX: usize = 1_024;
/// Media lines.
pub const MEDIA_COUNT_MAX: usize = 32;
/// Formats on one media line; those beyond it are not read.
pub const FORMAT_COUNT_MAX: usize = 64;
/// ICE candidates of one media; those beyond it are not read.
pub const CANDIDATE_COUNT_MAX: usize = 64;
/// Crypto lines of one media; those beyond it are not read.
pub const CRYPTO_COUNT_MAX: usize = 16;
/// Fingerprints of one media; those beyond it are not read.
pub const FINGERPRINT_COUNT_MAX: usize = 8;
