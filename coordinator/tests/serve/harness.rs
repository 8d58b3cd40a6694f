//! A coordinator on loopback, and visitors of every kind.

use std::{net::UdpSocket, path::PathBuf, sync::OnceLock};

use clap::Parser as _;
use quinn::{Connection, RecvStream};
use sloth_cli::{Failure, Outcome};
use sloth_coord::{
    cli::{self, Cli},
    config::Config,
    paths::Paths,
    serve::{self, ServeError, Server},
};
use sloth_core::{AgentId, Chain, Clock, Labels, Millis, RunId, Secret};
use sloth_protocol::wire::{
    AgentRequest, AgentResponse, CreateToken, Enroll, EnrollRequest, EnrollResponse, Enrolled, FRAME_BYTES_MAX, Hello,
    JoinToken, OperatorHello, OperatorRequest, OperatorResponse, Platform, Poll, Refusal, StartRun, Started, Work,
};
use sloth_transport::{CloseCode, Connector, Credential, Identity, KeyRequest, Link, Lost, Priority, recv, request};
use sloth_trust::MachineKey;
use tokio::{sync::oneshot, task::JoinHandle};

const WORKFLOW: &str = "task('hello'):command(function() print('hello') return true end)";

/// A coordinator that serves, in a directory of its own.
pub struct Coordinator {
    dir: tempfile::TempDir,
    address: String,
    pub http: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

/// An agent that is connected.
pub struct Agent {
    pub link: Link,
    pub id: AgentId,
    pub identity: Identity,
    authority: Vec<u8>,
}

pub fn now() -> Millis {
    Clock::new().now()
}

pub fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("randomness");
    u128::from_be_bytes(bytes)
}

/// What the command line does with these arguments, on a thread of its own.
pub async fn cli(arguments: &[&str]) -> Result<Outcome, String> {
    let arguments: Vec<String> = ["sloth-coord"].iter().chain(arguments).map(ToString::to_string).collect();
    let run = move || {
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        cli::run(cli).map_err(|failure: Failure| format!("{:?}: {failure}", failure.outcome))
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

impl Coordinator {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // The port is free again, and nobody else asks for this one.
        let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let coord = dir.path().join("coord").display().to_string();
        let made =
            cli(&["init", "--dir", &coord, "--listen", &address, "--address", &address, "--http", "127.0.0.1:0"]).await;
        assert_eq!(made, Ok(Outcome::Done));
        let paths = Paths::new(coord.into());
        let config = Config::load(&paths).expect("settings");
        let server = Server::start(&paths, config).await.expect("serving");
        let (stop, stopped) = oneshot::channel();
        let http = server.http().to_string();
        let served = tokio::spawn(server.run_until(async {
            let _ = stopped.await;
        }));
        Self { dir, address, http, stop, served }
    }

    /// One that has a trust root and the bundle `web`.
    pub async fn published() -> Self {
        let coordinator = Self::start().await;
        coordinator.publish("1").await;
        coordinator
    }

    pub fn paths(&self) -> Paths {
        Paths::new(self.dir.path().join("coord"))
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        sloth_core::fs::replace(&path, text.as_bytes(), sloth_core::fs::Access::Owner).expect("written");
        path
    }

    /// The command line with this coordinator's credential.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Outcome, String> {
        let credential = self.paths().admin().display().to_string();
        cli(&[arguments, &["--credential", &credential]].concat()).await
    }

    pub fn bundle(&self, version: &str, workflow: &str) -> String {
        let text = format!("name = 'web'\nversion = '{version}'\naudience = 'role=web'\n");
        self.file("web/bundle.toml", &text);
        self.file("web/main.sloth", workflow);
        self.dir.path().join("web").display().to_string()
    }

    pub async fn publish(&self, version: &str) {
        let (bundle, key) = (self.bundle(version, WORKFLOW), self.key("publisher"));
        assert_eq!(self.cli(&["publish", &bundle, "--key", &key]).await, Ok(Outcome::Done));
    }

    pub fn key(&self, name: &str) -> String {
        let path = self.dir.path().join(format!("{name}.key"));
        if !path.exists() {
            static KEY: OnceLock<String> = OnceLock::new();
            let make = || sloth_trust::sign::generate(None).expect("a key").secret.expose().clone();
            let text = if name == "publisher" { KEY.get_or_init(make).clone() } else { make() };
            self.file(&format!("{name}.key"), &text);
        }
        path.display().to_string()
    }

    pub fn address(&self) -> Vec<String> {
        vec![self.address.clone()]
    }

    pub async fn operator(&self) -> Link {
        let credential = Credential::load(&self.paths().admin()).expect("a credential");
        let link = Connector::operator(&credential).connect(&self.address(), now()).await.expect("connected");
        let hello = OperatorHello { proto_min: 1, proto_max: 1, version: "test".into() };
        let answer = operate(&link, OperatorRequest::Hello(hello)).await;
        assert!(matches!(answer, OperatorResponse::Welcome { proto: 1, .. }), "{answer:?}");
        link
    }

    pub async fn token(&self, uses: u32, ttl: Millis) -> JoinToken {
        let create = CreateToken { uses, ttl, labels: [("role".to_owned(), "web".to_owned())].into() };
        match operate(&self.operator().await, OperatorRequest::CreateToken(create)).await {
            OperatorResponse::Token(issued) => issued.token.parse().expect("a token"),
            other => panic!("{other:?}"),
        }
    }

    pub async fn stranger(&self) -> Link {
        let authority = serve::authority(&self.paths()).expect("an authority");
        Connector::enrolling(authority.fingerprint()).connect(&self.address(), now()).await.expect("connected")
    }

    pub async fn enroll(&self, token: &JoinToken, name: &str, key: &KeyRequest) -> Result<Enrolled, Refusal> {
        let connector = Connector::enrolling(token.authority);
        let link = connector.connect(&self.address(), now()).await.expect("connected");
        let (answer, _) =
            request(&link.connection, &enroll(token, name, key), Priority::Control).await.expect("answered");
        match answer {
            EnrollResponse::Enrolled(enrolled) => Ok(enrolled),
            EnrollResponse::Refused(refusal) => Err(refusal),
        }
    }

    /// An agent that enrolled, connected and said hello.
    pub async fn agent(&self, name: &str) -> Agent {
        let token = self.token(1, Millis::from_secs(60)).await;
        let key = KeyRequest::generate().expect("a key");
        let enrolled = self.enroll(&token, name, &key).await.expect("enrolled");
        let identity = key.certified(enrolled.certificate).expect("an identity");
        let authority = serve::authority(&self.paths()).expect("an authority").certificate().to_vec();
        let mut agent = self.connect(enrolled.agent, identity, authority).await;
        agent.hello().await;
        agent
    }

    /// The same agent on another connection.
    pub async fn again(&self, agent: &Agent) -> Agent {
        self.connect(agent.id, agent.identity.clone(), agent.authority.clone()).await
    }

    pub async fn connect(&self, id: AgentId, identity: Identity, authority: Vec<u8>) -> Agent {
        let connector = Connector::enrolled(authority.clone(), identity.clone());
        let link = connector.connect(&self.address(), now()).await.expect("connected");
        Agent { link, id, identity, authority }
    }

    pub async fn start_run(&self, on: &str) -> Started {
        let start = StartRun {
            run: RunId::new(now(), random()),
            bundle: "web".into(),
            version: None,
            workflow: None,
            selector: on.into(),
            values: "{}".into(),
            ttl: Millis::from_secs(600),
        };
        match operate(&self.operator().await, OperatorRequest::StartRun(start)).await {
            OperatorResponse::Started(started) => started,
            other => panic!("{other:?}"),
        }
    }

    pub async fn stop(self) -> tempfile::TempDir {
        let _ = self.stop.send(());
        self.served.await.expect("no panic").expect("stopped cleanly");
        self.dir
    }

    /// The same coordinator, started again.
    pub async fn restart(self) -> Self {
        let address = self.address.clone();
        let dir = self.stop().await;
        let paths = Paths::new(dir.path().join("coord"));
        let server = Server::start(&paths, Config::load(&paths).expect("settings")).await.expect("serving");
        let (stop, stopped) = oneshot::channel();
        let http = server.http().to_string();
        let served = tokio::spawn(server.run_until(async {
            let _ = stopped.await;
        }));
        Self { dir, address, http, stop, served }
    }
}

impl Agent {
    pub async fn ask(&self, question: AgentRequest) -> AgentResponse {
        let answer = request(&self.link.connection, &question, Priority::Control).await;
        answer.unwrap_or_else(|error| panic!("{}", Chain(&error))).0
    }

    pub async fn hello(&mut self) {
        let answer = self.ask(AgentRequest::Hello(hello())).await;
        assert!(matches!(answer, AgentResponse::Welcome(_)), "{answer:?}");
    }

    pub async fn poll(&self, accepted: u64, hold: Millis) -> Work {
        match self.ask(AgentRequest::Poll(Poll { accepted, hold, room: 4, root: 1, head: 0 })).await {
            AgentResponse::Work(work) => work,
            other => panic!("{other:?}"),
        }
    }
}

pub fn hello() -> Hello {
    Hello {
        proto_min: 1,
        proto_max: 1,
        features: 0,
        version: "test".into(),
        platform: Platform::default(),
        labels: Labels::new(),
        instance: 1,
    }
}

pub fn enroll(token: &JoinToken, name: &str, key: &KeyRequest) -> EnrollRequest {
    EnrollRequest::Enroll(Enroll {
        proto_min: 1,
        proto_max: 1,
        token: token.id,
        secret: token.secret,
        csr: key.csr().to_vec(),
        name: name.to_owned(),
        version: "test".into(),
        platform: Platform::default(),
        labels: Labels::new(),
        receipt_key: receipt_key().public().clone(),
    })
}

/// What the agents of these tests sign receipts with.
pub fn receipt_key() -> MachineKey {
    MachineKey::from_seed(&Secret::new([7; 32]), [7; 8]).expect("a key")
}

pub async fn operate(link: &Link, question: OperatorRequest) -> OperatorResponse {
    let answer = request(&link.connection, &question, Priority::Control).await;
    answer.unwrap_or_else(|error| panic!("{}", Chain(&error))).0
}

pub async fn follow(link: &Link, question: OperatorRequest) -> (OperatorResponse, RecvStream) {
    request(&link.connection, &question, Priority::Control).await.expect("answered")
}

pub async fn next(stream: &mut RecvStream) -> OperatorResponse {
    recv(stream, FRAME_BYTES_MAX).await.expect("a frame")
}

/// Why the coordinator closed a connection.
pub async fn closed(connection: &Connection) -> CloseCode {
    match Lost::from(connection.closed().await) {
        Lost::Closed { code } => code,
        other => panic!("{other:?}"),
    }
}
