//! The wire: one request a bidirectional stream, each message a frame.
//!
//! A frame is a big-endian `u32` length and that many bytes of [postcard](https://postcard.jamesmunns.com/wire-format).
//! Every message is a variant of an explicit enum. Variants are only ever appended, a removed one keeps its place,
//! and a message that needs another field becomes a new variant: postcard has no other way to evolve. Golden bytes
//! in `tests/golden` freeze what is written here.
//!
//! Who may send what is decided by the certificate, before a byte is parsed: an agent's connection speaks
//! [`AgentRequest`], an operator's [`OperatorRequest`], and one without a certificate only [`EnrollRequest`].

mod agent;
mod audit;
mod enroll;
mod frame;
mod operator;
mod record;
mod release;
mod rollout;
mod token;
mod version;

pub use agent::{
    Acked, AgentRequest, AgentResponse, BlobHead, Fetch, HOLD_MAX, Hello, Order, Platform, Poll, Renew, Renewed,
    Report, RunOrder, UpdateOrder, WORK_ITEMS_MAX, WORK_ROOTS_MAX, Welcome, Work, WorkItem,
};
pub use audit::{HeadLine, HeadsPage, JobResult, NewestReceipts, ReceiptsAsked, ReceiptsPage, ResultsPage};
pub use enroll::{CSR_BYTES_MAX, Enroll, EnrollRequest, EnrollResponse, Enrolled};
pub use frame::{
    DecodeError, EncodeError, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_UNAUTHENTICATED_BYTES_MAX, TooLong, decode,
    encode, frame_length,
};
pub use operator::{
    AgentView, AgentsPage, BLOBS_ASKED_MAX, BundleView, Copied, CreateToken, EVENTS_IN_FRAME_MAX, Events, Follow,
    FollowWait, JobView, OPERATOR_CHARS_MAX, OperatorHello, OperatorRequest, OperatorResponse, OperatorView,
    OperatorsPage, PAGE_ROWS_MAX, Published, RunEvent, RunSummary, RunView, RunsPage, StartRun, Started, TaskView,
    TokenIssued, TokenView, TokensPage, VALUES_BYTES_MAX, Withdrawn, is_operator_name,
};
pub use record::{
    Class, Dropped, JobState, Lane, LogStream, NAME_BYTES_MAX, NUMBER_MAX, OUTPUT_BYTES_MAX, OnInterrupt,
    RECEIPT_SIGNATURE_BYTES_MAX, REPORT_BYTES_MAX, REPORT_RECORDS_MAX, Record, RecordBody, RunEnd, RunOutcome,
    TEXT_BYTES_MAX, TaskEnd, TaskName, TaskStatus, UPDATE_LOG_BYTES_MAX, UPDATE_REASON_BYTES_MAX,
    UPDATE_VERSION_BYTES_MAX, UpdateReport, UpdateVerdict,
};
pub use release::{AssignRelease, ReleaseTarget, ReleaseView, UpdateState, UpdateView};
pub use rollout::{
    Approval, HostView, HostsPage, OnHalt, Passing, ReasonView, Resume, RolloutAction, RolloutAgent, RolloutBundle,
    RolloutPlan, RolloutRequest, RolloutResponse, RolloutSpec, RolloutStatus, RolloutSubject, RolloutSummary,
    RolloutView, RolloutWhat, Share, WaveCounts, WaveMembers, WaveSpec, WaveView, WindowSpec,
};
pub use token::{ADDRESSES_MAX, JoinToken, TOKEN_CHARS_MAX, TokenError, TokenSecret};
pub use version::{ALPN, PROTO_MAX, PROTO_MIN, PROTO_UPDATES, ProtoVersion, Refusal, RefusalCode, negotiate};
