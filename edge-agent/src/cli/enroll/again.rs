//! `sloth-agent enroll --again`: a host that is enrolled gets another identity, and what it was before is kept.
//!
//! The new identity is made in a directory of its own, so that the old one counts until there is a new one. Then each file
//! takes the place of the old one, and the one that says «enrolled» comes last: whatever cuts this off, asking again
//! finishes it, with the identity that was made.

use std::path::{Path, PathBuf};

use sloth_core::{
    Labels,
    fs::{self, Access, LockFile},
};
use sloth_protocol::wire::JoinToken;

use super::EnrollError;
use crate::{
    enrolment::{Enrolment, EnrolmentError},
    paths::Paths,
};

/// Whether there is an identity that another one can take the place of.
pub(super) fn is_possible(paths: &Paths) -> bool {
    Enrolment::exists(paths) || Enrolment::exists(&paths.again())
}

pub(super) async fn enroll(
    paths: &Paths,
    token: &JoinToken,
    name: String,
    host_labels: Labels,
) -> Result<Enrolment, EnrollError> {
    if !is_possible(paths) {
        return Err(EnrolmentError::Missing { dir: paths.dir().to_owned() }.into());
    }
    let _lock = LockFile::acquire(&paths.lock())?;
    let again = paths.again();
    if !Enrolment::exists(&again) {
        // Boxed, since it is as large as all that enrolling keeps.
        Box::pin(super::enroll(&again, token, name, host_labels)).await?;
    }
    let enrolment = Enrolment::load(&again)?;
    take_place(paths, &again, &paths.before(enrolment.agent))?;
    Ok(enrolment)
}

/// Puts the identity in `again` in the place of that in `paths`, which goes to `before`. May be repeated after it was cut
/// off.
fn take_place(paths: &Paths, again: &Paths, before: &Paths) -> Result<(), EnrollError> {
    fs::create_dir(before.dir(), Access::Owner)?;
    move_if_there(&paths.enrolment(), &before.enrolment())?;
    // The journal of another agent; the new one begins with none.
    move_if_there(&paths.store(), &before.store())?;
    let places: [fn(&Paths) -> PathBuf; 3] = [Paths::root, Paths::receipt_key, Paths::identity];
    for place in places {
        // One that took its place already is not moved away again.
        if place(again).exists() {
            move_if_there(&place(paths), &place(before))?;
            fs::rename(&place(again), &place(paths))?;
        }
    }
    fs::rename(&again.enrolment(), &paths.enrolment())?;
    // Empty directories and a lock are left in it.
    if let Err(error) = std::fs::remove_dir_all(again.dir()) {
        tracing::debug!(%error, "cannot remove the directory of the new identity");
    }
    Ok(())
}

fn move_if_there(from: &Path, to: &Path) -> Result<(), EnrollError> {
    if from.exists() {
        fs::rename(from, to)?;
    }
    Ok(())
}
