//! What is in this process's memory stays there.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Has no core dump made of this process, and lets no other process of its user look into its memory, where keys,
/// tokens and values are. Programs that it starts are not affected.
///
/// A system that does not know this is used as it is.
pub fn keep_memory_private() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn no_core_dump_is_made() {
        keep_memory_private();
        assert_eq!(dumpable_behavior().expect("the system says"), DumpableBehavior::NotDumpable);
    }
}
