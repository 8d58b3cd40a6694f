use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redb::{ReadableDatabase as _, StorageBackend, backends::FileBackend};
use serde_json::json;
use sloth_core::{Chain, Digest, RunId};
use sloth_protocol::{
    agent::{Basis, Job, Stage, TaskState, Update, UpdateStage},
    random::Random,
    wire::{Class, LogStream, OnInterrupt, RecordBody, RunEnd, RunOutcome, TaskEnd, TaskName, TaskStatus},
};
use sloth_trust::{Delta, ManifestRef, Seen, Sha256};

use sloth_workflow::{Holder, Lifetime, Place, StateStats};

use super::*;

const NOW: Millis = Millis::from_secs(1_700_000_000);

fn run_id(n: u64) -> RunId {
    RunId::new(NOW, n.into())
}

fn task(n: u64) -> TaskName {
    TaskName { workflow: "w".into(), task: format!("t{n}") }
}

fn end(n: u64) -> TaskEnd {
    let (status, outputs) = (TaskStatus::Succeeded, "{\"a\":1}".to_owned());
    TaskEnd { task: task(n), status, attempts: 1, message: "m".into(), outputs, started: NOW, ended: NOW }
}

fn job(n: u64, starts: u32) -> Job {
    Job {
        run: run_id(n),
        bundle: "web".parse().expect("a name"),
        version: "1".into(),
        manifest: Digest::of(&n.to_be_bytes()),
        manifest_bytes: n,
        capabilities: vec!["exec".into()],
        workflow: n.is_multiple_of(2).then(|| "w".into()),
        values: "{}".into(),
        basis: Basis { order: n, counter: n, root: 1, head: n },
        begun: (starts != 0).then_some(NOW),
        deadline: NOW,
        cancelled: n.is_multiple_of(3),
        stage: if starts == 0 { Stage::Accepted } else { Stage::Running { starts } },
    }
}

fn body(random: &mut Random, lane: Lane) -> RecordBody {
    match (lane, random.below(5)) {
        (Lane::Logs, n) => {
            let text = "x".repeat(usize::try_from(random.below(300)).expect("small"));
            RecordBody::Log { task: (n == 0).then(|| task(n)), stream: LogStream::Stdout, text }
        }
        (Lane::Results, 0) => RecordBody::RunStarted,
        (Lane::Results, 1) => RecordBody::TaskStarted { task: task(1), attempt: 2 },
        (Lane::Results, 2) => RecordBody::TaskEnded(end(3)),
        (Lane::Results, 3) => RecordBody::Receipt { payload: b"{}".to_vec(), signature: String::new() },
        (Lane::Results, _) => {
            RecordBody::RunEnded(RunEnd { outcome: RunOutcome::Failed, message: "m".into(), outputs: "{}".into() })
        }
    }
}

fn update(n: u64) -> Update {
    let blob = ManifestRef { digest: Digest::of(b"d"), length: 4 };
    Update {
        counter: n,
        version: format!("0.{n}.0-rc.1+b").parse().expect("a version"),
        manifest: Digest::of(b"m"),
        manifest_bytes: 300,
        digest: Sha256::of(b"b"),
        length: 9_000_000,
        deltas: vec![Delta { from: Sha256::of(b"a"), blob }],
        deadline: NOW,
        stage: UpdateStage::Switched,
    }
}

/// Something that a machine in this state could write.
fn any_write(random: &mut Random, state: &Durable) -> Write {
    let (n, lane) = (random.below(6), Lane::ALL[usize::from(random.below(2) == 0)]);
    let waiting = &state.lanes[lane.index()];
    match random.below(16) {
        12 => Write::ReleaseSeen {
            channel: format!("c{n}").parse().expect("a channel"),
            seen: Seen { counter: n, payload: Digest::of(b"p") },
        },
        13 => [Write::ForgetReleases, Write::DropUpdate][usize::from(n == 0)].clone(),
        14 => Write::PutUpdate(update(n)),
        15 => Write::OutcomeTaken(n),
        0 => Write::Accepted(state.accepted + n),
        1 => {
            let seen = Seen { counter: n, payload: Digest::of(b"p") };
            Write::Seen { bundle: format!("b{n}").parse().expect("a name"), seen }
        }
        2 => Write::PutJob(job(n, u32::try_from(random.below(3)).expect("small"))),
        3 => {
            let state = TaskState::Started { attempt: 1, on_interrupt: OnInterrupt::Fail, at: NOW };
            Write::PutTask { run: run_id(n), task: task(random.below(4)), state }
        }
        4 => Write::PutTask { run: run_id(n), task: task(2), state: TaskState::Ended(end(2)) },
        5 => Write::EndJob(run_id(n)),
        6 => {
            let seqs = waiting.entries.keys().copied().skip(1).take(2).chain([0]).collect();
            Write::DropRecords { lane, class: Class::Progress, seqs }
        }
        7 => Write::Acked { lane, through: waiting.next_seq.saturating_sub(random.below(8)) },
        8 => Write::Renumber { lane, by: random.below(5) },
        _ => {
            let record = Record { seq: waiting.next_seq, at: NOW, run: run_id(n), body: body(random, lane) };
            Write::PutRecord { lane, record }
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

#[test]
fn what_is_loaded_is_what_was_applied() {
    block_on(async {
        for seed in 0..6 {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("agent.redb");
            let mut store = Store::open(&path, NOW).expect("opened");
            let (mut random, mut expected) = (Random::new(seed), Durable::default());
            for batch in 0..12 {
                let mut writes = Vec::new();
                for _ in 0..random.below(12) {
                    let write = any_write(&mut random, &expected);
                    expected.apply(&write);
                    writes.push(write);
                }
                store.commit(writes).await.expect("committed");
                if batch % 5 == 4 {
                    store = reopen(store, &path).await;
                }
                assert_eq!(store.load().await.expect("loaded"), expected, "seed {seed}, batch {batch}");
            }
        }
    });
}

async fn reopen(store: Store, path: &Path) -> Store {
    store.close().await;
    Store::open(path, NOW).expect("opened")
}

#[test]
fn records_are_read_by_their_numbers() {
    block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("agent.redb"), NOW).expect("opened");
        let record = |seq| Record { seq, at: NOW, run: run_id(1), body: RecordBody::RunStarted };
        let lane = Lane::Results;
        let writes = (1..=5).map(|seq| Write::PutRecord { lane, record: record(seq) }).collect();
        store.commit(writes).await.expect("committed");
        let numbers = async |seqs: Vec<u64>| -> Vec<u64> {
            let records = store.records(lane, seqs).await.expect("read");
            assert!(records.iter().all(|record| record.body == RecordBody::RunStarted && record.run == run_id(1)));
            records.iter().map(|record| record.seq).collect()
        };
        assert_eq!(numbers(vec![2, 3, 9]).await, [2, 3]);
        let writes = vec![Write::Acked { lane, through: 2 }, Write::Renumber { lane, by: 10 }];
        store.commit(writes).await.expect("committed");
        assert_eq!(numbers(vec![3, 12, 13, 15]).await, [13, 15]);
    });
}

#[test]
fn a_file_that_cannot_be_opened_is_explained() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.redb");
    let failure = |path: &Path| Chain(&Store::open(path, NOW).expect_err("refused")).to_string();
    let store = Store::open(&path, NOW).expect("opened");
    assert!(failure(&path).contains("is in use by another process"), "{}", failure(&path));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("there"));
    assert_eq!(mode & 0o777, 0o600);
    drop(block_on(reopen(store, &path)));

    assert!(failure(&dir.path().join("none/agent.redb")).contains("cannot create"));
    let garbage = dir.path().join("garbage.redb");
    sloth_core::fs::replace(&garbage, &[7; 9000], sloth_core::fs::Access::Owner).expect("written");
    assert!(failure(&garbage).contains("garbage.redb"), "{}", failure(&garbage));

    let newer = dir.path().join("newer.redb");
    let database = writer::open_file(&newer).expect("made");
    let txn = database.begin_write().expect("begun");
    tables::put(&mut txn.open_table(tables::META).expect("a table"), tables::keys::SCHEMA, &(SCHEMA + 1)).expect("put");
    txn.commit().expect("committed");
    drop(database);
    assert!(failure(&newer).contains("written by a newer sloth-agent (schema 2"), "{}", failure(&newer));
}

/// A file on a disk that can be full.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> Result<(), std::io::Error> {
        if self.full.load(Ordering::SeqCst) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.room()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.room()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_used_again_when_there_is_room() {
    block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent.redb");
        let full = Arc::new(AtomicBool::new(false));
        let (file, disk_full) = (path.clone(), Arc::clone(&full));
        let opener = move || {
            let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
            let disk = Disk { file: FileBackend::new(file.expect("opened"))?, full: Arc::clone(&disk_full) };
            Ok(redb::Database::builder().create_with_backend(disk)?)
        };
        let store = Store::start(path, Box::new(opener), STATE_BYTES_MAX, NOW).expect("opened");
        store.commit(vec![Write::Accepted(1)]).await.expect("committed");
        full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let error = store.commit(vec![Write::Accepted(2)]).await.expect_err("no room");
            let said = Chain(&error).to_string();
            assert!(said.contains("no room is left: free some space"), "{said}");
        }
        full.store(false, Ordering::SeqCst);
        assert_eq!(store.load().await.expect("loaded").accepted, 1);
        store.commit(vec![Write::Accepted(3)]).await.expect("committed");
        assert_eq!(store.load().await.expect("loaded").accepted, 3);
    });
}

#[test]
fn state_answers_what_the_module_promises() {
    let later = NOW + Millis::from_secs(10);
    let key = |key: &str| key.to_owned();
    let set = |k: &str, value, ttl| StateOperation::Set { key: key(k), value, ttl };
    let get = |k: &str| StateOperation::Get { key: key(k) };
    let swap = |k: &str, expected, value| StateOperation::CompareAndSwap { key: key(k), expected, value };
    let add = |k: &str, by| StateOperation::Increment { key: key(k), by };
    let keys = |prefix: &str| StateOperation::Keys { prefix: key(prefix) };
    let value = |value| Ok(StateReply::Value(value));
    let done = |done| Ok(StateReply::Done(done));
    let table: Vec<(&str, Millis, StateOperation, Result<StateReply, &str>)> = vec![
        ("a", NOW, get("x"), value(None)),
        ("a", NOW, set("x", json!({ "deep": [1, null] }), None), done(true)),
        ("a", NOW, get("x"), value(Some(json!({ "deep": [1, null] })))),
        ("b", NOW, get("x"), value(None)),
        ("a", NOW, add("n", 2.0), Ok(StateReply::Number(2.0))),
        ("a", NOW, add("n", 0.5), Ok(StateReply::Number(2.5))),
        ("a", NOW, add("x", 1.0), Err("`x` holds no number")),
        ("a", NOW, add("n", f64::INFINITY), Err("`n` cannot become inf")),
        ("a", NOW, get("n"), value(Some(json!(2.5)))),
        ("a", NOW, swap("c", Some(json!(1)), json!(2)), done(false)),
        ("a", NOW, swap("c", None, json!("first")), done(true)),
        ("a", NOW, swap("c", None, json!("second")), done(false)),
        ("a", NOW, swap("c", Some(json!("first")), json!(1)), done(true)),
        ("a", NOW, set("t", json!(1), Some(Millis::from_secs(5))), done(true)),
        ("a", NOW, add("t", 1.0), Ok(StateReply::Number(2.0))),
        ("a", NOW, get("t"), value(Some(json!(2)))),
        ("a", later, get("t"), value(None)),
        ("a", later, swap("t", None, json!("new")), done(true)),
        ("ab", NOW, set("x", json!(0), None), done(true)),
        ("a", later, keys("n"), Ok(StateReply::Keys(vec![(key("n"), json!(2.5))]))),
        ("a", NOW, StateOperation::Delete { key: key("n") }, done(true)),
        ("a", NOW, StateOperation::Delete { key: key("n") }, done(false)),
        ("a", NOW, StateOperation::Clear, done(true)),
        ("a", NOW, keys(""), Ok(StateReply::Keys(Vec::new()))),
        ("ab", NOW, keys(""), Ok(StateReply::Keys(vec![(key("x"), json!(0))]))),
    ];
    check_answers(table);
}

#[test]
fn state_keeps_lists_texts_spans_and_locks() {
    let later = NOW + Millis::from_secs(10);
    let key = |key: &str| key.to_owned();
    let set = |k: &str, value| StateOperation::Set { key: key(k), value, ttl: None };
    let get = |k: &str| StateOperation::Get { key: key(k) };
    let push = |k: &str, value| StateOperation::Push { key: key(k), value };
    let pop = |k: &str| StateOperation::Pop { key: key(k) };
    let append = |k: &str, text: &str| StateOperation::Append { key: key(k), text: key(text) };
    let lifetime = |k: &str| StateOperation::Lifetime { key: key(k) };
    let expire = |k: &str, ttl| StateOperation::Expire { key: key(k), ttl };
    let holder = |id: &str| {
        let process = std::process::id();
        let started = sloth_workflow::process::started(process);
        // A process of that number that began at another time has ended.
        let started = if id == "dead" { started.map(|started| started + 1) } else { started };
        Holder { id: key(id), run: key("run"), process, started }
    };
    let lock = |k: &str, id: &str| StateOperation::Lock { name: key(k), holder: holder(id), ttl: None, wait: true };
    let unlock = |k: &str, id: &str| StateOperation::Unlock { name: key(k), id: key(id) };
    let place = |ahead, held_by: Option<&str>| Ok(StateReply::Place(Place { ahead, held_by: held_by.map(holder) }));
    let figures = StateStats { keys: 1, bytes: 2, modified: Some(NOW) };
    let value = |value| Ok(StateReply::Value(value));
    let done = |done| Ok(StateReply::Done(done));
    check_answers(vec![
        ("ab", NOW, set("x", json!(0)), done(true)),
        ("a", NOW, push("q", json!(1)), Ok(StateReply::Number(1.0))),
        ("a", NOW, push("q", json!([2])), Ok(StateReply::Number(2.0))),
        ("a", NOW, pop("q"), value(Some(json!([2])))),
        ("a", NOW, pop("q"), value(Some(json!(1)))),
        ("a", NOW, pop("q"), value(None)),
        ("a", NOW, pop("none"), value(None)),
        ("a", NOW, get("none"), value(None)),
        ("a", NOW, append("s", "one"), Ok(StateReply::Number(3.0))),
        ("a", NOW, append("s", " two"), Ok(StateReply::Number(7.0))),
        ("a", NOW, get("s"), value(Some(json!("one two")))),
        ("a", NOW, append("q", "x"), Err("`q` holds no text")),
        ("a", NOW, push("s", json!(1)), Err("`s` holds no list")),
        ("a", NOW, pop("s"), Err("`s` holds no list")),
        ("a", NOW, push("q", json!("y".repeat(1_100_000))), Err("`q` would take more than 1048576 bytes")),
        ("a", NOW, lifetime("s"), Ok(StateReply::Lifetime(Lifetime::Forever))),
        ("a", NOW, expire("s", Some(Millis::from_secs(5))), done(true)),
        ("a", NOW, expire("none", None), done(false)),
        ("a", NOW, append("s", "!"), Ok(StateReply::Number(8.0))),
        ("a", NOW, lifetime("s"), Ok(StateReply::Lifetime(Lifetime::Left(Millis::from_secs(5))))),
        ("a", later, lifetime("s"), Ok(StateReply::Lifetime(Lifetime::Missing))),
        ("a", later, expire("s", None), done(false)),
        ("ab", later, StateOperation::Stats, Ok(StateReply::Stats(figures))),
        ("none", later, StateOperation::Stats, Ok(StateReply::Stats(StateStats::default()))),
        ("a", NOW, lock("l", "one"), place(0, None)),
        ("a", NOW, lock("l", "two"), place(1, Some("one"))),
        ("a", NOW, unlock("l", "two"), done(false)),
        ("b", NOW, lock("l", "two"), place(0, None)),
        ("a", NOW, StateOperation::Clear, done(true)),
        ("a", NOW, lock("l", "three"), place(1, Some("one"))),
        ("a", NOW, unlock("l", "one"), done(true)),
        ("a", NOW, lock("l", "three"), place(0, None)),
        ("a", NOW, lock("l", "dead"), place(1, Some("three"))),
        ("a", NOW, unlock("l", "three"), done(true)),
        // The process that waits is gone, and with it its place.
        ("a", NOW, lock("l", "four"), place(0, None)),
    ]);
}

/// Asks one after the other, each in a namespace and at a time.
fn check_answers(table: Vec<(&str, Millis, StateOperation, Result<StateReply, &str>)>) {
    block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("state.redb"), NOW).expect("opened");
        for (namespace, now, operation, expected) in table {
            let asked = format!("{namespace}: {operation:?}");
            let answer = store.state(namespace, operation, now).await.map_err(|error| error.message);
            match (answer, expected) {
                (Ok(answer), Ok(expected)) => assert_eq!(answer, expected, "{asked}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{asked}: {error}"),
                (answer, expected) => panic!("{asked}: {answer:?}, not {expected:?}"),
            }
        }
    });
}

#[test]
fn state_is_bounded_and_what_is_deleted_or_expired_makes_room() {
    const BYTES_MAX: u64 = 10_000;
    block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.redb");
        let open = |now| {
            let file = path.clone();
            Store::start(path.clone(), Box::new(move || writer::open_file(&file)), BYTES_MAX, now).expect("opened")
        };
        let store = open(NOW);
        let large = json!("x".repeat(4_900));
        let set = |key: &str, ttl| StateOperation::Set { key: key.to_owned(), value: large.clone(), ttl };
        store.state("a", set("one", None), NOW).await.expect("room");
        store.state("b", set("two", Some(Millis::from_secs(1))), NOW).await.expect("room");
        let error = store.state("a", set("three", None), NOW).await.expect_err("full");
        assert!(error.message.contains("the state store is full: it takes 10000 bytes"), "{}", error.message);
        store.state("a", set("one", None), NOW).await.expect("as large as before");
        store.state("a", StateOperation::Delete { key: "one".into() }, NOW).await.expect("deleted");
        store.state("a", set("three", None), NOW).await.expect("room again");
        store.close().await;
        assert!(matches!(store.load().await, Err(StoreError::Closed)));

        let store = open(NOW + Millis::from_secs(2));
        store.state("a", set("four", None), NOW).await.expect("the expired one is gone");
    });
}

/// An agent must read what every release before it wrote: where these bytes change, the old ones have to be read too.
#[test]
fn the_bytes_on_the_disk_are_frozen() {
    fn hex<T: serde::Serialize>(value: &T) -> String {
        codec::encode(value).expect("encoded").iter().map(|byte| format!("{byte:02x}")).collect()
    }
    let started = TaskState::Started { attempt: 2, on_interrupt: OnInterrupt::Fail, at: NOW };
    let record: tables::StoredRecord = {
        let body = RecordBody::Log { task: Some(task(1)), stream: LogStream::Stderr, text: "x".into() };
        codec::decode(&codec::encode(&(NOW, run_id(1), body)).expect("encoded")).expect("the same layout")
    };
    let dropped = sloth_protocol::wire::Dropped { logs: 1, progress: 2, tasks: 3, runs: 4 };
    for (what, got, expected) in [
        (
            "job",
            hex(&job(2, 3)),
            concat!(
                "0182808080808080808080808080adf9e78b0303776562013145f1a93d108f229fa8fb4bc476bab4dd3fecd20ee16f8b",
                "a6d77f6c744e02061d02010465786563010177027b7d020201020180d095ffbc3180d095ffbc31000103"
            ),
        ),
        ("started task", hex(&started), "0100020180d095ffbc31"),
        (
            "ended task",
            hex(&TaskState::Ended(end(1))),
            "010101770274310001016d077b2261223a317d80d095ffbc3180d095ffbc31",
        ),
        (
            "release",
            hex(&Seen { counter: 7, payload: Digest::of(b"p") }),
            "010773f291693e31fe77be7bfb78ebc9042b2e2c437c87eca0c122e0e8a0bbfbe625",
        ),
        ("lane", hex(&tables::LaneMeta { next_seq: 300, dropped }), "01ac0201020304"),
        ("modified", hex(&NOW), "0180d095ffbc31"),
        ("record", hex(&record), "0180d095ffbc3181808080808080808080808080adf9e78b0304010177027431010178"),
    ] {
        assert_eq!(got, expected, "{what}");
    }
    let key: String =
        tables::task_key(run_id(1), &task(1)).expect("a key").iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(key, "018bcfe56800000000000000000000010177027431");
}

const FROZEN_VALUE: &str = r#"\x01\x00\x00\x00\x00\x00\x00\x00\x00{\"a\":[1,\"x\"]}"#;
const FROZEN_SHORT: &str = r#"\x01\x00\x00\x01\x8b\xcf\xe5k\xe8{\"a\":[1,\"x\"]}"#;
const FROZEN_LOCK: &str = concat!(
    r#"[{\"holder\":{\"id\":\"first\",\"run\":\"r\",\"process\":7,\"started\":null},\"held\":true,\"until\":1700000001000},"#,
    r#"{\"holder\":{\"id\":\"second\",\"run\":\"r\",\"process\":7,\"started\":null},\"held\":false,\"until\":1700000005000}]"#,
);
const FROZEN_SPEECH: [&str; 22] = [
    r#"{"Get":{"key":"k"}}"#,
    r#"{"Set":{"key":"k","value":1,"ttl":5}}"#,
    r#"{"Delete":{"key":"k"}}"#,
    r#"{"Keys":{"prefix":"k"}}"#,
    r#"{"Increment":{"key":"k","by":1.5}}"#,
    r#"{"CompareAndSwap":{"key":"k","expected":null,"value":1}}"#,
    r#""Clear""#,
    r#"{"Expire":{"key":"k","ttl":5}}"#,
    r#"{"Lifetime":{"key":"k"}}"#,
    r#"{"Push":{"key":"k","value":1}}"#,
    r#"{"Pop":{"key":"k"}}"#,
    r#"{"Append":{"key":"k","text":"t"}}"#,
    r#""Stats""#,
    r#"{"Lock":{"name":"k","holder":{"id":"h","run":"r","process":7,"started":9},"ttl":null,"wait":true}}"#,
    r#"{"Unlock":{"name":"k","id":"h"}}"#,
    r#"{"Value":null}"#,
    r#"{"Done":true}"#,
    r#"{"Number":1.5}"#,
    r#"{"Keys":[["k",1]]}"#,
    r#"{"Lifetime":{"Left":5}}"#,
    r#"{"Stats":{"keys":1,"bytes":2,"modified":5}}"#,
    r#"{"Place":{"ahead":1,"held_by":{"id":"h","run":"r","process":7,"started":9}}}"#,
];

/// The same for what scripts keep: values with their time to live, and the queues of locks.
#[test]
fn the_bytes_of_the_state_are_frozen() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.redb");
    let holder = |id: &str, started| Holder { id: id.into(), run: "r".into(), process: 7, started };
    let lock = |holder, wait| StateOperation::Lock { name: "l".into(), holder, ttl: Some(Millis::from_secs(1)), wait };
    block_on(async {
        let store = Store::open(&path, NOW).expect("opened");
        let set = |key: &str, ttl| StateOperation::Set { key: key.into(), value: json!({ "a": [1, "x"] }), ttl };
        for operation in [
            set("forever", None),
            set("short", Some(Millis::from_secs(1))),
            lock(holder("first", None), false),
            lock(holder("second", None), true),
        ] {
            store.state("ns", operation, NOW).await.expect("done");
        }
        store.close().await;
    });
    let database = redb::Database::open(&path).expect("opened");
    let txn = database.begin_read().expect("begun");
    let read = |name: &str, key: &[u8]| {
        let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(name);
        let table = txn.open_table(table).expect("a table");
        let found = table.get(key).expect("read").expect("a value");
        found.value().escape_ascii().to_string()
    };
    for (table, key, expected) in [
        ("state", &b"ns\0forever"[..], FROZEN_VALUE),
        ("state", b"ns\0short", FROZEN_SHORT),
        ("locks", b"ns\0l", FROZEN_LOCK),
    ] {
        assert_eq!(read(table, key), expected, "{}", key.escape_ascii());
    }
}

/// What the daemon and its workers say about the state, in JSON.
#[test]
fn the_questions_to_the_state_are_frozen() {
    let holder = Holder { id: "h".into(), run: "r".into(), process: 7, started: Some(9) };
    let (key, ttl) = (|| "k".to_owned(), Some(Millis::from_u64(5)));
    let questions = [
        StateOperation::Get { key: key() },
        StateOperation::Set { key: key(), value: json!(1), ttl },
        StateOperation::Delete { key: key() },
        StateOperation::Keys { prefix: key() },
        StateOperation::Increment { key: key(), by: 1.5 },
        StateOperation::CompareAndSwap { key: key(), expected: None, value: json!(1) },
        StateOperation::Clear,
        StateOperation::Expire { key: key(), ttl },
        StateOperation::Lifetime { key: key() },
        StateOperation::Push { key: key(), value: json!(1) },
        StateOperation::Pop { key: key() },
        StateOperation::Append { key: key(), text: "t".into() },
        StateOperation::Stats,
        StateOperation::Lock { name: key(), holder: holder.clone(), ttl: None, wait: true },
        StateOperation::Unlock { name: key(), id: "h".into() },
    ];
    let answers = [
        StateReply::Value(None),
        StateReply::Done(true),
        StateReply::Number(1.5),
        StateReply::Keys(vec![(key(), json!(1))]),
        StateReply::Lifetime(Lifetime::Left(Millis::from_u64(5))),
        StateReply::Stats(StateStats { keys: 1, bytes: 2, modified: ttl }),
        StateReply::Place(Place { ahead: 1, held_by: Some(holder) }),
    ];
    let texts = questions.iter().map(|question| {
        let text = serde_json::to_string(question).expect("encoded");
        assert_eq!(&serde_json::from_str::<StateOperation>(&text).expect("decoded"), question);
        text
    });
    let answered = answers.iter().map(|answer| {
        let text = serde_json::to_string(answer).expect("encoded");
        assert_eq!(&serde_json::from_str::<StateReply>(&text).expect("decoded"), answer);
        text
    });
    assert_eq!(texts.chain(answered).collect::<Vec<_>>(), FROZEN_SPEECH);
}
