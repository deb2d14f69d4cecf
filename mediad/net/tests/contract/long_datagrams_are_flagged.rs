//! A datagram longer than a buffer arrives cut and flagged; its neighbours are whole.

use super::*;

on_each!(cut_and_flagged);

fn cut_and_flagged(choice: IoChoice) {
    let mut net = backend(
        choice,
        &Config {
            max_datagram: 100,
            ..config()
        },
    );
    let (_, addr) = register(&mut net, "127.0.0.1");
    let client = local("127.0.0.1");
    for len in [100, 101, 1_500, 65_507, 0, 99] {
        client.send_to(&vec![len as u8; len], addr).unwrap();
    }
    let mut seen = Vec::new();
    let mut record = On(|d: Datagram<'_>, _: &mut dyn Transmit| {
        assert!(d.data.iter().all(|byte| Some(byte) == d.data.first()));
        seen.push((d.data.len(), d.truncated));
    });
    let mut given = 0;
    poll_until(&mut net, &mut record, |_, wake| {
        given += wake.datagrams;
        given == 6
    });
    assert_eq!(
        seen,
        [
            (100, false),
            (100, true),
            (100, true),
            (100, true),
            (0, false),
            (99, false)
        ]
    );
    assert_eq!(net.stats().rx_truncated, 3);
}
