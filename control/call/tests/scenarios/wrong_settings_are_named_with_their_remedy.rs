use call_control::Config;

use crate::world::config;

fn mistake(edit: impl Fn(&mut Config)) -> String {
    let mut config = config();
    edit(&mut config);
    config.check().unwrap_err().to_string()
}

#[test]
fn each_with_its_key() {
    assert_eq!(config().check(), Ok(()));
    let cases: [(String, &str); 12] = [
        (mistake(|c| c.domains.clear()), "domains is empty"),
        (mistake(|c| c.listeners.clear()), "listeners is empty"),
        (mistake(|c| c.media.hosts.clear()), "media.hosts is empty"),
        (
            mistake(|c| c.listeners[0].advertised = None),
            "listeners[0].advertised = \"0.0.0.0:5060\"",
        ),
        (mistake(|c| c.accounts[0].password = None), "accounts.alice"),
        (
            mistake(|c| c.accounts[0].ha1_md5 = Some("00".into())),
            "accounts.alice.ha1_md5 = \"00\": is not a hexadecimal hash",
        ),
        (
            mistake(|c| c.accounts[0].digest = vec!["SHA-512-256".into()]),
            "accounts.alice.digest = \"SHA-512-256\": not in signalling.digest",
        ),
        (
            mistake(|c| c.queues[0].agents.push("zoe".into())),
            "queues.support.agents = \"zoe\": is no account",
        ),
        (
            mistake(|c| c.queues[0].name = "alice".into()),
            "holds \"alice\" twice",
        ),
        (
            mistake(|c| c.media.codecs.push("G729".into())),
            "media.codecs = \"G729\": unknown codec",
        ),
        (
            mistake(|c| c.accounts[0].codecs = vec!["GSM".into()]),
            "accounts.alice.codecs = \"GSM\": unknown codec",
        ),
        (mistake(|c| c.registration.expires_min_s = 9_000), "registration"),
    ];
    for (text, part) in cases {
        assert!(text.contains(part), "{text}");
        assert!(text.contains("; "), "says what to do: {text}");
    }
}

#[test]
fn unknown_keys_are_refused() {
    let error = toml::from_str::<Config>("domain = \"example.com\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("unknown field `domain`"), "{error}");
    let error =
        toml::from_str::<Config>("listeners = [{ transport = \"upd\", local = \"0.0.0.0:1\" }]").unwrap_err();
    assert!(error.to_string().contains("\"upd\" is not one of udp"), "{error}");
}
