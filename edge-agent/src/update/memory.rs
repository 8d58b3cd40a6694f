//! Most memory of a daemon, so that one that loses its way ends and is started again, or rolled back, before it takes the
//! host with it.
//!
//! The limit lies on what a process may write to (`RLIMIT_DATA`), whether it does or not. A worker lifts it for its run.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most memory of a daemon; some 40 MiB is what it reserves when it is idle.
pub(crate) const DAEMON_MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Limits this process. What it starts is limited as well, until it lifts that.
pub(super) fn limit() {
    let now = getrlimit(Resource::Data);
    if now.current.is_none_or(|current| DAEMON_MEMORY_BYTES_MAX < current) {
        // A system that refuses leaves it to what the service manager says.
        let _ = setrlimit(Resource::Data, Rlimit { current: Some(DAEMON_MEMORY_BYTES_MAX), ..now });
    }
}

/// Lifts the limit: how much a run may take is for its host to say. What others have limited stays so.
pub(crate) fn lift() {
    let now = getrlimit(Resource::Data);
    if now.current == Some(DAEMON_MEMORY_BYTES_MAX) {
        let _ = setrlimit(Resource::Data, Rlimit { current: now.maximum, ..now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_lifted_to_where_it_was() {
        let before = getrlimit(Resource::Data);
        limit();
        assert_eq!(getrlimit(Resource::Data).current, Some(DAEMON_MEMORY_BYTES_MAX));
        lift();
        assert_eq!(getrlimit(Resource::Data).current, before.maximum);
    }
}
