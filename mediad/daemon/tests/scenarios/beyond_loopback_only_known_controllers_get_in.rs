//! With `control.tls` only clients whose certificate is signed by the configured authority are served; without it
//! mediad refuses to listen beyond loopback (see `a_bad_configuration_is_explained`).

use std::{
    fs,
    time::{Duration, Instant},
};

use proto::mediad::v1::{self as pb, host_client::HostClient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::support::{Daemon, PATIENCE, scratch};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key in PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

async fn status(daemon: &Daemon, tls: ClientTlsConfig) -> Result<pb::StatusReply, String> {
    let endpoint = Endpoint::from_shared(format!("https://{}", daemon.control)).unwrap();
    let endpoint = endpoint.tls_config(tls.domain_name("media.example")).unwrap();
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    // With TLS 1.3 a client without certificate connects, and fails on its first call.
    let reply = HostClient::new(channel).status(pb::StatusRequest {}).await;
    reply
        .map(tonic::Response::into_inner)
        .map_err(|status| format!("{status:?}"))
}

#[tokio::test]
async fn by_their_certificate() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let place = scratch("tls");
    let write = |name: &str, text: &str| {
        let path = place.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = ours.issue("media.example");
    let (cert, key) = (write("host.crt", &cert), write("host.key", &key));
    let ca = write("ca.crt", &ours.pem());
    let tls = format!("control.tls={{cert='{cert}', key='{key}', client_ca='{ca}'}}");
    let daemon = Daemon::start(&[&tls, "log.level=error"]);

    let trust = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ours.pem()));
    let identity = |authority: &Authority| {
        let (cert, key) = authority.issue("controller.example");
        Identity::from_pem(cert, key)
    };
    let known = status(&daemon, trust().identity(identity(&ours))).await.unwrap();
    assert_eq!(known.boot_id, daemon.boot_id);
    status(&daemon, trust()).await.expect_err("no certificate");
    status(&daemon, trust().identity(identity(&theirs)))
        .await
        .expect_err("a stranger's certificate");
    let plain = Endpoint::from_shared(format!("http://{}", daemon.control)).unwrap();
    let plain = match plain.connect().await {
        Ok(channel) => HostClient::new(channel)
            .status(pb::StatusRequest {})
            .await
            .map(drop)
            .map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    plain.expect_err("plaintext");
    assert!(
        status(&daemon, trust().identity(identity(&ours))).await.is_ok(),
        "and the known one is still served"
    );
}

#[tokio::test]
async fn and_a_renewed_certificate_meets_new_connections_only() {
    let (before, after) = (Authority::new(), Authority::new());
    let place = scratch("tls-renewed");
    let path = |name: &str| place.join(name).display().to_string();
    let install = |authority: &Authority| {
        let (cert, key) = authority.issue("media.example");
        fs::write(path("host.crt"), cert).unwrap();
        fs::write(path("host.key"), key).unwrap();
        fs::write(path("ca.crt"), authority.pem()).unwrap();
    };
    install(&before);
    let tls = format!(
        "control.tls={{cert='{}', key='{}', client_ca='{}'}}",
        path("host.crt"),
        path("host.key"),
        path("ca.crt")
    );
    let daemon = Daemon::start(&[&tls, "log.level=error"]);
    let of = |authority: &Authority| {
        let (cert, key) = authority.issue("controller.example");
        let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
        trust
            .identity(Identity::from_pem(cert, key))
            .domain_name("media.example")
    };
    let endpoint = Endpoint::from_shared(format!("https://{}", daemon.control)).unwrap();
    let open = endpoint.tls_config(of(&before)).unwrap().connect().await.unwrap();
    let mut open = HostClient::new(open);
    open.status(pb::StatusRequest {}).await.unwrap();

    fs::write(path("host.key"), "not a key").unwrap();
    daemon.send("HUP");
    reloaded(&daemon, "failed").await;
    status(&daemon, of(&before))
        .await
        .expect("half a renewal changes nothing");

    install(&after);
    daemon.send("HUP");
    reloaded(&daemon, "ok").await;
    status(&daemon, of(&after))
        .await
        .expect("the new authority is known");
    status(&daemon, of(&before))
        .await
        .expect_err("the old one no longer");
    let still = open.status(pb::StatusRequest {}).await;
    still.expect("the connection from before lives on");
}

/// Waits until one reload ended like this.
async fn reloaded(daemon: &Daemon, result: &str) {
    let line = format!("mediad_reloads_total{{result=\"{result}\"}} 1");
    let since = Instant::now();
    while !daemon.page("/metrics").1.contains(&line) {
        assert!(since.elapsed() < PATIENCE, "no reload was {result}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
