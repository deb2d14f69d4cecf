//! An authority of its own for each test.

use std::{fs, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

/// An authority, and a directory with what it issued.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

/// A certificate with its key, as files and as text.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    cert_pem: String,
    key_pem: String,
}

pub(crate) type Stream = StreamOwned<ClientConnection, std::net::TcpStream>;

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("controld-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let issued = Issued {
            cert: self.dir.join(format!("{file}.crt")),
            key: self.dir.join(format!("{file}.key")),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        };
        fs::write(&issued.cert, &issued.cert_pem).unwrap();
        fs::write(&issued.key, &issued.key_pem).unwrap();
        issued
    }

    /// Who believes this authority, and shows a certificate if it has one.
    pub(crate) fn client(&self, own: Option<&Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_slice(own.cert_pem.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Issued {
    /// The setting for these certificates.
    pub(crate) fn setting(all: &[&Self]) -> String {
        let one = |issued: &&Self| {
            format!(
                "{{cert='{}', key='{}'}}",
                issued.cert.display(),
                issued.key.display()
            )
        };
        let all: Vec<String> = all.iter().map(one).collect();
        format!("tls.certificates=[{}]", all.join(","))
    }
}

/// A TLS connection, handshake done. The error is the peer's, or our disbelief.
pub(crate) fn connect(
    client: &Arc<ClientConfig>,
    to: std::net::SocketAddr,
    name: &'static str,
) -> Result<Stream, std::io::Error> {
    let mut tcp = crate::support::tcp(to);
    let name = ServerName::try_from(name).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(client), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(tls, tcp))
}
