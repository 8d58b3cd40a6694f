//! What a service manager hears of a supervisor.

use std::os::unix::net::UnixDatagram;

use sloth_e2e::until;

use crate::host::{Host, START_LIMIT, UPDATE_LIMIT};

/// Half of this is how often a sign of life is given.
const WATCHDOG_MICROS: &str = "200000";

#[test]
fn a_service_manager_hears_when_the_daemon_is_ready_and_that_all_is_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let heard = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
    heard.set_read_timeout(Some(START_LIMIT)).expect("a limit");
    let place = dir.path().join("agent");
    let mut host = Host::new(place.clone(), place, None, &dir.path().join("log"));
    host.give("NOTIFY_SOCKET", &dir.path().join("notify").display().to_string());
    host.give("WATCHDOG_USEC", WATCHDOG_MICROS);
    host.start();
    let next = |wanted: &str| {
        until(wanted, UPDATE_LIMIT, || {
            let mut bytes = [0; 4096];
            let read = heard.recv(&mut bytes).expect("a word");
            let word = String::from_utf8_lossy(&bytes[..read]).into_owned();
            word.starts_with(wanted).then_some(word)
        })
    };
    assert_eq!(next("STATUS="), "STATUS=version 1.1.0 starts");
    next("READY=1");
    next("WATCHDOG=1");
    next("WATCHDOG=1");
    host.stop();
    next("STOPPING=1");
}
