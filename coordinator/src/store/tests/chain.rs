//! The chain of receipts on the disk: whole across restarts, bounded, and broken where a row was changed.

use std::path::Path;

use redb::Database;
use sloth_core::{AgentId, Chain, Digest, RunId, Secret};
use sloth_protocol::{
    coordinator::{HeadRow, ReceiptRow, Write},
    receipts::task_summary,
    wire::{
        FRAME_BYTES_MAX, JobState, NewestReceipts, ReceiptsAsked, ReceiptsPage, RecordBody, TaskEnd, TaskName,
        TaskStatus,
    },
};
use sloth_trust::{ChainEntry, ChainWalk, MachineKey, Receipt, ReceiptOutcome, SPEC};

use super::{AT, agent, put_job, put_run, record, run_id, temporary};
use crate::store::{RedbStore, Store, tables};

const ALL: ReceiptsAsked = ReceiptsAsked { after: 0, agent: None, run: None };

fn key() -> MachineKey {
    MachineKey::from_seed(&Secret::new([7; 32]), [7; 8]).expect("a key")
}

fn receipt(run: RunId, agent: AgentId) -> Write {
    let receipt = Receipt {
        spec: SPEC,
        repository: sloth_core::RepositoryId::new(AT, 1),
        agent,
        run,
        order: 1,
        bundle: "web".parse().expect("a name"),
        counter: 1,
        manifest: Digest::of(b"manifest"),
        workflow: None,
        root: 1,
        head: 1,
        outcome: ReceiptOutcome::Succeeded,
        message: Digest::of(b""),
        outputs: Digest::of(b"{}"),
        tasks: task_summary([]),
        started: None,
        ended: AT,
        version: "1".to_owned(),
    };
    let payload = serde_json::to_string(&receipt).expect("a receipt");
    let key = key();
    let signature = key.sign(payload.as_bytes(), &receipt.domain()).minisig;
    Write::PutReceipt(Box::new(ReceiptRow { agent, run, key: key.public().clone(), received: AT, payload, signature }))
}

/// A run on each of `agents`, with its receipts.
fn ended(run: u64, agents: std::ops::Range<u64>) -> Vec<Write> {
    let run = run_id(run);
    let of = |number: u64| [put_job(run, agent(number), JobState::Succeeded), receipt(run, agent(number))];
    std::iter::once(put_run(run, None)).chain(agents.flat_map(of)).collect()
}

fn page(store: &RedbStore, asked: ReceiptsAsked) -> ReceiptsPage {
    store.receipts(asked).expect("read")
}

/// All lines, however many pages they take.
fn lines(store: &RedbStore, mut asked: ReceiptsAsked) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let page = page(store, asked);
        assert!(page.lines.iter().map(Vec::len).sum::<usize>() < FRAME_BYTES_MAX, "a page fits a frame");
        all.extend(page.lines);
        if !page.more {
            return all;
        }
        asked.after = page.through;
    }
}

/// How many receipts hold, or where the chain breaks and why.
fn verify(store: &RedbStore) -> Result<u64, (u64, String)> {
    let ends = page(store, ALL).ends;
    let mut walk = ChainWalk::after(ends.dropped);
    let taken = lines(store, ALL).iter().try_for_each(|line| walk.take(line).map(drop));
    let walked = taken.and_then(|()| walk.end(ends.newest));
    walked.map(|()| walk.entries()).map_err(|broken| (broken.number, Chain(&*broken).to_string()))
}

/// Changes a row of a closed store, as whoever has the disk can.
fn tamper(path: &Path, number: u64, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let database = Database::open(path).expect("opened");
    let transaction = database.begin_write().expect("begun");
    {
        let mut receipts = transaction.open_table(tables::RECEIPTS).expect("the table");
        let key = number.to_be_bytes();
        let line = receipts.remove(key.as_slice()).expect("removed").expect("there").value().to_vec();
        if let Some(line) = change(line) {
            receipts.insert(key.as_slice(), line.as_slice()).expect("put");
        }
    }
    transaction.commit().expect("committed");
}

#[test]
fn the_chain_goes_on_across_restarts() {
    let (dir, store) = temporary();
    store.commit(&ended(1, 0..3)).expect("committed");
    assert_eq!(verify(&store), Ok(3));
    let newest = page(&store, ALL).ends.newest;
    drop(store);
    let store = RedbStore::open(&dir.path().join("s.redb")).expect("again");
    assert_eq!(page(&store, ALL).ends.newest, newest);
    store.commit(&ended(2, 0..2)).expect("committed");
    assert_eq!(verify(&store), Ok(5));
    let entry = ChainEntry::decode(&lines(&store, ALL)[3]).expect("an entry");
    assert_eq!((entry.number, entry.previous), (4, newest.map(|newest| newest.digest)));
}

#[test]
fn a_job_has_one_receipt_and_who_was_not_given_the_run_has_none() {
    let (_dir, store) = temporary();
    assert_eq!(store.commit(&ended(1, 0..2)).expect("committed").receipts, 2);
    let others = [receipt(run_id(1), agent(1)), receipt(run_id(1), agent(7)), receipt(run_id(9), agent(1))];
    assert_eq!(store.commit(&others).expect("committed").receipts, 0, "what was left out is not counted");
    assert_eq!(verify(&store), Ok(2));
    // A run that is forgotten leaves its receipts.
    store.commit(&[put_run(run_id(1), Some(AT)), Write::ForgetRun(run_id(1))]).expect("committed");
    assert_eq!(verify(&store), Ok(2));
}

#[test]
fn receipts_are_found_by_agent_and_by_run_in_pages() {
    let (_dir, store) = temporary();
    for run in 1..=40 {
        store.commit(&ended(run, 0..20)).expect("committed");
    }
    assert_eq!(lines(&store, ALL).len(), 800);
    assert!(page(&store, ALL).more, "they do not fit one page");
    let of = |line: &Vec<u8>| ChainEntry::decode(line).expect("an entry").claimed().expect("a receipt");
    let of_run = lines(&store, ReceiptsAsked { run: Some(run_id(3)), ..ALL });
    assert!(of_run.len() == 20 && of_run.iter().all(|line| of(line).run == run_id(3)));
    let of_agent = lines(&store, ReceiptsAsked { agent: Some(agent(5)), ..ALL });
    assert!(of_agent.len() == 40 && of_agent.iter().all(|line| of(line).agent == agent(5)));
    let both = lines(&store, ReceiptsAsked { agent: Some(agent(5)), run: Some(run_id(3)), after: 0 });
    assert_eq!(both.len(), 1);
    assert!(lines(&store, ReceiptsAsked { run: Some(run_id(99)), ..ALL }).is_empty());
}

#[test]
fn the_oldest_go_and_leave_what_names_them() {
    let (_dir, store) = temporary();
    let store = store.with_receipts_max(5);
    for run in 1..=4 {
        store.commit(&ended(run, 0..3)).expect("committed");
    }
    assert_eq!(verify(&store), Ok(5));
    let ends = page(&store, ALL).ends;
    assert_eq!((ends.dropped.map(|link| link.number), ends.newest.map(|link| link.number)), (Some(7), Some(12)));
    assert!(lines(&store, ReceiptsAsked { run: Some(run_id(1)), ..ALL }).is_empty());
    assert_eq!(lines(&store, ReceiptsAsked { run: Some(run_id(4)), ..ALL }).len(), 3);
}

#[test]
fn a_changed_row_is_named() {
    let swap = |from: &'static str, to: &'static str| {
        move |line: Vec<u8>| {
            let text = String::from_utf8(line).expect("a text");
            assert!(text.contains(from), "{text}");
            Some(text.replace(from, to).into_bytes())
        }
    };
    type Change = Box<dyn FnOnce(Vec<u8>) -> Option<Vec<u8>>>;
    let cases: [(u64, Change, u64, &str); 5] = [
        (2, Box::new(swap("succeeded\\\"", "failed\\\"")), 2, "did not sign"),
        (2, Box::new(swap("\"received\":17", "\"received\":18")), 2, "names another digest"),
        (3, Box::new(swap("\"received\":17", "\"received\":18")), 3, "names another digest"),
        (1, Box::new(|_| None), 1, "taken out"),
        (3, Box::new(|_| None), 3, "off the end"),
    ];
    for (number, change, expected, why) in cases {
        let (dir, store) = temporary();
        store.commit(&ended(1, 0..3)).expect("committed");
        drop(store);
        let path = dir.path().join("s.redb");
        tamper(&path, number, change);
        let store = RedbStore::open(&path).expect("opened");
        let (found, what) = verify(&store).expect_err("tampered with");
        assert_eq!(found, expected, "{what}");
        assert!(what.contains(why), "{why}: {what}");
    }
}

/// The numbers of the newest receipts below one, the last that was looked at, and whether there are more.
fn newest(store: &RedbStore, asked: NewestReceipts) -> (Vec<u64>, u64, bool) {
    let page = store.newest_receipts(asked).expect("read");
    let number = |line: &Vec<u8>| ChainEntry::decode(line).expect("an entry").number;
    (page.lines.iter().map(number).collect(), page.through, page.more)
}

#[test]
fn the_newest_receipts_come_first() {
    let (_dir, store) = temporary();
    let all = NewestReceipts { before: None, rows: 2, agent: None, run: None };
    assert_eq!(newest(&store, all), (Vec::new(), u64::MAX, false));
    store.commit(&ended(1, 0..3)).expect("committed");
    store.commit(&ended(2, 0..2)).expect("committed");
    assert_eq!(newest(&store, all), (vec![5, 4], 4, true));
    assert_eq!(newest(&store, NewestReceipts { before: Some(4), ..all }), (vec![3, 2], 2, true));
    assert_eq!(newest(&store, NewestReceipts { before: Some(2), ..all }), (vec![1], 1, false));
    assert_eq!(newest(&store, NewestReceipts { before: Some(0), ..all }), (Vec::new(), 0, false));
    let one = NewestReceipts { agent: Some(agent(0)), rows: 9, ..all };
    assert_eq!(newest(&store, one), (vec![4, 1], 1, false));
    assert_eq!(newest(&store, NewestReceipts { run: Some(run_id(1)), ..one }), (vec![1], 1, false));
    assert_eq!(newest(&store, NewestReceipts { run: Some(run_id(7)), ..one }), (Vec::new(), 1, false));
}

#[test]
fn what_is_kept_of_a_run_is_summed_up_as_receipts_do_it() {
    let (_dir, store) = temporary();
    store.commit(&ended(1, 0..3)).expect("committed");
    let end = TaskEnd {
        task: TaskName { workflow: "w".to_owned(), task: "t".to_owned() },
        status: TaskStatus::Failed,
        attempts: 1,
        message: "no".to_owned(),
        outputs: String::new(),
        started: AT,
        ended: AT,
    };
    let record = record(run_id(1), 1, RecordBody::TaskEnded(end.clone()));
    store.commit(&[Write::Append(agent(1), record)]).expect("committed");
    let page = store.results(run_id(1), None).expect("read");
    let agents: Vec<_> = page.results.iter().map(|result| result.agent).collect();
    assert_eq!((agents, page.more), (vec![agent(0), agent(1), agent(2)], false));
    let tasks: Vec<_> = page.results.iter().map(|result| result.tasks).collect();
    assert_eq!(tasks, [task_summary([]), task_summary([&end]), task_summary([])]);
    assert_eq!(store.results(run_id(1), Some(agent(0))).expect("read").results, page.results[1..]);
    assert_eq!(store.results(run_id(9), None).expect("read").results, []);
}

#[test]
fn heads_come_in_pages_in_their_order() {
    let (_dir, store) = temporary();
    let heads: Vec<Write> =
        (1..=3000).map(|version| Write::PutHead(HeadRow { version, payload: vec![b' '; 600] })).collect();
    store.commit(&heads).expect("committed");
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = store.heads(after).expect("read");
        assert_eq!(page.ends.newest.map(|newest| newest.version), Some(3000));
        found.extend(page.heads.iter().map(|head| head.version));
        after = found.last().copied().expect("some");
        if !page.more {
            break;
        }
    }
    assert!(found.into_iter().eq(1..=3000));
}
