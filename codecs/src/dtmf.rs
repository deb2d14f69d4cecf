//! DTMF in the audio band: sixteen digits as pairs of tones, made and detected.
//!
//! # Source
//! ITU-T Q.23 (frequencies), Q.24 Annex A (what a receiver must accept and reject): the North American
//! values, with the stricter of the administrations' where they differ.

mod detect;
mod generate;

pub use detect::{Detector, DtmfEvent, SAMPLE_RATE_HZ};
pub use generate::DtmfGenerator;

/// Frequencies of the rows, in Hz (ITU-T Q.23).
pub const LOW_HZ: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
/// Frequencies of the columns, in Hz.
pub const HIGH_HZ: [f64; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];

const KEYS: [[u8; 4]; 4] = [*b"123A", *b"456B", *b"789C", *b"*0#D"];

/// One of the sixteen digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digit(u8);

impl Digit {
    /// The digit of a character: `0`-`9`, `*`, `#`, `A`-`D` in either case; `None` for any other.
    #[must_use]
    pub fn from_char(key: char) -> Option<Self> {
        let key = u8::try_from(key).ok()?.to_ascii_uppercase();
        KEYS.as_flattened().contains(&key).then_some(Self(key))
    }

    /// The digit as a character.
    #[must_use]
    pub fn as_char(self) -> char {
        char::from(self.0)
    }

    /// All sixteen, row by row.
    pub fn all() -> impl Iterator<Item = Self> {
        KEYS.as_flattened().iter().map(|&key| Self(key))
    }

    fn at(row: usize, column: usize) -> Self {
        Self(KEYS[row][column])
    }

    /// Row and column on the keypad.
    fn place(self) -> (usize, usize) {
        let index = KEYS
            .as_flattened()
            .iter()
            .position(|&key| key == self.0)
            .unwrap_or(0);
        (index / 4, index % 4)
    }

    /// The two frequencies in Hz, low and high.
    #[must_use]
    pub fn frequencies_hz(self) -> (f64, f64) {
        let (row, column) = self.place();
        (LOW_HZ[row], HIGH_HZ[column])
    }
}
