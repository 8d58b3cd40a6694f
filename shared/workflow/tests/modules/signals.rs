//! What modules tell the host, and what they see on it through stand-ins of its programs.

use std::os::unix::fs::PermissionsExt;

use sloth_workflow::Level;

use super::*;

/// A bench whose host has programs of these names first, each a script of `sh`.
fn with_programs(programs: &[(&str, &str)]) -> Bench {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let bin = bench.dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    for (name, text) in programs {
        let path = bin.join(name);
        sloth_core::fs::replace(&path, format!("#!/bin/sh\n{text}\n").as_bytes(), sloth_core::fs::Access::Everyone)
            .expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    bench
}

#[test]
fn events_and_values_reach_the_host_and_failing_handlers_warn() {
    let bench = Bench::new(Capabilities::none(), Phase::Run);
    let script = "metrics.gauge('queue', 5, {site = 'a'})
        metrics.counter('requests', 2)
        event.on('x', function() error('broken') end)
        event.dispatch('x', {a = 1})
        metrics.alert('disk', {level = 'critical', message = 'disk is full'})";
    bench.run(script).expect("a run");
    let lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| (line.stream, line.text)).collect();
    let log = Stream::Log;
    let expected = [
        (log(Level::Debug), "metric queue=5 kind=gauge site=a"),
        (log(Level::Debug), "metric requests=2 kind=counter"),
        (log(Level::Debug), r#"event x {"a":1,"timestamp":1700000000}"#),
        (log(Level::Warn), "a handler of the event `x` failed: script:3: broken"),
        (log(Level::Error), "[ALERT] critical: disk is full"),
        (log(Level::Debug), r#"event alert {"level":"critical","message":"disk is full","name":"disk"}"#),
    ];
    assert_eq!(lines, expected.map(|(stream, text)| (stream, text.to_owned())));
}

#[test]
fn a_watched_service_is_asked_for_by_its_state() {
    let systemctl = r#"[ "$*" = 'is-active -- web' ] && cat "$(dirname "$0")/state""#;
    let bench = with_programs(&[("systemctl", systemctl)]);
    let state = bench.dir.path().join("bin/state");
    sloth_core::fs::replace(&state, b"inactive\n", sloth_core::fs::Access::Everyone).expect("a file");
    let script = format!(
        "local id = watcher.register.service({{service_name = 'web', when = {{'created', 'deleted'}}, interval = '20ms'}})
        local function become(state) fs.write('{}', state) return watcher.wait(id, '5s').type end
        equal(become('active\\n'), 'service.started')
        equal(become('failed\\n'), 'service.stopped')
        watcher.stop(id)",
        state.display()
    );
    bench.run(&script).expect("every check holds");
}

#[test]
fn watchers_are_checked_and_not_started_where_a_file_is_only_read_for_its_plan() {
    let bench = Bench::new(Capabilities::all(), Phase::Plan);
    let script = "check(#watcher.register.file({path = '/etc/passwd', when = 'exists'}) == 36)
        raises('`when` is missing', watcher.register.file, {path = '/etc/passwd'})
        equal(watcher.list(), {})";
    bench.run(script).expect("every check holds");
}

#[test]
fn a_watcher_needs_what_reading_needs() {
    let bench = Bench::new(Capabilities::none(), Phase::Run);
    let script = "raises('`fs:read` is not granted', watcher.register.file, {path = '/etc/passwd', when = 'exists'})
        raises('`exec` is not granted', watcher.register.command, {command = 'true', when = 'changed'})
        raises('`facts` is not granted', watcher.register.cpu, {threshold = 1, when = 'above'})
        equal(watcher.list(), {})";
    bench.run(script).expect("every check holds");
}

#[test]
fn a_service_runs_or_is_enabled_only_when_systemd_says_just_that() {
    let systemctl = r#"case "$*" in
        'is-active -- web') echo active;;
        'is-active -- old') echo inactive; exit 3;;
        'is-enabled -- web') echo enabled;;
        'is-enabled -- old') echo disabled; exit 1;;
        'is-enabled -- fixed') echo static;;
        *) echo "Failed to get unit file state for $3" >&2; exit 1;;
    esac"#;
    let script = "check(infra_test.service_is_running('web') and infra_test.service_is_enabled('web'))
        local on = \" on target 'local': it is \"
        raises(\"service_is_running: service 'old' is not running\" .. on .. 'inactive', infra_test.service_is_running, 'old')
        raises(\"service_is_enabled: service 'old' is not enabled\" .. on .. 'disabled', infra_test.service_is_enabled, 'old')
        raises(on .. 'static', infra_test.service_is_enabled, 'fixed')
        raises('service_is_enabled: `systemctl` ended with exit code 1: Failed to get', infra_test.service_is_enabled, '-x')";
    with_programs(&[("systemctl", systemctl)]).run(script).expect("every check holds");
}

#[test]
fn a_package_is_installed_only_when_its_manager_says_just_that() {
    let dpkg = r#"case "$4" in
        nginx) echo 'installed 1.22.1-9';;
        removed) echo 'config-files 1.0';;
        *) echo "dpkg-query: no packages found matching $4" >&2; exit 1;;
    esac"#;
    let script = "check(infra_test.package_is_installed('nginx') and infra_test.package_version('nginx', '1.22'))
        local missing = \"is not installed on target 'local'\"
        raises(\"package_is_installed: package 'removed' \" .. missing, infra_test.package_is_installed, 'removed')
        raises(\"package_is_installed: package 'none' \" .. missing, infra_test.package_is_installed, 'none')
        raises(\"package_version: package 'none' \" .. missing, infra_test.package_version, 'none', '1')
        raises(\"package 'nginx' has version '1.22.1-9' but expected '1.23'\", infra_test.package_version, 'nginx', '1.23')";
    with_programs(&[("dpkg-query", dpkg)]).run(script).expect("every check holds");
}

#[test]
fn packages_of_this_host_are_found() {
    if !Path::new("/var/lib/dpkg/status").exists() {
        eprintln!("this host has no dpkg: only the stand-in was asked");
        return;
    }
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    bench
        .run("check(infra_test.package_is_installed('dpkg') and infra_test.package_version('dpkg', '1.'))")
        .expect("dpkg");
}

#[test]
fn a_host_is_pinged_with_a_list_of_arguments() {
    let ping = r#"[ "$*" = '-c 2 -W 3 -- host' ] || { echo "unknown host: $*" >&2; exit 2; }"#;
    let script = "check(infra_test.ping('host', 2))
        raises(\"ping: failed to ping -f with 1 packets on target 'local': `ping` ended with exit code 2\", infra_test.ping, '-f', 1)";
    with_programs(&[("ping", ping)]).run(script).expect("every check holds");
}

#[test]
fn what_listens_is_seen_and_spoken_to() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = |address: std::io::Result<std::net::SocketAddr>| address.expect("an address").port();
    let (tcp_port, udp_port) = (port(tcp.local_addr()), port(udp.local_addr()));
    let script = format!(
        "local tcp, udp = {tcp_port}, {udp_port}
        check(infra_test.port_is_listening(tcp) and infra_test.port_is_tcp(tcp) and infra_test.port_is_listening(udp))
        check(infra_test.port_is_udp(udp) and infra_test.can_connect('127.0.0.1', tcp, 2000))
        local id = watcher.register.port({{port = tcp, when = 'exists', interval = '20ms'}})
        equal(watcher.wait(id, '5s').type, 'port.open')
        watcher.stop(id)"
    );
    Bench::new(Capabilities::all(), Phase::Run).run(&script).expect("every check holds");
}

#[test]
fn what_is_not_so_yet_ends_no_run_that_only_checks() {
    let bench = Bench::new(Capabilities::all(), Phase::Check);
    bench.run("check(infra_test.file_exists('later') and infra_test.command_fails('true'))").expect("a run");
    let lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["not so yet: file_exists: path 'later' does not exist on target 'local'", "would run: true"]);
}
