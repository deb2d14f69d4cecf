use crate::support::{Controld, receive, udp, until};

/// The 200 to a request.
fn fine(request: &str, more: &str) -> String {
    let named = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let echoed: String = request
        .lines()
        .filter(|line| named.iter().any(|name| line.starts_with(name)))
        .map(|line| match line.starts_with("To:") {
            true => format!("{};tag=carrier\r\n", line.trim_end()),
            false => format!("{}\r\n", line.trim_end()),
        })
        .collect();
    format!("SIP/2.0 200 OK\r\n{echoed}{more}Content-Length: 0\r\n\r\n")
}

/// What it waits for is the answer of a carrier to the end of its registration.
#[test]
fn and_alive_until_it_has_ended() {
    let carrier = udp();
    let trunk = format!(
        "trunks=[{{name='a', targets=[{{uri='sip:{}'}}], username='us', register_s=300, probe_s=0}}]",
        carrier.local_addr().unwrap()
    );
    let controld = Controld::start(&[&trunk]);
    let register = receive(&carrier);
    assert!(register.starts_with("REGISTER "), "{register}");
    carrier.connect(controld.udp).unwrap();
    carrier
        .send(fine(&register, "Expires: 300\r\n").as_bytes())
        .unwrap();
    until("it is registered", || {
        controld
            .page("/v1/trunks")
            .1
            .contains("\"registration\":\"registered\"")
    });
    assert_eq!(controld.page("/readyz").1, "no media host is up\n");
    controld.signal("-TERM");
    let mut farewell = receive(&carrier);
    while !farewell.contains("Expires: 0\r\n") {
        farewell = receive(&carrier);
    }
    assert_eq!(controld.page("/readyz"), (503, "stopping\n".to_owned()));
    assert_eq!(controld.page("/healthz").0, 200);
    let (status, body) = controld.ask("POST", "/v1/reload");
    assert_eq!(status, 503, "nothing is changed any more: {body}");
    carrier.send(fine(&farewell, "").as_bytes()).unwrap();
    assert!(controld.ended().success());
}
