use std::{
    fs,
    io::{Read as _, Write as _},
};

use crate::{
    certificates::{Authority, Issued, Stream, connect},
    support::{Controld, authorised, read_answer, request, until},
};

/// Registers over a connection and gives the 200.
fn register(phone: &mut Stream, transport: &str) -> String {
    let local = phone.sock.local_addr().unwrap();
    let contact = format!("Contact: <sip:alice@{local};transport=tls>\r\nExpires: 300\r\n");
    phone
        .write_all(request("REGISTER", transport, local, 1, &contact).as_bytes())
        .unwrap();
    let challenge = read_answer(phone);
    assert!(challenge.starts_with("SIP/2.0 401"), "{challenge}");
    let second = request("REGISTER", transport, local, 2, &contact);
    phone
        .write_all(authorised(&second, &challenge).as_bytes())
        .unwrap();
    read_answer(phone)
}

/// Both sides of a ping on an open connection.
fn assert_alive(phone: &mut Stream) {
    phone.write_all(b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    phone.read_exact(&mut pong).unwrap();
    assert_eq!(pong, *b"\r\n");
}

#[test]
fn a_phone_registers_and_is_gone_when_its_connection_is() {
    let authority = Authority::new("tls");
    let own = authority.issue("sip", &["sip.example.com", "127.0.0.1"]);
    let controld = Controld::start(&["signalling.tls=['127.0.0.1:0']", &Issued::setting(&[&own])]);
    let mut phone = connect(&authority.client(None), controld.at("tls"), "sip.example.com").unwrap();
    let answer = register(&mut phone, "TLS");
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    assert_alive(&mut phone);
    let (_, page) = controld.page("/v1/registrations");
    assert!(page.contains("\"source\":\"tls:127.0.0.1:"), "{page}");
    controld.until_metric("controld_tls_connections", 1.0);
    drop(phone);
    // Nothing but its connection led to it.
    controld.until_metric("controld_tls_connections", 0.0);
    controld.until_metric("controld_bindings", 0.0);
    let (_, agents) = controld.page("/v1/agents");
    assert!(agents.contains("\"state\":\"away\""), "{agents}");
}

#[test]
fn each_name_has_its_certificate_and_new_ones_are_read_while_connections_live() {
    let authority = Authority::new("sni");
    let alpha = authority.issue("alpha", &["alpha.example"]);
    let beta = authority.issue("beta", &["*.beta.example"]);
    let settings = Issued::setting(&[&alpha, &beta]);
    let controld = Controld::start(&["signalling.tls=['127.0.0.1:0']", &settings]);
    let (client, tls) = (authority.client(None), controld.at("tls"));
    let mut old = connect(&client, tls, "alpha.example").unwrap();
    connect(&client, tls, "phone.beta.example").unwrap();
    assert!(
        connect(&client, tls, "gamma.example").is_err(),
        "the first certificate has another name"
    );

    // A broken file changes nothing.
    fs::write(&alpha.key, "no key").unwrap();
    controld.reload();
    connect(&client, tls, "alpha.example").unwrap();
    authority.issue("alpha", &["gamma.example"]);
    controld.reload();
    until("the new certificate is shown", || {
        connect(&client, tls, "gamma.example").is_ok()
    });
    assert!(connect(&client, tls, "alpha.example").is_err());
    assert_alive(&mut old);
    let answer = register(&mut old, "TLS");
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
}

#[test]
fn with_mutual_tls_only_who_has_a_certificate_comes_in() {
    let (authority, stranger) = (Authority::new("mutual"), Authority::new("stranger"));
    let own = authority.issue("sip", &["sip.example.com"]);
    let settings = [
        "signalling.tls=['127.0.0.1:0']".to_owned(),
        "tls.client_certificates=required".to_owned(),
        format!("tls.client_ca={}", authority.file().display()),
        Issued::setting(&[&own]),
    ];
    let controld = Controld::start(&settings.each_ref().map(String::as_str));
    let tls = controld.at("tls");
    let member = authority.issue("member", &["pbx.example.com"]);
    let mut phone = connect(&authority.client(Some(&member)), tls, "sip.example.com").unwrap();
    assert_alive(&mut phone);

    let impostor = stranger.issue("member", &["pbx.example.com"]);
    for own in [None, Some(&impostor)] {
        // With TLS 1.3 the refusal comes when the client believes to be through.
        let refused = connect(&authority.client(own), tls, "sip.example.com").and_then(|mut phone| {
            phone.write_all(b"\r\n\r\n")?;
            phone.read_exact(&mut [0; 2])
        });
        assert!(refused.is_err());
    }
    controld.until_metric("controld_tls_handshakes_failed_total", 2.0);
    assert_alive(&mut phone);
}

#[test]
fn what_is_wrong_with_certificates_is_told_before_the_start() {
    let authority = Authority::new("wrong");
    let (own, other) = (
        authority.issue("sip", &["a.example"]),
        authority.issue("other", &["b.example"]),
    );
    let listener = "signalling.tls=['127.0.0.1:0']";
    let missing = "tls.certificates=[{cert='/nowhere/sip.crt', key='/nowhere/sip.key'}]".to_owned();
    let mixed = format!(
        "tls.certificates=[{{cert='{}', key='{}'}}]",
        own.cert.display(),
        other.key.display()
    );
    let swapped = format!(
        "tls.certificates=[{{cert='{}', key='{}'}}]",
        own.key.display(),
        own.cert.display()
    );
    for (settings, words) in [
        (
            vec![listener.to_owned()],
            ["signalling.tls", "needs a certificate", "[[tls.certificates]]"],
        ),
        (
            vec![missing],
            ["tls.certificates[0].cert", "/nowhere/sip.crt", "PEM file"],
        ),
        (
            vec![mixed],
            ["tls.certificates[0].key", "other.key", "must be the key of"],
        ),
        (
            vec![swapped],
            ["tls.certificates[0].cert", "sip.key", "holds no certificate"],
        ),
        (
            vec![
                Issued::setting(&[&own]),
                "tls.client_certificates=required".into(),
            ],
            ["tls.client_ca", "is missing", "authorities"],
        ),
    ] {
        let told = Controld::check(&settings);
        for word in words {
            assert!(told.contains(word), "{word:?} is missing in {told:?}");
        }
    }
}
