//! Agents and the tokens they join with.

use std::ops::Bound;

use sloth_core::{AgentId, Digest, Millis, TokenId, excerpt, labels};

use super::{
    AGENTS_MAX, AgentRecord, Answer, CloseReason, ConnId, Enroll, Item, LAST_SEEN_STEP, RECONNECTS_PER_SECOND,
    REVOKED_MAX, Reply, TOKEN_TTL_MAX, TOKENS_MAX, Ticket, Token, Write,
    machine::{Coordinator, Timer},
};
use crate::wire::{
    CreateToken, Hello, JobState, PAGE_ROWS_MAX, Platform, Refusal, RefusalCode, TokenView, TokensPage, Welcome,
    negotiate,
};

/// Most characters of an agent's name, its release and each text of its platform.
const NAME_CHARS_MAX: usize = 128;

impl Coordinator {
    /// Makes a host an agent. A repeated enrolment with the same key gives the same agent and uses nothing up.
    pub(super) fn enroll(&mut self, enroll: &Enroll) -> Result<Answer, Refusal> {
        let Some(token) = self.state.tokens.get(&enroll.token).filter(|token| token.secret == enroll.secret) else {
            return Err(denied(
                "the join token is not known here: it expired, or it is another coordinator's; make one with `sloth-coord token create`",
            ));
        };
        // The one that the token names; the agent is told of those after it as any other is.
        let root = self.state.roots.get(&token.root).cloned().unwrap_or_default();
        let labels = token.labels.clone();
        if let Some(agent) = self.names.get(&enroll.name).copied()
            && let Some(record) = self.state.agents.get(&agent)
        {
            if record.key == enroll.key {
                let record = record.clone();
                return self.enroll_again(agent, record, enroll, root);
            }
            let reason = format!(
                "an agent named `{0}` is enrolled already: revoke it with `sloth-coord agents revoke {0}`, or enrol under another `--name`",
                enroll.name
            );
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        let token = token.clone();
        self.check_token(&token)?;
        check_facts(enroll)?;
        let agent = AgentId::new(self.now, self.random.next_u128());
        self.use_token(enroll.token, token);
        self.names.insert(enroll.name.clone(), agent);
        self.write(Write::PutAgent(agent, Box::new(self.new_record(enroll, labels.clone()))));
        Ok(Answer::Enrolled { agent, labels, root })
    }

    pub(super) fn create_token(
        &mut self,
        operator: &str,
        create: CreateToken,
        id: TokenId,
        secret: Digest,
    ) -> Result<Reply, Refusal> {
        let Some(trusted) = &self.trusted else {
            return Err(invalid(
                "there is no trust root yet, which every join token names: publish a bundle first with `sloth-coord publish`",
            ));
        };
        let (root, version) = (trusted.pin(), trusted.root().version);
        if create.uses == 0 {
            return Err(invalid("a join token takes at least one use"));
        }
        if create.ttl == Millis::ZERO || TOKEN_TTL_MAX < create.ttl {
            return Err(invalid("a join token counts for more than nothing and at most 30 days"));
        }
        check_labels(&create.labels)?;
        if !self.make_room_for_token() {
            return Err(Refusal::new(RefusalCode::TooLarge, format!("{TOKENS_MAX} join tokens count already")));
        }
        let expires = self.now + create.ttl;
        let (uses, labels, operator) = (create.uses, create.labels, operator.to_owned());
        self.write(Write::PutToken(id, Token { secret, uses, expires, labels, operator, root: version }));
        self.set_timer(expires, Timer::Token(id));
        Ok(Reply::Token { root, expires })
    }

    pub(super) fn tokens(&self, after: Option<TokenId>) -> TokensPage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = usize::try_from(PAGE_ROWS_MAX).unwrap_or(usize::MAX);
        let range = self.state.tokens.range((from, Bound::Unbounded));
        let view = |(id, token): (&TokenId, &Token)| {
            let Token { uses, expires, labels, operator, .. } = token.clone();
            TokenView { id: *id, uses, expires, labels, operator }
        };
        let mut tokens: Vec<TokenView> = range.take(limit + 1).map(view).collect();
        let more = limit < tokens.len();
        tokens.truncate(limit);
        TokensPage { tokens, more }
    }

    /// Makes a token count no more. Who enrolled with it stays.
    pub(super) fn revoke_token(&mut self, id: TokenId) -> Result<Reply, Refusal> {
        let Some(token) = self.state.tokens.get(&id) else {
            let reason = format!("there is no join token `{id}`: `sloth-coord token list` shows those that count");
            return Err(Refusal::new(RefusalCode::NotFound, reason));
        };
        self.clear_timer(token.expires, Timer::Token(id));
        self.write(Write::DropToken(id));
        Ok(Reply::Done)
    }

    pub(super) fn expire_token(&mut self, id: TokenId) {
        if self.state.tokens.get(&id).is_some_and(|token| token.expires <= self.now) {
            self.write(Write::DropToken(id));
        }
    }

    /// Withdraws an identity: its connection is closed, and what it had to do has failed.
    pub(super) fn revoke(&mut self, key: &str) -> Result<Reply, Refusal> {
        let id = self.find_agent(key)?;
        let Some(record) = self.state.agents.get(&id) else { return Err(no_agent(key)) };
        if !record.revoked {
            let last_seen = if self.present.contains_key(&id) { self.now } else { record.last_seen };
            let record = AgentRecord { revoked: true, last_seen, ..record.clone() };
            self.names.remove(&record.name);
            self.write(Write::PutAgent(id, Box::new(record)));
            self.drop_all_work(id);
            self.end_any_update(id, "the agent's identity was withdrawn");
            if let Some(presence) = self.present.remove(&id) {
                for conn in [Some(presence.conn), presence.arriving].into_iter().flatten() {
                    self.connections.remove(&conn);
                    self.out.closes.push((conn, CloseReason::Revoked));
                }
            }
            let open =
                self.state.jobs.iter().filter(|(_, jobs)| jobs.get(&id).is_some_and(|job| !job.state.is_final()));
            let open: Vec<_> = open.map(|(run, _)| *run).collect();
            for run in open {
                self.end_job(run, id, JobState::Failed, "the agent's identity was withdrawn");
            }
            self.bound_revoked(id);
        }
        Ok(Reply::Agent(Box::new(self.agent_view(id)?)))
    }

    /// Forgets an agent whose identity was withdrawn: to whoever comes with its certificate it is as if it had never been.
    pub(super) fn forget_agent(&mut self, key: &str) -> Result<Reply, Refusal> {
        let id = self.find_agent(key)?;
        if self.state.agents.get(&id).is_some_and(|record| !record.revoked) {
            let reason = format!(
                "agent `{0}` is in use: withdraw its identity first with `sloth-coord agents revoke {0}`",
                excerpt(key)
            );
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        self.drop_agent(id);
        Ok(Reply::Done)
    }

    fn drop_agent(&mut self, id: AgentId) {
        self.write(Write::ForgetAgent(id));
        self.told.remove(&id);
        self.knows.remove(&id);
        self.lives.remove(&id);
    }

    /// When there are too many, the one that was last seen first goes, but not the one that was withdrawn just now.
    fn bound_revoked(&mut self, newest: AgentId) {
        if self.state.agents.len() - self.names.len() <= REVOKED_MAX {
            return;
        }
        let revoked = self.state.agents.iter().filter(|(id, record)| record.revoked && **id != newest);
        let oldest = revoked.min_by_key(|(id, record)| (record.last_seen, **id)).map(|(id, _)| *id);
        if let Some(oldest) = oldest {
            self.drop_agent(oldest);
        }
    }

    pub(super) fn hello(&mut self, agent: AgentId, conn: ConnId, ticket: Ticket, hello: Hello) {
        let answer = self.welcome(agent, conn, hello).unwrap_or_else(Answer::Refused);
        self.answer(ticket, answer);
    }

    /// Notes that an agent was heard of; on the disk only when the last note is older than `step`.
    pub(super) fn seen(&mut self, agent: AgentId, step: Millis) {
        let Some(record) = self.state.agents.get(&agent) else { return };
        self.rollouts.contacts.heard(agent, self.now);
        if step < self.now.since(record.last_seen) {
            let record = AgentRecord { last_seen: self.now, ..record.clone() };
            self.write(Write::PutAgent(agent, Box::new(record)));
        }
    }

    /// The agent that a name or an id means.
    pub(super) fn find_agent(&self, key: &str) -> Result<AgentId, Refusal> {
        if let Some(id) = self.names.get(key) {
            return Ok(*id);
        }
        let id = key.parse::<AgentId>().map_err(|_| no_agent(key))?;
        if self.state.agents.contains_key(&id) { Ok(id) } else { Err(no_agent(key)) }
    }

    fn welcome(&mut self, agent: AgentId, conn: ConnId, hello: Hello) -> Result<Answer, Refusal> {
        let Some(proto) = negotiate(hello.proto_min, hello.proto_max) else {
            return Err(Refusal::version("the agent", hello.proto_min, hello.proto_max));
        };
        check_labels(&hello.labels)?;
        self.tell_apart(agent, conn, &hello)?;
        let Some(record) = self.state.agents.get(&agent) else { return Err(denied("the agent is not known")) };
        let said = AgentRecord {
            host_labels: hello.labels,
            version: clip(hello.version),
            platform: clip_platform(hello.platform),
            proto,
            last_seen: self.now,
            ..record.clone()
        };
        let receipt_key = Box::new(record.receipt_key.clone());
        let changed = (&said.host_labels, &said.version, &said.platform, said.proto)
            != (&record.host_labels, &record.version, &record.platform, record.proto);
        if changed || LAST_SEEN_STEP < self.now.since(record.last_seen) {
            self.write(Write::PutAgent(agent, Box::new(said)));
        }
        self.note_version(agent);
        self.take_place(agent, conn);
        self.rollouts.contacts.heard(agent, self.now);
        self.stir_all();
        let inbox = self.state.inboxes.get(&agent).copied().unwrap_or_default();
        let fleet = u64::try_from(self.names.len()).unwrap_or(u64::MAX);
        let welcome = Welcome {
            proto,
            features: 0,
            time: self.now,
            acked: inbox.map(|lane| lane.through),
            reconnect_within: Millis::from_secs(1 + fleet / RECONNECTS_PER_SECOND),
        };
        Ok(Answer::Welcome { welcome, receipt_key })
    }

    fn check_token(&self, token: &Token) -> Result<(), Refusal> {
        if token.uses == 0 {
            return Err(denied("the join token is used up: make one with `sloth-coord token create`"));
        }
        if token.expires <= self.now {
            let reason =
                format!("the join token expired on {}: make one with `sloth-coord token create`", token.expires);
            return Err(denied(&reason));
        }
        if AGENTS_MAX <= self.names.len() {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                format!("this coordinator takes {AGENTS_MAX} agents at most"),
            ));
        }
        Ok(())
    }

    /// A token that is used up stays until it expires: a host whose answer was lost enrols again with it.
    fn use_token(&mut self, id: TokenId, token: Token) {
        let uses = token.uses.saturating_sub(1);
        self.write(Write::PutToken(id, Token { uses, ..token }));
    }

    /// Whether one more token fits; one that is used up goes for it.
    fn make_room_for_token(&mut self) -> bool {
        if self.state.tokens.len() < TOKENS_MAX {
            return true;
        }
        let used_up = self.state.tokens.iter().filter(|(_, token)| token.uses == 0);
        let Some(oldest) = used_up.min_by_key(|(_, token)| token.expires).map(|(id, _)| *id) else { return false };
        self.write(Write::DropToken(oldest));
        true
    }

    /// Answers a host whose answer was lost. It may have lost its key for receipts as well; but once it was here with one,
    /// receipts stand in the chain that no other key verifies.
    fn enroll_again(
        &mut self,
        agent: AgentId,
        record: AgentRecord,
        enroll: &Enroll,
        root: Vec<u8>,
    ) -> Result<Answer, Refusal> {
        let labels = record.enrolled_labels.clone();
        if record.receipt_key != enroll.receipt_key {
            if record.proto != 0 {
                let reason = format!(
                    "agent `{0}` signs receipts with another key: bring back its `receipt.key`, or revoke it with `sloth-coord agents revoke {0}` and enrol anew",
                    enroll.name
                );
                return Err(Refusal::new(RefusalCode::Conflict, reason));
            }
            let record = AgentRecord { receipt_key: enroll.receipt_key.clone(), ..record };
            self.write(Write::PutAgent(agent, Box::new(record)));
        }
        Ok(Answer::Enrolled { agent, labels, root })
    }

    fn new_record(&self, enroll: &Enroll, enrolled_labels: labels::Labels) -> AgentRecord {
        AgentRecord {
            name: enroll.name.clone(),
            host_labels: enroll.labels.clone(),
            enrolled_labels,
            version: enroll.version.clone(),
            platform: enroll.platform.clone(),
            key: enroll.key,
            receipt_key: enroll.receipt_key.clone(),
            enrolled: self.now,
            last_seen: self.now,
            revoked: false,
            next_generation: 1,
            proto: 0,
            update: None,
            copied: None,
        }
    }

    fn drop_all_work(&mut self, id: AgentId) {
        let generations: Vec<u64> =
            self.state.work.get(&id).into_iter().flat_map(|work| work.keys().copied()).collect();
        if !generations.is_empty() {
            self.write(Write::DropWork(id, generations));
        }
    }

    /// Puts one more thing into what an agent has to be told, and gives its generation.
    pub(super) fn queue(&mut self, id: AgentId, item: Item) -> u64 {
        let Some(record) = self.state.agents.get(&id) else { return 0 };
        let generation = record.next_generation;
        let record = AgentRecord { next_generation: generation + 1, ..record.clone() };
        self.write(Write::PutAgent(id, Box::new(record)));
        self.write(Write::PutWork(id, generation, item));
        generation
    }
}

fn check_facts(enroll: &Enroll) -> Result<(), Refusal> {
    let name_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if enroll.name.is_empty() || NAME_CHARS_MAX < enroll.name.len() || !enroll.name.chars().all(name_fits) {
        return Err(invalid(&format!(
            "`{}` cannot be an agent's name: it takes 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_` and `.`; choose one with `--name`",
            excerpt(&enroll.name)
        )));
    }
    let platform = &enroll.platform;
    if [&enroll.version, &platform.os, &platform.arch, &platform.hostname]
        .iter()
        .any(|text| NAME_CHARS_MAX < text.len())
    {
        return Err(invalid("the agent's description of itself is too long"));
    }
    check_labels(&enroll.labels)
}

fn check_labels(labels: &labels::Labels) -> Result<(), Refusal> {
    if labels::LABELS_MAX < labels.len() {
        return Err(invalid(&format!("an agent takes {} labels at most", labels::LABELS_MAX)));
    }
    labels
        .iter()
        .try_for_each(|(name, value)| labels::check_label(name, value))
        .map_err(|error| invalid(&error.to_string()))
}

pub(super) fn clip(mut text: String) -> String {
    if NAME_CHARS_MAX < text.len() {
        text = text.chars().take(NAME_CHARS_MAX / 4).collect();
    }
    text
}

fn clip_platform(platform: Platform) -> Platform {
    let Platform { os, arch, hostname } = platform;
    Platform { os: clip(os), arch: clip(arch), hostname: clip(hostname) }
}

fn no_agent(key: &str) -> Refusal {
    let key = excerpt(key);
    Refusal::new(RefusalCode::NotFound, format!("there is no agent `{key}`: `sloth-coord agents list` shows them all"))
}

pub(super) fn denied(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Denied, reason)
}

pub(super) fn invalid(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::Invalid, reason)
}
