use std::io::Write as _;

use crate::support::{Controld, authorised, read_answer, receive, request, tcp, udp};

#[test]
fn both_bindings_stand_and_the_journal_has_them() {
    let controld = Controld::start(&[]);
    let contact = |port: u16| format!("Contact: <sip:alice@127.0.0.1:{port}>\r\nExpires: 300\r\n");

    let phone = udp();
    phone.connect(controld.udp).unwrap();
    let local = phone.local_addr().unwrap();
    phone
        .send(request("REGISTER", "UDP", local, 1, &contact(local.port())).as_bytes())
        .unwrap();
    let challenge = receive(&phone);
    assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    let second = request("REGISTER", "UDP", local, 2, &contact(local.port()));
    phone.send(authorised(&second, &challenge).as_bytes()).unwrap();
    let answer = receive(&phone);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");

    let mut phone = tcp(controld.tcp);
    let local = phone.local_addr().unwrap();
    let first = request("REGISTER", "TCP", local, 1, &contact(local.port()));
    phone.write_all(first.as_bytes()).unwrap();
    let challenge = read_answer(&mut phone);
    let second = authorised(
        &request("REGISTER", "TCP", local, 2, &contact(local.port())),
        &challenge,
    );
    // In two pieces, as networks do.
    let (head, tail) = second.split_at(100);
    phone.write_all(head.as_bytes()).unwrap();
    phone.flush().unwrap();
    phone.write_all(tail.as_bytes()).unwrap();
    let answer = read_answer(&mut phone);
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");

    let (status, page) = controld.page("/v1/registrations");
    assert_eq!(status, 200);
    assert_eq!(page.matches("\"user\":\"alice\"").count(), 2, "{page}");
    let (_, agents) = controld.page("/v1/agents");
    assert!(agents.contains("\"state\":\"ready\""), "{agents}");
    let journal = controld.journal_text();
    assert_eq!(journal.matches("\"kind\":\"registered\"").count(), 2, "{journal}");
    assert_eq!(controld.metric("controld_bindings"), 2.0);
    assert!(!journal.contains("secret"));
}
