//! What hosts ask and are answered before they are agents, and the token they bring.

use sloth_protocol::wire::{Enroll, EnrollRequest, EnrollResponse, Enrolled, JoinToken, TokenSecret};
use sloth_trust::RootPin;

use super::{
    check,
    values::{AT, agent, labels, platform, receipt_key, refusal, token},
    variants,
};

fn secret() -> TokenSecret {
    TokenSecret::from_bytes([7; 32])
}

#[test]
fn requests() {
    variants!(EnrollRequest { EnrollRequest::Enroll(_) => "Enroll" });
    let samples = [EnrollRequest::Enroll(Enroll {
        proto_min: 1,
        proto_max: 1,
        token: token(),
        secret: secret(),
        csr: vec![4, 5, 6],
        name: "web-1".to_owned(),
        version: "0.1.0".to_owned(),
        platform: platform(),
        labels: labels(),
        receipt_key: receipt_key(),
    })];
    check("enroll_request", &samples, variant, VARIANTS);
}

#[test]
fn responses() {
    variants!(EnrollResponse { EnrollResponse::Enrolled(_) => "Enrolled", EnrollResponse::Refused(_) => "Refused" });
    let samples = [
        EnrollResponse::Enrolled(Enrolled {
            agent: agent(),
            certificate: vec![1, 2, 3],
            not_before: AT,
            not_after: AT + AT,
            labels: labels(),
            root: vec![4, 5],
        }),
        EnrollResponse::Refused(refusal()),
    ];
    check("enroll_response", &samples, variant, VARIANTS);
}

#[test]
fn a_token_is_the_same_text_for_ever() {
    let token = JoinToken {
        id: token(),
        secret: secret(),
        addresses: vec!["coord.example.org:7461".to_owned(), "192.0.2.7:443".to_owned()],
        authority: [9; 32],
        root: RootPin::of(b"root"),
    };
    let frozen = include_str!("join_token.txt").trim_end();
    assert_eq!(token.to_string(), frozen);
    assert_eq!(frozen.parse(), Ok(token));
}
