//! PEM text: how certificates and keys lie in files.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sloth_core::Secret;

const LINE_CHARS: usize = 64;
const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// Why a PEM text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no such section.
    #[error("there is no `{CERTIFICATE}` section in this PEM text, or it is damaged")]
    NoCertificate,
    /// There is no such section.
    #[error("there is no `{KEY}` section in this PEM text, or it is damaged")]
    NoKey,
}

pub(crate) fn encode_certificate(der: &[u8]) -> String {
    encode(CERTIFICATE, der)
}

pub(crate) fn encode_key(pkcs8: &Secret<Vec<u8>>) -> Secret<String> {
    Secret::new(encode(KEY, pkcs8.expose()))
}

/// The first certificate in `text`.
pub(crate) fn decode_certificate(text: &str) -> Result<CertificateDer<'static>, PemError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| PemError::NoCertificate)
}

/// The first private key in `text`.
pub(crate) fn decode_key(text: &str) -> Result<Secret<Vec<u8>>, PemError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| PemError::NoKey)?;
    Ok(Secret::new(key.secret_pkcs8_der().to_vec()))
}

fn encode(label: &str, der: &[u8]) -> String {
    let body = Secret::new(STANDARD.encode(der));
    // Room for all of it from the start: a string that moves leaves copies of a key behind.
    let mut text = String::with_capacity(body.expose().len() + body.expose().len() / LINE_CHARS + 128);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.expose().as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_other_text_is_refused() {
        for bytes in [vec![7; 1], vec![8; 48], vec![9; 200]] {
            let text = format!("# a comment\n{}", encode_certificate(&bytes));
            assert_eq!(decode_certificate(&text).expect("readable").as_ref(), bytes);
            let key = encode_key(&Secret::new(bytes.clone()));
            assert_eq!(decode_key(key.expose()).expect("readable").expose(), &bytes);
            assert!(text.lines().all(|line| line.len() <= LINE_CHARS));
        }
        let cut = encode_certificate(&[7; 200]).replace("-----END", "");
        for text in ["", "hello", &cut] {
            assert_eq!(decode_certificate(text), Err(PemError::NoCertificate));
            assert_eq!(decode_key(text).err(), Some(PemError::NoKey));
        }
    }
}
