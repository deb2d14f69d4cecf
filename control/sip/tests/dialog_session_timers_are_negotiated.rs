//! What a UAS answers to each kind of Session-Expires (RFC 4028 §9), as a table.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by stopping")]

use sip::dialog::SessionTimer;
use sip::message::{HeaderName, Headers};
use sip::stack::SessionTimerConfig;
use std::fmt::Write as _;
use std::time::Duration;

#[test]
fn every_offer_has_its_answer() {
    let config = SessionTimerConfig {
        interval: Duration::from_secs(1800),
        min_se: Duration::from_secs(120),
    };
    let mut table = String::new();
    for supported in ["", "timer"] {
        for expires in [
            None,
            Some("60"),
            Some("119;refresher=uac"),
            Some("300"),
            Some("90000"),
            Some("600;refresher=uas"),
            Some("600;refresher=uac"),
        ] {
            for min_se in [None, Some("2400")] {
                for config in [None, Some(&config)] {
                    let mut headers = Headers::new();
                    headers.push(HeaderName::Supported, supported).unwrap();
                    if let Some(expires) = expires {
                        headers.push(HeaderName::SessionExpires, expires).unwrap();
                    }
                    if let Some(min_se) = min_se {
                        headers.push(HeaderName::MinSe, min_se).unwrap();
                    }
                    let answer = SessionTimer::default().answer(&headers, config);
                    let ours = if config.is_some() { "1800/120" } else { "none" };
                    writeln!(
                        table,
                        "Supported: {supported:<5} Session-Expires: {:<18} Min-SE: {:<5} ours: {ours:<8} → {answer:?}",
                        expires.unwrap_or("-"),
                        min_se.unwrap_or("-"),
                    )
                    .unwrap();
                }
            }
        }
    }
    insta::assert_snapshot!(table);
}
