//! The loop and a disk that fills up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sloth_core::{
    AgentId, Clock, Digest, Millis, RunId,
    fs::{Action, FsError},
};
use sloth_protocol::{
    coordinator::{AgentRecord, Ask, CheckedReport, Command, Durable, Event, Reply, Settings, Write},
    wire::{
        Dropped, HeadsPage, Lane, NewestReceipts, Platform, ReceiptsAsked, ReceiptsPage, Record, RecordBody, Refusal,
        RefusalCode, Report, ResultsPage, RunView, RunsPage,
    },
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    core_handle::CoreHandle,
    core_loop::{Core, CoreError, reported},
    follow::Followers,
};
use crate::store::{Committed, EventsRead, RedbStore, Store, StoreError, StoreHandle};

/// A store whose disk can be full.
struct Filling {
    inner: RedbStore,
    full: AtomicBool,
}

impl Store for Filling {
    fn load(&self) -> Result<Durable, StoreError> {
        self.inner.load()
    }

    fn commit(&self, writes: &[Write]) -> Result<Committed, StoreError> {
        if self.full.load(Ordering::Relaxed) {
            let source = rustix::io::Errno::NOSPC.into();
            return Err(FsError { action: Action::Write, path: "full".into(), source }.into());
        }
        self.inner.commit(writes)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn runs(&self, before: Option<RunId>, rows: usize) -> Result<RunsPage, StoreError> {
        self.inner.runs(before, rows)
    }

    fn run(&self, run: RunId) -> Result<Option<RunView>, StoreError> {
        self.inner.run(run)
    }

    fn heads(&self, after: u64) -> Result<HeadsPage, StoreError> {
        self.inner.heads(after)
    }

    fn newest_receipts(&self, asked: NewestReceipts) -> Result<ReceiptsPage, StoreError> {
        self.inner.newest_receipts(asked)
    }

    fn results(&self, run: RunId, after: Option<AgentId>) -> Result<ResultsPage, StoreError> {
        self.inner.results(run, after)
    }

    fn receipts(&self, asked: ReceiptsAsked) -> Result<ReceiptsPage, StoreError> {
        self.inner.receipts(asked)
    }

    fn events(&self, run: RunId, after: u64, agent: Option<AgentId>) -> Result<Option<EventsRead>, StoreError> {
        self.inner.events(run, after, agent)
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    store: Arc<Filling>,
    core: CoreHandle,
    running: JoinHandle<Result<(), CoreError>>,
    _stop: watch::Sender<bool>,
}

/// A machine with two agents, `a` and `b`.
async fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a directory");
    let inner = RedbStore::open(&dir.path().join("s.redb")).expect("a store");
    inner.commit(&[agent(1, "a"), agent(2, "b")]).expect("committed");
    let store = Arc::new(Filling { inner, full: AtomicBool::new(false) });
    let (handle, _thread) = StoreHandle::start(Arc::<Filling>::clone(&store)).expect("a thread");
    let (core, inlets) = CoreHandle::new();
    let machine =
        Core::restore(Arc::new(Clock::new()), handle, Arc::new(Followers::default()), inlets, Settings::default(), 7);
    let machine = machine.await.expect("restored");
    let (stop, stopped) = watch::channel(false);
    Bench { _dir: dir, store, core, running: tokio::spawn(machine.run(stopped)), _stop: stop }
}

fn agent(number: u128, name: &str) -> Write {
    let record = AgentRecord {
        name: name.to_owned(),
        host_labels: [].into(),
        enrolled_labels: [].into(),
        version: "1".into(),
        platform: Platform::default(),
        key: Digest::of(name.as_bytes()),
        receipt_key: "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().expect("a key"),
        enrolled: Millis::ZERO,
        last_seen: Millis::ZERO,
        revoked: false,
        next_generation: 1,
        proto: sloth_protocol::wire::PROTO_MAX,
        update: None,
        copied: None,
    };
    Write::PutAgent(AgentId::new(Millis::from_secs(1), number), Box::new(record))
}

async fn revoke(core: &CoreHandle, name: &str) -> Result<Reply, Refusal> {
    core.command("ann", Command::RevokeAgent(name.to_owned())).await
}

fn revoked(store: &Filling) -> Vec<String> {
    let agents = store.load().expect("loaded").agents;
    agents.into_values().filter(|agent| agent.revoked).map(|agent| agent.name).collect()
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_what_is_not_on_the_disk_and_all_goes_on_when_it_can_be() {
    let bench = bench().await;
    revoke(&bench.core, "a").await.expect("revoked");
    assert_eq!(revoked(&bench.store), ["a"]);

    bench.store.full.store(true, Ordering::Relaxed);
    let refusal = revoke(&bench.core, "b").await.expect_err("the disk is full");
    assert_eq!((refusal.code, refusal.retry_after), (RefusalCode::Busy, Millis::from_secs(2)));
    // While it is tried again, everything is refused; questions too, as their answers may be of what is no more.
    let refusal = bench.core.command("ann", Command::Bundles).await.expect_err("the disk is full");
    assert_eq!(refusal.code, RefusalCode::Busy);

    bench.store.full.store(false, Ordering::Relaxed);
    let mut tries = 0;
    while revoke(&bench.core, "b").await.is_err() {
        // Refusals are answered at once, and time passes only when everybody waits.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        tries += 1;
        assert!(tries < 100, "it does not recover");
    }
    assert_eq!(revoked(&bench.store), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stays_full_ends_it_with_a_sentence() {
    let bench = bench().await;
    bench.store.full.store(true, Ordering::Relaxed);
    assert!(revoke(&bench.core, "a").await.is_err());
    let ended = bench.running.await.expect("no panic").expect_err("the disk is full");
    assert!(matches!(ended, CoreError::Disk { failures: 12, .. }), "{ended}");
    let text = sloth_core::Chain(&ended).to_string();
    assert!(text.contains("cannot write `full`, no room is left: free some space"), "{text}");
    assert!(bench.core.command("ann", Command::Bundles).await.is_err());
}

#[test]
fn receipts_fill_a_batch_as_other_records_do() {
    const BYTES: usize = 4096;
    let (agent, run) = (AgentId::new(Millis::ZERO, 1), RunId::new(Millis::ZERO, 2));
    let body = RecordBody::Receipt { payload: vec![b' '; BYTES], signature: String::new() };
    let records = (1..=3).map(|seq| Record { seq, at: Millis::ZERO, run, body: body.clone() }).collect();
    let report = Report { lane: Lane::Results, dropped: Dropped::default(), records };
    let ask = Ask::Report(CheckedReport::new(report, agent, None));
    assert!(3 * BYTES <= reported(&Event::Asked { conn: 1, ticket: 1, ask }));
}
