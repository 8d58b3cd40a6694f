//! Frames: whatever arrives, reading it ends in a value or an error.

use proptest::{collection::vec, prelude::*};
use serde::{Serialize, de::DeserializeOwned};
use sloth_core::{Digest, Millis, RunId};
use sloth_protocol::wire::{
    AgentRequest, AgentResponse, Dropped, EncodeError, EnrollRequest, EnrollResponse, FRAME_BYTES_MAX,
    FRAME_HEADER_BYTES, FRAME_UNAUTHENTICATED_BYTES_MAX, Hello, Lane, LogStream, OperatorRequest, OperatorResponse,
    Order, Platform, Record, RecordBody, Report, RunEnd, RunOrder, RunOutcome, TaskEnd, TaskName, TaskStatus, TooLong,
    UpdateReport, UpdateVerdict, Work, WorkItem, decode, encode, frame_length,
};

use super::values::update_report;

/// Reads bytes as a message. What is readable means the same when it is written again.
fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes) {
        let again = encode(&value).expect("what was read fits a frame");
        assert_eq!(decode::<T>(&again[FRAME_HEADER_BYTES..]).expect("what was written is readable"), value);
    }
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
    let frame = encode(value).expect("it fits a frame");
    let (header, body) = frame.split_first_chunk().expect("a header");
    prop_assert_eq!(frame_length(*header, FRAME_BYTES_MAX), Ok(body.len()));
    prop_assert_eq!(&decode::<T>(body).expect("it is readable"), value);
    Ok(())
}

fn run() -> impl Strategy<Value = RunId> {
    (any::<u32>(), any::<u128>()).prop_map(|(at, random)| RunId::new(Millis::from_u64(u64::from(at)), random))
}

fn task() -> impl Strategy<Value = TaskName> {
    (".{0,20}", ".{0,20}").prop_map(|(workflow, task)| TaskName { workflow, task })
}

fn task_end() -> impl Strategy<Value = TaskEnd> {
    let status = prop_oneof![
        Just(TaskStatus::Succeeded),
        Just(TaskStatus::TimedOut),
        Just(TaskStatus::Skipped),
        Just(TaskStatus::Interrupted)
    ];
    (task(), status, any::<u32>(), ".{0,40}", any::<u64>(), any::<u64>()).prop_map(
        |(task, status, attempts, message, started, ended)| TaskEnd {
            task,
            status,
            attempts,
            message,
            outputs: "{}".to_owned(),
            started: Millis::from_u64(started),
            ended: Millis::from_u64(ended),
        },
    )
}

fn body() -> impl Strategy<Value = RecordBody> {
    let stream = prop_oneof![Just(LogStream::Stdout), Just(LogStream::Error)];
    let outcome = prop_oneof![Just(RunOutcome::Succeeded), Just(RunOutcome::Expired)];
    prop_oneof![
        Just(RecordBody::RunStarted),
        (vec(any::<u8>(), 0..40), ".{0,40}")
            .prop_map(|(payload, signature)| RecordBody::Receipt { payload, signature }),
        (task(), any::<u32>()).prop_map(|(task, attempt)| RecordBody::TaskStarted { task, attempt }),
        task_end().prop_map(RecordBody::TaskEnded),
        (outcome, ".{0,40}", ".{0,40}").prop_map(|(outcome, message, outputs)| RecordBody::RunEnded(RunEnd {
            outcome,
            message,
            outputs
        })),
        (proptest::option::of(any::<u64>()), ".{0,40}", ".{0,40}").prop_map(|(counter, to, reason)| {
            RecordBody::Update(UpdateReport { counter, to, reason, ..update_report(UpdateVerdict::Staged) })
        }),
        (proptest::option::of(task()), stream, ".{0,200}").prop_map(|(task, stream, text)| RecordBody::Log {
            task,
            stream,
            text
        }),
    ]
}

fn report() -> impl Strategy<Value = AgentRequest> {
    let record = (any::<u64>(), any::<u64>(), run(), body()).prop_map(|(seq, at, run, body)| Record {
        seq,
        at: Millis::from_u64(at),
        run,
        body,
    });
    let lane = prop_oneof![Just(Lane::Results), Just(Lane::Logs)];
    (lane, any::<[u64; 4]>(), vec(record, 0..20)).prop_map(|(lane, [logs, progress, tasks, runs], records)| {
        AgentRequest::Report(Report { lane, dropped: Dropped { logs, progress, tasks, runs }, records })
    })
}

fn work() -> impl Strategy<Value = AgentResponse> {
    let bytes = || vec(any::<u8>(), 0..100);
    let order = prop_oneof![
        run().prop_map(|run| Order::Cancel { run }),
        (run(), bytes(), bytes(), any::<u64>(), vec(any::<[u8; 32]>(), 0..4)).prop_map(
            |(run, assignment, metadata, index, path)| Order::Run(RunOrder {
                run,
                assignment,
                metadata,
                index,
                path: path.into_iter().map(Digest::from_bytes).collect(),
            })
        ),
    ];
    let item = (any::<u64>(), order).prop_map(|(generation, order)| WorkItem { generation, order });
    (vec(item, 0..16), any::<u64>()).prop_map(|(items, next)| {
        AgentResponse::Work(Work { items, next_poll: Millis::from_u64(next), roots: Vec::new(), head: None })
    })
}

fn hello() -> impl Strategy<Value = AgentRequest> {
    let labels = proptest::collection::btree_map(".{0,10}", ".{0,10}", 0..10);
    (any::<[u16; 2]>(), any::<[u64; 2]>(), ".{0,20}", any::<[String; 3]>(), labels).prop_map(
        |([proto_min, proto_max], [features, instance], version, [os, arch, hostname], labels)| {
            let platform = Platform { os, arch, hostname };
            AgentRequest::Hello(Hello { proto_min, proto_max, features, version, platform, labels, instance })
        },
    )
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..600)) {
        read::<AgentRequest>(&bytes);
        read::<AgentResponse>(&bytes);
        read::<EnrollRequest>(&bytes);
        read::<EnrollResponse>(&bytes);
        read::<OperatorRequest>(&bytes);
        read::<OperatorResponse>(&bytes);
    }

    #[test]
    fn messages_survive_the_wire(report in report(), work in work(), hello in hello()) {
        survives(&report)?;
        survives(&work)?;
        survives(&hello)?;
    }

    #[test]
    fn damaged_messages_never_panic(report in report(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut frame = encode(&report).expect("it fits a frame");
        let place = FRAME_HEADER_BYTES + place.index(frame.len() - FRAME_HEADER_BYTES);
        frame[place] = byte;
        read::<AgentRequest>(&frame[FRAME_HEADER_BYTES..]);
    }

    #[test]
    fn a_length_over_the_limit_is_refused(length in any::<u32>(), max in 0..=FRAME_BYTES_MAX) {
        let announced = usize::try_from(length).expect("64 bits");
        let expected = if announced <= max { Ok(announced) } else { Err(TooLong { length: announced, max }) };
        prop_assert_eq!(frame_length(length.to_be_bytes(), max), expected);
    }
}

#[test]
fn limits_are_the_same_on_both_sides() {
    let of = |bytes: usize| OperatorRequest::PutRoot(vec![0; bytes]);
    // The tag and the list's own length.
    let most = FRAME_BYTES_MAX - 1 - 3;
    let frame = encode(&of(most)).expect("it just fits");
    let (header, body) = frame.split_first_chunk().expect("a header");
    assert_eq!(body.len(), FRAME_BYTES_MAX);
    assert_eq!(frame_length(*header, FRAME_BYTES_MAX), Ok(FRAME_BYTES_MAX));
    assert!(frame_length(*header, FRAME_UNAUTHENTICATED_BYTES_MAX).is_err());
    let too_long = encode(&of(most + 1)).expect_err("one byte more");
    assert!(matches!(too_long, EncodeError::TooLong { bytes } if bytes == FRAME_BYTES_MAX + 1));
}
