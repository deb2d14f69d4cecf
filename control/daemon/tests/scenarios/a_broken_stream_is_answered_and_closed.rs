use std::io::{Read as _, Write as _};

use crate::support::{Controld, request, tcp};

#[test]
fn a_request_whose_length_cannot_be_read_gets_400() {
    let controld = Controld::start(&[]);
    let mut phone = tcp(controld.tcp);
    let local = phone.local_addr().unwrap();
    let text = request("OPTIONS", "TCP", local, 1, "").replace("Content-Length: 0", "Content-Length: x");
    phone.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    phone.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("SIP/2.0 400"), "{answer}");
    controld.until_metric("controld_tcp_broken_total", 1.0);
    controld.until_metric("controld_tcp_connections", 0.0);
}
