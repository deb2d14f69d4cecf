//! Connections cost descriptors and memory: who opens them has to say something whole, soon.

use std::io::{Read as _, Write as _};

use crate::support::{Controld, read_answer, request, tcp};

#[test]
fn whoever_opens_a_connection_and_is_silent() {
    let controld = Controld::start(&["signalling.tcp_message_s=1"]);
    let mut silent = tcp(controld.tcp);
    let mut pinging = tcp(controld.tcp);
    pinging.write_all(b"\r\n\r\n").unwrap();
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0, "closed");
    let mut pong = [0; 2];
    pinging.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
    assert_eq!(pinging.read(&mut [0; 8]).unwrap(), 0, "a ping is no message");
    controld.until_metric("controld_tcp_connections", 0.0);
    assert_eq!(controld.metric("controld_tcp_broken_total"), 2.0);
}

#[test]
fn whoever_begins_a_message_and_never_ends_it() {
    let controld = Controld::start(&["signalling.tcp_message_s=1"]);
    let mut phone = tcp(controld.tcp);
    let local = phone.local_addr().unwrap();
    let whole = request("OPTIONS", "TCP", local, 1, "");
    phone.write_all(whole.as_bytes()).unwrap();
    assert!(read_answer(&mut phone).starts_with("SIP/2.0 200"));
    // It is known now, and may be silent; but what it begins it has to end, a byte now and then is not enough.
    let next = request("OPTIONS", "TCP", local, 2, "");
    phone
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .unwrap();
    let mut sent = 0;
    for byte in next.as_bytes().chunks(1).take(100) {
        if phone.write_all(byte).is_err() || phone.read(&mut [0; 8]).is_ok_and(|length| length == 0) {
            break;
        }
        sent += 1;
    }
    assert!(sent < 100, "closed in the middle");
    controld.until_metric("controld_tcp_connections", 0.0);
}
