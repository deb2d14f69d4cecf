use std::io::{Read as _, Write as _};

use crate::support::{Controld, receive, request, tcp, udp};

#[test]
fn pings_get_pongs_and_others_are_served() {
    let controld = Controld::start(&[]);
    let mut phone = tcp(controld.tcp);
    phone.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    phone.read_exact(&mut pong).unwrap();
    assert_eq!(pong, *b"\r\n");

    let socket = udp();
    socket.connect(controld.udp).unwrap();
    for garbage in [
        &b"\r\n\r\n"[..],
        b"\0",
        b"\x80\0\x01\x02",
        b"\xff\xfe",
        b"INVITE",
        b"SIP/2.0 200 OK\r\n\r\n",
    ] {
        socket.send(garbage).unwrap();
    }
    let local = socket.local_addr().unwrap();
    socket
        .send(request("OPTIONS", "UDP", local, 1, "").as_bytes())
        .unwrap();
    let answer = receive(&socket);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    assert!(answer.contains(&format!("rport={}", local.port())), "{answer}");
    assert_eq!(controld.metric("controld_udp_keepalives_total"), 2.0);
    assert_eq!(controld.metric("controld_udp_strange_total"), 2.0);
    assert_eq!(controld.metric("controld_sip_malformed_total"), 2.0);
}
