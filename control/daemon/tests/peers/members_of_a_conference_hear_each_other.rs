use crate::{
    sipp::{Playing, Sipp},
    site::Site,
    voice::{Law, Voice},
};

fn join(site: &Site, voice: &mut Voice, law: Law) -> Playing {
    let phone = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "room-7")
        .with_audio(voice)
        .until_told()
        .play(site);
    let (to, formats) = phone.description();
    assert_eq!(formats.first(), Some(&law.payload_type()));
    voice.talk_to(to);
    phone
}

/// Each of `said` is a good part of what is heard, and nothing of `own`.
fn assert_hears(voice: &Voice, said: &[f64], own: &[f64]) {
    let sound = voice.listen();
    for hz in said {
        let share = sound.share(*hz);
        let expected = 0.8 / said.len() as f64;
        assert!(share > expected, "{hz} Hz to {share:.3}, not to {expected:.3}");
    }
    sound.assert_lacks(own);
}

#[test]
fn three_and_then_two() {
    let site = Site::start("conference");
    let [mut a, mut b, mut c] =
        [(Law::Mu, 500.0), (Law::A, 800.0), (Law::Mu, 1_200.0)].map(|(law, hz)| Voice::new(law, hz));
    let mut phone_a = join(&site, &mut a, Law::Mu);
    let mut phone_b = join(&site, &mut b, Law::A);
    let mut phone_c = join(&site, &mut c, Law::Mu);
    let members = site.list("/v1/conferences")[0]["members"].clone();
    assert_eq!(members.as_array().unwrap().len(), 3, "{members}");
    assert_hears(&a, &[800.0, 1_200.0], &[500.0]);
    assert_hears(&b, &[500.0, 1_200.0], &[800.0]);
    assert_hears(&c, &[500.0, 800.0], &[1_200.0]);
    phone_c.go_on();
    phone_c.assert_done();
    assert_hears(&a, &[800.0], &[500.0, 1_200.0]);
    assert_hears(&b, &[500.0], &[800.0, 1_200.0]);
    assert_eq!(
        phone_a.received("INVITE") + phone_b.received("INVITE"),
        0,
        "nobody is asked"
    );
    phone_a.go_on();
    phone_b.go_on();
    phone_a.assert_done();
    phone_b.assert_done();
    for voice in [&mut a, &mut b, &mut c] {
        voice.end();
    }
    for call in site.assert_nothing_left(3) {
        assert_eq!(
            (&call["room"], &call["status"]),
            (&"room-7".into(), &200.into()),
            "{call:#}"
        );
    }
    assert!(site.list("/v1/conferences").is_empty());
}
