use std::io::Write as _;

use crate::support::{Controld, authorised, read_answer, receive, request, tcp, udp};

#[test]
fn as_far_as_their_phones_can_still_be_reached() {
    let mut controld = Controld::start(&[]);
    let desk = udp();
    desk.connect(controld.udp).unwrap();
    let local = desk.local_addr().unwrap();
    let contact = format!("Contact: <sip:alice@{local}>\r\nExpires: 300\r\nUser-Agent: desk/1\r\n");
    desk.send(request("REGISTER", "UDP", local, 1, &contact).as_bytes())
        .unwrap();
    let challenge = receive(&desk);
    let second = authorised(&request("REGISTER", "UDP", local, 2, &contact), &challenge);
    desk.send(second.as_bytes()).unwrap();
    assert!(receive(&desk).starts_with("SIP/2.0 200"));

    // Behind a NAT, and its connection ends with the process.
    let mut mobile = tcp(controld.tcp);
    let local = mobile.local_addr().unwrap();
    let contact = "Contact: <sip:alice@192.168.7.7:5070;transport=tcp>\r\nExpires: 300\r\n";
    mobile
        .write_all(request("REGISTER", "TCP", local, 1, contact).as_bytes())
        .unwrap();
    let challenge = read_answer(&mut mobile);
    let second = authorised(&request("REGISTER", "TCP", local, 2, contact), &challenge);
    mobile.write_all(second.as_bytes()).unwrap();
    assert!(read_answer(&mut mobile).starts_with("SIP/2.0 200"));
    assert_eq!(controld.metric("controld_bindings"), 2.0);

    controld.restart(&[]);
    assert_eq!(controld.metric("controld_bindings"), 1.0);
    let (_, page) = controld.page("/v1/registrations");
    let source = desk.local_addr().unwrap().to_string();
    assert!(
        page.contains(&source) && page.contains("\"agent\":\"desk/1\""),
        "{page}"
    );
    let (_, agents) = controld.page("/v1/agents");
    assert!(agents.contains("\"state\":\"ready\""), "{agents}");
}
