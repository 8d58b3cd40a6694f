//! A coordinator in this process that does what a test says, on real sockets.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use quinn::{Connection, Endpoint, SendStream};
use sloth_bundle::{ChunkStore, Limits as BundleLimits, Manifest, Parts, pack};
use sloth_core::{AgentId, Clock, Labels, Millis, RunId, Selector, TokenId};
use sloth_protocol::wire::{
    Acked, AgentRequest, AgentResponse, Dropped, Enroll, EnrollRequest, EnrollResponse, Enrolled, JoinToken, Lane,
    Order, PROTO_MAX, Record, RecordBody, Refusal, Renewed, RunEnd, RunOrder, TokenSecret, Welcome, Work, WorkItem,
};
use sloth_transport::{Authority, CloseCode, Limits, Peer, listen, recv, requested_key, send, server};
use sloth_trust::{
    AgentRelease, Assignment, BundleMetadata, Envelope, Head, PublicKey, Receipt, RootPin, RootRef, SPEC, Tree,
    Trigger,
    head::{leaf, release_leaf},
    receipt_envelope,
    sign::sign,
    verify_receipt,
};
use tokio::sync::watch;

use super::{
    mirror::{self, Trick},
    trust::Trust,
};

pub const DAY: Millis = Millis::from_secs(24 * 3600);
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;
const WAIT: Duration = Duration::from_secs(30);

/// What makes an order, to be changed before it is sent.
pub struct Draft {
    pub generation: u64,
    pub metadata: BundleMetadata,
    pub assignment: Assignment,
    /// Whether the release is one of those that the head names.
    pub offered: bool,
    /// What is sent in the end, if it is not what `metadata` and `assignment` say.
    pub metadata_envelope: Option<Envelope>,
    pub assignment_envelope: Option<Envelope>,
}

/// A coordinator, listening on loopback until it is dropped.
pub struct Coordinator {
    pub address: String,
    pub(super) shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

pub(super) struct Shared {
    authority: Authority,
    /// The trust root of before, by which agents are enrolled.
    first_root: Vec<u8>,
    pin: RootPin,
    trust: Mutex<Trust>,
    pub(super) chunks: ChunkStore,
    state: Mutex<State>,
    changed: Condvar,
    /// The highest generation there is.
    pub(super) orders: watch::Sender<u64>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
pub struct State {
    pub records: Vec<Record>,
    pub dropped: Dropped,
    pub labels: Labels,
    /// Certificates that agents connected with, in order.
    pub certificates: Vec<Millis>,
    /// By their keys.
    pub agents: BTreeMap<Vec<u8>, AgentId>,
    /// What the newest agent's receipts are verified with.
    pub receipt_key: Option<PublicKey>,
    /// How long certificates count from now on.
    pub term: Option<Millis>,
    /// What the next enrolments are refused with.
    pub refusal: Option<Refusal>,
    /// How many enrolments' answers are lost from now on.
    pub lose_answers: u32,
    /// A root that is sent in place of the true one.
    pub other_root: Option<Vec<u8>>,
    /// Downloads end after so many bytes, once for each number.
    pub cuts: Vec<usize>,
    /// So many downloads stand still, from now on.
    pub stalls: u32,
    /// Offsets that were asked for.
    pub offsets: Vec<u64>,
    /// Downloads have other bytes than they should.
    pub corrupt: bool,
    /// What else is wrong with downloads.
    pub trick: Option<Trick>,
    /// Polls are answered with a frame that has no end.
    pub endless_answers: bool,
    /// What is sent in place of the true head.
    pub head: Option<Vec<u8>>,
    /// Roots that are sent with every answer to a poll.
    pub roots: Vec<Vec<u8>>,
    /// What was published, with its envelope.
    pub releases: Vec<(BundleMetadata, Envelope)>,
    /// Releases of the agent that were published.
    pub agent_releases: Vec<(AgentRelease, Envelope)>,
    acked: [u64; 2],
    pub(super) items: Vec<WorkItem>,
    connections: Vec<Connection>,
}

impl Coordinator {
    pub fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::create(now(), random_bytes()).expect("an authority");
        let trust = Trust::new();
        let (first_root, pin) = (trust.envelope.encode(), RootPin::of(&trust.envelope.payload));
        let chunks = ChunkStore::open(dir.path()).expect("opened");
        let shared = Arc::new(Shared {
            authority,
            first_root,
            pin,
            trust: Mutex::new(trust),
            chunks,
            state: Mutex::default(),
            changed: Condvar::new(),
            orders: watch::Sender::new(0),
            _dir: dir,
        });
        let identity = shared.authority.issue_server(now(), DAY).expect("issued");
        let config = server(&shared.authority, &identity, Limits::default()).expect("usable");
        let guard = runtime.enter();
        let endpoint = listen(([127, 0, 0, 1], 0).into(), config, &shared.authority.continuity()).expect("a port");
        drop(guard);
        let address = endpoint.local_addr().expect("bound").to_string();
        runtime.spawn(accept(endpoint, Arc::clone(&shared)));
        Self { address, shared, _runtime: runtime }
    }

    pub fn token(&self) -> JoinToken {
        JoinToken {
            id: TokenId::new(now(), 1),
            secret: TokenSecret::from_bytes([3; 32]),
            addresses: vec![self.address.clone()],
            authority: self.shared.authority.fingerprint(),
            root: self.shared.pin,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Waits until `found` finds something in the state.
    pub fn wait<T>(&self, what: &str, mut found: impl FnMut(&State) -> Option<T>) -> T {
        let mut state = self.state();
        loop {
            if let Some(found) = found(&state) {
                return found;
            }
            let (next, timeout) = self.shared.changed.wait_timeout(state, WAIT).expect("not poisoned");
            state = next;
            assert!(!timeout.timed_out(), "never came: {what}; there are {:#?}", state.records);
        }
    }

    pub fn wait_for_agent(&self) {
        self.wait("an agent", |state| (!state.certificates.is_empty()).then_some(()));
    }

    /// Waits for a run's receipt, which its agent has signed.
    pub fn wait_for_receipt(&self, run: RunId) -> Receipt {
        self.wait("the run's receipt", |state| {
            let key = state.receipt_key.as_ref()?;
            let mut bodies = state.records.iter().filter(|record| record.run == run).map(|record| &record.body);
            let envelope = bodies.find_map(|body| match body {
                RecordBody::Receipt { payload, signature } => {
                    Some(receipt_envelope(payload.clone(), signature.clone(), key))
                }
                RecordBody::RunStarted
                | RecordBody::TaskStarted { .. }
                | RecordBody::TaskEnded(_)
                | RecordBody::RunEnded(_)
                | RecordBody::Log { .. }
                | RecordBody::Update(_) => None,
            })?;
            Some(verify_receipt(&envelope, key).expect("signed by the key that was enrolled"))
        })
    }

    /// Waits for the end of a run.
    pub fn wait_for_end(&self, run: RunId) -> RunEnd {
        self.wait("the run's end", |state| {
            state.records.iter().find_map(|record| {
                if let RecordBody::RunEnded(end) = &record.body
                    && record.run == run
                {
                    return Some(end.clone());
                }
                None
            })
        })
    }

    /// Closes every connection.
    pub fn hang_up(&self) {
        for connection in self.state().connections.drain(..) {
            CloseCode::Shutdown.close(&connection);
        }
    }

    /// Who signs what.
    pub fn trust(&self) -> MutexGuard<'_, Trust> {
        self.shared.trust()
    }

    /// A true head of what was published, with a change.
    pub fn head(&self, change: impl FnOnce(&mut Head)) -> Vec<u8> {
        let head = self.shared.head(&self.state(), change);
        self.trust().say(&head, &head.domain()).encode()
    }

    /// Publishes the directory `dir` and orders every agent to run it.
    pub fn run(&self, dir: &Path, values: &serde_json::Value) -> RunId {
        self.order(dir, values, |_| {})
    }

    /// The same with a change.
    pub fn order(&self, dir: &Path, values: &serde_json::Value, change: impl FnOnce(&mut Draft)) -> RunId {
        let shared = &self.shared;
        let packed = pack(dir, &BundleLimits::default()).expect("packed");
        packed.store_into(&shared.chunks).expect("stored");
        let (name, workflow) = ("web".parse().expect("a name"), "main.sloth".parse().expect("a path"));
        let parts =
            Parts { name, version: "1".into(), workflow, files: packed.files, links: packed.links, plan: Vec::new() };
        let manifest = Manifest::new(parts, &BundleLimits::default()).and_then(|m| m.encode()).expect("encoded");
        let reference = Manifest::reference(&manifest);
        shared.chunks.put_plain(reference.digest, &manifest).expect("stored");
        let run = RunId::new(now(), u128::from_ne_bytes(random_bytes()));
        let generation = *shared.orders.borrow() + 1;
        let repository = self.trust().root.repository;
        let agent = *self.state().agents.values().next().expect("an agent");
        let metadata = BundleMetadata {
            spec: SPEC,
            repository,
            name: "web".parse().expect("a name"),
            counter: generation,
            version: "1".into(),
            manifest: reference,
            audience: Selector::everything(),
            capabilities: ["exec", "fs:read", "fs:write", "state", "facts"].map(str::to_owned).to_vec(),
            triggers: vec![Trigger::Manual],
            parameters: None,
            expires: now() + DAY,
            published: now(),
        };
        let assignment = Assignment {
            spec: SPEC,
            agent,
            run,
            bundle: metadata.name.clone(),
            counter: generation,
            manifest: reference.digest,
            workflow: None,
            values: values.as_object().cloned().unwrap_or_default(),
            not_before: Millis::ZERO,
            deadline: now() + DAY,
            nonce: generation,
        };
        let (metadata_envelope, assignment_envelope) = (None, None);
        let mut draft =
            Draft { generation, metadata, assignment, offered: true, metadata_envelope, assignment_envelope };
        change(&mut draft);
        let (mut state, trust) = (self.state(), self.trust());
        let Draft { generation, metadata, assignment, offered, metadata_envelope, assignment_envelope } = draft;
        let sign_metadata = || sign(&metadata, &metadata.domain(), &[&trust.publisher]).expect("signed");
        let envelope = metadata_envelope.unwrap_or_else(sign_metadata);
        let domain = assignment.domain(repository);
        let sign_assignment = || trust.say(&assignment, &domain);
        let assigned = assignment_envelope.unwrap_or_else(sign_assignment);
        if offered {
            state.releases.push((metadata, envelope.clone()));
        }
        let order = RunOrder {
            run,
            assignment: assigned.encode(),
            metadata: envelope.encode(),
            // Filled in when it is sent, for the head of that time.
            index: state.releases.len() as u64 - u64::from(offered),
            path: Vec::new(),
        };
        state.items.push(WorkItem { generation, order: Order::Run(order) });
        drop((state, trust));
        shared.orders.send_replace(generation);
        run
    }

    /// Takes back the order of a run that no agent has accepted.
    pub fn withdraw(&self, run: RunId) {
        let mut state = self.state();
        state.items.retain(|item| !matches!(&item.order, Order::Run(order) if order.run == run));
        let newest = state.items.iter().map(|item| item.generation).max().unwrap_or(0);
        drop(state);
        self.shared.orders.send_replace(newest);
    }

    pub fn cancel(&self, run: RunId) {
        let generation = *self.shared.orders.borrow() + 1;
        self.state().items.push(WorkItem { generation, order: Order::Cancel { run } });
        self.shared.orders.send_replace(generation);
    }
}

impl State {
    /// Results and output of a run in short, in the order they came.
    pub fn story(&self, run: RunId) -> Vec<String> {
        let records = self.records.iter().filter(|record| record.run == run);
        records
            .filter_map(|record| match &record.body {
                RecordBody::RunStarted => Some("started".to_owned()),
                RecordBody::TaskStarted { task, attempt } => Some(format!("+{}/{attempt}", task.task)),
                RecordBody::TaskEnded(end) => Some(format!("-{} {:?}", end.task.task, end.status)),
                RecordBody::RunEnded(end) => Some(format!("ended {:?}", end.outcome)),
                RecordBody::Log { text, .. } => Some(format!("| {text}")),
                RecordBody::Receipt { .. } => None,
                RecordBody::Update(report) => Some(format!("update {:?}", report.verdict)),
            })
            .collect()
    }

    /// The same without output.
    pub fn results(&self, run: RunId) -> Vec<String> {
        self.story(run).into_iter().filter(|line| !line.starts_with('|')).collect()
    }
}

impl Shared {
    fn head(&self, state: &State, change: impl FnOnce(&mut Head)) -> Head {
        let trust = self.trust();
        let mut head = Head {
            spec: SPEC,
            repository: trust.root.repository,
            version: now().as_u64(),
            previous: None,
            root: RootRef::of(trust.root.version, &trust.envelope.payload),
            releases: tree(state).head(),
            issued: now(),
            expires: now() + DAY,
        };
        change(&mut head);
        head
    }

    /// What an agent that has everything up to `accepted` is told.
    fn work(&self, accepted: u64) -> Work {
        let state = self.state();
        let tree = tree(&state);
        let path = |index: u64| tree.inclusion(usize::try_from(index).expect("fits")).unwrap_or_default().path;
        let prove = |mut item: WorkItem| {
            match &mut item.order {
                Order::Run(order) => order.path = path(order.index),
                Order::Update(order) => {
                    order.index += state.releases.len() as u64;
                    order.path = path(order.index);
                }
                Order::Cancel { .. } | Order::CancelUpdate { .. } => {}
            }
            item
        };
        let items = state.items.iter().filter(|item| accepted < item.generation).cloned().map(prove).collect();
        let head = self.head(&state, |_| {});
        let sealed = || self.trust().say(&head, &head.domain()).encode();
        let head = Some(state.head.clone().unwrap_or_else(sealed));
        Work { items, next_poll: Millis::ZERO, roots: state.roots.clone(), head }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        self.trust.lock().expect("not poisoned")
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            match Peer::of(&connection, now()) {
                Ok(Peer::Nobody) => enroll(&shared, &connection).await,
                Ok(Peer::Agent { not_after, .. }) => serve(&shared, &connection, not_after).await,
                Ok(Peer::Operator { .. }) | Err(_) => CloseCode::Misbehaved.close(&connection),
            }
        });
    }
}

async fn enroll(shared: &Arc<Shared>, connection: &Connection) {
    while let Ok((mut sending, mut receiving)) = connection.accept_bi().await {
        let Ok(EnrollRequest::Enroll(enroll)) = recv(&mut receiving, FRAME_BYTES_MAX).await else { return };
        let Some(answer) = enrolled(shared, &enroll) else { return CloseCode::Shutdown.close(connection) };
        let _ = send(&mut sending, &answer).await;
    }
}

/// None when the answer is to be lost.
fn enrolled(shared: &Shared, enroll: &Enroll) -> Option<EnrollResponse> {
    let mut state = shared.state();
    let count = u128::try_from(state.agents.len()).expect("fits");
    let key = requested_key(&enroll.csr).expect("a request");
    state.receipt_key = Some(enroll.receipt_key.clone());
    let agent = *state.agents.entry(key).or_insert_with(|| AgentId::new(now(), count));
    if 0 < state.lose_answers {
        state.lose_answers -= 1;
        return None;
    }
    if let Some(refusal) = &state.refusal {
        return Some(EnrollResponse::Refused(refusal.clone()));
    }
    let term = state.term.unwrap_or(DAY);
    let issued = shared.authority.issue_agent(&enroll.csr, agent, now(), term).expect("issued");
    Some(EnrollResponse::Enrolled(Enrolled {
        agent,
        certificate: issued.der,
        not_before: issued.not_before,
        not_after: issued.not_after,
        labels: Labels::from([("role".to_owned(), "web".to_owned())]),
        root: state.other_root.clone().unwrap_or_else(|| shared.first_root.clone()),
    }))
}

async fn serve(shared: &Arc<Shared>, connection: &Connection, not_after: Millis) {
    shared.change(|state| {
        state.certificates.push(not_after);
        state.connections.push(connection.clone());
    });
    while let Ok((sending, mut receiving)) = connection.accept_bi().await {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            if let Ok(request) = recv::<AgentRequest>(&mut receiving, FRAME_BYTES_MAX).await {
                answer(&shared, request, sending).await;
            }
        });
    }
}

async fn answer(shared: &Arc<Shared>, request: AgentRequest, mut sending: SendStream) {
    let response = match request {
        AgentRequest::Hello(hello) => {
            shared.change(|state| state.labels = hello.labels);
            let acked = shared.state().acked;
            let reconnect_within = Millis::from_u64(100);
            AgentResponse::Welcome(Welcome { proto: PROTO_MAX, features: 0, time: now(), acked, reconnect_within })
        }
        AgentRequest::Poll(poll) => {
            let mut orders = shared.orders.subscribe();
            let waited = orders.wait_for(|newest| poll.accepted < *newest);
            let _ = tokio::time::timeout(poll.hold.as_duration(), waited).await;
            if shared.state().endless_answers {
                return mirror::without_end(&mut sending).await;
            }
            AgentResponse::Work(shared.work(poll.accepted))
        }
        AgentRequest::Report(report) => {
            let lane: Lane = report.lane;
            let mut through = 0;
            shared.change(|state| {
                for record in report.records {
                    if state.acked[lane.index()] < record.seq {
                        state.acked[lane.index()] = record.seq;
                        state.records.push(record);
                    }
                }
                state.dropped = report.dropped;
                through = state.acked[lane.index()];
            });
            AgentResponse::Acked(Acked { lane, through })
        }
        AgentRequest::Fetch(fetch) => return mirror::blob(shared, fetch.digest, fetch.offset, sending).await,
        AgentRequest::Renew(renew) => {
            let agent = *shared.state().agents.values().next().expect("an agent");
            let issued = shared.authority.issue_agent(&renew.csr, agent, now(), DAY).expect("issued");
            let (not_before, not_after) = (issued.not_before, issued.not_after);
            AgentResponse::Renewed(Renewed { certificate: issued.der, not_before, not_after })
        }
    };
    let _ = send(&mut sending, &response).await;
}

fn tree(state: &State) -> Tree {
    let bundles = state.releases.iter().map(|(metadata, envelope)| leaf(metadata, envelope));
    Tree::new(bundles.chain(state.agent_releases.iter().map(|(release, envelope)| release_leaf(release, envelope))))
}

pub fn now() -> Millis {
    Clock::new().now()
}

pub fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes
}
