//! Hosts that would be agents.

use sloth_core::Millis;
use sloth_protocol::wire::{
    AgentRequest, AgentResponse, EnrollResponse, JoinToken, OperatorRequest, OperatorResponse, Poll, RefusalCode,
    Renew, TokenSecret,
};
use sloth_transport::{KeyRequest, Priority, request};
use sloth_trust::{Envelope, RootPin};

use crate::harness::{Coordinator, enroll, now, operate};

const HOUR: Millis = Millis::from_secs(3600);
const DAY: Millis = Millis::from_secs(24 * 3600);

fn key() -> KeyRequest {
    KeyRequest::generate().expect("a key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_enrols_and_gets_what_its_token_says() {
    let coordinator = Coordinator::published().await;
    let token = coordinator.token(2, HOUR).await;
    assert_eq!(token.addresses, coordinator.address());
    let first = key();
    let enrolled = coordinator.enroll(&token, "web-1", &first).await.expect("enrolled");
    assert_eq!(enrolled.labels["role"], "web");
    let root = Envelope::decode(&enrolled.root).expect("an envelope");
    assert_eq!(RootPin::of(&root.payload), token.root);
    assert!(enrolled.not_before < now() && now() + DAY < enrolled.not_after);

    // An answer that was lost is asked for again with the same key, also by a coordinator that was restarted.
    let coordinator = coordinator.restart().await;
    let again = coordinator.enroll(&token, "web-1", &first).await.expect("enrolled");
    assert_eq!(again.agent, enrolled.agent);
    // Which has used nothing up.
    let second = coordinator.enroll(&token, "web-2", &key()).await.expect("enrolled");
    assert_ne!(second.agent, enrolled.agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_enrolment_is_told() {
    let coordinator = Coordinator::published().await;
    let good = coordinator.token(9, HOUR).await;
    coordinator.enroll(&good, "taken", &key()).await.expect("enrolled");
    let used_up = coordinator.token(1, HOUR).await;
    coordinator.enroll(&used_up, "first", &key()).await.expect("enrolled");
    let expired = coordinator.token(1, Millis::from_u64(1)).await;
    let unknown = JoinToken { id: sloth_core::TokenId::new(now(), 5), ..good.clone() };
    let forged = JoinToken { secret: TokenSecret::from_bytes([9; 32]), ..good.clone() };

    for (token, name, code, expected) in [
        (&unknown, "web-1", RefusalCode::Denied, "the join token is not known here"),
        (&forged, "web-1", RefusalCode::Denied, "the join token is not known here"),
        (&used_up, "web-1", RefusalCode::Denied, "the join token is used up"),
        (&expired, "web-1", RefusalCode::Denied, "the join token"),
        (&good, "taken", RefusalCode::Conflict, "an agent named `taken` is enrolled already: revoke it with"),
        (&good, "a b", RefusalCode::Invalid, "`a b` cannot be an agent's name"),
    ] {
        let refusal = coordinator.enroll(token, name, &key()).await.expect_err(expected);
        assert_eq!(refusal.code, code, "{refusal}");
        assert!(refusal.reason.starts_with(expected), "{refusal}");
    }

    let link = coordinator.stranger().await;
    let sloth_protocol::wire::EnrollRequest::Enroll(mut bad) = enroll(&good, "web-1", &key());
    bad.csr.reverse();
    let question = sloth_protocol::wire::EnrollRequest::Enroll(bad);
    let (answer, _) =
        request::<_, EnrollResponse>(&link.connection, &question, Priority::Control).await.expect("answered");
    let EnrollResponse::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert!(refusal.reason.starts_with("cannot use the certificate request"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_needs_a_root() {
    let coordinator = Coordinator::start().await;
    let create = sloth_protocol::wire::CreateToken { uses: 1, ttl: HOUR, labels: [].into() };
    let answer = operate(&coordinator.operator().await, OperatorRequest::CreateToken(create)).await;
    let OperatorResponse::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert!(refusal.reason.contains("publish a bundle first"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_ended_renews_it_and_does_nothing_else() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    let authority = sloth_coord::serve::authority(&coordinator.paths()).expect("an authority");
    let old = key();
    let issued = authority.issue_agent(old.csr(), agent.id, now() - DAY, HOUR).expect("a certificate");
    let identity = old.certified(issued.der).expect("an identity");
    let mut agent = coordinator.connect(agent.id, identity, authority.certificate().to_vec()).await;
    // It learns what time it is, without which it may not know that its certificate has ended.
    agent.hello().await;
    let poll = Poll { accepted: 0, hold: Millis::ZERO, room: 1, root: 1, head: 0 };
    let answer = agent.ask(AgentRequest::Poll(poll)).await;
    let AgentResponse::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.code, RefusalCode::Conflict);
    let new = key();
    let answer = agent.ask(AgentRequest::Renew(Renew { csr: new.csr().to_vec() })).await;
    let AgentResponse::Renewed(renewed) = answer else { panic!("{answer:?}") };
    agent.hello().await;
    let identity = new.certified(renewed.certificate).expect("an identity");
    agent = coordinator.connect(agent.id, identity, authority.certificate().to_vec()).await;
    agent.hello().await;
}
