//! Numbers and addresses as text. Messages are full of them, and the formatting machinery takes ten times as long.

use std::net::IpAddr;

/// Digits of the longest number.
const DIGITS_MAX: usize = 20;

/// Adds a number in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    let mut number = number.into();
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Adds an address, without brackets.
pub(crate) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(out, octet);
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

/// 16 hexadecimal digits.
pub(crate) fn hexadecimal(number: u64) -> String {
    let digit = |index: u32| {
        let four = (number >> (60 - 4 * index)) as u32 & 15;
        char::from_digit(four, 16).expect("four bits are a digit")
    };
    (0..16).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_written_as_others_write_them() {
        for number in [
            0,
            7,
            10,
            99,
            100,
            5_060,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut text = Vec::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string().as_bytes());
            assert_eq!(hexadecimal(number), format!("{number:016x}"));
        }
        for ip in ["0.0.0.0", "192.0.2.1", "255.255.255.255", "::", "2001:db8::1"] {
            let mut text = Vec::new();
            push_ip(&mut text, ip.parse().unwrap());
            assert_eq!(text, ip.as_bytes());
        }
    }
}
