//! Kamailio as shipped in `control/kamailio`, in front of controllers.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    program::{Program, free_ports, wait_for},
    site::Site,
};

/// A running edge.
pub(crate) struct Kamailio {
    pub(crate) udp: SocketAddr,
    control: String,
    program: Program,
}

impl Kamailio {
    /// An edge in front of `sites`, ready when it has seen all of them answer.
    pub(crate) fn start(name: &str, sites: &[&Site]) -> Self {
        let dir = sites[0].dir.join(name);
        fs::create_dir_all(dir.join("run")).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("kamailio");
        let list = sites.iter().map(|site| format!("1 sip:{} 0 0\n", site.udp));
        fs::write(dir.join("dispatcher.list"), list.collect::<String>()).unwrap();
        let first = free_ports(2);
        let udp = SocketAddr::from((Ipv4Addr::LOCALHOST, first));
        let control = format!("tcp:127.0.0.1:{}", first + 1);
        let mut command = Command::new(kamailio());
        command
            .arg("-f")
            .arg(shipped.join("edge.cfg"))
            .args(["-DD", "-E", "-m", "64", "-M", "8"])
            .args([
                "-A",
                &format!("EDGE=udp:{udp}"),
                "-A",
                &format!("CONTROL=\"{control}\""),
            ])
            .arg("-w")
            .arg(&dir)
            .arg("-Y")
            .arg(dir.join("run"))
            .arg("-P")
            .arg(dir.join("run/pid"))
            .stdout(Stdio::null());
        let log = dir.join("kamailio.log");
        let program = Program::start("kamailio", command, log, "apt-get install kamailio");
        let kamailio = Self {
            udp,
            control,
            program,
        };
        kamailio.wait_for_controllers(sites.len());
        kamailio
    }

    /// Waits until exactly so many controllers are known to be there.
    pub(crate) fn wait_for_controllers(&self, count: usize) {
        wait_for(&format!("{count} controllers answer kamailio"), || {
            let list = self.ask("dispatcher.list");
            // A: active; P: probing.
            (list.matches("FLAGS: AP").count() == count).then_some(())
        });
    }

    fn ask(&self, what: &str) -> String {
        let output = Command::new(kamailio().with_file_name("kamcmd"))
            .args(["-s", &self.control, what])
            .output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Killed, it would leave its processes behind.
        self.program.end();
    }
}

/// Where Debian puts it, which is not on everyone's PATH.
fn kamailio() -> PathBuf {
    let path = PathBuf::from("/usr/sbin/kamailio");
    if path.exists() { path } else { "kamailio".into() }
}
