use serde_json::Value;

use crate::{
    past_calls,
    support::{Controld, until},
};

/// Names of the calls of an answer, which must be one.
fn found(controld: &Controld, query: &str) -> Vec<String> {
    let (status, body) = controld.page(&format!("/v1/cdrs?{query}"));
    assert_eq!(status, 200, "{query}: {body}");
    let details: Vec<Value> = serde_json::from_str(&body).unwrap();
    let names = details.iter().map(|detail| detail["call"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

fn named(numbers: &[u64]) -> Vec<String> {
    numbers.iter().map(|number| format!("past-{number}")).collect()
}

/// What a query is told that asks for nothing.
fn refused(controld: &Controld, query: &str) -> Value {
    let (status, body) = controld.page(&format!("/v1/cdrs?{query}"));
    assert_eq!(status, 400, "{query}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn with_past_calls(more: &[&str]) -> Controld {
    let mut controld = Controld::start(&[]);
    controld.restart_after(more, |journal| past_calls::add(journal, 1_000));
    controld
}

#[test]
fn however_old_they_are_and_page_by_page() {
    let controld = with_past_calls(&[]);
    until("the database has them", || {
        found(&controld, "party=past-999").len() == 1
    });
    // As the journal has the newest.
    assert_eq!(found(&controld, "limit=2"), named(&[999, 998]));
    assert_eq!(found(&controld, "").len(), 100);

    assert_eq!(found(&controld, "party=PAST-7@"), named(&[7]));
    assert_eq!(found(&controld, "party=past-77&limit=3"), named(&[779, 778, 777]));
    assert_eq!(found(&controld, "party=bob&limit=10000").len(), 100);
    assert_eq!(found(&controld, "party=past_7"), named(&[]));
    assert_eq!(found(&controld, "party=%25"), named(&[]));

    // The first began at 01:46:40, and one began each minute.
    let minute = "from=2001-09-09T01:47:40Z&to=2001-09-09T03:48:41%2B02:00";
    assert_eq!(found(&controld, minute), named(&[2, 1]));
    assert_eq!(found(&controld, "from=2002-09-09T01:47:40Z"), named(&[]));
    assert_eq!(
        found(&controld, "to=2001-09-09T02:08:00Z&status=200"),
        named(&[20, 10, 0])
    );
    assert_eq!(found(&controld, "ended_by=callee&limit=2"), named(&[990, 980]));

    let mut pages = vec![found(&controld, "limit=400")];
    while let Some(last) = pages.last().unwrap().last().cloned() {
        pages.push(found(&controld, &format!("limit=400&before={last}")));
    }
    let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [400, 400, 200, 0]);
    assert_eq!(pages.concat(), named(&(0..1_000).rev().collect::<Vec<_>>()));
    let older = found(&controld, "limit=2&party=bob&before=past-985");
    assert_eq!(older, named(&[980, 970]));
}

#[test]
fn and_what_is_no_search_is_explained() {
    let controld = Controld::start(&[]);
    let long = format!("party={}", "x".repeat(101));
    for (query, field, value, remedy) in [
        ("limit=0", "limit", "\"0\"", "from 1 to 10000"),
        ("limit=10001", "limit", "\"10001\"", "from 1 to 10000"),
        ("limit=all", "limit", "\"all\"", "from 1 to 10000"),
        (
            "before=past-1",
            "before",
            "\"past-1\"",
            "last call of the answer before",
        ),
        ("party=", "party", "\"\"", "leave party out"),
        (&long, "party", "\"xxx", "100 characters"),
        ("party=a%0Ab", "party", "\"a\\nb\"", "part of an address"),
        ("from=alice", "from", "\"alice\"", "2026-11-30T14:05:00Z"),
        (
            "to=2026-02-30T00:00:00Z",
            "to",
            "\"2026-02-30T00:00:00Z\"",
            "RFC 3339",
        ),
        ("since_unix_us=1.5", "since_unix_us", "\"1.5\"", "microseconds"),
        ("until_unix_us=now", "until_unix_us", "\"now\"", "microseconds"),
        ("status=2000", "status", "\"2000\"", "from 100 to 699"),
        (
            "ended_by=alice",
            "ended_by",
            "\"alice\"",
            "caller, callee or system",
        ),
    ] {
        let problem = refused(&controld, query);
        assert_eq!(problem["field"], field, "{problem:#}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{field} {value}")), "{detail}");
        assert!(detail.contains("/v1/cdrs") && detail.contains(remedy), "{detail}");
    }
}

/// Without a database there are the newest, and who wants others is told what to set.
#[test]
fn but_not_without_a_database() {
    let controld = with_past_calls(&["store.path=''"]);
    assert_eq!(found(&controld, "limit=2"), named(&[999, 998]));
    for query in ["party=past", "before=past-998"] {
        let (status, body) = controld.page(&format!("/v1/cdrs?{query}"));
        assert_eq!(status, 503, "{body}");
        assert!(body.contains("set store.path"), "{body}");
    }
}
