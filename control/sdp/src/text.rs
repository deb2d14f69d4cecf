//! A description as text: as `sdp-types` writes it, which takes each character through the formatting machinery, in a
//! tenth of the time.

use sdp_types::{Attribute, Bandwidth, Connection, Media, Session};

/// Adds the description's text.
pub(crate) fn write(session: &Session, out: &mut String) {
    if is_unusual(session) {
        out.push_str(&session.to_string());
        return;
    }
    line(out, "v=", ' ', &["0"]);
    let origin = &session.origin;
    let name = origin.username.as_deref().filter(|name| !name.is_empty());
    let version = origin.sess_version.to_string();
    let (net, family) = (origin.nettype.as_str(), origin.addrtype.as_str());
    let (name, id, address) = (name.unwrap_or("-"), &origin.sess_id, &origin.unicast_address);
    line(out, "o=", ' ', &[name, id, &version, net, family, address]);
    line(out, "s=", ' ', &[&session.session_name]);
    let optional = [("i=", &session.session_description), ("u=", &session.uri)];
    for (kind, text) in optional {
        if let Some(text) = text {
            line(out, kind, ' ', &[text]);
        }
    }
    for (kind, texts) in [("e=", &session.emails), ("p=", &session.phones)] {
        for text in texts {
            line(out, kind, ' ', &[text]);
        }
    }
    if let Some(connection) = &session.connection {
        write_connection(out, connection);
    }
    write_bandwidths(out, &session.bandwidths);
    if session.times.is_empty() {
        line(out, "t=", ' ', &["0", "0"]);
    }
    for time in &session.times {
        let (start, stop) = (time.start_time.to_string(), time.stop_time.to_string());
        line(out, "t=", ' ', &[&start, &stop]);
    }
    write_attributes(out, &session.attributes);
    for media in &session.medias {
        write_media(out, media);
    }
}

/// Has lines that nobody sends us, and that we never write of our own.
fn is_unusual(session: &Session) -> bool {
    let has_repeats = session.times.iter().any(|time| !time.repeats.is_empty());
    let has_key = session.key.is_some() || session.medias.iter().any(|media| media.key.is_some());
    has_repeats || has_key || !session.time_zones.is_empty()
}

fn write_media(out: &mut String, media: &Media) {
    let port = match media.num_ports {
        Some(count) => format!("{}/{count}", media.port),
        None => media.port.to_string(),
    };
    line(out, "m=", ' ', &[&media.media, &port, &media.proto, &media.fmt]);
    if let Some(title) = &media.media_title {
        line(out, "i=", ' ', &[title]);
    }
    for connection in &media.connections {
        write_connection(out, connection);
    }
    write_bandwidths(out, &media.bandwidths);
    write_attributes(out, &media.attributes);
}

fn write_connection(out: &mut String, connection: &Connection) {
    let (net, family) = (connection.nettype.as_str(), connection.addrtype.as_str());
    line(out, "c=", ' ', &[net, family, &connection.connection_address]);
}

fn write_bandwidths(out: &mut String, bandwidths: &[Bandwidth]) {
    for Bandwidth { bwtype, bandwidth } in bandwidths {
        line(out, "b=", ':', &[bwtype, &bandwidth.to_string()]);
    }
}

fn write_attributes(out: &mut String, attributes: &[Attribute]) {
    for Attribute { attribute, value } in attributes {
        match value {
            Some(value) => line(out, "a=", ':', &[attribute, value]),
            None => line(out, "a=", ':', &[attribute]),
        }
    }
}

/// One line. RFC 8866 §5 MUST NOT: what would end it is left out of its words.
fn line(out: &mut String, kind: &str, between: char, words: &[&str]) {
    let ends_line = |character: char| matches!(character, '\0' | '\r' | '\n');
    out.push_str(kind);
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push(between);
        }
        if word.bytes().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
            out.extend(word.chars().filter(|character| !ends_line(*character)));
        } else {
            out.push_str(word);
        }
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: &str = "v=0\r\no=- 3 4 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";
    const RARE: &str = "v=0\r\no=jdoe 1 2 IN IP6 2001:db8::1\r\ns=A \u{e9} name\r\ni=about\r\nu=http://h/\r\ne=a@h\r\n\
        p=+1 617 555-6011\r\nc=IN IP6 ff15::101/3\r\nb=AS:128\r\nt=10 20\r\nt=30 40\r\na=ice-lite\r\n\
        m=video 49170/2 RTP/AVP 31\r\ni=title\r\nc=IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.2\r\nb=TIAS:50\r\na=recvonly\r\n\
        m=image 0 udptl t38\r\n";
    const UNUSUAL: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nt=2873397496 2873404696\r\nr=7d 1h 0 25h\r\n\
        z=2882844526 -1h 2898848070 0\r\nk=clear:1234\r\nm=audio 1 RTP/AVP 0\r\nk=prompt\r\n";

    fn assert_same(session: &Session) {
        let mut text = String::new();
        write(session, &mut text);
        assert_eq!(text, session.to_string());
    }

    #[test]
    fn descriptions_are_written_as_sdp_types_writes_them() {
        for text in [COMMON, RARE, UNUSUAL] {
            let session = Session::parse(text.as_bytes()).unwrap();
            assert_same(&session);
            let mut again = String::new();
            write(&session, &mut again);
            assert_eq!(again, text);
        }
    }

    #[test]
    fn no_word_begins_a_line() {
        let mut session = Session::parse(RARE.as_bytes()).unwrap();
        let evil = "x\r\nm=audio 1 RTP/AVP 0\0";
        session.session_name = evil.to_owned();
        session.origin.username = Some(evil.to_owned());
        session.medias[0].fmt = evil.to_owned();
        session.medias[0].attributes[0].value = Some(evil.to_owned());
        assert_same(&session);
        session.origin.username = Some(String::new());
        session.times.clear();
        assert_same(&session);
    }
}
