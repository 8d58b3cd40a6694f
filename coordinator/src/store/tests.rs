//! The store against what the machine believes of it, and against disks that fail.

mod chain;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use redb::{Builder, ReadableDatabase as _, StorageBackend, backends::InMemoryBackend};
use sloth_core::{AgentId, Chain, Digest, Millis, RepositoryId, RolloutId, RunId, Selector, TokenId};
use sloth_protocol::{
    coordinator::{
        AgentRecord, AgentReleaseRow, Before, Durable, Inbox, Item, Job, JobEnd, JobUpdate, OperatorRecord, Release,
        ReleaseName, RolloutHost, RolloutOrder, RolloutRecord, Run, Token, UpdateStanding, Write,
    },
    random::Random,
    rollout::{Halt, Standing},
    wire::{
        Approval, Dropped, EVENTS_IN_FRAME_MAX, JobState, Lane, LogStream, OnHalt, Platform, Record, RecordBody,
        RolloutBundle, RolloutSpec, RolloutStatus, RolloutSubject, RolloutWhat, Share, TaskEnd, TaskName, TaskStatus,
        UpdateState, WaveCounts, WaveMembers, WaveSpec, Withdrawn,
    },
};
use sloth_trust::{
    AgentRelease, BundleMetadata, Channel, Envelope, ManifestRef, PayloadKind, ProtocolRange, Reach, SPEC, Schema,
    Sha256, TargetBinary, Targets, Triple, Version,
};

use super::{RedbStore, Store, StoreError, tables};

const AT: Millis = Millis::from_secs(1_700_000_000);

fn agent(number: u64) -> AgentId {
    AgentId::new(AT, number.into())
}

fn run_id(number: u64) -> RunId {
    RunId::new(AT + Millis::from_secs(number), 0)
}

fn record(run: RunId, seq: u64, body: RecordBody) -> Record {
    Record { seq, at: AT, run, body }
}

fn log(text: &str) -> RecordBody {
    RecordBody::Log { task: None, stream: LogStream::Stdout, text: text.to_owned() }
}

fn task_ended(task: &str, outputs: &str) -> RecordBody {
    RecordBody::TaskEnded(TaskEnd {
        task: TaskName { workflow: "w".into(), task: task.into() },
        status: TaskStatus::Succeeded,
        attempts: 1,
        message: String::new(),
        outputs: outputs.to_owned(),
        started: AT,
        ended: AT,
    })
}

fn put_job(run: RunId, agent: AgentId, state: JobState) -> Write {
    Write::PutJob(run, agent, JobUpdate { job: Job { state, generation: 1 }, end: JobEnd::default() })
}

fn put_run(id: RunId, ended: Option<Millis>) -> Write {
    let run = Run {
        bundle: "web".parse().expect("a name"),
        version: "1".into(),
        counter: 1,
        workflow: None,
        selector: "*".into(),
        values: "{\"a\":1}".into(),
        operator: "ann".into(),
        created: AT,
        deadline: AT + Millis::from_secs(60),
        cancelled: false,
        ended,
    };
    Write::PutRun(id, Box::new(run))
}

fn put_agent(id: AgentId, next_generation: u64) -> Write {
    let agent = AgentRecord {
        name: format!("agent-{next_generation}"),
        host_labels: [("role".to_owned(), "web".to_owned())].into(),
        enrolled_labels: [].into(),
        version: "1".into(),
        platform: Platform::default(),
        key: Digest::of(b"key"),
        receipt_key: "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().expect("a key"),
        enrolled: AT,
        last_seen: AT,
        revoked: next_generation.is_multiple_of(3),
        next_generation,
        proto: sloth_protocol::wire::PROTO_MAX,
        update: next_generation.is_multiple_of(2).then(|| Box::new(standing(next_generation))),
        copied: next_generation
            .is_multiple_of(5)
            .then(|| Box::new(sloth_protocol::wire::Copied { since: AT, last: AT, hostname: "web-2".to_owned() })),
    };
    Write::PutAgent(id, Box::new(agent))
}

fn put_release(name: &str, counter: u64) -> Write {
    let metadata = BundleMetadata {
        spec: SPEC,
        repository: RepositoryId::new(AT, 1),
        name: name.parse().expect("a name"),
        counter,
        version: counter.to_string(),
        manifest: ManifestRef { digest: Digest::of(name.as_bytes()), length: 9 },
        audience: Selector::everything(),
        capabilities: vec!["exec".into()],
        triggers: Vec::new(),
        parameters: Some(Schema::parse(serde_json::json!({ "type": "object" })).expect("a schema")),
        expires: AT,
        published: AT,
    };
    let payload = serde_json::to_vec(&metadata).expect("JSON");
    let envelope = Envelope { kind: PayloadKind::Bundle, payload, signatures: Vec::new() }.encode();
    let workflows = BTreeSet::from(["w".to_owned()]);
    Write::PutRelease(Box::new(Release { envelope, metadata, size: 3, workflows, signers: vec!["k".into()] }))
}

/// Any change that a machine could make in `state`.
fn draw(random: &mut Random, state: &Durable) -> Write {
    let id = agent(random.below(4));
    let small = random.below(5);
    let active = state.runs.keys().nth(usize::try_from(small).expect("small")).copied();
    match random.below(21) {
        19 => Write::PutOperator(format!("ann-{small}"), Box::new(operator(small))),
        20 => Write::DropOperator(format!("ann-{small}")),
        17 => put_agent_release(1 + small),
        18 => Write::DropAgentRelease(1 + small),
        0 => Write::PutRoot(small, vec![1, 2, 3]),
        1 | 2 => put_agent(id, 1 + random.below(9)),
        3 => {
            let lane = Lane::ALL[usize::from(small == 0)];
            let dropped = Dropped { logs: small, ..Dropped::default() };
            Write::PutInbox(id, lane, Inbox { through: random.below(99), dropped })
        }
        4 => {
            let update = Item::Update { counter: 3, deadline: AT, rollout: None };
            let items = [Item::Run(run_id(2)), Item::Cancel(run_id(1)), update, Item::CancelUpdate { counter: 3 }];
            Write::PutWork(id, small, items[usize::try_from(small).expect("small") % items.len()])
        }
        5 => Write::DropWork(id, vec![small, small + 1]),
        6 => {
            let labels = [("a".to_owned(), "b".to_owned())].into();
            let token =
                Token { secret: Digest::of(b"s"), uses: 2, expires: AT, labels, operator: "ann".into(), root: 1 };
            Write::PutToken(TokenId::new(AT, small.into()), token)
        }
        7 => Write::DropToken(TokenId::new(AT, small.into())),
        8 => put_release(["web", "web-shop"][usize::from(small < 2)], 1 + random.below(3)),
        9 => Write::DropRelease("web".parse().expect("a name"), 1 + random.below(3)),
        10 => {
            let id = run_id(random.below(50));
            // A run that was forgotten is never started again, but here that does no harm.
            if state.ended.contains(&id) { Write::ForgetRun(id) } else { put_run(id, None) }
        }
        11 => active
            .map_or_else(|| put_run(run_id(60 + random.next_u64() % (1 << 30)), None), |run| put_run(run, Some(AT))),
        12 => put_job(active.unwrap_or_else(|| run_id(small)), id, JobState::Running),
        13 => Write::PutRollout(rollout_id(small), Box::new(rollout(small))),
        14 => Write::PutRolloutHost(rollout_id(small), id, rollout_host(small)),
        15 if small == 0 => Write::DropRollout(rollout_id(1)),
        15 => Write::DropRolloutHosts(rollout_id(small), vec![id]),
        _ => Write::Append(id, record(active.unwrap_or_else(|| run_id(small)), 1, log("hello"))),
    }
}

fn operator(number: u64) -> OperatorRecord {
    let withdrawn = (number == 1).then(|| Withdrawn { at: AT, by: "bob".to_owned() });
    OperatorRecord { first_seen: Some(AT), last_seen: Some(Millis::from_u64(number)), until: None, withdrawn }
}

fn rollout_id(number: u64) -> RolloutId {
    RolloutId::new(AT, number.into())
}

fn put_agent_release(counter: u64) -> Write {
    let binary = TargetBinary {
        target: Triple::own(),
        manifest: ManifestRef { digest: Digest::of(b"m"), length: 9 },
        digest: Sha256::of(b"b"),
        length: 3,
        deltas: Vec::new(),
    };
    let version: Version = format!("0.{counter}.0").parse().expect("a version");
    let release = AgentRelease {
        spec: SPEC,
        repository: RepositoryId::new(AT, 1),
        version: version.clone(),
        counter,
        channel: Channel::default(),
        targets: Targets::new(vec![binary]).expect("binaries"),
        from: Reach { oldest: version, also: BTreeSet::new() },
        protocol: ProtocolRange { min: 1, max: 2 },
        published: AT,
        expires: AT,
    };
    let payload = serde_json::to_vec(&release).expect("JSON");
    let envelope = Envelope { kind: PayloadKind::Release, payload, signatures: Vec::new() }.encode();
    Write::PutAgentRelease(Box::new(AgentReleaseRow { envelope, release, signers: vec!["k".into()] }))
}

fn standing(counter: u64) -> UpdateStanding {
    UpdateStanding {
        counter: Some(counter),
        rollout: None,
        generation: counter,
        from: "0.1.0".into(),
        to: "0.2.0".into(),
        state: UpdateState::RolledBack,
        at: AT,
        reason: "it did not connect".into(),
        log_tail: "a line".into(),
    }
}

fn rollout(number: u64) -> RolloutRecord {
    let members = WaveMembers::UpTo(Share::Hundredths(10_000));
    let wave = WaveSpec { members, soak: AT, approval: Approval::Needed };
    let what = RolloutBundle { name: "web".into(), version: None, workflow: None, values: "{}".into() };
    let spec = RolloutSpec {
        name: format!("web-{number}"),
        what: RolloutWhat::Bundle(what),
        selector: "*".into(),
        waves: vec![wave],
        errors_per_wave: Share::Count(1),
        errors_in_all: Share::Hundredths(100),
        unproven_max: Share::Count(2),
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: 3,
        timeout: AT,
        on_halt: OnHalt::RollBack,
    };
    let release = ReleaseName { counter: number, version: "1".into() };
    RolloutRecord {
        spec,
        subject: RolloutSubject::Bundle("web".parse().expect("a name")),
        before: Some(Before { version: "0".into(), manifest: Digest::of(b"before") }),
        back: Some(release.clone()),
        release,
        salt: Digest::of(b"salt"),
        cuts: vec![None, Some(number)],
        operator: "ann".into(),
        created: AT,
        status: RolloutStatus::Halted,
        since: AT,
        halt: Some(Halt::WaveBudget { wave: 1, failed: 2, silent: 3, allowed: 4 }),
        open: 1,
        approved: 2,
        passed: 3,
        attempt: 4,
        run: Some(run_id(number)),
        closing: Some(vec![WaveCounts { members: 9, ..WaveCounts::default() }]),
    }
}

fn rollout_host(number: u64) -> RolloutHost {
    let standing = match number {
        0 => Standing::Assigned { at: AT },
        1 => Standing::Silent { at: AT, succeeded: Some(AT) },
        2 => Standing::Succeeded { at: AT },
        _ => Standing::Proven,
    };
    let order = match number {
        0 => RolloutOrder::Update { counter: 3, generation: 4, from: "0.1.0".into() },
        _ => RolloutOrder::Run(run_id(number)),
    };
    RolloutHost { wave: 1, standing, order, rhythm: AT }
}

fn same(disk: &Durable, memory: &Durable) {
    assert_eq!(disk.roots, memory.roots);
    assert_eq!(disk.agents, memory.agents);
    assert_eq!(disk.inboxes, memory.inboxes);
    assert_eq!(disk.work, memory.work);
    assert_eq!(disk.tokens, memory.tokens);
    let bundles: Vec<_> = memory.bundles.iter().filter(|(_, releases)| !releases.is_empty()).collect();
    assert_eq!(disk.bundles.iter().collect::<Vec<_>>(), bundles);
    assert_eq!(disk.releases, memory.releases);
    assert_eq!(disk.runs, memory.runs);
    assert_eq!(disk.jobs, memory.jobs);
    assert_eq!(disk.ended, memory.ended);
    assert_eq!(disk.rollouts, memory.rollouts);
    assert_eq!(disk.rollout_hosts, memory.rollout_hosts);
}

fn temporary() -> (tempfile::TempDir, RedbStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(&dir.path().join("s.redb")).expect("a store");
    (dir, store)
}

#[test]
fn what_is_loaded_is_what_the_machine_believes() {
    for seed in 0..6 {
        let (_dir, store) = temporary();
        let (mut random, mut memory) = (Random::new(seed), Durable::default());
        for step in 0..40 {
            let mut writes = Vec::new();
            for _ in 0..=random.below(12) {
                let write = draw(&mut random, &memory);
                memory.apply(&write);
                writes.push(write);
            }
            store.commit(&writes).expect("committed");
            if step % 10 == 9 {
                store.reopen().expect("opened");
            }
            same(&store.load().expect("loaded"), &memory);
        }
    }
}

#[test]
fn what_happened_in_a_run_is_numbered_and_counts_only_for_who_was_given_it() {
    let (_dir, store) = temporary();
    let (run, mine, other) = (run_id(1), agent(1), agent(2));
    let writes = [
        put_agent(mine, 7),
        put_run(run, None),
        put_job(run, mine, JobState::Running),
        Write::Append(mine, record(run, 1, RecordBody::RunStarted)),
        Write::Append(other, record(run, 1, log("not mine"))),
        Write::Append(mine, record(run, 2, task_ended("a", "{\"x\":1}"))),
        Write::Append(mine, record(run_id(9), 3, log("no such run"))),
        put_job(run, mine, JobState::Succeeded),
        put_run(run, Some(AT)),
        // Late, and after the end of it all.
        Write::Append(mine, record(run, 4, log("late"))),
        put_job(run, mine, JobState::Running),
        put_job(run, other, JobState::Failed),
        put_job(run_id(9), mine, JobState::Failed),
    ];
    store.commit(&writes).expect("committed");

    let read = store.events(run, 0, None).expect("read").expect("known");
    let numbers: Vec<_> = read.events.iter().map(|event| (event.number, event.record.seq)).collect();
    assert_eq!((numbers, read.ended, read.more, read.through), (vec![(1, 1), (2, 2), (3, 4)], true, false, 3));
    assert_eq!(store.events(run, 2, None).expect("read").expect("known").events.len(), 1);
    assert_eq!(store.events(run, 0, Some(other)).expect("read").expect("known").events.len(), 0);
    assert_eq!(store.events(run_id(9), 0, None).expect("read"), None);

    let view = store.run(run).expect("read").expect("known");
    assert_eq!(view.summary.jobs, [(JobState::Succeeded, 1)]);
    let [job] = view.jobs.as_slice() else { panic!("{:?}", view.jobs) };
    assert_eq!((job.name.as_str(), job.state, job.tasks.len()), ("agent-7", JobState::Succeeded, 1));
    assert_eq!(job.tasks[0].end.outputs, "{\"x\":1}");

    store.commit(&[Write::ForgetRun(run)]).expect("committed");
    assert_eq!(store.run(run).expect("read"), None);
    assert_eq!(store.events(run, 0, None).expect("read"), None);
    // Nothing of it is left for a run of the same name.
    store.commit(&[put_run(run, None), put_job(run, mine, JobState::Pending)]).expect("committed");
    let view = store.run(run).expect("read").expect("known");
    assert_eq!((view.summary.jobs, view.jobs[0].tasks.len()), (vec![(JobState::Pending, 1)], 0));
}

#[test]
fn a_late_result_replaces_an_expiry_and_no_end_is_undone() {
    let (_dir, store) = temporary();
    let (run, agent) = (run_id(1), agent(1));
    store.commit(&[put_run(run, None), put_job(run, agent, JobState::Expired), put_run(run, Some(AT))]).expect("ok");
    for (update, expected) in [
        (JobState::Running, JobState::Expired),
        (JobState::Succeeded, JobState::Succeeded),
        (JobState::Pending, JobState::Succeeded),
    ] {
        store.commit(&[put_job(run, agent, update)]).expect("committed");
        assert_eq!(store.run(run).expect("read").expect("known").summary.jobs, [(expected, 1)], "{update:?}");
    }
}

#[test]
fn answers_stay_within_a_frame() {
    let (_dir, store) = temporary();
    let (run, agent, outputs) = (run_id(1), agent(1), format!("\"{}\"", "x".repeat(30_000)));
    let mut writes = vec![put_run(run, None), put_job(run, agent, JobState::Running)];
    writes.extend((1..=400).map(|seq| Write::Append(agent, record(run, seq, task_ended("t", &outputs)))));
    writes.extend((2..=30).map(|number| put_run(run_id(number), None)));
    store.commit(&writes).expect("committed");

    let view = store.run(run).expect("read").expect("known");
    let bytes: usize = view.jobs[0].tasks.iter().map(|task| task.end.outputs.len()).sum();
    assert!(view.jobs[0].tasks.len() == 400 && 300_000 < bytes && bytes < 400_000, "{bytes}");

    let (mut after, mut seen, mut frames) = (0, 0, 0);
    loop {
        let read = store.events(run, after, None).expect("read").expect("known");
        assert!(read.events.len() <= EVENTS_IN_FRAME_MAX && read.events.len() <= 30);
        (after, seen, frames) = (read.through, seen + read.events.len(), frames + 1);
        if !read.more {
            break;
        }
    }
    assert!(seen == 400 && 10 <= frames, "{seen} {frames}");

    let near = "x".repeat(700 * 1024);
    store
        .commit(&[
            Write::Append(agent, record(run, 401, log(&near))),
            Write::Append(agent, record(run, 402, log(&near))),
        ])
        .expect("committed");
    let read = store.events(run, 400, None).expect("read").expect("known");
    assert_eq!((read.events.len(), read.through, read.more), (1, 401, true));
    let read = store.events(run, 401, None).expect("read").expect("known");
    assert_eq!((read.events.len(), read.through, read.more), (1, 402, false));

    let first = store.runs(None, 10).expect("read");
    assert_eq!((first.runs.len(), first.more, first.runs[0].run), (10, true, run_id(30)));
    let rest = store.runs(Some(first.runs[9].run), 99).expect("read");
    assert_eq!((rest.runs.len(), rest.more, rest.runs[19].run), (20, false, run_id(1)));
}

/// A disk in memory, shared by all who open it, that refuses everything after so many more operations.
#[derive(Debug, Clone)]
struct FullDisk {
    memory: Arc<InMemoryBackend>,
    operations_left: Arc<AtomicI64>,
}

impl FullDisk {
    fn new() -> Self {
        Self { memory: Arc::new(InMemoryBackend::new()), operations_left: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    fn allow(&self, operations: i64) {
        self.operations_left.store(operations, Ordering::Relaxed);
    }

    fn operate(&self) -> Result<(), std::io::Error> {
        if self.operations_left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn store(&self) -> RedbStore {
        let disk = self.clone();
        let open = move |builder: &Builder| builder.create_with_backend(disk.clone());
        RedbStore::with(Path::new("full.redb"), Box::new(open)).expect("a store")
    }
}

impl StorageBackend for FullDisk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.operate()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.operate()?;
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.operate()?;
        self.memory.write(offset, data)
    }
}

#[test]
fn a_full_disk_loses_nothing_and_keeps_nothing_by_halves() {
    let disk = FullDisk::new();
    let store = disk.store();
    let mut acknowledged = 0;
    for operations in 0..60 {
        let number = acknowledged + 1;
        disk.allow(operations);
        let committed = store.commit(&[put_agent(agent(1), number), put_agent(agent(2), number)]);
        disk.allow(i64::MAX);
        store.reopen().expect("space is back");
        let state = store.load().expect("loaded");
        let found = state.agents.values().map(|agent| agent.next_generation).collect::<BTreeSet<_>>();
        match committed {
            Ok(_) => assert_eq!(found, [number].into(), "after {operations} operations"),
            Err(error) => {
                let text = Chain(&error).to_string();
                assert!(text.contains("full.redb"), "{text}");
                assert!(found.len() <= 1 && found.iter().all(|found| (acknowledged..=number).contains(found)));
            }
        }
        acknowledged = found.first().copied().unwrap_or(acknowledged);
    }
    assert!(20 < acknowledged, "{acknowledged}");
}

#[test]
fn a_store_that_could_not_be_opened_again_says_so_until_it_can() {
    let disk = FullDisk::new();
    let store = disk.store();
    disk.allow(0);
    assert!(store.commit(&[]).is_err() && store.reopen().is_err() && store.load().is_err());
    disk.allow(i64::MAX);
    store.reopen().expect("space is back");
    store.commit(&[]).expect("committed");
}

#[test]
fn files_that_cannot_be_used_are_refused_in_one_sentence() {
    let (dir, store) = temporary();
    let path = dir.path().join("s.redb");
    let locked = RedbStore::open(&path).expect_err("locked").to_string();
    assert!(locked.contains("is used by another process: stop that one"), "{locked}");
    drop(store);

    let database = redb::Database::open(&path).expect("opened");
    let writing = database.begin_write().expect("begun");
    let later = 2_u32.to_be_bytes();
    writing.open_table(tables::META).expect("a table").insert(tables::META_SCHEMA, later.as_slice()).expect("put");
    writing.commit().expect("committed");
    assert!(database.begin_read().is_ok());
    drop(database);
    let newer = RedbStore::open(&path).expect_err("newer").to_string();
    assert!(newer.contains("is of schema 2, and this program reads up to 1: upgrade sloth-coord"), "{newer}");

    let garbage = dir.path().join("garbage.redb");
    sloth_core::fs::replace(&garbage, &[7; 5000], sloth_core::fs::Access::Owner).expect("written");
    assert!(matches!(RedbStore::open(&garbage), Err(StoreError::Fs(_) | StoreError::Database { .. })));
    let nowhere = RedbStore::open(&dir.path().join("none/s.redb")).expect_err("no directory").to_string();
    assert!(nowhere.contains("none/s.redb`"), "{nowhere}");
}
