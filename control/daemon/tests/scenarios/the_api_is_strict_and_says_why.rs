use std::net::UdpSocket;

use serde_json::Value;

use crate::support::{Controld, TOKEN, udp, until};

const JSON: &str = "Content-Type: application/json\r\n";

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Every operation that changes something, from the description that is served: method and a path without holes.
fn changes(controld: &Controld) -> Vec<(String, String)> {
    let (status, head, body) = controld.send("GET", "/v1/openapi.json", "", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let document: Value = serde_json::from_str(&body).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|method| *method != "get") {
            let path = path
                .split('/')
                .map(|part| if part.starts_with('{') { "7-x" } else { part });
            all.push((method.to_uppercase(), path.collect::<Vec<_>>().join("/")));
        }
    }
    assert!(all.len() >= 9, "{all:?}");
    all
}

fn problem(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn nothing_is_changed_without_the_token() {
    let controld = Controld::start(&[]);
    for (method, path) in changes(&controld) {
        for shown in [String::new(), bearer("0123456789abcdeX"), bearer("")] {
            let (status, head, body) = controld.send(&method, &path, &shown, "");
            assert_eq!(status, 401, "{method} {path}: {body}");
            assert!(head.contains("www-authenticate: bearer realm"), "{head}");
            assert!(head.contains("content-type: application/problem+json"), "{head}");
            assert_eq!(problem(&body)["status"], 401);
        }
        let (status, _, body) = controld.send(&method, &path, &bearer(TOKEN), "");
        if path == "/v1/reload" {
            assert_eq!(status, 200, "nothing is wrong with that: {body}");
            continue;
        }
        assert!(
            (400..500).contains(&status) && ![401, 403, 405].contains(&status),
            "{method} {path}: {status} {body}"
        );
        assert_eq!(problem(&body)["status"], status, "{method} {path}");
    }
    // Who looks needs none.
    assert_eq!(controld.send("GET", "/v1/calls", "", "").0, 200);
}

#[test]
fn without_a_token_nothing_is_changed_at_all() {
    let controld = Controld::start(&["management.token=''"]);
    for (method, path) in changes(&controld) {
        let (status, _, body) = controld.send(&method, &path, &bearer(""), "");
        assert_eq!(status, 403, "{method} {path}: {body}");
        assert!(
            problem(&body)["detail"]
                .as_str()
                .unwrap()
                .contains("set management.token_file"),
            "{body}"
        );
    }
    let weak = Controld::check(&["management.token=weak".to_owned()]);
    assert!(weak.contains("management.token: is no token"), "{weak}");
}

fn post(controld: &Controld, headers: &str, body: &str) -> (u16, String, Value) {
    let headers = format!("{}{headers}", bearer(TOKEN));
    let (status, head, body) = controld.send("POST", "/v1/calls", &headers, body);
    (status, head, problem(&body))
}

#[test]
fn what_is_wrong_with_a_request_is_told_with_its_place() {
    let controld = Controld::start(&[]);
    let phone: UdpSocket = udp();
    controld.register(&phone);
    for (headers, body, status, detail) in [
        (
            JSON,
            "{\"from\": \"alice\", \"too\": \"bob\"}",
            422,
            "unknown field `too`, expected one of `from`, `to`",
        ),
        (JSON, "{\"from\": \"alice\"}", 422, "missing field `to`"),
        (
            JSON,
            "{\"from\": \"alice\",\n \"to\": 7}",
            422,
            "invalid type: integer `7`, expected a string at line 2 column 8",
        ),
        (JSON, "{\"from\": \"alice\",", 400, "EOF while parsing"),
        (JSON, "[]", 422, "invalid length 0"),
        (
            "",
            "{}",
            415,
            "Content-Type: \"\" is not known here; send application/json",
        ),
        (
            JSON,
            "{\"from\": \"alice\", \"to\": \"nobody\"}",
            422,
            "to: \"nobody\" leads nowhere; give an account",
        ),
        (
            JSON,
            "{\"from\": \"support\", \"to\": \"alice\"}",
            422,
            "from: \"support\" has no phone that could be rung",
        ),
        (
            "Content-Type: application/json; charset=utf-8\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n",
            "{}",
            400,
            "Idempotency-Key: is there twice; send one",
        ),
        (
            JSON,
            "{\"from\": \"alice\", \"to\": \"support\"}",
            503,
            "no media host takes calls at the moment; try again later",
        ),
    ] {
        let (found, head, problem) = post(&controld, headers, body);
        assert_eq!(found, status, "{body}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(detail),
            "{body}: {problem}"
        );
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(head.contains("application/problem+json"), "{head}");
        assert_eq!(head.contains("retry-after: 5"), status == 503, "{head}");
    }
    let (status, _, problem) = post(&controld, JSON, &" ".repeat(20_000));
    assert_eq!(status, 413, "{problem}");
    let unknown = controld.send("GET", "/v1/nothing", "", "");
    assert_eq!((unknown.0, problem_status(&unknown.2)), (404, 404.into()));
    let unable = controld.send("PUT", "/v1/calls", "", "");
    assert_eq!((unable.0, problem_status(&unable.2)), (405, 405.into()));
    let (status, _, body) = controld.send("GET", "/v1/cdrs?limt=1", "", "");
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("unknown field `limt`"), "{body}");
    let (status, _, body) = controld.send("GET", "/v1/calls/7-x", "", "");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("7-x"), "{body}");
    assert_eq!(controld.metric("controld_calls_started_total"), 0.0);
}

fn problem_status(body: &str) -> Value {
    problem(body)["status"].clone()
}

/// The token and limits are other ones after a SIGHUP, and a file that is wrong changes nothing.
#[test]
fn token_and_limits_change_at_a_signal() {
    let place = std::env::temp_dir().join(format!("controld-token-{}", std::process::id()));
    std::fs::write(&place, "first-token-of-two\n").unwrap();
    let file = format!("management.token_file={}", place.display());
    let controld = Controld::start(&[&file]);
    let phone = udp();
    controld.register(&phone);
    let request = "{\"from\": \"alice\", \"to\": \"support\"}";
    let status = |token: &str| {
        let headers = format!("{}{JSON}", bearer(token));
        controld.send("POST", "/v1/calls", &headers, request).0
    };
    assert_eq!((status("first-token-of-two"), status(TOKEN)), (503, 401));
    std::fs::write(&place, "second-token-of-two\n").unwrap();
    controld.reload();
    until("the second token counts", || status("second-token-of-two") == 503);
    assert_eq!(status("first-token-of-two"), 401);

    // Ten a second are let through; then one.
    controld.configure("[originate]\ncalls_per_s = 1\n");
    controld.reload();
    until("the limit counts", || status("second-token-of-two") == 429);
    let headers = format!("{}{JSON}", bearer("second-token-of-two"));
    let mut refused = controld.send("POST", "/v1/calls", &headers, request);
    until("it came too fast", || {
        refused = controld.send("POST", "/v1/calls", &headers, request);
        refused.0 == 429
    });
    assert!(refused.1.contains("retry-after: 1"), "{}", refused.1);
    assert!(
        refused
            .2
            .contains("1 calls a second, the limit of originate.calls_per_s"),
        "{}",
        refused.2
    );

    std::fs::write(&place, "short").unwrap();
    controld.configure("[dialplan]\ncalls_per_s = 1\n");
    controld.reload();
    // The wrong token is not taken, and nothing else either.
    until("there is room again", || status("second-token-of-two") == 503);
    let _ = std::fs::remove_file(&place);
}
