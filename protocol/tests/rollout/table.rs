//! One situation, one verdict. A wave's hosts are letters: `w` waits in reach, `a` waits out of reach, `u` is under
//! way, `s` soaks, `p` is proven, `f` failed, `h` is held and `H` has been for
//! long, `x` is silent, `r` returns, `b` is back; `U`, `S` and `X` are about to
//! stand otherwise by what was heard of them, or was not.

use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    rollout::{Contact, HELD_RETRY, Host, Plan, Presence, Progress, RETURN_SLACK, Situation, Standing, Verdict, plan},
    wire::{Approval, RolloutSpec, RolloutStatus, WindowSpec},
};

use super::{NOW, RHYTHM, SILENT_AFTER, TIMEOUT, host, read, share, spec, wave};

const SOAK: Millis = Millis::from_secs(600);

/// What the planner says of `waves`, with settings such as `open=1 max=2 errors=0 paused`.
#[track_caller]
fn check_plan(settings: &str, waves: &str, expected: &str) {
    assert_eq!(said(&decide(settings, waves).verdict), expected, "{settings}: {waves}");
}

fn decide(settings: &str, waves: &str) -> Plan {
    let (spec, progress) = ask(settings, waves.split('|').count());
    let spec = read(&spec);
    let hosts: Vec<Host> = waves
        .split('|')
        .enumerate()
        .flat_map(|(wave, letters)| letters.chars().enumerate().map(move |(place, letter)| member(wave, place, letter)))
        .collect();
    plan(&Situation { now: NOW, spec: &spec, progress, hosts: &hosts })
}

fn ask(settings: &str, waves: usize) -> (RolloutSpec, Progress) {
    let shares = (1..waves).map(|count| share(&count.to_string())).chain([share("100%")]);
    let mut spec = spec(shares.map(|share| wave(share, SOAK)).collect());
    let mut progress = Progress { status: RolloutStatus::Running, open: 1, approved: 0, passed: 0 };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    for setting in settings.split_whitespace() {
        match setting.split_once('=').unwrap_or((setting, "")) {
            ("open", count) => progress.open = number(count),
            ("approved", count) => progress.approved = number(count),
            ("passed", count) => progress.passed = number(count),
            ("max", most) => spec.unproven_max = share(most),
            ("errors", most) => spec.errors_per_wave = share(most),
            ("all", most) => spec.errors_in_all = share(most),
            ("proven", least) => spec.proven_min = share(least),
            ("approve", wave) => spec.waves[number(wave) - 1].approval = Approval::Needed,
            ("window", minutes) => spec.windows = vec![window(minutes)],
            ("paused", _) => progress.status = RolloutStatus::Paused,
            ("halted", _) => progress.status = RolloutStatus::Halted,
            ("complete", _) => progress.status = RolloutStatus::Complete,
            ("back", _) => progress.status = RolloutStatus::RollingBack,
            (other, _) => panic!("no setting `{other}`"),
        }
    }
    (spec, progress)
}

/// A window of UTC; [`NOW`] is 22:13 there.
fn window(minutes: &str) -> WindowSpec {
    let (from, until) = minutes.split_once('-').expect("two minutes");
    let (from, until) = (from.parse().expect("a minute"), until.parse().expect("a minute"));
    WindowSpec { days: 0x7f, from, until, zone: "UTC".to_owned(), rules: "UTC0".to_owned() }
}

fn member(wave: usize, place: usize, letter: char) -> Host {
    let connected =
        Contact { presence: Presence::Connected, heard: Some(NOW), quiet_from: NOW - TIMEOUT, rhythm: RHYTHM };
    let gone = |ago: u64| Contact { presence: Presence::Gone, heard: Some(NOW - Millis::from_secs(ago)), ..connected };
    let lately = NOW - Millis::from_secs(60);
    let patience = RHYTHM.as_u64() / 1000 * u64::from(SILENT_AFTER) + RETURN_SLACK.as_u64() / 1000;
    let (standing, contact) = match letter {
        'w' => (Standing::Waiting, connected),
        'a' => (Standing::Waiting, gone(1_000)),
        'u' => (Standing::Assigned { at: lately }, connected),
        'U' => (Standing::Assigned { at: NOW - Millis::from_secs(2_000) }, gone(patience)),
        'v' => (Standing::Assigned { at: NOW - Millis::from_secs(2_000) }, gone(patience - 1)),
        't' => (Standing::Assigned { at: NOW - TIMEOUT }, connected),
        's' => (Standing::Succeeded { at: lately }, connected),
        'S' => (Standing::Succeeded { at: NOW - SOAK }, connected),
        'D' => (Standing::Succeeded { at: NOW - SOAK }, gone(590)),
        'p' => (Standing::Proven, connected),
        'f' => (Standing::Failed, connected),
        'h' => (Standing::Held { at: lately }, connected),
        'H' => (Standing::Held { at: NOW - HELD_RETRY }, connected),
        'x' => (Standing::Silent { at: lately, succeeded: None }, gone(1_000)),
        'X' => (Standing::Silent { at: lately, succeeded: None }, connected),
        'r' => (Standing::Returning { at: lately }, connected),
        'b' => (Standing::Returned, connected),
        other => panic!("no host is `{other}`"),
    };
    let place = u64::try_from(place).expect("few hosts");
    Host { id: host(u64::try_from(wave).expect("few waves") * 100 + place), wave, place, standing, contact }
}

/// A verdict in a line. Hosts are named by wave and place, both from 1.
fn said(verdict: &Verdict) -> String {
    let name = |id: &AgentId| {
        let number = (0..10_000).find(|number| host(*number) == *id).expect("a host of this test");
        format!("{}.{}", number / 100 + 1, number % 100 + 1)
    };
    let names = |hosts: &[AgentId]| hosts.iter().map(name).collect::<Vec<_>>().join(" ");
    match verdict {
        Verdict::Settle(changes) => {
            let changes = changes.iter().map(|(id, standing)| format!("{} {}", name(id), standing.name()));
            format!("settle {}", changes.collect::<Vec<_>>().join(" "))
        }
        Verdict::Open { wave } => format!("open {}", wave + 1),
        Verdict::Assign(hosts) => format!("assign {}", names(hosts)),
        Verdict::Wait(reasons) => {
            let codes: Vec<_> = reasons.iter().map(|reason| reason.code()).collect();
            format!("wait {}", codes.join(" ")).trim_end().to_owned()
        }
        Verdict::Halt(halt) => format!("halt {}", halt.code()),
        Verdict::Complete => "complete".to_owned(),
        Verdict::RollBack(hosts) => format!("back {}", names(hosts)),
    }
}

#[test]
fn hosts_are_assigned_by_wave_and_place_up_to_the_bound() {
    check_plan("open=0", "w|ww", "open 1");
    check_plan("open=1", "ww|ww", "assign 1.1 1.2");
    check_plan("open=1 max=1", "ww|ww", "assign 1.1");
    check_plan("open=2 max=3", "pu|www", "assign 2.1 2.2");
    check_plan("open=2 max=50%", "puw|www", "assign 1.3 2.1");
    // A part of few is never nobody.
    check_plan("open=1 max=1%", "ww|ww", "assign 1.1");
}

#[test]
fn failed_silent_and_watched_hosts_are_unproven() {
    for unproven in ["u", "s"] {
        check_plan("max=1 errors=1", &format!("{unproven}w|ww"), "wait full under_way");
        check_plan("max=2 errors=1", &format!("f{unproven}w|ww"), "wait full under_way");
        check_plan("max=2 errors=1", &format!("x{unproven}w|ww"), "wait full under_way");
    }
    check_plan("max=1 errors=1", "fw|ww", "halt no_room");
    check_plan("max=2 errors=2", "fxw|ww", "halt no_room");
    check_plan("max=2 errors=2", "fxp|ww", "open 2");
    check_plan("max=1", "pw|ww", "assign 1.2");
}

#[test]
fn hosts_that_rules_of_their_own_hold_back_hold_nobody_up() {
    check_plan("open=1 proven=100%", "hp|w", "open 2");
    check_plan("open=2", "p|hp", "complete");
    check_plan("open=2 complete", "p|hp", "wait held");
    // Nothing shows that a wave of them is well, and what fails beside them is all that there was.
    check_plan("open=1", "hh|w", "wait no_evidence held");
    check_plan("open=1 errors=1", "hf|w", "halt wave_budget");
    check_plan("open=1 max=1", "hw|w", "assign 1.2");
    check_plan("open=1", "hu|w", "wait under_way held");
    // Later they are asked again, by wave and window.
    check_plan("open=1", "Hp|H", "assign 1.1");
    check_plan("open=1 window=60-120", "Hp|w", "wait closed held");
    check_plan("back", "hH|w", "complete");
    let held = decide("open=1 complete", "h");
    assert_eq!(held.wake_at, Some(NOW - Millis::from_secs(60) + HELD_RETRY));
}

#[test]
fn nothing_is_assigned_outside_the_windows() {
    check_plan("window=1320-240", "w|w", "assign 1.1");
    check_plan("window=60-120", "w|w", "wait closed");
    check_plan("window=60-120", "pu|w", "wait under_way");
    let waiting = decide("window=60-120", "w|w");
    // From 22:13:20 to 01:00.
    assert_eq!(waiting.wake_at, Some(NOW + Millis::from_secs(2 * 3600 + 46 * 60 + 40)));
}

#[test]
fn a_wave_is_passed_when_nobody_in_reach_is_left_and_somebody_is_proven() {
    check_plan("open=1", "pp|ww", "open 2");
    check_plan("open=1", "pu|ww", "wait under_way");
    check_plan("open=1", "ps|ww", "wait under_way");
    check_plan("open=1", "pa|ww", "open 2");
    check_plan("open=1", "aa|ww", "wait no_evidence away");
    check_plan("open=1 errors=1", "fa|ww", "wait no_evidence away");
    check_plan("open=1", "|ww", "open 2");
    check_plan("open=1 passed=1", "aa|ww", "open 2");
    check_plan("open=1 proven=50%", "paaa|ww", "wait too_few away");
    check_plan("open=1 proven=50%", "ppaa|ww", "open 2");
    // Who comes later into a wave that was passed is assigned, and holds up nobody.
    check_plan("open=2", "pw|p|w", "assign 1.2");
    check_plan("open=2", "pu|p|w", "open 3");
}

#[test]
fn operators_let_waves_begin() {
    check_plan("open=0 approve=1", "w|w", "wait approval");
    check_plan("open=0 approve=1 approved=1", "w|w", "open 1");
    check_plan("open=1 approve=2", "p|w", "wait approval");
    check_plan("open=1 approve=2", "u|w", "wait under_way");
    check_plan("open=1 approve=2 approved=2", "p|w", "open 2");
}

#[test]
fn over_budget_everything_stops() {
    check_plan("open=1", "fw|ww", "halt wave_budget");
    check_plan("open=1", "xw|ww", "halt wave_budget");
    check_plan("open=1 errors=1", "fxw|ww", "halt wave_budget");
    check_plan("open=1 errors=1", "fw|ww", "assign 1.2");
    check_plan("open=2 errors=1 all=1", "fp|fw", "halt whole_budget");
    check_plan("open=2 errors=50%", "fp|fw", "assign 2.2");
    check_plan("open=2 errors=50%", "fp|ffw", "halt wave_budget");
    // Whatever the budget, a wave does not fail whole.
    check_plan("open=1 errors=100%", "ff|ww", "halt wave_budget");
    check_plan("halted", "fw|ww", "wait");
    check_plan("paused", "fw|ww", "wait paused");
    check_plan("complete open=2", "ff|pp", "halt wave_budget");
}

#[test]
fn silence_counts_by_a_hosts_own_rhythm() {
    check_plan("open=1", "U|w", "settle 1.1 silent");
    check_plan("open=1", "v|w", "wait under_way");
    check_plan("open=1", "t|w", "settle 1.1 failed");
    check_plan("open=1", "X|w", "settle 1.1 under_way");
    check_plan("open=1", "S|w", "settle 1.1 proven");
    // It was well for some of its soak, and then nothing was heard of it.
    check_plan("open=1", "D|w", "settle 1.1 silent");
}

#[test]
fn it_ends_when_everybody_in_reach_is_proven() {
    check_plan("open=2", "pp|pp", "complete");
    check_plan("open=2", "pa|pa", "complete");
    check_plan("open=2", "pp|ps", "wait under_way");
    check_plan("open=2", "ps|pp", "wait");
    check_plan("complete open=2", "pp|pp", "wait");
    check_plan("complete open=2", "pw|pw", "assign 1.2 2.2");
    check_plan("complete open=2", "aa|pa", "wait away");
}

#[test]
fn whoever_was_changed_goes_back() {
    check_plan("back open=2", "pf|sx|ww", "back 1.1 2.1 1.2");
    check_plan("back open=2", "rb|u|ww", "wait returning still_changing");
    check_plan("back open=2", "bb|x|ww", "complete");
}

#[test]
fn every_wait_says_when_time_may_end_it() {
    for (settings, waves, after) in [
        ("open=1", "u|w", TIMEOUT.as_u64() / 1000 - 60),
        ("open=1", "s|w", SOAK.as_u64() / 1000 - 60),
        ("open=1", "v|w", 1),
        ("back", "r|w", TIMEOUT.as_u64() / 1000 - 60),
    ] {
        let plan = decide(settings, waves);
        assert_eq!(plan.wake_at, Some(NOW + Millis::from_secs(after)), "{settings}: {waves}: {plan:?}");
    }
    assert_eq!(decide("open=1", "aa|w").wake_at, None);
}
