//! The supervisor's page in a real browser, before real daemons and real calls. What is seen and pressed stands in
//! `control/web/browser/run.js`, which asks for what is to be done beside the page.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    api::{TOKEN, TOKEN_SETTING},
    past_calls,
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

const REMEDY: &str = "run `make setup`, or apt-get install nodejs npm chromium and npm ci in control/web";

/// Node with the browser; killed when dropped, and the browser with it.
struct Browser {
    child: Child,
    deeds: BufReader<ChildStdout>,
    done: ChildStdin,
    log: PathBuf,
}

impl Browser {
    fn start(site: &Site) -> Self {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
        let log = site.dir.join("browser.log");
        let child = Command::new("node")
            .arg(web.join("browser/run.js"))
            .args([format!("http://{}", site.http()), TOKEN.to_owned()])
            .env("TMPDIR", &site.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("node: {error}; {REMEDY}"));
        Self {
            deeds: BufReader::new(child.stdout.take().unwrap()),
            done: child.stdin.take().unwrap(),
            child,
            log,
        }
    }

    /// What is to be done now; `None` at the end.
    fn deed(&mut self) -> Option<String> {
        let mut line = String::new();
        self.deeds.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| line.trim().to_owned())
    }

    fn go_on(&mut self) {
        writeln!(self.done, "done").unwrap();
    }

    fn assert_content(&mut self) {
        let status = self.child.wait().unwrap();
        let story = std::fs::read_to_string(&self.log).unwrap();
        assert!(
            status.success(),
            "{status}; if it lacks something: {REMEDY}\n{story}"
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A customer whose display name is markup, and whose phone sends nothing until it is told to.
fn hostile_customer(site: &Site, voice: &Voice) -> Playing {
    let phone = Sipp::new("caller_waits_for_bye")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with("NAME", "\"<img src=x onerror=alert(1)>\" ");
    patient(phone, voice).play(site)
}

/// Bob's phone, once it listens.
fn sit_down(site: &Site, port: u16, voice: &Voice) -> Playing {
    let phone = patient(Sipp::new("agent").at(port), voice).play(site);
    wait_for("bob's phone listens", || {
        UdpSocket::bind((site.udp.ip(), port)).is_err().then_some(())
    });
    phone
}

/// A phone that waits as long as a browser takes on a busy machine.
fn patient(phone: Sipp, voice: &Voice) -> Sipp {
    let phone = phone.with_audio(voice).argument("-aa");
    phone.argument("-timeout").argument("300s")
}

#[test]
fn to_a_supervisor_who_acts_on_it() {
    let port = free_ports(2);
    let mut site = Plan::new("page")
        .with(TOKEN_SETTING)
        .with(&format!("management.listen=127.0.0.1:{port}"))
        .with("calls.answer_before_music=true")
        // Bob's phone is there when he is wanted, and not asked before.
        .with("registration.keepalive=off")
        .start();
    let (bob_port, mut bob_voice) = (free_ports(2), Voice::new(Law::Mu, 1_100.0));
    register(&site, "bob", bob_port, false);
    let mut voice = Voice::new(Law::A, 700.0);
    let (mut customer, mut bob) = (None, None);
    let mut browser = Browser::start(&site);
    while let Some(deed) = browser.deed() {
        match deed.as_str() {
            "a customer calls" => customer = Some(hostile_customer(&site, &voice)),
            "bob sits down" => bob = Some(sit_down(&site, bob_port, &bob_voice)),
            "bob answers" => bob_voice.talk_to(bob.as_ref().unwrap().description().0),
            "the customer speaks" => voice.talk_to(customer.as_ref().unwrap().description().0),
            "controld is killed" => {
                site.kill_controld();
                past_calls::add(&site.dir.join("journal"), 120);
            }
            "controld is started again" => site.start_controld_again(),
            other => panic!("nobody knows how to do this: {other}"),
        }
        browser.go_on();
    }
    browser.assert_content();
    voice.end();
    bob_voice.end();
    let call = site.assert_nothing_left(121).pop().unwrap();
    assert_eq!(call["ended_by"], "system", "{call:#}");
}
