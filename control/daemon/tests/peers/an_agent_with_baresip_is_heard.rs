use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    program::{Program, free_ports, wait_for},
    sipp::Sipp,
    site::{ACCOUNTS, Site},
    voice::{Law, Voice, share},
};

/// A phone that registers, answers at once, says a tone of 1 100 Hz and records what it hears.
fn baresip(site: &Site, user: &str, law: Law) -> Program {
    let dir = site.dir.join("baresip");
    fs::create_dir_all(dir.join("heard")).unwrap();
    let tone = dir.join("tone.wav");
    write_wav(&tone, 1_100.0);
    let (sip_port, rtp_port) = (free_ports(2), free_ports(20));
    let config = format!(
        "sip_listen 127.0.0.1:{sip_port}\naudio_player aufile,{dir}/played.wav\naudio_source aufile,{tone}\n\
        audio_alert aufile,{tone}\naudio_srate 8000-8000\naudio_channels 1-1\nausrc_srate 8000\nauplay_srate 8000\n\
        ausrc_channels 1\nauplay_channels 1\nrtp_ports {rtp_port}-{rtp_last}\nrtcp_mux no\njitter_buffer_delay 2-5\n\
        module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\nmodule uuid.so\n\
        module_tmp account.so\nmodule_app menu.so\nsnd_path {dir}/heard\n",
        dir = dir.display(),
        tone = tone.display(),
        rtp_last = rtp_port + 19,
    );
    fs::write(dir.join("config"), config).unwrap();
    fs::write(dir.join("contacts"), "").unwrap();
    let password = ACCOUNTS.iter().find(|(name, _)| *name == user).unwrap().1;
    let account = format!(
        "<sip:{user}@{};transport=udp>;auth_user={user};auth_pass={password};regint=60;audio_codecs={};answermode=auto;ptime=20\n",
        site.udp,
        law.name()
    );
    fs::write(dir.join("accounts"), account).unwrap();
    let mut command = Command::new("baresip");
    let log = site.dir.join("baresip.log");
    command
        .args(["-4", "-v", "-f"])
        .arg(&dir)
        .current_dir(&dir)
        .stdout(Stdio::from(
            fs::File::create(site.dir.join("baresip.out")).unwrap(),
        ));
    Program::start("baresip", command, log, "apt-get install baresip-core")
}

fn write_wav(path: &Path, hz: f64) {
    let samples = 8_000 * 30;
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + samples * 2_u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(8_000_u32.to_le_bytes());
    bytes.extend(16_000_u32.to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((samples * 2_u32).to_le_bytes());
    for at in 0..samples {
        let angle = std::f64::consts::TAU * hz * f64::from(at) / 8_000.0;
        bytes.extend(((8_000.0 * angle.sin()) as i16).to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
}

/// What baresip recorded of the far end.
fn recording(site: &Site) -> Vec<i16> {
    let files = fs::read_dir(site.dir.join("baresip/heard")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let path = paths
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with("dec.wav"))
        .expect("baresip recorded what it heard");
    let bytes = fs::read(path).unwrap();
    let data = bytes.windows(4).position(|window| window == b"data").unwrap() + 8;
    let pairs = bytes[data..].chunks_exact(2);
    pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn call(name: &str, agent_law: Law, caller_law: Law) {
    let site = Site::start(name);
    let phone = baresip(&site, "alice", agent_law);
    wait_for("baresip registers", || {
        (site.registrations("alice") == 1).then_some(())
    });
    site.wait_for_agent("alice", "ready");
    let mut voice = Voice::new(caller_law, 700.0);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with("MEDIA_PORT", voice.port())
        .with("LAW", caller_law.payload_type())
        .with("LAW_NAME", caller_law.name())
        .pausing_ms(3_000)
        .play(&site);
    let (to, _) = caller.description();
    voice.talk_to(to);
    caller.assert_done();
    voice.end();
    voice.assert_heard(to, 1_100.0, &[700.0]);
    let told = site.only_call();
    assert_eq!(
        (&told["answered_by"], &told["ended_by"]),
        (&"alice".into(), &"caller".into())
    );
    let codecs = (&told["caller_codec"], &told["callee_codec"]);
    assert_eq!(codecs, (&caller_law.name().into(), &agent_law.name().into()));
    let out = fs::read_to_string(site.dir.join("baresip.out")).unwrap() + &phone.story();
    for half in ["encoder", "decoder"] {
        let said = format!("Set audio {half}: {}", agent_law.name());
        assert!(out.contains(&said), "no {said:?} in\n{out}");
    }
    let heard = recording(&site);
    assert!(heard.len() > 12_000, "baresip heard {} samples", heard.len());
    let heard = &heard[heard.len() / 4..heard.len() * 3 / 4];
    assert!(share(heard, 700.0, 8_000.0) > 0.95);
    assert!(share(heard, 1_100.0, 8_000.0) < 0.01);
}

#[test]
fn in_the_law_of_its_caller() {
    call("baresip-pcmu", Law::Mu, Law::Mu);
}

#[test]
fn in_another_law_than_its_caller() {
    call("baresip-pcma", Law::A, Law::Mu);
}
