//! Operators whose credentials are withdrawn.

#![allow(clippy::expect_used, clippy::panic, reason = "these are tests")]

use sloth_core::Millis;
use sloth_protocol::{
    coordinator::{Answer, Command, Coordinator, Durable, Event, OPERATORS_MAX, Output, Reply, Settings, Write},
    wire::{OperatorsPage, RefusalCode},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const UNTIL: Millis = Millis::from_secs(1_730_000_000);
const HOUR: Millis = Millis::from_secs(3600);

fn coordinator() -> Coordinator {
    Coordinator::restore(Durable::default(), Settings::default(), NOW, 1).expect("restored")
}

fn ask(machine: &mut Coordinator, now: Millis, operator: &str, command: Command) -> Output {
    machine.handle(now, Event::Command { ticket: 1, operator: operator.to_owned(), command })
}

fn greet(machine: &mut Coordinator, now: Millis, operator: &str) -> Output {
    ask(machine, now, operator, Command::Greet { until: UNTIL })
}

fn revoke(machine: &mut Coordinator, operator: &str, name: &str) -> Output {
    ask(machine, NOW, operator, Command::RevokeOperator(name.to_owned()))
}

fn refusal(output: &Output) -> (RefusalCode, String) {
    match &output.answers[..] {
        [(1, Answer::Refused(refusal))] => (refusal.code, refusal.reason.clone()),
        answers => panic!("{answers:?}"),
    }
}

fn reply(output: Output) -> Reply {
    match <[_; 1]>::try_from(output.answers) {
        Ok([(1, Answer::Operator(reply))]) => reply,
        answers => panic!("{answers:?}"),
    }
}

fn listed(machine: &mut Coordinator, after: Option<&str>) -> OperatorsPage {
    let after = after.map(str::to_owned);
    let reply = reply(ask(machine, NOW, "ann", Command::Operators { after }));
    let Reply::Operators(page) = reply else { panic!("{reply:?}") };
    page
}

#[test]
fn who_has_connected_is_listed_and_written_down_once_an_hour() {
    let mut machine = coordinator();
    assert_eq!(greet(&mut machine, NOW, "ann").writes.len(), 1);
    assert!(greet(&mut machine, NOW + HOUR, "ann").writes.is_empty());
    assert_eq!(greet(&mut machine, NOW + HOUR + HOUR, "ann").writes.len(), 1);
    // A new credential is news.
    let later = Command::Greet { until: UNTIL + HOUR };
    assert_eq!(ask(&mut machine, NOW + HOUR + HOUR, "ann", later).writes.len(), 1);
    let _ = greet(&mut machine, NOW, "bob");
    let page = listed(&mut machine, None);
    let names: Vec<&str> = page.operators.iter().map(|operator| operator.name.as_str()).collect();
    assert_eq!((names, page.more), (vec!["ann", "bob"], false));
    let ann = &page.operators[0];
    assert_eq!((ann.first_seen, ann.until), (Some(NOW), Some(UNTIL + HOUR)));
    assert_eq!(listed(&mut machine, Some("ann")).operators.len(), 1);
}

#[test]
fn a_withdrawn_name_is_refused_everything_for_good() {
    let mut machine = coordinator();
    let _ = greet(&mut machine, NOW, "ann");
    let _ = greet(&mut machine, NOW, "bob");
    let output = revoke(&mut machine, "ann", "bob");
    assert_eq!(output.withdrawn, ["bob"]);
    assert!(matches!(&output.writes[..], [Write::PutOperator(name, _)] if name == "bob"));
    assert!(matches!(reply(output), Reply::Operator(view) if view.withdrawn.is_some()));
    // Also what it had sent before, and after a restart; also what only looks.
    let mut again = Coordinator::restore(machine.durable().clone(), Settings::default(), NOW, 1).expect("restored");
    for machine in [&mut machine, &mut again] {
        for command in [Command::Greet { until: UNTIL }, Command::Root, Command::RevokeOperator("ann".to_owned())] {
            let output = ask(machine, NOW + HOUR, "bob", command);
            let (code, reason) = refusal(&output);
            assert!(code == RefusalCode::Denied && reason.contains("withdrawn on") && reason.contains("`ann`"));
            assert!(output.writes.is_empty() && output.withdrawn.is_empty());
        }
    }
    // Once more closes what came in between, and says who did it first.
    let _ = greet(&mut machine, NOW, "carol");
    let output = revoke(&mut machine, "carol", "bob");
    assert!(output.writes.is_empty() && output.withdrawn == ["bob"]);
    let reply = reply(output);
    let Reply::Operator(view) = reply else { panic!("{reply:?}") };
    assert_eq!(view.withdrawn.expect("withdrawn").by, "ann");
}

#[test]
fn a_name_that_never_came_can_be_withdrawn_and_ones_own_cannot() {
    let mut machine = coordinator();
    let _ = greet(&mut machine, NOW, "ann");
    assert!(
        matches!(reply(revoke(&mut machine, "ann", "mallory")), Reply::Operator(view) if view.first_seen.is_none())
    );
    assert_eq!(refusal(&greet(&mut machine, NOW, "mallory")).0, RefusalCode::Denied);
    assert_eq!(refusal(&revoke(&mut machine, "ann", "ann")).0, RefusalCode::Conflict);
    for name in ["", "a b", "\u{e4}", "a/b", &"a".repeat(64)] {
        assert_eq!(refusal(&revoke(&mut machine, "ann", name)).0, RefusalCode::Invalid, "{name}");
    }
}

#[test]
fn those_that_were_only_seen_make_room_and_those_withdrawn_do_not() {
    let mut machine = coordinator();
    let _ = greet(&mut machine, NOW, "ann");
    for number in 1..OPERATORS_MAX {
        let _ = revoke(&mut machine, "ann", &format!("thief-{number}"));
    }
    assert_eq!(machine.durable().operators.len(), OPERATORS_MAX);
    let page = listed(&mut machine, None);
    assert!(page.more && page.operators.len() == 500);
    let output = greet(&mut machine, NOW + HOUR, "bob");
    assert!(output.writes.iter().any(|write| matches!(write, Write::DropOperator(name) if name == "ann")));
    assert_eq!(machine.durable().operators.len(), OPERATORS_MAX);
    let _ = revoke(&mut machine, "ann", "bob");
    let (code, reason) = refusal(&greet(&mut machine, NOW + HOUR, "carol"));
    assert!(code == RefusalCode::TooLarge && reason.contains("make a new coordinator"), "{reason}");
}
