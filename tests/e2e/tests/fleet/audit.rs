//! Receipts that agents signed: listed, verified, exported, checked by the stock `minisign`, and what tampering shows.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use redb::{Database, TableDefinition};
use serde_json::Value;
use sloth_core::{AgentId, RunId};
use sloth_e2e::{Bundle, Fleet, RUN_LIMIT, Ran, until_true};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// An outcome as it stands in an entry.
const SUCCEEDED: &str = r#"\"outcome\":\"succeeded"#;
const FAILED_INSTEAD: &str = r#"\"outcome\":\"failed"#;

const WORKFLOW: &str = "task('a'):command('true')\ntask('b'):command('false')";

/// A fleet of two agents that ended two runs, all of whose receipts are in.
fn fleet() -> (Fleet, Vec<String>) {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("good", "task('a'):command('true')"));
    fleet.publish(&Bundle::new("bad", WORKFLOW));
    fleet.agents(&["web-1", "web-2"], &[]);
    let runs: Vec<String> = ["good", "bad"].iter().map(|bundle| fleet.run(bundle, "*", &[])).collect();
    for run in &runs {
        let _ = fleet.wait_ended(run);
    }
    wait_for_receipts(&fleet, 4);
    (fleet, runs)
}

fn wait_for_receipts(fleet: &Fleet, count: usize) {
    until_true("the receipts", RUN_LIMIT, || list(fleet, &[]).len() == count);
}

fn list(fleet: &Fleet, more: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "list", "-o", "json"], more].concat();
    fleet.coord(&arguments).json().as_array().expect("a list").clone()
}

fn minisign(key: &Path, file: &Path) -> Ran {
    let mut command = Command::new("minisign");
    command.args(["-V", "-p"]).arg(key).arg("-m").arg(file);
    Ran::of(command)
}

fn exported(fleet: &Fleet, name: &str, more: &[&str]) -> PathBuf {
    let dir = fleet.dir().join(name);
    let arguments = [&["audit", "export"], &[dir.to_str().expect("text")][..], more].concat();
    let _ = fleet.coord(&arguments).done();
    dir
}

#[test]
fn what_agents_signed_is_listed_and_verified() {
    let (mut fleet, runs) = fleet();
    let all = list(&fleet, &[]);
    assert!(all.iter().all(|entry| entry["verified"] == true), "{all:#?}");
    let of = |field: &str, value: &str| all.iter().filter(|entry| entry["receipt"][field] == value).count();
    assert_eq!((of("run", &runs[0]), of("run", &runs[1])), (2, 2));
    assert_eq!((of("outcome", "succeeded"), of("outcome", "failed")), (2, 2));
    let numbers = |rows: &[Value]| rows.iter().filter_map(|row| row["number"].as_u64()).collect::<Vec<_>>();
    assert_eq!(numbers(&all), [4, 3, 2, 1]);
    assert_eq!(numbers(&list(&fleet, &["--rows", "2"])), [4, 3]);
    assert_eq!(numbers(&list(&fleet, &["--rows", "2", "--before", "3"])), [2, 1]);
    assert_eq!(numbers(&list(&fleet, &["--before", "1"])), [] as [u64; 0]);
    assert_eq!(list(&fleet, &["--agent", "web-2", "--rows", "1"]).len(), 1);
    let one = list(&fleet, &["--agent", "web-2", "--run", &runs[1]]);
    let receipt = &one[0]["receipt"];
    assert!(one.len() == 1 && one[0]["agent_name"] == "web-2" && receipt["bundle"] == "bad", "{one:#?}");
    assert!(receipt["tasks"]["succeeded"] == 1 && receipt["tasks"]["failed"] == 1, "{receipt}");
    assert!(receipt["root"] == 1 && receipt["head"].as_u64().is_some_and(|head| 0 < head), "{receipt}");
    let table = fleet.coord(&["audit", "list", "--run", "latest"]).done();
    assert!(table.contains("web-1") && table.contains("2, 1 failed") && table.contains("failed"), "{table}");

    let report = fleet.coord(&["audit", "verify"]).done();
    assert!(report.contains("receipts 4 hold") && report.contains("results  4 are what was signed"), "{report}");
    let newest = report.lines().find_map(|line| line.strip_prefix("newest   ")).expect("an anchor").to_owned();
    // What was noted is still there when the chain has grown, and after a restart.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.wait_connected(&["web-1", "web-2"]);
    let run = fleet.run("good", "name=web-1", &[]);
    let _ = fleet.wait_ended(&run);
    wait_for_receipts(&fleet, 5);
    let report = fleet.coord(&["audit", "verify", "--anchor", &newest, "-o", "json"]).json();
    assert!(report["holds"] == true && report["receipts"] == 5 && report["results"] == 5, "{report}");
    let (_, digest) = newest.split_once(':').expect("a number and a digest");
    fleet.coord(&["audit", "verify", "--anchor", &format!("3:{digest}")]).refuses(FAILED, &["receipt 3", "was noted"]);
    fleet.coord(&["audit", "verify", "--anchor", &format!("9:{digest}")]).refuses(FAILED, &["receipt 9", "1 to 5"]);
    let other = format!("4:{}", "0".repeat(64));
    fleet
        .coord(&["audit", "verify", "--anchor", &newest, "--anchor", &other])
        .refuses(FAILED, &["receipt 4", "was noted"]);
    fleet.coord(&["audit", "verify", "--anchor", "9:zz"]).refuses(USAGE, &["64 hexadecimal digits"]);
}

#[test]
fn an_export_is_checked_by_minisign_and_without_a_coordinator() {
    let (mut fleet, runs) = fleet();
    let dir = exported(&fleet, "audit", &[]);
    for entry in list(&fleet, &[]) {
        let key = dir.join("keys").join(format!("{}.pub", entry["receipt"]["agent"].as_str().expect("an agent")));
        let file = dir.join("receipts").join(format!("{}.json", entry["number"]));
        let said = minisign(&key, &file).done();
        assert!(said.contains("sloth:receipt:"), "{said}");
        let text = std::fs::read_to_string(&file).expect("the receipt");
        let receipt: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(receipt, entry["receipt"]);
    }
    let file = dir.join("receipts/1.json");
    let text = std::fs::read_to_string(&file).expect("the receipt");
    crate::bad_input::put(&file, &text.replace("succeeded\"", "failed\""));
    let key = std::fs::read_dir(dir.join("keys")).expect("keys").next().expect("one").expect("one").path();
    minisign(&key, &file).expect(FAILED);
    assert_eq!(
        std::fs::read_dir(exported(&fleet, "one", &["--run", &runs[0]]).join("receipts")).expect("there").count(),
        4
    );

    // What lies there already would pass for a part of another export.
    fleet.coord(&["audit", "export", dir.to_str().expect("text")]).refuses(USAGE, &["is not empty"]);

    fleet.kill_coordinator();
    let offline = ["audit", "verify", "--export", dir.to_str().expect("text")];
    let report = fleet.coord(&offline).done();
    assert!(report.contains("receipts 4 hold"), "{report}");
    let chain = dir.join("receipts.jsonl");
    let whole = std::fs::read_to_string(&chain).expect("the chain");
    let without_last = whole.trim_end().rsplit_once('\n').expect("lines").0;
    for (changed, parts) in [
        (whole.replacen(SUCCEEDED, FAILED_INSTEAD, 1), ["receipt", "of agent", "on run", "did not sign"]),
        (format!("{without_last}\n"), ["receipt 4", "missing", "up to 4", "off the end"]),
        (whole.replacen("{\"number\":1,", "{\"number\":7,", 1), ["receipt 1", "missing", "7", "taken out"]),
    ] {
        crate::bad_input::put(&chain, &changed);
        fleet.coord(&offline).refuses(FAILED, &parts);
    }
    let report = fleet.coord(&[&offline[..], &["-o", "json"]].concat());
    assert!(report.stdout.contains("\"holds\":false") && report.stdout.contains("\"broken\""), "{report}");
}

/// Changes a row of the coordinator's database, as whoever has its disk can.
fn tamper(fleet: &Fleet, table: &'static str, key: &[u8], change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let database = Database::open(fleet.coordinator_dir().join("coordinator.redb")).expect("opened");
    let transaction = database.begin_write().expect("begun");
    {
        let table = TableDefinition::<&[u8], &[u8]>::new(table);
        let mut table = transaction.open_table(table).expect("the table");
        let row = table.remove(key).expect("removed").expect("there").value().to_vec();
        table.insert(key, change(row).as_slice()).expect("put");
    }
    transaction.commit().expect("committed");
}

fn swapped(from: &'static str, to: &'static str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    move |row| {
        let text = String::from_utf8(row).expect("a text");
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    }
}

#[test]
fn what_was_changed_in_the_database_is_named() {
    let (mut fleet, _) = fleet();
    let all = list(&fleet, &[]);
    let (agent, run) = (&all[2]["receipt"]["agent"], &all[2]["receipt"]["run"]);
    let (agent, run) = (agent.as_str().expect("text").to_owned(), run.as_str().expect("text").to_owned());
    let named = ["receipt 2", &agent, &run, "did not sign"];
    fleet.kill_coordinator();
    tamper(&fleet, "receipts", &2_u64.to_be_bytes(), swapped("\\\"outcome\\\":\\\"", "\\\"outcome\\\": \\\""));
    fleet.start_coordinator();
    fleet.coord(&["audit", "verify"]).refuses(FAILED, &named);
    let shown = list(&fleet, &[]);
    let verified: Vec<&Value> = shown.iter().map(|entry| &entry["verified"]).collect();
    assert_eq!(verified, [true, true, false, true]);
    // Runs go on, and receipts are chained to those that are there.
    fleet.wait_connected(&["web-1", "web-2"]);
    let more = fleet.run("good", "name=web-1", &[]);
    let _ = fleet.wait_ended(&more);
    wait_for_receipts(&fleet, 5);
    fleet.coord(&["audit", "verify"]).refuses(FAILED, &named);
    fleet.kill_coordinator();
    tamper(&fleet, "receipts", &2_u64.to_be_bytes(), swapped("\\\"outcome\\\": \\\"", "\\\"outcome\\\":\\\""));
    fleet.start_coordinator();
    assert!(fleet.coord(&["audit", "verify"]).done().contains("receipts 5 hold"));
    // Without the end, nothing is left that a chain would have to have.
    fleet.kill_coordinator();
    tamper(&fleet, "meta", b"receipts", |_| vec![1, 0, 0]);
    fleet.start_coordinator();
    fleet.coord(&["audit", "verify"]).refuses(FAILED, &["receipt 1", "is said to end before it"]);
}

#[test]
fn a_result_that_is_not_what_was_signed_is_named() {
    let (mut fleet, runs) = fleet();
    let all = list(&fleet, &["--run", &runs[1]]);
    let (number, agent) = (&all[0]["number"], all[0]["receipt"]["agent"].as_str().expect("text").to_owned());
    let named = [&format!("receipt {number} of agent `{agent}`"), runs[1].as_str(), "the message of its end"];
    let key =
        [runs[1].parse::<RunId>().expect("an id").to_bytes(), agent.parse::<AgentId>().expect("an id").to_bytes()];
    fleet.kill_coordinator();
    tamper(&fleet, "jobs", key.as_flattened(), |row| {
        let at = row.windows(4).position(|bytes| bytes == b"fail").expect("a message of a failure");
        [&row[..at], b"good", &row[at + 4..]].concat()
    });
    fleet.start_coordinator();
    assert!(fleet.show(&runs[1]).jobs.iter().any(|job| job.message.contains("good")), "operators are told so");
    fleet.coord(&["audit", "verify"]).refuses(FAILED, &named);
    // What is not shown to anybody is not compared either: of an export, the receipts alone are looked at.
    let dir = exported(&fleet, "audit", &[]);
    fleet.coord(&["audit", "verify", "--export", dir.to_str().expect("text")]).expect(0);
}

#[test]
fn heads_that_were_taken_off_either_end_are_missed() {
    let (mut fleet, _) = fleet();
    let dir = exported(&fleet, "audit", &[]);
    fleet.kill_coordinator();
    let offline = ["audit", "verify", "--export", dir.to_str().expect("text")];
    let heads = dir.join("heads.jsonl");
    let whole = std::fs::read_to_string(&heads).expect("the heads");
    let lines: Vec<&str> = whole.lines().collect();
    assert!(2 < lines.len(), "{whole}");
    for (kept, parts) in [
        (&lines[1..], ["head ", "is missing", "the head after it names it"]),
        (&lines[..lines.len() - 1], ["head ", "is missing", "off the end"]),
    ] {
        crate::bad_input::put(&heads, &format!("{}\n", kept.join("\n")));
        fleet.coord(&offline).refuses(FAILED, &parts);
    }
    // Nor does it help to say that the chain had grown too long for them.
    crate::bad_input::put(&heads, &format!("{}\n", lines[1..].join("\n")));
    let first: Value = serde_json::from_str(lines[1]).expect("a head");
    let ends = dir.join("chain.json");
    let mut said: Value = serde_json::from_slice(&std::fs::read(&ends).expect("the ends")).expect("JSON");
    said["heads"]["dropped"] = first["previous"].clone();
    crate::bad_input::put(&ends, &said.to_string());
    fleet.coord(&offline).refuses(FAILED, &["heads", "because it was full", "off the beginning"]);
}
