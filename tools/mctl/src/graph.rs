//! Reading a graph that a person wrote.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use proto::mediad::v1 as pb;
use serde_json::Value;

use crate::{reflect, remote::Failure};

/// Shown by `mctl apply --help`.
pub(crate) const HELP: &str = r#"The file is an ApplyRequest of proto/mediad/v1/media.proto in YAML or JSON: its field names, as they stand there.
Enum values may be written short (pcmu for CODEC_PCMU). `owner` may be left out: --controller and --epoch fill it in.
What is not mentioned stays as it is, unless `replace: true`.

Two phones that hear each other:

  session: call-1
  put_transports:
    - id: t-alice
      udp: { remote: { ip: 192.0.2.10, port: 4000 } }
    - id: t-bob
      udp: { remote: { ip: 192.0.2.20, port: 4000 }, rtcp: mux }
  put_nodes:
    - id: alice
      endpoint:
        transport: t-alice
        formats:
          - { payload_type: 0, codec: pcmu }
          - { payload_type: 101, codec: telephone_event }
    - id: bob
      endpoint:
        transport: t-bob
        formats: [ { payload_type: 8, codec: pcma } ]
  put_edges:
    - { from: alice, to: bob }
    - { from: bob, to: alice }

Mute Alice:

  session: call-1
  put_edges: [ { from: alice, to: bob, muted: true } ]

Fields of a session: session, owner {controller, epoch}, if_revision, replace, put_transports, remove_transports,
put_nodes, remove_nodes, put_edges, remove_edges, placement {near_session}, options {media_timeout_ms, orphan_ms_max,
relearn_after_ms, labels}. A wrong name or value is answered with the names and values that are known."#;

/// Reads `file`, `-` for standard input.
///
/// # Errors
/// Names file, place and what may stand there.
pub(crate) fn read(file: &Path, controller: &str, epoch: u64) -> Result<pb::ApplyRequest, Failure> {
    let name = if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    };
    let wrong = |error: String| Failure::Local(format!("{name}: {error}"));
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| wrong(error.to_string()))?;
    } else {
        text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    }
    let mut request = parse(&text).map_err(wrong)?;
    request.owner.get_or_insert_with(|| pb::Owner {
        controller: controller.to_owned(),
        epoch,
    });
    Ok(request)
}

/// JSON when it begins like an object, else YAML.
fn parse(text: &str) -> Result<pb::ApplyRequest, String> {
    let value: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())?
    };
    reflect::from_value("ApplyRequest", value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first example of the help.
    fn example() -> &'static str {
        let from = HELP.find("  session: call-1").unwrap();
        let to = HELP.find("Mute Alice:").unwrap();
        &HELP[from..to]
    }

    #[test]
    fn the_example_of_the_help_is_a_call() {
        let request = parse(example()).unwrap();
        assert_eq!((request.session.as_str(), request.put_edges.len()), ("call-1", 2));
        let Some(pb::transport::Kind::Udp(udp)) = &request.put_transports[1].kind else {
            panic!("udp")
        };
        assert_eq!(udp.rtcp(), pb::RtcpMode::Mux);
        assert_eq!(
            udp.remote.as_ref().map(|r| (r.ip.as_str(), r.port)),
            Some(("192.0.2.20", 4000))
        );
        let Some(pb::node::Kind::Endpoint(alice)) = &request.put_nodes[0].kind else {
            panic!("endpoint")
        };
        assert_eq!(alice.formats[1].codec(), pb::Codec::TelephoneEvent);
    }

    #[test]
    fn json_is_read_too_and_round_trips() {
        let request = parse(example()).unwrap();
        let json = reflect::to_json("ApplyRequest", &request).to_string();
        assert_eq!(parse(&json).unwrap(), request);
        assert!(
            json.contains("\"put_nodes\"") && json.contains("CODEC_PCMU"),
            "{json}"
        );
    }

    #[test]
    fn mistakes_name_their_place_and_what_is_known() {
        for (text, parts) in [
            ("session: s\nput_node: []", vec!["put_node:", "put_nodes"]),
            (
                "put_nodes: [{id: a, endpoint: {formats: [{codec: pcmx}]}}]",
                vec!["put_nodes[0].endpoint.formats[0].codec", "pcmx", "pcmu, pcma"],
            ),
            ("put_edges: {from: a}", vec!["put_edges", "a list"]),
            ("put_edges: [a]", vec!["put_edges[0]", "expected fields"]),
            ("session: [", vec!["line 1"]),
            ("{\"session\": ", vec!["line 1"]),
            ("just a word", vec!["the top level"]),
        ] {
            let error = parse(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn a_node_without_fields_has_its_defaults() {
        let request = parse("put_nodes: [{id: r, room: }]").unwrap();
        assert_eq!(
            request.put_nodes[0].kind,
            Some(pb::node::Kind::Room(pb::Room::default()))
        );
    }
}
