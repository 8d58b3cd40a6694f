//! What a host says it is, and whether that is true.

use std::{path::Path, sync::Arc, time::Duration};

use mlua::{Table, Value};
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{host_of, port_of};
use crate::{
    beneath::Place,
    modules::{
        call::Call,
        http::{address::Address, client, tls},
        options::Options,
        paths::readable,
    },
};

const HTTPS_PORT: u16 = 443;
const TIMEOUT: Duration = Duration::from_secs(10);
const DAY_SECS: i64 = 86_400;

/// What was seen of a certificate that is trusted.
struct Seen {
    protocol: String,
    subject: String,
    issuer: String,
    /// Seconds since 1970.
    not_after: i64,
}

/// `valid`, and what the certificate says; or why it is not trusted.
pub(super) async fn check(call: Call, (host, port, options): (Value, Value, Value)) -> mlua::Result<Table> {
    let options = Options::new(&call, &options, &["ca"])?;
    let ca = options.value("ca")?;
    let ca = if ca.is_nil() { None } else { Some(readable(&call, "ca", &ca)?) };
    let text = call.text("host", &host)?;
    let (host, named) = match Address::parse(&text) {
        Ok(address) => (address.host, Some(address.port)),
        Err(_) => (host_of(&call, &host)?, None),
    };
    let port = if port.is_nil() { named.unwrap_or(HTTPS_PORT) } else { port_of(&call, &port)? };
    call.reach(&host, port)?;
    let table = call.lua.create_table()?;
    table.raw_set("host", host.as_str())?;
    table.raw_set("port", port)?;
    let seen = timeout(TIMEOUT, look(&host, port, ca.as_ref().map(Place::path))).await;
    match seen.unwrap_or_else(|_| Err(format!("it does not answer in {}", humantime::format_duration(TIMEOUT)))) {
        Ok(seen) => {
            let now = i64::try_from(call.context.host.now().as_u64() / 1_000).unwrap_or(i64::MAX);
            table.raw_set("valid", true)?;
            table.raw_set("verified", true)?;
            table.raw_set("protocol", seen.protocol)?;
            table.raw_set("subject", seen.subject)?;
            table.raw_set("issuer", seen.issuer)?;
            table.raw_set("not_after", seen.not_after)?;
            table.raw_set("days_left", (seen.not_after - now).div_euclid(DAY_SECS))?;
        }
        Err(reason) => {
            table.raw_set("valid", false)?;
            table.raw_set("verified", false)?;
            table.raw_set("error", reason)?;
        }
    }
    Ok(table)
}

async fn look(host: &str, port: u16, ca: Option<&Path>) -> Result<Seen, String> {
    let config = tls::config(ca).await?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = client::open(host, port).await?;
    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).ok_or("it shows no certificate")?;
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Ok(Seen {
        protocol: session.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS").to_owned(),
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}
