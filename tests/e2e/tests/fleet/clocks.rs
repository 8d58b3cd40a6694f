//! Clocks at 1970, in 2040, and set back by a year: of a host and of the coordinator, while they run and when they are
//! started. Each time the fleet ends healthy, no host is touched, and what was running goes on.

use std::time::Duration;

use sloth_e2e::{RunView, until, until_true};

use crate::drills::Drill;

/// A clock without a battery, half a minute after its host was switched on.
const AT_1970: &str = "@1970-01-01 00:00:30";
/// After everything has expired.
const IN_2040: &str = "@2040-01-01 00:00:00";
/// Before anything was made.
const A_YEAR_BACK: &str = "-365d";
/// As the machine's own.
const RIGHT: &str = "+0";
/// How long a fleet may take to go on when a clock is right again: what is held back is asked for every minute, and who
/// could not connect tries again after as long as that.
const MENDED_LIMIT: Duration = Duration::from_secs(180);

/// A fleet whose host has a clock that can be set.
fn host() -> Drill {
    Drill::begin_with(|fleet| fleet.set_clock(Some("web-1"), RIGHT))
}

/// A fleet whose coordinator has one.
fn coordinator() -> Drill {
    Drill::begin_with(|fleet| {
        fleet.kill_coordinator();
        fleet.set_clock(None, RIGHT);
        fleet.start_coordinator();
    })
}

fn set_host(drill: &mut Drill, time: &str) {
    drill.fleet.set_clock(Some("web-1"), time);
}

fn restart_host(drill: &mut Drill) {
    drill.fleet.kill_agent("web-1");
    drill.fleet.start_agent("web-1");
}

fn restart_coordinator(drill: &mut Drill) {
    drill.fleet.kill_coordinator();
    drill.fleet.start_coordinator();
}

fn wait_logged(drill: &mut Drill, words: &str) {
    until_true(&format!("`{words}` in the agent's log"), MENDED_LIMIT, || drill.log().contains(words));
}

/// The end of a run that had to wait for a clock.
fn ended(drill: &Drill, run: &str) -> RunView {
    until("the end of a run that was held back", MENDED_LIMIT, || Some(drill.fleet.show(run)).filter(|view| view.ended))
}

/// Runs are done again, by and by.
fn mended(drill: &Drill) {
    until_true("a connected agent", MENDED_LIMIT, || {
        let ran = drill.fleet.coord(&["agents", "list", "-o", "json"]);
        // Operators are kept out for as long as agents are.
        ran.code == Some(0) && ran.json()[0]["connected"] == true
    });
    let run = drill.fleet.run("job", "*", &[]);
    let view = ended(drill, &run);
    assert_eq!(view.only().state, "succeeded", "{view:?}");
}

#[test]
fn a_host_whose_clock_falls_back_works_on() {
    for time in [AT_1970, A_YEAR_BACK] {
        let mut drill = host();
        set_host(&mut drill, time);
        drill.runs(time);
        // Its clock stays as it is.
        drill.healthy(time);
    }
}

#[test]
fn a_host_that_starts_in_the_past_works_on() {
    let mut drill = host();
    for time in [AT_1970, A_YEAR_BACK] {
        set_host(&mut drill, time);
        restart_host(&mut drill);
        drill.fleet.wait_connected(&["web-1"]);
        drill.runs(time);
    }
    set_host(&mut drill, RIGHT);
    drill.runs("a clock that is right again");
}

#[test]
fn a_host_whose_clock_jumps_to_2040_begins_nothing_until_it_is_right_again() {
    let mut drill = host();
    set_host(&mut drill, IN_2040);
    let held = drill.fleet.run("job", "*", &[]);
    wait_logged(&mut drill, "no new work is begun");
    assert!(!drill.fleet.show(&held).ended, "it waits");
    set_host(&mut drill, RIGHT);
    let view = ended(&drill, &held);
    assert_eq!(view.only().state, "succeeded", "{view:?}");
    drill.healthy("a clock that was in 2040");
}

#[test]
fn a_host_that_starts_in_2040_says_so_and_comes_back_when_its_clock_is_right() {
    let mut drill = host();
    set_host(&mut drill, IN_2040);
    restart_host(&mut drill);
    wait_logged(&mut drill, "this host's clock says 2040-01-01");
    set_host(&mut drill, RIGHT);
    mended(&drill);
}

#[test]
fn a_host_that_enrols_at_1970_is_told_what_its_clock_says() {
    let mut drill = host();
    let token = drill.fleet.token(&[]);
    let dir = drill.fleet.host("new").dir.display().to_string();
    let enrol = |drill: &Drill| {
        let arguments = ["enroll", &token, "--name", "new", "--dir", &dir];
        sloth_e2e::Ran::of(drill.fleet.agent_command("new", &arguments))
    };
    drill.fleet.set_clock(Some("new"), AT_1970);
    enrol(&drill).refuses(crate::bad_input::REFUSED, &["this host's clock says 1970-01-01", "set the clock"]);
    drill.fleet.set_clock(Some("new"), RIGHT);
    let _ = enrol(&drill).expect(0);
    drill.fleet.start_agent("new");
    drill.fleet.wait_connected(&["new"]);
    let run = drill.fleet.run("job", "name=new", &[]);
    assert_eq!(drill.fleet.wait_ended(&run).only().state, "succeeded");
}

#[test]
fn a_coordinator_whose_clock_falls_back_works_on() {
    for time in [AT_1970, A_YEAR_BACK] {
        let mut drill = coordinator();
        drill.fleet.set_clock(None, time);
        until_true("a coordinator that saw it", MENDED_LIMIT, || {
            drill.fleet.coordinator().stderr().contains("the clock was set back")
        });
        drill.fleet.set_clock(None, RIGHT);
        mended(&drill);
        drill.healthy(time);
    }
}

#[test]
fn a_coordinator_whose_clock_jumps_to_2040_goes_on_when_it_is_right_again() {
    let mut drill = coordinator();
    drill.fleet.set_clock(None, IN_2040);
    // Nobody's certificate counts any more by its clock.
    wait_logged(&mut drill, "the agent's certificate has ended");
    let ran = drill.fleet.coord(&["agents", "list"]);
    assert!(ran.stderr.contains("refused our certificate"), "{ran}");
    drill.fleet.set_clock(None, RIGHT);
    until_true("a coordinator that saw it", MENDED_LIMIT, || {
        drill.fleet.coordinator().stderr().contains("the clock was set back")
    });
    mended(&drill);
    drill.healthy("a coordinator that was in 2040");
}

#[test]
fn a_coordinator_that_starts_at_1970_has_its_agents_back_when_its_clock_is_right() {
    starts_wrong(AT_1970);
}

#[test]
fn a_coordinator_that_starts_a_year_back_has_its_agents_back_when_its_clock_is_right() {
    starts_wrong(A_YEAR_BACK);
}

#[test]
fn a_coordinator_that_starts_in_2040_has_its_agents_back_when_its_clock_is_right() {
    starts_wrong(IN_2040);
}

/// A coordinator makes its own certificate by its clock, so that nobody believes it until both are right.
fn starts_wrong(time: &str) {
    let mut drill = coordinator();
    drill.fleet.set_clock(None, time);
    restart_coordinator(&mut drill);
    wait_logged(&mut drill, "this host's clock says");
    drill.fleet.set_clock(None, RIGHT);
    mended(&drill);
    drill.healthy(time);
}
