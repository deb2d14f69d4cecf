use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use crate::{
    sipp::{Sipp, stranger},
    site::Site,
};

#[test]
fn by_udp_and_tcp() {
    let site = Site::start("requests");
    // What a dispatcher pings with, somebody we do not know, and a method that is none.
    for (method, called, status) in [
        ("OPTIONS", "support", 200),
        ("SUBSCRIBE", "alice", 405),
        ("PUBLISH", "alice", 405),
    ] {
        for tcp in [false, true] {
            let phone = Sipp::new("request")
                .with("METHOD", method)
                .with("USER", "customer")
                .with("CALLED", called)
                .with("STATUS", status);
            if tcp { phone.over_tcp() } else { phone }.run(&site);
        }
    }
    for (called, status) in [("nobody", 404), ("carol", 480)] {
        stranger("caller_refused", called)
            .with("STATUS", status)
            .run(&site);
    }
    site.assert_nothing_left(0);
}

/// Sends a datagram and gives the first line of the answer.
fn answer(site: &Site, text: &str) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let text = text.replace("@PORT@", &port.to_string()).replace('\n', "\r\n");
    socket.send_to(text.as_bytes(), site.udp).unwrap();
    let mut buffer = [0; 4_096];
    let (len, _) = socket.recv_from(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
    text.lines().next().map(str::to_owned)
}

/// An INVITE of which one line is replaced.
fn invite_with(line: &str, by: &str) -> String {
    let whole = "INVITE sip:support@127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:@PORT@;branch=z9hG4bK-m\nMax-Forwards: 70\n\
        From: <sip:customer@127.0.0.1>;tag=m\nTo: <sip:support@127.0.0.1>\nCall-ID: malformed\nCSeq: 1 INVITE\n\
        Contact: <sip:customer@127.0.0.1:@PORT@>\nContent-Length: 0\n\n";
    assert!(whole.contains(line), "{line}");
    whole.replace(line, by)
}

#[test]
fn malformed_ones_a_400() {
    let site = Site::start("malformed");
    for (line, by) in [
        ("CSeq: 1 INVITE\n", "CSeq: 1 BYE\n"),
        ("CSeq: 1 INVITE\n", "CSeq: many INVITE\n"),
        ("Content-Length: 0\n", "Content-Length: 900\n"),
        ("To: <sip:support@127.0.0.1>\n", ""),
        ("From: <sip:customer@127.0.0.1>;tag=m\n", "From: <<>>\n"),
        ("Max-Forwards: 70\n", "Max-Forwards: a lot\n"),
    ] {
        let got = answer(&site, &invite_with(line, by));
        assert!(
            got.as_deref()
                .is_some_and(|start| start.starts_with("SIP/2.0 400 ")),
            "{by:?} for {line:?}: {got:?}\n{}",
            site.story()
        );
    }
    let got = answer(&site, &invite_with("Max-Forwards: 70\n", "Max-Forwards: 0\n"));
    assert!(got.is_some_and(|start| start.starts_with("SIP/2.0 483 ")));
    site.assert_nothing_left(0);
}
