use hickory_proto::rr::{
    Name, RData,
    rdata::{A, SRV},
};

use crate::{
    name_server::NameServer,
    support::{Controld, authorised, receive, request, udp},
};

#[test]
fn by_srv_and_past_one_that_is_not_there() {
    let proxy = udp();
    let port = proxy.local_addr().unwrap().port();
    let host = || Name::from_ascii("host.edge.test.").unwrap();
    let servers = NameServer::start(vec![
        // Nobody listens at the first one.
        ("_sip._udp.edge.test.", RData::SRV(SRV::new(20, 0, port, host()))),
        ("_sip._tcp.edge.test.", RData::SRV(SRV::new(10, 0, 9, host()))),
        ("host.edge.test.", RData::A(A::new(127, 0, 0, 1))),
        ("edge.test.", RData::A(A::new(127, 0, 0, 9))),
    ]);
    let dns = format!("dns.servers=['{}']", servers.address);
    let controld = Controld::start(&[
        &dns,
        "registration.keepalive=all",
        "registration.keepalive_interval_s=5",
    ]);
    let phone = udp();
    phone.connect(controld.udp).unwrap();
    let local = phone.local_addr().unwrap();
    // Through a proxy whose Path names a host: what is sent to the phone goes there.
    let path =
        "Path: <sip:edge.test;lr>\r\nSupported: path\r\nContact: <sip:alice@127.0.0.1:9>\r\nExpires: 300\r\n";
    phone
        .send(request("REGISTER", "UDP", local, 1, path).as_bytes())
        .unwrap();
    let challenge = receive(&phone);
    let second = authorised(&request("REGISTER", "UDP", local, 2, path), &challenge);
    phone.send(second.as_bytes()).unwrap();
    assert!(receive(&phone).starts_with("SIP/2.0 200"));
    // It asks whether the phone is still there.
    let ping = receive(&proxy);
    assert!(
        ping.starts_with("OPTIONS sip:alice@127.0.0.1:9 SIP/2.0"),
        "{ping}"
    );
    assert!(ping.contains("Route: <sip:edge.test;lr>"), "{ping}");
}
