//! What an agent is to do, until the driver has signed it: the machine has no key.

use sloth_core::{Millis, RunId};
use sloth_trust::{Domain, Inclusion};

use crate::wire::{Order, RunOrder, UpdateOrder, Work, WorkItem};

/// Something that the coordinator says and its online key has to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// What it is.
    pub domain: Domain,
    /// What it says.
    pub payload: Vec<u8>,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// Under their generations, which rise.
    pub items: Vec<(u64, Instruction)>,
    /// See [`Work::next_poll`].
    pub next_poll: Millis,
    /// See [`Work::roots`].
    pub roots: Vec<Vec<u8>>,
    /// The newest head, when the agent has another.
    pub head: Option<Unsigned>,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// To do a run.
    Run {
        /// Which one.
        run: RunId,
        /// The assignment: the same bytes whenever it is made for the same generation.
        assignment: Unsigned,
        /// The release's envelope, as publishers signed it.
        metadata: Vec<u8>,
        /// Where the head names that release.
        inclusion: Inclusion,
    },
    /// To stop one.
    Cancel {
        /// Which one.
        run: RunId,
    },
    /// To go to a release of the agent.
    Update {
        /// The assignment: the same bytes whenever it is made for the same generation.
        assignment: Unsigned,
        /// The release's envelope, as it was signed.
        metadata: Vec<u8>,
        /// Where the head names that release.
        inclusion: Inclusion,
    },
    /// Not to go to one.
    CancelUpdate {
        /// The release's number.
        counter: u64,
    },
}

impl Orders {
    /// The answer as it is sent, `seal` making the envelope of what has to be signed.
    pub fn signed(self, seal: impl Fn(&Unsigned) -> Vec<u8>) -> Work {
        let order = |instruction| match instruction {
            Instruction::Run { run, assignment, metadata, inclusion } => {
                let Inclusion { index, path } = inclusion;
                Order::Run(RunOrder { run, assignment: seal(&assignment), metadata, index, path })
            }
            Instruction::Cancel { run } => Order::Cancel { run },
            Instruction::CancelUpdate { counter } => Order::CancelUpdate { counter },
            Instruction::Update { assignment, metadata, inclusion: Inclusion { index, path } } => {
                Order::Update(UpdateOrder { assignment: seal(&assignment), metadata, index, path })
            }
        };
        let head = self.head.as_ref().map(&seal);
        let items = self.items.into_iter();
        let items = items.map(|(generation, instruction)| WorkItem { generation, order: order(instruction) });
        Work { items: items.collect(), next_poll: self.next_poll, roots: self.roots, head }
    }
}
