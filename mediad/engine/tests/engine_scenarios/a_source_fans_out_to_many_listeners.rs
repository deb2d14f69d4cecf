use crate::world::{Graph, Party, SESSION, Speaker, World, pcma, peer, rtp_socket, ssrc};

const LISTENERS: u32 = 200;

#[test]
fn each_listener_gets_its_own_line() {
    let mut world = World::new();
    let names: Vec<&'static str> = (0..LISTENERS).map(|n| &*format!("l{n:03}").leak()).collect();
    let mut parties = vec![Party::new("speaker", 0)];
    parties.extend((1..).zip(&names).map(|(number, id)| Party::new(id, number)));
    for party in parties.iter_mut().skip(1).step_by(2) {
        party.send = vec![pcma()];
    }
    let edges: Vec<_> = names.iter().map(|name| ("speaker", *name)).collect();
    world.commit(SESSION, &Graph::of(parties, &edges));
    let mut speaker = Speaker::new(0xA);
    world.receive(rtp_socket(0), peer(0), &speaker.packet(&[0x80; 160]));
    let first = world.sent_rtp();
    world.receive(rtp_socket(0), peer(0), &speaker.packet(&[0x80; 160]));
    let second = world.sent_rtp();
    assert_eq!(first.len(), LISTENERS as usize);
    let mut starts = std::collections::BTreeSet::new();
    for (index, (first, second)) in first.iter().zip(&second).enumerate() {
        let number = index as u32 + 1;
        let (a, b) = (first.header(), second.header());
        assert_eq!((first.to, a.ssrc), (peer(number), ssrc(number)));
        assert_eq!(b.sequence.wrapping_sub(a.sequence), 1);
        assert_eq!(b.timestamp.diff(a.timestamp), 160);
        let law = if number % 2 == 1 {
            codecs::g711::ULAW_TO_ALAW[0x80]
        } else {
            0x80
        };
        assert_eq!(first.payload(), [law; 160]);
        starts.insert(a.sequence);
    }
    assert!(
        starts.len() > LISTENERS as usize / 2,
        "lines begin at random numbers"
    );
}
