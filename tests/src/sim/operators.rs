//! Operators, and hosts before they are agents: they ask until they are answered.

use std::collections::BTreeMap;

use sloth_core::{AgentId, Digest, Labels, Millis, TokenId};
use sloth_protocol::{
    coordinator::{Answer, Command, Enroll, Event, ManifestFacts},
    wire::{AssignRelease, CreateToken, RefusalCode, RolloutAction, RolloutRequest},
};
use sloth_trust::{Envelope, RootPin};

use super::{
    Happening, Sim,
    center::{CERTIFICATE_LIFE, Waiting},
    host::platform,
    invariants::{self, Check},
    publisher::{START, publisher},
    scenario::Operation,
    updates::INSTALLED,
};

/// How long somebody waits for an answer before asking again.
const PATIENCE_MS: u64 = 7_000;
/// How long an order to go to a release counts.
const ORDER_TTL: Millis = Millis::from_secs(3600);
const TOKEN_TTL: Millis = Millis::from_secs(20 * 24 * 3600);

/// Something that an operator does.
#[derive(Debug)]
pub(super) struct Errand {
    operation: Operation,
    pub done: bool,
}

impl Errand {
    /// Whether it lets a rollout go on.
    pub(super) fn resumes(&self, rollout: &str) -> bool {
        let Operation::Rollout(request) = &self.operation else { return false };
        let RolloutRequest::Act { name, action } = request.as_ref() else { return false };
        name == rollout && matches!(action, RolloutAction::Resume(_))
    }
}

impl Sim {
    /// An operator begins to do something.
    pub(super) fn operate(&mut self, operation: Operation) -> Check {
        self.errands.push(Errand { operation, done: false });
        self.try_errand(self.errands.len() - 1, 1)
    }

    /// An operator asks, and will ask again.
    pub(super) fn try_errand(&mut self, number: usize, attempt: u64) -> Check {
        if self.errands[number].done {
            return Ok(());
        }
        self.after(PATIENCE_MS, Happening::Errand { number, attempt: attempt + 1 });
        if !self.center.is_up() || self.chance(self.faults().loss) {
            return Ok(());
        }
        let command = self.command(number, attempt);
        let ticket = self.center.wait_for(Waiting::Operator { number, attempt });
        self.center_event(Event::Command { ticket, operator: "root".to_owned(), command }, BTreeMap::new())
    }

    /// What the coordinator said to an operator.
    pub(super) fn answer_operator(&mut self, number: usize, attempt: u64, answer: Answer) {
        if self.chance(self.faults().loss) {
            return;
        }
        let newest_root = self.center.disk.state.roots.last_key_value().map_or(0, |(version, _)| *version);
        let newest_root = usize::try_from(newest_root).unwrap_or(usize::MAX);
        let errand = &mut self.errands[number];
        match (&errand.operation, answer) {
            // Another root comes first.
            (Operation::PutRoot(place), Answer::Refused(_)) if newest_root <= *place => {}
            // It waits for what another errand brings.
            (
                Operation::CreateToken(_) | Operation::Publish(_) | Operation::PublishAgent(_),
                Answer::Refused(refusal),
            ) if refusal.code == RefusalCode::Invalid && refusal.reason.contains("trust root") => {}
            (Operation::CreateToken(token), _) if !errand.done => {
                errand.done = true;
                let token = *token;
                self.hand_out(token, attempt);
            }
            (Operation::Revoke(_), Answer::Operator(_)) => {
                errand.done = true;
                self.tally.revocations += 1;
            }
            (
                Operation::PutRoot(_)
                | Operation::Publish(_)
                | Operation::CreateToken(_)
                | Operation::Start(_)
                | Operation::Cancel(_)
                | Operation::Revoke(_)
                | Operation::Rollout(_)
                | Operation::PublishAgent(_)
                | Operation::Assign { .. }
                | Operation::Look,
                _,
            ) => errand.done = true,
        }
    }

    /// A host asks to become an agent, and will ask again.
    pub(super) fn enroll(&mut self, index: usize) -> Check {
        let host = &self.hosts[index];
        let Some((token, labels)) = self.tokens.get(&host.plan.token).cloned().filter(|_| host.id.is_none()) else {
            return Ok(());
        };
        let life = host.life;
        self.after(PATIENCE_MS, Happening::Enroll { host: index, life });
        if self.is_cut_off(index) || !self.center.is_up() || self.chance(self.faults().loss) {
            return Ok(());
        }
        let host = &mut self.hosts[index];
        host.token_labels = labels;
        let enroll = Enroll {
            token,
            secret: secret(token),
            key: Digest::of(host.plan.name.as_bytes()),
            name: host.plan.name.clone(),
            version: INSTALLED.to_owned(),
            platform: platform(),
            labels: host.plan.labels.clone(),
            receipt_key: host.receipt_key().public().clone(),
        };
        let ticket = self.center.wait_for(Waiting::Host { host: index, life });
        self.center_event(Event::Enroll { ticket, enroll }, BTreeMap::new())
    }

    /// What the coordinator said to a host that would be an agent.
    pub(super) fn answer_host(&mut self, host: usize, life: u64, answer: Answer) {
        if self.chance(self.faults().loss) {
            self.tally.lost_answers += 1;
            return;
        }
        let wait = self.delay();
        match answer {
            Answer::Enrolled { agent, labels, root } => {
                self.after(wait, Happening::Enrolled { host, life, agent, labels, root });
            }
            Answer::Refused(refusal) => self.after(wait, Happening::NotEnrolled { host, reason: refusal.reason }),
            Answer::Agent(_)
            | Answer::Welcome { .. }
            | Answer::Work(_)
            | Answer::Certify { .. }
            | Answer::Operator(_) => {}
        }
    }

    /// A host has become an agent.
    pub(super) fn enrolled(&mut self, index: usize, agent: AgentId, labels: Labels, root: Vec<u8>) -> Check {
        let now = self.now;
        let host = &mut self.hosts[index];
        if host.id.is_some() {
            return Ok(());
        }
        host.id = Some(agent);
        host.token_labels = labels;
        let envelope = Envelope::decode(&root).expect("a root");
        host.root = Some((root, RootPin::of(&envelope.payload)));
        host.disk.certificate = (now, now + CERTIFICATE_LIFE);
        self.tally.enrolled += 1;
        self.start_host(index)
    }

    /// A host was turned away: right only if its identity was withdrawn.
    pub(super) fn not_enrolled(&mut self, index: usize, reason: &str) -> Check {
        let name = &self.hosts[index].plan.name;
        let agents = &self.center.disk.state.agents;
        if agents.values().any(|agent| agent.name == *name && agent.revoked) || self.hosts[index].id.is_some() {
            return Ok(());
        }
        invariants::every_host_gets_in(name, reason)
    }

    /// Gives a token to the hosts it is for.
    fn hand_out(&mut self, token: usize, attempt: u64) {
        self.tokens.insert(token, (token_id(token, attempt), labels_of(token)));
        for host in 0..self.hosts.len() {
            if self.hosts[host].plan.token == token {
                self.after(1, Happening::Enroll { host, life: self.hosts[host].life });
            }
        }
    }

    fn command(&self, number: usize, attempt: u64) -> Command {
        match &self.errands[number].operation {
            Operation::PutRoot(place) => Command::PutRoot(publisher().roots[*place].clone()),
            Operation::Publish(place) => Command::Publish {
                metadata: publisher().releases[*place].envelope.clone(),
                manifest: ManifestFacts { size: 1000, workflows: ["main".to_owned()].into() },
            },
            Operation::CreateToken(token) => {
                let sharing = self.hosts.iter().filter(|host| host.plan.token == *token).count();
                let uses = u32::try_from(sharing).unwrap_or(1);
                let create = CreateToken { uses, ttl: TOKEN_TTL, labels: labels_of(*token) };
                let id = token_id(*token, attempt);
                Command::CreateToken { create, id, secret: secret(id) }
            }
            Operation::Start(start) => Command::StartRun(start.clone()),
            Operation::Cancel(run) => Command::CancelRun(*run),
            Operation::Revoke(host) => Command::RevokeAgent(self.hosts[*host].plan.name.clone()),
            Operation::Rollout(request) => Command::Rollout(request.as_ref().clone()),
            Operation::PublishAgent(place) => Command::PublishRelease(publisher().agent_releases[*place].0.clone()),
            Operation::Assign { host, release } => Command::AssignRelease(AssignRelease {
                agent: self.hosts[*host].plan.name.clone(),
                counter: publisher().agent_releases[*release].1.counter,
                ttl: ORDER_TTL,
            }),
            Operation::Look if attempt.is_multiple_of(2) => Command::Bundles,
            Operation::Look => Command::Agents { selector: "role=web".to_owned(), after: None },
        }
    }
}

fn token_id(token: usize, attempt: u64) -> TokenId {
    let token = u128::try_from(token).unwrap_or(0);
    TokenId::new(START, (token << 32) | u128::from(attempt))
}

fn secret(token: TokenId) -> Digest {
    Digest::of(&token.to_bytes())
}

fn labels_of(token: usize) -> Labels {
    let site = if token == 0 { "hall" } else { "attic" };
    [("site".to_owned(), site.to_owned())].into()
}
