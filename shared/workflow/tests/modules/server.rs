//! A server of the web that does what its path says, good or bad.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring::default_provider};
use serde_json::json;

/// No connection of a test takes that long.
const IDLE: Duration = Duration::from_secs(20);
/// More than any client takes.
const ENDLESS_BYTES: usize = 256 * 1024 * 1024;

/// How the server speaks.
#[derive(Clone)]
pub(crate) enum Voice {
    Plain,
    Encrypted(Arc<ServerConfig>),
}

/// A certificate for a name and what the server needs to show it, and its PEM for who is to trust it.
pub(crate) fn certified(name: &str) -> (Voice, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    (Voice::Encrypted(Arc::new(config)), made.cert.pem())
}

/// Serves as long as the test's process lives.
pub(crate) fn serve(voice: Voice) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let flaky = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (voice, flaky) = (voice.clone(), Arc::clone(&flaky));
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(IDLE));
                let _ = stream.set_write_timeout(Some(IDLE));
                // A client may leave whenever it likes.
                let _ = match voice {
                    Voice::Plain => answer(stream, &flaky),
                    Voice::Encrypted(config) => {
                        let session = ServerConnection::new(config).expect("a session");
                        answer(StreamOwned::new(session, stream), &flaky)
                    }
                };
            });
        }
    });
    address
}

struct Asked {
    method: String,
    target: String,
    headers: serde_json::Map<String, serde_json::Value>,
    body: String,
}

fn answer(stream: impl Read + Write, flaky: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let asked = read(&mut stream)?;
    let out = stream.get_mut();
    let path = asked.target.split('?').next().unwrap_or_default().to_owned();
    let query = asked.target.split_once('?').map_or("", |(_, query)| query).to_owned();
    let told = |asked: &Asked| {
        json!({"method": asked.method, "target": asked.target, "headers": asked.headers, "body": asked.body})
            .to_string()
    };
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        _ if asked.method == "CONNECT" => splice(stream, &asked.target),
        _ if asked.target.starts_with("http://") => plain(out, "200 OK", "X-Proxied: yes\r\n", &told(&asked)),
        ["echo"] => plain(out, "200 OK", "Content-Type: application/json\r\n", &told(&asked)),
        ["status", code] => plain(out, &format!("{code} Said So"), "", "as asked"),
        ["head"] => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"),
        ["cookies"] => plain(out, "200 OK", "Set-Cookie: a=1\r\nset-cookie: b=2\r\n", ""),
        ["redirect", code, left] => {
            let left: usize = left.parse().unwrap_or(0);
            let to = if left == 0 { "/echo".to_owned() } else { format!("/redirect/{code}/{}", left - 1) };
            plain(out, &format!("{code} Elsewhere"), &format!("Location: {to}\r\n"), "")
        }
        ["away"] => plain(out, "302 Found", &format!("Location: {query}\r\n"), ""),
        ["flaky", times] => {
            let count = flaky.fetch_add(1, Ordering::SeqCst);
            let good = times.parse::<usize>().unwrap_or(0) <= count;
            plain(out, if good { "200 OK" } else { "503 Busy" }, "", &count.to_string())
        }
        ["file"] => plain(out, "200 OK", "", "the file\n"),
        ["chunked"] => {
            write!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        }
        ["endless"] => {
            write!(out, "HTTP/1.1 200 OK\r\n\r\n")?;
            (0..ENDLESS_BYTES / 65_536).try_for_each(|_| out.write_all(&[b'x'; 65_536]))
        }
        ["slow"] => {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
            (0..200).try_for_each(|_| {
                thread::sleep(Duration::from_millis(50));
                out.write_all(b"x").and_then(|()| out.flush())
            })
        }
        ["silent"] => {
            thread::sleep(Duration::from_secs(10));
            Ok(())
        }
        ["broken"] => write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        ["garbage"] => write!(out, "this is not HTTP at all\r\n\r\n"),
        ["headers"] => {
            write!(out, "HTTP/1.1 200 OK\r\n")?;
            (0..100_000).try_for_each(|n| write!(out, "X-{n}: {}\r\n", "y".repeat(100)))
        }
        _ => plain(out, "404 Not Found", "", "nothing here"),
    }
}

fn plain(out: &mut impl Write, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    out.flush()
}

fn read(stream: &mut impl BufRead) -> std::io::Result<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = serde_json::Map::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.into());
    }
    let length = headers.get("content-length").and_then(|value| value.as_str()).and_then(|value| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Asked { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// As a proxy: moves bytes between the client and the host that it names.
fn splice(mut stream: BufReader<impl Read + Write>, target: &str) -> std::io::Result<()> {
    let out = stream.get_mut();
    let Ok(mut host) = TcpStream::connect(target) else { return plain(out, "502 No Way", "", "") };
    write!(out, "HTTP/1.1 200 Connected\r\n\r\n")?;
    out.flush()?;
    host.set_read_timeout(Some(Duration::from_millis(20)))?;
    // One direction after the other is enough for a request and its answer.
    let mut buffer = [0; 65_536];
    loop {
        match host.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                stream.get_mut().write_all(&buffer[..count])?;
                stream.get_mut().flush()?;
                continue;
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let taken = stream.fill_buf()?.to_vec();
        if taken.is_empty() {
            return Ok(());
        }
        host.write_all(&taken)?;
        stream.consume(taken.len());
    }
}
