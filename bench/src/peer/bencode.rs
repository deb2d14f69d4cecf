//! Bencode, as far as the ng protocol uses it: integers, byte strings, lists, dictionaries in any key order.

use thiserror::Error;

/// Deeper nesting than any ng reply has.
const DEPTH_MAX: usize = 16;

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `i…e`
    Integer(i64),
    /// `length:bytes`
    Bytes(Vec<u8>),
    /// `l…e`
    List(Vec<Value>),
    /// `d…e`, in the order written
    Dictionary(Vec<(Vec<u8>, Value)>),
}

/// Why bytes are not bencode; the number is the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BencodeError {
    /// The input ends within a value.
    #[error("bencode cut short at byte {0}")]
    Truncated(usize),
    /// A byte that starts or continues nothing.
    #[error("unexpected byte in bencode at {0}")]
    Unexpected(usize),
    /// Nested deeper than 16.
    #[error("bencode nested too deeply at byte {0}")]
    TooDeep(usize),
    /// Bytes after the value.
    #[error("bytes after the bencoded value at {0}")]
    Trailing(usize),
}

impl Value {
    /// A byte string from text.
    #[must_use]
    pub fn text(text: impl AsRef<[u8]>) -> Value {
        Value::Bytes(text.as_ref().to_vec())
    }

    /// A list of byte strings.
    #[must_use]
    pub fn texts(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(Value::text).collect())
    }

    /// A dictionary from pairs.
    #[must_use]
    pub fn dictionary(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
        Value::Dictionary(
            pairs
                .into_iter()
                .map(|(key, value)| (key.as_bytes().to_vec(), value))
                .collect(),
        )
    }

    /// The bytes under `key`, if this is a dictionary that has them.
    #[must_use]
    pub fn bytes_at(&self, key: &str) -> Option<&[u8]> {
        let Value::Dictionary(pairs) = self else {
            return None;
        };
        pairs.iter().find_map(|(name, value)| match value {
            Value::Bytes(bytes) if name == key.as_bytes() => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Integer(n) => out.extend_from_slice(format!("i{n}e").as_bytes()),
            Value::Bytes(bytes) => encode_bytes(bytes, out),
            Value::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.encode(out));
                out.push(b'e');
            }
            Value::Dictionary(pairs) => {
                out.push(b'd');
                for (key, value) in pairs {
                    encode_bytes(key, out);
                    value.encode(out);
                }
                out.push(b'e');
            }
        }
    }

    /// Decodes exactly one value.
    ///
    /// # Errors
    /// Any input that is not one well-formed value of depth up to 16.
    pub fn decode(input: &[u8]) -> Result<Value, BencodeError> {
        let mut reader = Reader { input, at: 0 };
        let value = reader.value(0)?;
        if reader.at == input.len() {
            Ok(value)
        } else {
            Err(BencodeError::Trailing(reader.at))
        }
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, BencodeError> {
        if depth > DEPTH_MAX {
            return Err(BencodeError::TooDeep(self.at));
        }
        match self.peek()? {
            b'i' => {
                self.at += 1;
                self.number(b'e').map(Value::Integer)
            }
            b'0'..=b'9' => self.bytes().map(Value::Bytes),
            b'l' => {
                self.at += 1;
                let mut items = Vec::new();
                while self.peek()? != b'e' {
                    items.push(self.value(depth + 1)?);
                }
                self.at += 1;
                Ok(Value::List(items))
            }
            b'd' => {
                self.at += 1;
                let mut pairs = Vec::new();
                while self.peek()? != b'e' {
                    let key = self.bytes()?;
                    pairs.push((key, self.value(depth + 1)?));
                }
                self.at += 1;
                Ok(Value::Dictionary(pairs))
            }
            _ => Err(BencodeError::Unexpected(self.at)),
        }
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input
            .get(self.at)
            .copied()
            .ok_or(BencodeError::Truncated(self.at))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, BencodeError> {
        let start = self.at;
        let length = self.number(b':')?;
        let length = usize::try_from(length).map_err(|_| BencodeError::Unexpected(start))?;
        let end = self
            .at
            .checked_add(length)
            .ok_or(BencodeError::Truncated(self.at))?;
        let bytes = self
            .input
            .get(self.at..end)
            .ok_or(BencodeError::Truncated(self.at))?;
        self.at = end;
        Ok(bytes.to_vec())
    }

    fn number(&mut self, end: u8) -> Result<i64, BencodeError> {
        let start = self.at;
        while self.peek()? != end {
            self.at += 1;
        }
        let digits = &self.input[start..self.at];
        self.at += 1;
        // i64::from_str also takes a leading '+', which bencode does not know.
        let text = std::str::from_utf8(digits)
            .ok()
            .filter(|text| !text.starts_with('+'));
        text.and_then(|text| text.parse().ok())
            .ok_or(BencodeError::Unexpected(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_reads_back_with_its_keys_in_any_order() {
        let wire = b"d6:result2:ok3:sdp5:v=0\r\n7:createdi12e4:listl1:ai-3eee";
        let value = Value::decode(wire).unwrap();
        assert_eq!(value.bytes_at("result"), Some(&b"ok"[..]));
        assert_eq!(value.bytes_at("sdp"), Some(&b"v=0\r\n"[..]));
        assert_eq!(value.bytes_at("created"), None, "an integer is not bytes");
        let mut out = Vec::new();
        value.encode(&mut out);
        assert_eq!(out, wire);
    }

    #[test]
    fn every_truncation_and_nonsense_is_refused() {
        let wire = b"d3:abcl1:xi5eee";
        for end in 0..wire.len() {
            assert!(Value::decode(&wire[..end]).is_err(), "cut at {end}");
        }
        for bad in [
            "ie",
            "i1",
            "i+1e",
            "-1:a",
            "99999999999999999999:a",
            "9:short",
            "x",
            "d1:a",
            "i1ei2e",
            "di1ei2ee",
            "5",
        ] {
            assert!(Value::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = ["l".repeat(40), "e".repeat(40)].concat();
        assert!(matches!(
            Value::decode(deep.as_bytes()),
            Err(BencodeError::TooDeep(_))
        ));
    }
}
