//! Peers that break the protocol.

use quinn::{Connection, VarInt};
use sloth_protocol::wire::{AgentRequest, OperatorRequest, Poll, encode};
use sloth_transport::CloseCode;

use crate::harness::{Coordinator, closed};

/// How the peer leaves its stream.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Finish,
    Reset,
    Open,
}

async fn send(connection: &Connection, bytes: &[u8], ending: Ending) {
    let (mut sending, _receiving) = connection.open_bi().await.expect("a stream");
    sending.write_all(bytes).await.expect("room");
    match ending {
        Ending::Finish => sending.finish().expect("open"),
        Ending::Reset => drop(sending.reset(VarInt::from_u32(1))),
        // The stream is not dropped, which would end it.
        Ending::Open => std::mem::forget(sending),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_costs_its_sender_the_connection_and_nobody_else_anything() {
    let coordinator = Coordinator::published().await;
    let bystander = coordinator.agent("good").await;
    let agent = coordinator.agent("bad").await;
    let poll = AgentRequest::Poll(Poll { accepted: 0, hold: sloth_core::Millis::ZERO, room: 1, root: 1, head: 0 });
    let poll = encode(&poll).expect("framed");
    let order = encode(&OperatorRequest::RevokeAgent("good".into())).expect("framed");
    let question = encode(&OperatorRequest::Root).expect("framed");
    let trailing = [&[0, 0, 0, 9][..], &poll[4..], &[0; 9]].concat();
    for (bytes, ending) in [
        (&[0xff; 64][..], Ending::Open),
        (&[0xff, 0xff, 0xff, 0xff], Ending::Open),
        (&[0, 0x10, 0, 1], Ending::Open),
        (&poll[..6], Ending::Finish),
        (&[0, 0], Ending::Finish),
        (&[], Ending::Finish),
        (&[0, 0, 0, 1, 99], Ending::Open),
        (&trailing, Ending::Finish),
        (&order, Ending::Finish),
        (&question, Ending::Finish),
    ] {
        let agent = coordinator.again(&agent).await;
        send(&agent.link.connection, bytes, ending).await;
        assert_eq!(closed(&agent.link.connection).await, CloseCode::Misbehaved, "{bytes:?}");
        let stranger = coordinator.stranger().await;
        send(&stranger.connection, bytes, ending).await;
        assert_eq!(closed(&stranger.connection).await, CloseCode::Misbehaved, "{bytes:?}");
        assert!(bystander.poll(0, sloth_core::Millis::ZERO).await.items.is_empty());
    }
    let large = [&[0, 0, 0x40, 1][..], &[0; 64]].concat();
    let stranger = coordinator.stranger().await;
    send(&stranger.connection, &large, Ending::Open).await;
    assert_eq!(closed(&stranger.connection).await, CloseCode::Misbehaved);

    let operator = coordinator.operator().await;
    send(&operator.connection, &[0xff; 64], Ending::Open).await;
    assert_eq!(closed(&operator.connection).await, CloseCode::Misbehaved);
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_up_a_request_is_no_crime() {
    let coordinator = Coordinator::published().await;
    let agent = coordinator.agent("web-1").await;
    for _ in 0..40 {
        send(&agent.link.connection, &[0, 0], Ending::Reset).await;
    }
    assert!(agent.poll(0, sloth_core::Millis::ZERO).await.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_are_no_quic_are_passed_over() {
    let coordinator = Coordinator::published().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for length in [1, 20, 1200] {
        socket.send_to(&vec![0xc0; length], &coordinator.address()[0]).expect("sent");
    }
    coordinator.agent("web-1").await;
}
