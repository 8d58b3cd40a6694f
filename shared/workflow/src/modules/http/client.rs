//! One request and its answer, with redirects, over HTTP/1.1.

use std::{io, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use sloth_core::error::Chain;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    address::{Address, Scheme},
    tls,
};
use crate::{beneath::Place, modules::call::Call};

/// How long it may take until a host answers at all.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of what a proxy says before the connection stands.
const PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers that are for the host they were given for, and for no other that it redirects to.
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// A stream of bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) address: Address,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Most redirects that are followed.
    pub(crate) redirects_max: u64,
    /// Certificates that are trusted instead of the system's.
    pub(crate) ca: Option<Place>,
    pub(crate) proxy: Option<Address>,
}

/// What is answered; the body is still to come.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) address: Address,
    body: Incoming,
    /// What moves the bytes of the connection, ended with it.
    _driver: Driver,
}

/// Why there is no answer.
pub(crate) enum Trouble {
    /// The bundle may not speak to the host.
    Denied(mlua::Error),
    /// It will be no better the next time.
    Refused(String),
    /// It may be better the next time.
    Broken(String),
}

struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks, and follows redirects. Whether a host may be spoken to is checked for each.
pub(crate) async fn send(call: &Call, request: &Request) -> Result<Reply, Trouble> {
    let mut request = request.clone();
    let mut redirects = 0;
    loop {
        let reply = exchange(call, &request).await?;
        let location = reply.headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let (true, Some(location)) = (is_redirect(reply.status), location) else { return Ok(reply) };
        if request.redirects_max == 0 {
            return Ok(reply);
        }
        if redirects == request.redirects_max {
            return Err(Trouble::Refused(format!("it was redirected more than {redirects} times")));
        }
        redirects += 1;
        let next = request.address.follow(&location).map_err(Trouble::Refused)?;
        redirect(&mut request, reply.status, next);
    }
}

impl Reply {
    /// The next piece of the body; none at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| Trouble::Broken(format!("the answer broke off: {}", Chain(&error))))?;
            // What is no data are trailers, which nobody reads.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// All of the body, which must not be larger than said.
    pub(crate) async fn bytes(&mut self, bytes_max: u64) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
            if bytes_max < bytes.len() as u64 {
                return Err(Trouble::Refused(format!("the answer is larger than the {bytes_max} bytes it may have")));
            }
        }
        Ok(bytes)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Makes the request the one that a redirect asks for.
fn redirect(request: &mut Request, status: StatusCode, next: Address) {
    let is_post = request.method == Method::POST;
    let is_head = request.method == Method::HEAD;
    // As every browser does it: the answer to what was posted is got.
    if (status == StatusCode::SEE_OTHER && !is_head) || (matches!(status.as_u16(), 301 | 302) && is_post) {
        request.method = Method::GET;
        request.body = Bytes::new();
        request.headers.remove(header::CONTENT_TYPE);
    }
    if next.origin() != request.address.origin() {
        for name in SECRET {
            request.headers.remove(name);
        }
        request.headers.remove(header::HOST);
    }
    request.address = next;
}

async fn exchange(call: &Call, request: &Request) -> Result<Reply, Trouble> {
    let address = &request.address;
    call.reach(&address.host, address.port).map_err(Trouble::Denied)?;
    let stream = connect(call, request).await?;
    let broken = |error: hyper::Error| Trouble::Broken(Chain(&error).to_string());
    let (mut sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its end is told by the answer that then does not come.
    let driver = Driver(tokio::spawn(async move { drop(connection.await) }).abort_handle());
    let sent = sender.send_request(message(request)?).await.map_err(broken)?;
    let (parts, body) = sent.into_parts();
    let address = address.clone();
    Ok(Reply { status: parts.status, headers: parts.headers, address, body, _driver: driver })
}

fn message(request: &Request) -> Result<http::Request<Full<Bytes>>, Trouble> {
    let address = &request.address;
    let plain_proxy = request.proxy.as_ref().filter(|_| address.scheme == Scheme::Http);
    // A proxy that is not only a tunnel is told the whole address.
    let target =
        if plain_proxy.is_some() { format!("{}{}", address.origin(), address.target) } else { address.target.clone() };
    let mut message = http::Request::new(Full::new(request.body.clone()));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() =
        target.parse().map_err(|_| Trouble::Refused("the address has a path that cannot be sent".to_owned()))?;
    let headers = message.headers_mut();
    *headers = request.headers.clone();
    let unsendable = |_| Trouble::Refused("the address has a host that cannot be sent".to_owned());
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, HeaderValue::from_str(&address.authority()).map_err(unsendable)?);
    }
    if let (Some(login), false) = (&address.login, headers.contains_key(header::AUTHORIZATION)) {
        headers.insert(header::AUTHORIZATION, basic(login).map_err(Trouble::Refused)?);
    }
    if let Some(login) = plain_proxy.and_then(|proxy| proxy.login.as_ref()) {
        headers.insert(header::PROXY_AUTHORIZATION, basic(login).map_err(Trouble::Refused)?);
    }
    Ok(message)
}

/// A name and a password as a header, which is not shown where headers are printed.
pub(crate) fn basic((name, password): &(String, String)) -> Result<HeaderValue, String> {
    let text = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
    let mut value = HeaderValue::from_str(&text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn connect(call: &Call, request: &Request) -> Result<Box<dyn Stream>, Trouble> {
    let address = &request.address;
    let mut stream = match &request.proxy {
        None => open(&address.host, address.port).await.map_err(Trouble::Broken)?,
        Some(proxy) => {
            call.reach(&proxy.host, proxy.port).map_err(Trouble::Denied)?;
            open(&proxy.host, proxy.port).await.map_err(|error| Trouble::Broken(format!("the proxy: {error}")))?
        }
    };
    if address.scheme == Scheme::Http {
        return Ok(Box::new(stream));
    }
    if let Some(proxy) = &request.proxy {
        timeout(CONNECT_TIMEOUT, tunnel(&mut stream, proxy, address))
            .await
            .unwrap_or_else(|_| Err("it does not answer".to_owned()))
            .map_err(|error| Trouble::Broken(format!("the proxy: {error}")))?;
    }
    let config = tls::config(request.ca.as_ref().map(Place::path)).await.map_err(Trouble::Refused)?;
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| Trouble::Refused(format!("`{}` is no name that a certificate can be for", address.host)))?;
    match timeout(CONNECT_TIMEOUT, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        // A certificate that is not trusted will not be the next time.
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(Trouble::Refused(error.to_string())),
        Ok(Err(error)) => Err(Trouble::Broken(format!("the encrypted connection: {error}"))),
        Err(_) => Err(Trouble::Broken("the encrypted connection: the host does not answer".to_owned())),
    }
}

/// A connection to the first of the host's addresses that answers.
pub(crate) async fn open(host: &str, port: u16) -> Result<TcpStream, String> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => {
            // Small requests are not to wait for each other; where it cannot be set they do.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(format!("cannot connect to `{host}` port {port}: {error}")),
        Err(_) => {
            let limit = humantime::format_duration(CONNECT_TIMEOUT);
            Err(format!("cannot connect to `{host}` port {port}: no answer in {limit}"))
        }
    }
}

/// Asks a proxy for a connection to the host.
async fn tunnel(stream: &mut TcpStream, proxy: &Address, address: &Address) -> Result<(), String> {
    let target = address.host_and_port();
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(login) = &proxy.login {
        let value = basic(login)?;
        head.push_str(&format!("Proxy-Authorization: {}\r\n", value.to_str().unwrap_or_default()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // Byte by byte, since what follows the head is for the encryption.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_HEAD_BYTES_MAX {
            return Err("its answer is too long".to_owned());
        }
        answer.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    if status.starts_with('2') {
        return Ok(());
    }
    Err(format!("it answers `{}`", answer.lines().next().unwrap_or_default()))
}
