//! For any header: what was written is read, and a setter changes its own field only.

use proptest::prelude::*;
use rtp::header::{FIXED_HEADER_BYTES, RtpHeader, RtpReader, RtpView};
use rtp::units::{PayloadType, RtpTimestamp, Ssrc};

/// Takes one field of the header over into the view.
type Setter = fn(&mut RtpView<'_>, &RtpHeader);

prop_compose! {
    fn header()(marker: bool, pt in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32) -> RtpHeader {
        RtpHeader {
            marker,
            payload_type: PayloadType::new(pt).expect("below 128"),
            sequence,
            timestamp: RtpTimestamp(timestamp),
            ssrc: Ssrc(ssrc),
        }
    }
}

prop_compose! {
    /// A valid packet with CSRCs, extension and padding as it happens.
    fn packet()(
        header in header(),
        csrcs in prop::collection::vec(any::<u32>(), 0..16),
        extension in prop::option::of((any::<u16>(), prop::collection::vec(any::<u32>(), 0..8))),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        padding in 0u8..32,
    ) -> Vec<u8> {
        let mut bytes = vec![0; FIXED_HEADER_BYTES];
        header.write_to(&mut bytes);
        bytes[0] |= csrcs.len() as u8;
        bytes.extend(csrcs.iter().flat_map(|csrc| csrc.to_be_bytes()));
        if let Some((profile, words)) = extension {
            bytes[0] |= 0x10;
            bytes.extend(profile.to_be_bytes());
            bytes.extend((words.len() as u16).to_be_bytes());
            bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        }
        bytes.extend(payload);
        if padding > 0 {
            bytes[0] |= 0x20;
            bytes.extend(std::iter::repeat_n(0, usize::from(padding) - 1));
            bytes.push(padding);
        }
        bytes
    }
}

proptest! {
    #[test]
    fn a_written_header_reads_back(header in header()) {
        let mut bytes = [0xff; 40];
        prop_assert_eq!(header.write_to(&mut bytes), FIXED_HEADER_BYTES);
        let reader = RtpReader::parse(&bytes).expect("own writing parses");
        prop_assert_eq!(reader.header(), header);
        prop_assert_eq!(reader.payload(), [0xff; 28]);
    }

    #[test]
    fn each_setter_changes_its_field_only(packet in packet(), new in header()) {
        let old = RtpReader::parse(&packet).expect("built valid").header();
        let set: [(RtpHeader, Setter); 6] = [
            (RtpHeader { marker: new.marker, ..old }, |view, new| view.set_marker(new.marker)),
            (RtpHeader { payload_type: new.payload_type, ..old }, |view, new| view.set_payload_type(new.payload_type)),
            (RtpHeader { sequence: new.sequence, ..old }, |view, new| view.set_sequence(new.sequence)),
            (RtpHeader { timestamp: new.timestamp, ..old }, |view, new| view.set_timestamp(new.timestamp)),
            (RtpHeader { ssrc: new.ssrc, ..old }, |view, new| view.set_ssrc(new.ssrc)),
            (new, |view, new| view.set_header(new)),
        ];
        for (expected, set) in set {
            let mut copy = packet.clone();
            let mut view = RtpView::parse(&mut copy).expect("built valid");
            set(&mut view, &new);
            prop_assert_eq!(view.header(), expected);
            prop_assert_eq!(view.marker(), expected.marker);
            prop_assert_eq!(view.payload_type(), expected.payload_type);
            prop_assert_eq!(view.sequence(), expected.sequence);
            prop_assert_eq!(view.timestamp(), expected.timestamp);
            prop_assert_eq!(view.ssrc(), expected.ssrc);
            prop_assert_eq!(copy[0], packet[0]);
            prop_assert_eq!(&copy[FIXED_HEADER_BYTES..], &packet[FIXED_HEADER_BYTES..]);
        }
    }
}
