//! Mutual TLS of the gRPC listener. tonic takes certificates once; ours can change while connections live.

use std::{fs, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::config::Tls;

/// Reads the three files: what a new connection is met with.
///
/// # Errors
/// Names the setting, the file and what is wrong with it.
pub(crate) fn read(tls: &Tls) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates("client_ca", &tls.client_ca)? {
        roots
            .add(authority)
            .map_err(|error| unusable("client_ca", &tls.client_ca, error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable("client_ca", &tls.client_ca, error))?;
    let key = PrivateKeyDer::from_pem_slice(&file("key", &tls.key)?)
        .map_err(|error| unusable("key", &tls.key, error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("control.tls: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("cert", &tls.cert)?, key)
        .map_err(|error| unusable("cert", &tls.cert, error))?;
    // RFC 9113 §3.2: HTTP/2 over TLS is chosen by ALPN.
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file(key, path)?).collect();
    let found = found.map_err(|error| unusable(key, path, error))?;
    if found.is_empty() {
        return Err(unusable(key, path, "holds no certificate"));
    }
    Ok(found)
}

fn file(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| unusable(key, path, error))
}

fn unusable(key: &str, path: &Path, why: impl std::fmt::Display) -> String {
    format!("control.tls.{key}: {}: {why}; give a PEM file", path.display())
}
