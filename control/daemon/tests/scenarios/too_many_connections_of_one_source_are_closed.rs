use std::io::{Read as _, Write as _};

use crate::support::{Controld, read_answer, request, tcp};

#[test]
fn those_that_are_open_go_on() {
    let controld = Controld::start(&["signalling.tcp_connections_per_source=2"]);
    let mut open: Vec<_> = (0..2).map(|_| tcp(controld.tcp)).collect();
    controld.until_metric("controld_tcp_connections", 2.0);
    let mut third = tcp(controld.tcp);
    assert_eq!(third.read(&mut [0; 8]).unwrap(), 0, "closed at once");
    assert_eq!(controld.metric("controld_tcp_refused_total"), 1.0);
    for phone in &mut open {
        let local = phone.local_addr().unwrap();
        phone
            .write_all(request("OPTIONS", "TCP", local, 1, "").as_bytes())
            .unwrap();
        assert!(read_answer(phone).starts_with("SIP/2.0 200"));
    }
}
