//! Entry point for fuzzing and for the replay of the committed corpus. It must return, whatever it is given.

use std::net::IpAddr;

use crate::{
    Answer, Capabilities, Codec, Description, LocalSession, LocalTransport, Selection, apply_answer, select,
    write_answer,
};

/// Reads a description, writes and reads it again, answers it, and reads the answer as its offerer would.
pub fn fuzz_description(data: &[u8]) {
    let Ok(offer) = Description::parse(data) else {
        return;
    };
    let text = offer.to_string();
    // Writing adds lines that were missing, so only a text within bounds must read again.
    if let Ok(again) = Description::parse(text.as_bytes()) {
        assert_eq!(again.to_string(), text);
        assert_eq!(again.media(), offer.media());
    }
    let capabilities = Capabilities::new(vec![
        Codec::pcmu(),
        Codec::opus(None),
        Codec::telephone_event(8_000),
    ]);
    let Ok(selections) = select(&offer, &capabilities) else {
        return;
    };
    let address = IpAddr::from([192, 0, 2, 9]);
    let local = LocalTransport::plain(address, 6_000);
    let answers: Vec<Answer<'_>> = selections
        .iter()
        .map(|selection| match selection {
            Selection::Audio(_) => Answer::Audio(&local),
            Selection::Opaque | Selection::Rejected => Answer::Rejected,
        })
        .collect();
    let written = write_answer(&offer, &selections, &answers, &mut LocalSession::new(1, address));
    let Ok(answer) = written else { return };
    assert_eq!(answer.media().len(), offer.media().len());
    let read = Description::parse(answer.to_string().as_bytes());
    assert_eq!(read.as_ref().map(Description::media), Ok(answer.media()));
    let _ = apply_answer(&offer, &answer);
}
