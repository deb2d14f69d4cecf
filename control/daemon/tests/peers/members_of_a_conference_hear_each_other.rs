use crate::{
    program::wait_for,
    sipp::{Playing, Sipp},
    site::{Plan, Site},
    voice::{Law, Voice},
};

fn join(site: &Site, voice: &mut Voice, law: Law) -> Playing {
    join_as("caller", site, voice, law)
}

fn join_as(scenario: &'static str, site: &Site, voice: &mut Voice, law: Law) -> Playing {
    let phone = Sipp::new(scenario)
        .with("USER", "customer")
        .with("CALLED", "room-7")
        .with_audio(voice)
        .until_told()
        .argument("-aa")
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
        let share = sound.around(*hz);
        let expected = 0.8 / said.len() as f64;
        assert!(
            share > expected,
            "{hz} Hz to {share:.3}, not to {expected:.3}; {}",
            sound.in_words()
        );
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

/// Three members, a controller that is killed, and a media host that is killed: they hear the others on, at the other host
/// once they have been told of it.
#[test]
fn through_the_death_of_their_controller_and_of_their_media_host() {
    let mut site = Plan::new("conference-killed").with_media_hosts(2).start();
    let mut voices =
        [(Law::Mu, 500.0), (Law::A, 800.0), (Law::Mu, 1_200.0)].map(|(law, hz)| Voice::new(law, hz));
    let mut phones = Vec::new();
    for (voice, law) in voices.iter_mut().zip([Law::Mu, Law::A, Law::Mu]) {
        phones.push(join_as("caller_is_moved", &site, voice, law));
    }
    let hear_each_other = |voices: &[Voice; 3]| {
        let tones = [500.0, 800.0, 1_200.0];
        for (voice, own) in voices.iter().zip(tones) {
            let others: Vec<f64> = tones.into_iter().filter(|hz| *hz != own).collect();
            assert_hears(voice, &others, &[own]);
        }
    };
    hear_each_other(&voices);
    site.kill_controld();
    hear_each_other(&voices);
    site.start_controld_again();
    let conference = wait_for("the conference is known again", || {
        let found = site.list("/v1/conferences").into_iter().next()?;
        (found["members"].as_array()?.len() == 3).then_some(found)
    });
    hear_each_other(&voices);
    assert!(
        phones.iter().all(|phone| phone.received("INVITE") == 0),
        "nobody is asked"
    );

    let before: Vec<_> = phones.iter().map(|phone| phone.description().0).collect();
    site.kill_media_host(conference["host"].as_str().unwrap());
    wait_for("all are told of other ports", || {
        let moved = phones
            .iter()
            .zip(&before)
            .all(|(phone, old)| phone.description().0 != *old);
        moved.then_some(())
    });
    for (voice, phone) in voices.iter_mut().zip(&phones) {
        voice.talk_to(phone.description().0);
    }
    hear_each_other(&voices);
    assert_ne!(site.list("/v1/conferences")[0]["host"], conference["host"]);
    for phone in &mut phones {
        phone.go_on();
        phone.assert_done();
    }
    for voice in &mut voices {
        voice.end();
    }
    for call in site.assert_nothing_left(3) {
        assert_eq!(
            (&call["room"], &call["status"]),
            (&"room-7".into(), &200.into()),
            "{call:#}"
        );
    }
}
