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
