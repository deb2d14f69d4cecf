use std::{
    io::{Read as _, Write as _},
    net::UdpSocket,
    time::Duration,
};

use crate::support::{Controld, receive, request, tcp, udp};

/// No answer to what was sent so far: the next one, from elsewhere, comes first.
fn assert_silence(controld: &Controld, silenced: &UdpSocket) {
    let refused = controld.metric("controld_sources_refused_total");
    let local = silenced.local_addr().unwrap();
    silenced
        .send(request("OPTIONS", "UDP", local, 77, "").as_bytes())
        .unwrap();
    controld.until_metric("controld_sources_refused_total", refused + 1.0);
    silenced.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(silenced.recv(&mut [0; 16]).is_err());
}

#[test]
fn from_its_first_message_until_it_is_forgiven() {
    let controld = Controld::start(&["sources.exempt=[]"]);
    let mut phone = tcp(controld.tcp);
    controld.until_metric("controld_tcp_connections", 1.0);
    let scanner = udp();
    scanner.connect(controld.udp).unwrap();
    let local = scanner.local_addr().unwrap();
    let scan = request("OPTIONS", "UDP", local, 1, "User-Agent: friendly-scanner\r\n");
    scanner.send(scan.as_bytes()).unwrap();
    let silenced = "controld_sources_silenced_total{offence=\"scanner\"}";
    controld.until_metric(silenced, 1.0);
    assert_silence(&controld, &scanner);
    // No new connection from there either, and nothing is heard over one that stands.
    assert_eq!(tcp(controld.tcp).read(&mut [0; 8]).unwrap(), 0);
    let local = phone.local_addr().unwrap();
    phone
        .write_all(request("OPTIONS", "TCP", local, 1, "").as_bytes())
        .unwrap();
    assert_eq!(phone.read(&mut [0; 8]).unwrap(), 0, "closed");

    let (_, page) = controld.page("/v1/sources");
    assert!(
        page.contains("\"source\":\"127.0.0.1\"") && page.contains("\"offence\":\"scanner\""),
        "{page}"
    );
    assert_eq!(controld.ask("DELETE", "/v1/sources/127.0.0.1").0, 204);
    assert_eq!(controld.ask("DELETE", "/v1/sources/127.0.0.1").0, 404);
    let phone = udp();
    phone.connect(controld.udp).unwrap();
    let local = phone.local_addr().unwrap();
    phone
        .send(request("OPTIONS", "UDP", local, 1, "").as_bytes())
        .unwrap();
    assert!(receive(&phone).starts_with("SIP/2.0 200"));
}

#[test]
fn so_does_who_guesses_passwords() {
    let controld = Controld::start(&["sources.exempt=[]", "sources.failures_max=3"]);
    let guesser = udp();
    guesser.connect(controld.udp).unwrap();
    let local = guesser.local_addr().unwrap();
    let mut challenge = String::new();
    for number in 1..=3 {
        let guess = request("REGISTER", "UDP", local, number, "Expires: 60\r\n");
        let guess = match challenge.as_str() {
            "" => guess,
            challenge => crate::support::proved(&guess, challenge, "wrong"),
        };
        guesser.send(guess.as_bytes()).unwrap();
        challenge = receive(&guesser);
        assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    }
    let last = request("REGISTER", "UDP", local, 4, "Expires: 60\r\n");
    guesser
        .send(crate::support::proved(&last, &challenge, "wrong").as_bytes())
        .unwrap();
    // The refusal of the third guess is the last word.
    assert!(receive(&guesser).starts_with("SIP/2.0 401"));
    controld.until_metric(
        "controld_sources_silenced_total{offence=\"wrong_passwords\"}",
        1.0,
    );
    assert_silence(&controld, &guesser);
    assert_eq!(controld.metric("controld_authentication_failures_total"), 3.0);
}

#[test]
fn who_sends_too_fast_is_heard_at_its_pace() {
    let controld = Controld::start(&[
        "sources.exempt=[]",
        "sources.messages_per_s=1",
        "sources.messages_burst=5",
    ]);
    let phone = udp();
    phone.connect(controld.udp).unwrap();
    let local = phone.local_addr().unwrap();
    for number in 0..20 {
        phone
            .send(request("OPTIONS", "UDP", local, number, "").as_bytes())
            .unwrap();
    }
    controld.until_metric("controld_udp_received_total", 20.0);
    let dropped = controld.metric("controld_sources_too_fast_total");
    assert!((10.0..=15.0).contains(&dropped), "{dropped}");
    for _ in 0..20 - dropped as usize {
        assert!(receive(&phone).starts_with("SIP/2.0 200"));
    }
}
