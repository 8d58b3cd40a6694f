//! What peers can do wrong with frames and streams, and how connections end.

mod common;

use common::{FRAME_BYTES_MAX, ask, pair};
use quinn::VarInt;
use sloth_core::Chain;
use sloth_transport::{
    CloseCode, Lost, Priority, RecvError, SendError, recv, request, send,
    settings::{CONNECT_TIMEOUT, STRANGER_WINDOW_BYTES, widen},
};

/// How the peer leaves its stream.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Finish,
    Reset,
    Open,
}

#[tokio::test]
async fn every_wrong_frame_is_told_from_every_other() {
    let (coordinator, link) = pair().await;
    let hello = [&[0, 0, 0, 6][..], &[5], b"hello"].concat();
    for (bytes, ending, expected) in [
        (&hello[..], Ending::Open, "hello"),
        (b"", Ending::Finish, "the peer ended the stream without a message"),
        (&[0, 0], Ending::Finish, "the peer ended the stream within a message"),
        (&hello[..4], Ending::Finish, "the peer ended the stream within a message"),
        (&hello[..7], Ending::Finish, "the peer ended the stream within a message"),
        (&[0xff; 4], Ending::Open, "the peer's message is too long: the peer announced a frame of 4294967295 bytes"),
        (&[0, 0x10, 0, 1], Ending::Open, "the peer's message is too long: the peer announced a frame of 1048577"),
        (&[0, 0, 0, 1, 9], Ending::Open, "cannot read the peer's message: the peer sent what is not a message"),
        (&[0, 0, 0, 3, 1, b'a', b'b'], Ending::Open, "cannot read the peer's message: the peer sent 1 bytes more"),
        (&hello[..7], Ending::Reset, "the peer gave up the stream (code 9)"),
    ] {
        let (mut sending, _receiving) = link.connection.open_bi().await.expect("a stream");
        sending.write_all(bytes).await.expect("room");
        match ending {
            Ending::Finish => sending.finish().expect("open"),
            Ending::Reset => sending.reset(VarInt::from_u32(9)).expect("open"),
            Ending::Open => {}
        }
        let (_answering, mut asking) = coordinator.accept_bi().await.expect("a stream");
        let said = match recv::<String>(&mut asking, FRAME_BYTES_MAX).await {
            Ok(text) => text,
            Err(error) => Chain(&error).to_string(),
        };
        assert!(said.starts_with(expected), "{bytes:?} {ending:?}: {said}");
    }
}

#[tokio::test]
async fn the_longest_message_passes_and_a_longer_one_is_not_sent() {
    let (coordinator, link) = pair().await;
    let (mut sending, _receiving) = link.connection.open_bi().await.expect("a stream");
    let longest = "x".repeat(FRAME_BYTES_MAX - 3);
    let reading = async {
        let (_answering, mut asking) = coordinator.accept_bi().await.expect("a stream");
        recv::<String>(&mut asking, FRAME_BYTES_MAX).await.expect("a message")
    };
    let (sent, received) = tokio::join!(send(&mut sending, &longest), reading);
    sent.expect("sent");
    assert!(received == longest);
    let error = send(&mut sending, &"x".repeat(FRAME_BYTES_MAX)).await.expect_err("too long");
    assert!(matches!(error, SendError::Encode { .. }), "{error}");
}

#[tokio::test]
async fn a_request_that_is_refused_before_its_end_has_its_answer() {
    let (coordinator, link) = pair().await;
    let long = "x".repeat(900 * 1024);
    let refusing = async {
        let (mut answering, mut asking) = coordinator.accept_bi().await.expect("a stream");
        let error = recv::<String>(&mut asking, 1024).await.expect_err("too long");
        assert!(matches!(error, RecvError::TooLong { .. }), "{error}");
        asking.stop(VarInt::from_u32(0)).expect("open");
        send(&mut answering, &"too long".to_owned()).await.expect("sent");
        answering.finish().expect("open");
    };
    let (answer, ()) = tokio::join!(request::<_, String>(&link.connection, &long, Priority::Results), refusing);
    assert_eq!(answer.expect("an answer").0, "too long");
}

#[tokio::test]
async fn what_follows_an_answer_is_on_its_stream() {
    let (coordinator, link) = pair().await;
    let answering = async {
        let (mut answering, mut asking) = coordinator.accept_bi().await.expect("a stream");
        let text: String = recv(&mut asking, FRAME_BYTES_MAX).await.expect("a message");
        assert!(matches!(recv::<String>(&mut asking, FRAME_BYTES_MAX).await, Err(RecvError::Finished)));
        send(&mut answering, &text.len()).await.expect("sent");
        answering.write_all(b"blob").await.expect("sent");
        answering.finish().expect("open");
    };
    let fetch = "fetch".to_owned();
    let asking = request::<_, usize>(&link.connection, &fetch, Priority::Blobs);
    let (answer, ()) = tokio::join!(asking, answering);
    let (length, mut rest) = answer.expect("an answer");
    assert_eq!((length, rest.read_to_end(100).await.expect("the rest")), (5, b"blob".to_vec()));
}

#[tokio::test]
async fn a_peer_may_not_open_more_streams_than_the_limit() {
    let (_coordinator, link) = pair().await;
    let mut open = Vec::new();
    for _ in 0..sloth_transport::settings::STREAMS_MAX {
        open.push(link.connection.open_bi().await.expect("a stream"));
    }
    let mut next = std::pin::pin!(link.connection.open_bi());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(next.as_mut().poll(&mut context).is_pending());
}

#[tokio::test]
async fn a_close_says_why() {
    for code in CloseCode::ALL {
        let (coordinator, link) = pair().await;
        code.close(&coordinator);
        let error = ask(&link, "hello").await.expect_err("closed");
        assert!(matches!(error.lost(), Some(Lost::Closed { code: told }) if *told == code), "{}", Chain(&error));
        assert!(Chain(&error).to_string().contains(code.reason()), "{}", Chain(&error));
    }
    let (coordinator, link) = pair().await;
    coordinator.close(VarInt::from_u32(77), b"");
    let error = ask(&link, "hello").await.expect_err("closed");
    assert!(matches!(error.lost(), Some(Lost::ClosedUnknown { code: 77 })), "{}", Chain(&error));
}

#[tokio::test]
async fn a_peer_is_given_little_room_until_it_is_known() {
    let (coordinator, link) = pair().await;
    let (mut sending, _receiving) = link.connection.open_bi().await.expect("a stream");
    let much = vec![0; 128 * 1024];
    let window = usize::try_from(STRANGER_WINDOW_BYTES).expect("fits");
    assert_eq!(sending.write(&much).await.expect("room"), window);
    widen(&coordinator);
    let rest = tokio::time::timeout(CONNECT_TIMEOUT, sending.write_all(&much[window..])).await;
    rest.expect("in time").expect("room");
}
