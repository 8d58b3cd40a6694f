//! `http`, `net` and `network` against servers of this machine, good ones and bad ones.

use std::{io::Write, net::TcpListener, time::Instant};

use sloth_workflow::{Capabilities, Limits, modules::Phase};

use super::{
    Bench,
    server::{Voice, certified, serve},
};

#[test]
fn http() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let (secure, pem) = certified("localhost");
    let (other, _) = certified("other.example");
    let write = |name: &str, text: &str| {
        let path = bench.context.workdir.join(name);
        sloth_core::fs::replace(&path, text.as_bytes(), sloth_core::fs::Access::Everyone).expect("a file");
    };
    write("ca.pem", &pem);
    write("none.pem", "no certificate\n");
    let (plain, proxy) = (serve(Voice::Plain), serve(Voice::Plain));
    let names = format!(
        "local base, proxy, secure, wrong, plain_port = 'http://{plain}', 'http://{proxy}', 'https://localhost:{}', 'https://localhost:{}', {}\n",
        serve(secure).port(),
        serve(other).port(),
        plain.port(),
    );
    bench.run(&(names + include_str!("../../lua/modules/http.luau"))).expect("every check holds");
}

#[test]
fn bad_servers_end_a_request_with_a_sentence_in_its_time() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let begun = Instant::now();
    let script = format!(
        "local base, port = 'http://{}', {}\n{}",
        serve(Voice::Plain),
        closed_port(),
        include_str!("../../lua/modules/http_bad.luau")
    );
    bench.run(&script).expect("every check holds");
    assert!(begun.elapsed().as_secs() < 20, "it took {:?}", begun.elapsed());
}

#[test]
fn only_hosts_that_are_granted_are_spoken_to() {
    let address = serve(Voice::Plain);
    let granted = Capabilities::parse([format!("net:127.0.0.1:{}", address.port())]).expect("a grant");
    let bench = Bench::bounded(granted, Phase::Run, Limits::default());
    let script = format!(
        "local base = 'http://{address}'
        equal(http.get(base .. '/file').body, 'the file\\n')
        raises('`http.get`: capability `net` is not granted for `127.0.0.1:1`', http.get, 'http://127.0.0.1:1/')
        raises('is not granted for `127.0.0.1:1`', http.get, base .. '/away?http://127.0.0.1:1/')
        raises('is not granted for `127.0.0.2:1`', http.get, base .. '/file', {{proxy = 'http://127.0.0.2:1'}})
        raises('is not granted for `127.0.0.1:1`', net.port_check, '127.0.0.1', 1)
        raises('is not granted for `localhost:0`', net.dns_lookup, 'localhost')
        raises('`fs:write` is not granted', http.download, base .. '/file', 'x')
        raises('`facts` is not granted', net.interfaces)"
    );
    bench.run(&script).expect("every check holds");
    let bench = Bench::new(Capabilities::none(), Phase::Run);
    bench.run("raises('capability `net` is not granted', http.get, 'http://x/')").expect("every check holds");
    let bench = Bench::new(Capabilities::all(), Phase::Plan);
    bench.run("raises('only read for its plan', http.get, 'http://x/')").expect("every check holds");
}

#[test]
fn a_run_that_only_checks_sends_nothing_that_changes() {
    let bench = Bench::new(Capabilities::all(), Phase::Check);
    let script =
        format!("local base = 'http://{}'\n{}", serve(Voice::Plain), include_str!("../../lua/modules/check_http.luau"));
    bench.run(&script).expect("every check holds");
    let told: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text).collect();
    assert_eq!(told.len(), 10, "{told:#?}");
    assert!(told.iter().all(|line| line.starts_with("would ")), "{told:#?}");
    assert!(!told.iter().any(|line| line.contains("secret")), "{told:#?}");
}

#[test]
fn net() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let greeter = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = greeter.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in greeter.incoming().flatten() {
            let _ = stream.write_all(b"220 hello\r\n");
        }
    });
    // A port that opens a moment later.
    let late = closed_port();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let listener = TcpListener::bind(("127.0.0.1", late));
        std::thread::sleep(std::time::Duration::from_secs(10));
        drop(listener);
    });
    let (secure, pem) = certified("localhost");
    let ca = bench.context.workdir.join("ca.pem");
    sloth_core::fs::replace(&ca, pem.as_bytes(), sloth_core::fs::Access::Everyone).expect("a file");
    let script = format!(
        "local base, greeter, closed, late, secure = 'http://{}', {port}, {}, {late}, {}\n{}",
        serve(Voice::Plain),
        closed_port(),
        serve(secure).port(),
        include_str!("../../lua/modules/net.luau")
    );
    bench.run(&script).expect("every check holds");
}

#[test]
fn ping_is_the_program_of_the_host() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let ping = "#!/bin/sh\n[ \"$5\" = down ] && { echo 'no answer' >&2; exit 1; }\necho \"PING $*\"\n\
        echo '2 packets transmitted, 2 received'\necho 'rtt min/avg/max = 1/2/3 ms'\n";
    let bin = bench.dir.path().join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    sloth_core::fs::replace(&bin.join("ping"), ping.as_bytes(), sloth_core::fs::Access::Everyone).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("ping"), mode).expect("a mode");
    let script = "
        local r = net.ping('up', {count = 2, timeout = 1})
        equal(r.success, true)
        equal(r.statistics, '2 packets transmitted, 2 received')
        equal(r.timing, 'rtt min/avg/max = 1/2/3 ms')
        has(r.output, 'PING -c 2 -W 1 up')
        refused('net.ping: `ping` ended with exit code 1: no answer', net.ping('down'))";
    bench.run(script).expect("every check holds");
}

/// A port that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}
