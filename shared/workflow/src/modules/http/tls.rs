//! Whom to trust.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::modules::files;

/// The protocol that is spoken under the encryption.
const ALPN: &[u8] = b"http/1.1";

/// What is trusted: the certificates of the system's store, or those of one file instead.
///
/// # Errors
///
/// When there is none.
pub(crate) async fn config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    // A worker lives for one run, so that a store that changes is seen by the next.
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let Some(ca) = ca else {
        if let Some(known) = SYSTEM.get() {
            return Ok(Arc::clone(known));
        }
        let config = tokio::task::spawn_blocking(system).await.map_err(|error| error.to_string())??;
        return Ok(Arc::clone(SYSTEM.get_or_init(|| config)));
    };
    let text = files::read(ca)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| format!("`{}` holds a certificate that cannot be read: {error}", ca.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("`{}` holds no certificate in PEM form", ca.display()));
    }
    build(roots)
}

fn system() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!(
            "this host has no certificates of authorities{reason}: install `ca-certificates`, or give `ca`"
        ));
    }
    build(roots)
}

fn build(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let config =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let mut config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}
