//! What operators ask of each other and of receipts, and are answered.

use sloth_protocol::{
    receipts::task_summary,
    wire::{
        JobResult, JobState, NewestReceipts, OperatorRequest, OperatorResponse, OperatorView, OperatorsPage,
        ResultsPage, Withdrawn,
    },
};

use super::values::{AT, agent, digest, run};

pub(super) fn asks() -> Vec<OperatorRequest> {
    vec![
        OperatorRequest::Operators { after: None },
        OperatorRequest::Operators { after: Some("ann".to_owned()) },
        OperatorRequest::RevokeOperator("bob".to_owned()),
        OperatorRequest::NewestReceipts(NewestReceipts { before: None, rows: 50, agent: None, run: None }),
        OperatorRequest::NewestReceipts(NewestReceipts {
            before: Some(300),
            rows: 500,
            agent: Some(agent()),
            run: Some(run()),
        }),
        OperatorRequest::Results { run: run(), after: None },
        OperatorRequest::Results { run: run(), after: Some(agent()) },
    ]
}

pub(super) fn answers() -> Vec<OperatorResponse> {
    let seen = OperatorView {
        name: "ann".to_owned(),
        first_seen: Some(AT),
        last_seen: Some(AT),
        until: Some(AT),
        withdrawn: None,
    };
    let withdrawn = OperatorView {
        name: "bob".to_owned(),
        first_seen: None,
        last_seen: None,
        until: None,
        withdrawn: Some(Withdrawn { at: AT, by: "ann".to_owned() }),
    };
    let result = JobResult {
        agent: agent(),
        state: JobState::Failed,
        message: digest(),
        outputs: digest(),
        tasks: task_summary([]),
    };
    vec![
        OperatorResponse::Operators(OperatorsPage { operators: vec![seen], more: true }),
        OperatorResponse::Operator(withdrawn),
        OperatorResponse::Results(ResultsPage { results: vec![result], more: false }),
    ]
}
