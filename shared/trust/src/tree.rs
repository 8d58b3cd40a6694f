//! A Merkle tree over the releases that a coordinator offers, so that a head of constant size names every one of them.
//!
//! The shape is that of RFC 9162, section 2.1: a last node without a neighbour goes up as it is. Leaves and inner nodes
//! are hashed with different first bytes, so that neither passes for the other.

use serde::{Deserialize, Serialize};
use sloth_core::Digest;

/// Most steps from a leaf to the top: a tree of four billion releases.
pub const PATH_MAX: usize = 32;

const LEAF: u8 = 0;
const NODE: u8 = 1;

/// The digest of everything in a tree, and of how much that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeHead {
    /// How many leaves it has.
    pub count: u64,
    /// The digest at its top.
    pub digest: Digest,
}

/// Where a leaf is in a tree, and its neighbours on the way to the top.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inclusion {
    /// Its place, from 0.
    pub index: u64,
    /// At most [`PATH_MAX`], from the leaf up.
    pub path: Vec<Digest>,
}

/// A tree over leaves in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The leaves first, the top last. Invariant: there is at least one level, and only the first may be empty.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over what these bytes say, one leaf each.
    pub fn new<T: AsRef<[u8]>>(leaves: impl IntoIterator<Item = T>) -> Self {
        let mut levels: Vec<Vec<Digest>> = vec![leaves.into_iter().map(|bytes| leaf(bytes.as_ref())).collect()];
        while let Some(last) = levels.last().filter(|level| 1 < level.len()) {
            levels.push(last.chunks(2).map(join).collect());
        }
        Self { levels }
    }

    /// What names the tree.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        let count = self.levels.first().map_or(0, Vec::len) as u64;
        let digest = self.levels.last().and_then(|level| level.first()).copied();
        TreeHead { count, digest: digest.unwrap_or_else(|| Digest::of(&[])) }
    }

    /// Shows that the leaf at `index` is in the tree; `None` when there is no such leaf.
    #[must_use]
    pub fn inclusion(&self, index: usize) -> Option<Inclusion> {
        self.levels.first()?.get(index)?;
        let mut place = index;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(place ^ 1).filter(|_| 1 < level.len()));
            place /= 2;
        }
        Some(Inclusion { index: index as u64, path })
    }
}

impl Inclusion {
    /// Whether the leaf of these bytes is in the tree that `head` names, at this place.
    #[must_use]
    pub fn shows(&self, bytes: &[u8], head: TreeHead) -> bool {
        if head.count <= self.index || PATH_MAX < self.path.len() {
            return false;
        }
        let (mut place, mut last) = (self.index, head.count - 1);
        let mut path = self.path.iter();
        let mut digest = leaf(bytes);
        while 0 < last {
            // The last node of a level without a neighbour goes up as it is.
            if place % 2 == 1 || place < last {
                let Some(neighbour) = path.next() else { return false };
                digest = if place % 2 == 1 { join(&[*neighbour, digest]) } else { join(&[digest, *neighbour]) };
            }
            place /= 2;
            last /= 2;
        }
        path.next().is_none() && digest == head.digest
    }
}

fn leaf(bytes: &[u8]) -> Digest {
    Digest::of(&[&[LEAF], bytes].concat())
}

fn join(nodes: &[Digest]) -> Digest {
    match nodes {
        [left, right] => Digest::of(&[&[NODE][..], left.as_bytes(), right.as_bytes()].concat()),
        alone => alone.first().copied().unwrap_or_else(|| Digest::of(&[])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(count: usize) -> Tree {
        Tree::new((0..count).map(|index| index.to_be_bytes()))
    }

    #[test]
    fn every_leaf_of_every_tree_is_shown_at_its_own_place_only() {
        for count in 0..40_usize {
            let (tree, head) = (tree(count), tree(count).head());
            assert_eq!(head.count, count as u64);
            for index in 0..count {
                let shown = tree.inclusion(index).expect("a leaf");
                for other in 0..count {
                    assert_eq!(shown.shows(&other.to_be_bytes(), head), other == index, "{index} of {count}");
                }
                let elsewhere = Inclusion { index: (index as u64 + 1) % count.max(2) as u64, ..shown.clone() };
                assert!(!elsewhere.shows(&index.to_be_bytes(), head), "{index} of {count}");
            }
            assert_eq!(tree.inclusion(count), None);
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let (four, top) = (tree(4), tree(4).head());
        let node = [four.levels[0][0].as_bytes().as_slice(), four.levels[0][1].as_bytes()].concat();
        let shown = Inclusion { index: 0, path: vec![four.levels[1][1]] };
        assert!(!shown.shows(&node, TreeHead { count: 2, ..top }));
    }

    proptest! {
        #[test]
        fn no_changed_path_shows_anything(count in 2..300_usize, at in any::<prop::sample::Index>(), flip in any::<u8>()) {
            let tree = tree(count);
            let index = at.index(count);
            let mut shown = tree.inclusion(index).expect("a leaf");
            prop_assert!(shown.shows(&index.to_be_bytes(), tree.head()));
            let step = at.index(shown.path.len());
            let mut bytes = *shown.path[step].as_bytes();
            bytes[usize::from(flip) % 32] ^= 1 | flip;
            shown.path[step] = Digest::from_bytes(bytes);
            prop_assert!(!shown.shows(&index.to_be_bytes(), tree.head()));
            shown.path.pop();
            prop_assert!(!shown.shows(&index.to_be_bytes(), tree.head()));
        }
    }
}
