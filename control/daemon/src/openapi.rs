//! What is served, described as OpenAPI 3.1.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) async fn page() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use call_control::originate::Originate;
    use serde_json::Value;

    use super::*;
    use crate::management::routes;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                all.push((method.clone(), path.clone(), operation.clone()));
            }
        }
        all
    }

    fn references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                into.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, into));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }

    #[test]
    fn it_describes_what_is_served_and_nothing_else() {
        let document = document();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let described: BTreeSet<(String, String)> = operations(&document)
            .into_iter()
            .map(|(method, path, _)| (method, path))
            .collect();
        let served: BTreeSet<(String, String)> = routes()
            .iter()
            .map(|route| (route.method.to_owned(), route.path.to_owned()))
            .collect();
        assert_eq!(described, served);
    }

    #[test]
    fn every_operation_is_whole() {
        let document = document();
        let mut names = BTreeSet::new();
        for (method, path, operation) in operations(&document) {
            let place = format!("{method} {path}");
            let name = operation["operationId"].as_str().unwrap_or_default();
            assert!(
                !name.is_empty() && names.insert(name.to_owned()),
                "{place}: operationId"
            );
            assert!(operation["summary"].is_string(), "{place}: summary");
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{place}: success"
            );
            // Who changes something shows a token, and is told when it is not the right one.
            let writes = method != "get";
            assert_eq!(operation["security"].is_array(), writes, "{place}: security");
            assert_eq!(responses.contains_key("401"), writes, "{place}: 401");
            let named: BTreeSet<&str> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let known = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let known: BTreeSet<&str> = known
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(named, known, "{place}: parameters");
        }
        let mut all = Vec::new();
        references(&document, &mut all);
        assert!(all.len() > 20);
        for reference in all {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    /// The schema of a request for a call knows exactly the fields that are read.
    #[test]
    fn a_request_for_a_call_is_described_as_it_is_read() {
        let document = document();
        let schema = &document["components"]["schemas"]["Originate"];
        assert_eq!(schema["additionalProperties"], false);
        let example: Originate = serde_json::from_value(schema["examples"][0].clone()).unwrap();
        let written = serde_json::to_value(example).unwrap();
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(
            keys(&written),
            keys(&schema["properties"]),
            "the example holds every field"
        );
        for needed in schema["required"].as_array().unwrap() {
            let mut without = written.clone();
            without.as_object_mut().unwrap().remove(needed.as_str().unwrap());
            assert!(serde_json::from_value::<Originate>(without).is_err(), "{needed}");
        }
    }
}
