use crate::support::{Controld, receive, request, udp};

#[test]
fn it_says_why_and_refuses_calls_with_503() {
    let controld = Controld::start(&["signalling.allow_anonymous_calls=true"]);
    assert_eq!(controld.page("/healthz").0, 200);
    assert_eq!(
        controld.page("/readyz"),
        (503, "no media host is up\n".to_owned())
    );
    let caller = udp();
    caller.connect(controld.udp).unwrap();
    let local = caller.local_addr().unwrap();
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
        local.port()
    );
    let head = format!("Contact: <sip:{local}>\r\nContent-Type: application/sdp\r\n");
    let invite = request("INVITE", "UDP", local, 1, &head)
        .replace("INVITE sip:127.0.0.1 ", "INVITE sip:support@127.0.0.1 ")
        .replace("alice@", "stranger@")
        .replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
    caller.send((invite + &body).as_bytes()).unwrap();
    let mut answer = receive(&caller);
    while answer.starts_with("SIP/2.0 1") {
        answer = receive(&caller);
    }
    assert!(answer.starts_with("SIP/2.0 503"), "{answer}");
    assert_eq!(controld.metric("controld_calls_refused_total"), 1.0);
}
