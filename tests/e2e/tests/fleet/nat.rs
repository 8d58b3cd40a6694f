//! An agent behind NAT whose outer address changes in the middle of a run.
//!
//! ```text
//!   outside 203.0.113.0/24              router                   inside 10.77.0.0/24
//!   coordinator 203.0.113.1 ── 203.0.113.2, then .3 │ masquerade │ 10.77.0.1 ── 10.77.0.2 agent
//! ```

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use sloth_e2e::{Fleet, RUN_LIMIT, Room, Share, Site, Witness, until_true};

use crate::scripts::marking_bundle;

const COORDINATOR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PLAN: &str = "a\n b after a\n c after b\n d after c\n e after d\n f after e\n";
const TASKS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const PAUSE_SECONDS: &str = "0.5";
/// A moved agent goes on at once: well before its connection would have timed out and been made again.
const MOVE_LIMIT: Duration = Duration::from_secs(20);

/// Three networks, wired together.
struct Wiring {
    outside: Arc<Room>,
    router: Room,
    inside: Arc<Room>,
}

impl Wiring {
    fn new() -> Self {
        let outside = Room::new(Share::Network);
        let (router, inside) = (outside.beside(), outside.beside());
        for (room, device) in [(&outside, "coordinator"), (&inside, "agent")] {
            let port = if device == "agent" { "inner" } else { "outer" };
            router.run(&format!("ip link add {port} type veth peer name {device} netns {}", room.pid()));
            room.run("ip link set lo up");
        }
        for (room, device, address) in [
            (&outside, "coordinator", "203.0.113.1/24"),
            (&router, "outer", "203.0.113.2/24"),
            (&router, "inner", "10.77.0.1/24"),
            (&inside, "agent", "10.77.0.2/24"),
        ] {
            room.run(&format!("ip address add {address} dev {device}"));
            room.run(&format!("ip link set {device} up"));
        }
        inside.run("ip route add default via 10.77.0.1");
        router.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
        router.shell(
            "nft 'add table ip nat; \
             add chain ip nat out { type nat hook postrouting priority srcnat; }; \
             add rule ip nat out oifname outer masquerade; \
             add table ip guard; \
             add chain ip guard forward { type filter hook forward priority filter; policy drop; }; \
             add rule ip guard forward iifname inner accept; \
             add rule ip guard forward ct state established,related accept'",
        );
        Self { outside: Arc::new(outside), router, inside: Arc::new(inside) }
    }

    /// Gives the router another outer address, and makes it forget every flow.
    fn move_to(&self, old: &str, new: &str) {
        self.router.run(&format!("ip address del {old}/24 dev outer"));
        self.router.run(&format!("ip address add {new}/24 dev outer"));
        self.router.run("conntrack -F");
    }

    /// The flows that the router knows.
    fn flows(&self) -> String {
        self.router.run("conntrack -L -p udp")
    }
}

#[test]
fn a_run_survives_a_change_of_the_agents_outer_address() {
    let wiring = Wiring::new();
    let site = Site {
        address: COORDINATOR,
        coordinator: Some(Arc::clone(&wiring.outside)),
        agents: Some(Arc::clone(&wiring.inside)),
        ..Site::loopback()
    };
    let mut fleet = Fleet::start_at(site);
    fleet.publish(&marking_bundle("job", PLAN, PAUSE_SECONDS));
    fleet.agents(&["branch-1"], &[]);

    let no_way = wiring.outside.try_run("ip route get 10.77.0.2");
    assert_ne!(no_way.code, Some(0), "the coordinator must have no route to the agent\n{no_way}");
    assert!(wiring.flows().contains("dst=203.0.113.2 "), "{}", wiring.flows());

    let run = fleet.run("job", "*", &[]);
    let home = fleet.agent("branch-1").home.clone();
    until_true("a task in the middle", RUN_LIMIT, || Witness::of(&home, &run).begun("b") == 1);
    wiring.move_to("203.0.113.2", "203.0.113.3");
    until_true("packets from the new address", MOVE_LIMIT, || wiring.flows().contains("dst=203.0.113.3 "));
    assert!(!wiring.flows().contains("dst=203.0.113.2 "), "{}", wiring.flows());
    until_true("results from the new address", MOVE_LIMIT, || !fleet.show(&run).only().tasks.is_empty());

    let view = fleet.wait_ended(&run);
    assert_eq!((view.only().state.as_str(), view.only().names()), ("succeeded", TASKS.to_vec()), "{view:?}");
    let witness = Witness::of(&home, &run);
    for task in TASKS {
        assert_eq!((witness.begun(task), witness.ended(task)), (1, 1), "{witness}");
        assert_eq!(view.only().task(task).attempts, 1, "{view:?}");
    }
    // And work starts at once again: the coordinator reaches the held poll at the new address.
    let after = fleet.run("job", "*", &[]);
    until_true("work at the new address", MOVE_LIMIT, || Witness::of(&home, &after).begun("a") == 1);
    assert_eq!(fleet.wait_ended(&after).only().state, "succeeded");
}
