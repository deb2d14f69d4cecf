//! Digest authentication through whole messages: challenge, credentials, verification.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use sip::auth::{
    Algorithm, AttemptError, ClientSession, DigestServer, Ha1, HashKind, NonceKey, ServerConfig,
    Verification, choose_challenge,
};
use sip::header::{Challenge, Credentials};
use sip::limits::Limits;
use sip::message::{HeaderName, Message, Method, Request, Response, StatusCode, parse_datagram};

const NOW: u64 = 1_800_000_000;

fn server(algorithms: &[Algorithm]) -> DigestServer {
    let config = ServerConfig {
        algorithms: algorithms.to_vec(),
        offer_auth_int: true,
        ..ServerConfig::new("example.com")
    };
    DigestServer::new(config, NonceKey([3; 32]), 0)
}

fn ha1(hash: HashKind) -> Ha1 {
    Ha1::from_password(hash, b"alice", b"example.com", b"secret")
}

fn register() -> Request {
    let mut request = Request::new(Method::Register, &"sip:example.com;odd=%41".parse().unwrap());
    request.headers.push("Call-ID", "1").unwrap();
    request
}

/// The challenges as a client reads them from a 401.
fn through_the_wire(challenges: &[Challenge]) -> Vec<Challenge> {
    let mut response = Response::new(StatusCode::UNAUTHORIZED);
    for challenge in challenges {
        response
            .headers
            .push_value(HeaderName::WwwAuthenticate, challenge);
    }
    let Ok(Message::Response(read)) = parse_datagram(response.to_bytes(), &Limits::DEFAULT) else {
        panic!()
    };
    read.headers.www_authenticate().unwrap()
}

fn send(server: &mut DigestServer, now: u64, request: &Request, credentials: &Credentials) -> Verification {
    let mut request = request.clone();
    request.headers.push_value(HeaderName::Authorization, credentials);
    let Ok(Message::Request(read)) = parse_datagram(request.to_bytes(), &Limits::DEFAULT) else {
        panic!()
    };
    let attempt = server
        .read_attempt(&read.headers.authorization().unwrap())
        .unwrap();
    assert_eq!(attempt.username, "alice");
    server.verify(now, &read, &attempt, &ha1(attempt.hash))
}

fn session(server: &mut DigestServer, password: &[u8]) -> ClientSession {
    let challenge = choose_challenge(&through_the_wire(&server.challenges(NOW, false))).unwrap();
    let ha1 = Ha1::from_password(challenge.hash, b"alice", &challenge.realm, password);
    ClientSession::new(challenge, "alice", ha1, "0123456789abcdef").unwrap()
}

#[test]
fn every_algorithm_for_more_than_nine_requests() {
    for name in [
        "MD5",
        "MD5-sess",
        "SHA-256",
        "SHA-256-sess",
        "SHA-512-256",
        "SHA-512-256-sess",
    ] {
        let mut server = server(&[Algorithm::from_bytes(name.as_bytes()).unwrap()]);
        let mut client = session(&mut server, b"secret");
        // Counts past 0x0a and 0xff, which stacks that read nc as decimal or as a byte refuse.
        for _ in 0..300 {
            let credentials = client.credentials(&register());
            assert_eq!(
                send(&mut server, NOW, &register(), &credentials),
                Verification::Accepted,
                "{name}"
            );
        }
    }
}

#[test]
fn replays_wrong_passwords_and_moved_credentials_open_nothing() {
    let mut server = server(&[Algorithm::SHA256]);
    let mut client = session(&mut server, b"secret");
    let credentials = client.credentials(&register());
    let mut other = register();
    other.set_uri(&"sip:other.example.com".parse().unwrap());
    assert_eq!(
        send(&mut server, NOW, &other, &credentials),
        Verification::OtherUri
    );
    assert_eq!(
        send(&mut server, NOW, &register(), &credentials),
        Verification::Accepted
    );
    // It does know the password: some phones count no requests, and a proxy may send one a second time.
    assert_eq!(
        send(&mut server, NOW, &register(), &credentials),
        Verification::Stale
    );
    let mut stranger = session(&mut server, b"guess");
    let credentials = stranger.credentials(&register());
    for request in [&register(), &other] {
        assert_eq!(
            send(&mut server, NOW, request, &credentials),
            Verification::Rejected
        );
    }
    // The stranger learns nothing from an old nonce either.
    assert_eq!(
        send(&mut server, NOW + 9_999, &register(), &credentials),
        Verification::Rejected
    );
}

#[test]
fn credentials_that_a_proxy_moved_are_taken_where_configured() {
    let mut server = server(&[Algorithm::SHA256]);
    let mut client = session(&mut server, b"secret");
    let credentials = client.credentials(&register());
    let mut other = register();
    other.set_uri(&"sip:other.example.com".parse().unwrap());
    server.require_same_uri(false);
    assert_eq!(
        send(&mut server, NOW, &other, &credentials),
        Verification::Accepted
    );
    // Once.
    assert_eq!(
        send(&mut server, NOW, &register(), &credentials),
        Verification::Stale
    );
}

#[test]
fn an_old_nonce_is_stale_and_said_to_be() {
    let mut server = server(&[Algorithm::MD5]);
    let mut client = session(&mut server, b"secret");
    let credentials = client.credentials(&register());
    assert_eq!(
        send(&mut server, NOW + 301, &register(), &credentials),
        Verification::Stale
    );
    let again = choose_challenge(&through_the_wire(&server.challenges(NOW, true))).unwrap();
    assert!(again.stale);
}

#[test]
fn the_servers_preferred_algorithm_that_the_client_knows_is_taken() {
    let mut server = server(&[Algorithm::SHA256, Algorithm::MD5]);
    let mut challenges = through_the_wire(&server.challenges(NOW, false));
    let mut unknown = Challenge::digest();
    unknown.push_quoted("realm", b"example.com");
    unknown.push_quoted("nonce", b"n");
    unknown.push_token("algorithm", b"SHA3-512");
    challenges.insert(0, unknown);
    let other_scheme = Bytes::from_static(b"Bearer authz_server=\"https://as.example.com\"");
    challenges.insert(0, Challenge::parse(&other_scheme).unwrap());
    assert_eq!(choose_challenge(&challenges).unwrap().hash, HashKind::Sha256);
    assert_eq!(choose_challenge(&challenges[..2]), None);
    let chosen = choose_challenge(&challenges).unwrap();
    assert!(ClientSession::new(chosen, "alice", ha1(HashKind::Md5), "0123456789abcdef").is_none());
}

#[test]
fn auth_int_protects_the_body() {
    let mut server = server(&[Algorithm::SHA256]);
    let nonce = server.challenges(NOW, false)[0]
        .get("nonce")
        .unwrap()
        .into_owned();
    let mut challenge = Challenge::digest();
    challenge.push_quoted("realm", b"example.com");
    challenge.push_quoted("nonce", &nonce);
    challenge.push_token("algorithm", b"SHA-256");
    challenge.push_quoted("qop", b"auth-int");
    let challenge = choose_challenge(&[challenge]).unwrap();
    let mut client =
        ClientSession::new(challenge, "alice", ha1(HashKind::Sha256), "0123456789abcdef").unwrap();
    let mut request = register();
    request.body = Bytes::from_static(b"body");
    let credentials = client.credentials(&request);
    let mut changed = request.clone();
    changed.body = Bytes::from_static(b"ydob");
    assert_eq!(
        send(&mut server, NOW, &changed, &credentials),
        Verification::Rejected
    );
    assert_eq!(
        send(&mut server, NOW, &request, &credentials),
        Verification::Accepted
    );
}

#[test]
fn answers_without_qop_use_a_nonce_once() {
    let mut server = server(&[Algorithm::MD5]);
    let nonce = server.challenges(NOW, false)[0]
        .get("nonce")
        .unwrap()
        .into_owned();
    let mut challenge = Challenge::digest();
    challenge.push_quoted("realm", b"example.com");
    challenge.push_quoted("nonce", &nonce);
    let challenge = choose_challenge(&[challenge]).unwrap();
    let mut client = ClientSession::new(challenge, "alice", ha1(HashKind::Md5), "0123456789abcdef").unwrap();
    let credentials = client.credentials(&register());
    assert_eq!(
        send(&mut server, NOW, &register(), &credentials),
        Verification::Accepted
    );
    assert_eq!(
        send(&mut server, NOW, &register(), &credentials),
        Verification::Stale
    );
}

#[test]
fn odd_quoting_is_tolerated_and_faults_are_named() {
    let server = server(&[Algorithm::MD5]);
    let read = |text: &'static str| {
        server.read_attempt(&[Credentials::parse(&Bytes::from_static(text.as_bytes())).unwrap()])
    };
    let odd = "digest USERNAME=alice,realm = \"example.com\", nonce=n,uri=sip:example.com;a=b, response=\"x\" \
        ,qop=\"auth\",nc=\"0000000a\",cnonce=c,, algorithm=\"md5\"";
    assert_eq!(read(odd).unwrap().username, "alice");
    let cases = [
        ("Basic abc", AttemptError::NotForUs),
        ("Digest realm=\"other\"", AttemptError::NotForUs),
        (
            "Digest realm=\"example.com\",algorithm=SHA-256",
            AttemptError::Algorithm,
        ),
        (
            "Digest realm=\"example.com\",qop=auth,cnonce=c",
            AttemptError::Parameter("nc"),
        ),
        (
            "Digest realm=\"example.com\",qop=auth,cnonce=c,nc=xyz",
            AttemptError::Parameter("nc"),
        ),
        (
            "Digest realm=\"example.com\",qop=auth,cnonce=c,nc=000000001",
            AttemptError::Parameter("nc"),
        ),
        (
            "Digest realm=\"example.com\",qop=other",
            AttemptError::Parameter("qop"),
        ),
        (
            "Digest realm=\"example.com\"",
            AttemptError::Parameter("username"),
        ),
    ];
    for (text, error) in cases {
        assert_eq!(read(text), Err(error), "{text}");
    }
    let twice = Bytes::from_static(b"Digest username=a,username=b");
    assert_eq!(Credentials::parse(&twice), Err("parameter given twice"));
}
