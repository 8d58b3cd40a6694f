//! Operators: who has come, and whose credentials count no more.

use std::ops::Bound;

use sloth_core::{Millis, excerpt};

use super::{
    LAST_SEEN_STEP, OPERATORS_MAX, OperatorRecord, Reply, Write,
    machine::Coordinator,
    registry::{denied, invalid},
};
use crate::wire::{OperatorView, OperatorsPage, PAGE_ROWS_MAX, Refusal, RefusalCode, Withdrawn, is_operator_name};

impl Coordinator {
    /// Refuses everything to an operator whose credentials were withdrawn, also what was on its way by then.
    pub(super) fn check_operator(&self, name: &str) -> Result<(), Refusal> {
        let withdrawn = self.state.operators.get(name).and_then(|operator| operator.withdrawn.as_ref());
        let Some(Withdrawn { at, by }) = withdrawn else { return Ok(()) };
        Err(denied(&format!(
            "the credentials of operator `{name}` were withdrawn on {at} by `{by}`: get one of another name, which `sloth-coord operators add` makes on the coordinator's machine"
        )))
    }

    /// Notes that an operator was let in; on the disk only when that says something new.
    pub(super) fn greet(&mut self, name: &str, until: Millis) -> Result<Reply, Refusal> {
        let before = self.state.operators.get(name);
        let is_fresh = |record: &OperatorRecord| {
            record.until == Some(until) && record.last_seen.is_some_and(|seen| self.now.since(seen) <= LAST_SEEN_STEP)
        };
        if before.is_some_and(is_fresh) {
            return Ok(Reply::Done);
        }
        let before = before.cloned();
        if before.is_none() {
            self.make_room_for_operator()?;
        }
        let record = before.unwrap_or_default();
        let (first_seen, last_seen, until) = (record.first_seen.or(Some(self.now)), Some(self.now), Some(until));
        let record = OperatorRecord { first_seen, last_seen, until, ..record };
        self.write(Write::PutOperator(name.to_owned(), Box::new(record)));
        Ok(Reply::Done)
    }

    pub(super) fn operators(&self, after: Option<String>) -> OperatorsPage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = usize::try_from(PAGE_ROWS_MAX).unwrap_or(usize::MAX);
        let range = self.state.operators.range::<String, _>((from, Bound::Unbounded));
        let mut operators: Vec<OperatorView> =
            range.take(limit + 1).map(|(name, operator)| view(name, operator)).collect();
        let more = limit < operators.len();
        operators.truncate(limit);
        OperatorsPage { operators, more }
    }

    /// Withdraws every credential of a name, those that were never used as well, for good.
    pub(super) fn revoke_operator(&mut self, operator: &str, name: &str) -> Result<Reply, Refusal> {
        if !is_operator_name(name) {
            return Err(invalid(&format!(
                "`{}` is no operator's name: `sloth-coord operators list` shows them",
                excerpt(name)
            )));
        }
        if name == operator {
            let reason = "this is the name of the credential that you use: use another one, which `sloth-coord operators add` makes on the coordinator's machine";
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        let before = self.state.operators.get(name).cloned();
        if before.is_none() {
            self.make_room_for_operator()?;
        }
        let mut record = before.unwrap_or_default();
        if record.withdrawn.is_none() {
            record.withdrawn = Some(Withdrawn { at: self.now, by: operator.to_owned() });
            self.write(Write::PutOperator(name.to_owned(), Box::new(record.clone())));
        }
        self.out.withdrawn.push(name.to_owned());
        Ok(Reply::Operator(view(name, &record)))
    }

    /// Forgets the operator that was last seen first when there are too many. That one was withdrawn is never forgotten.
    fn make_room_for_operator(&mut self) -> Result<(), Refusal> {
        if self.state.operators.len() < OPERATORS_MAX {
            return Ok(());
        }
        let seen = self.state.operators.iter().filter(|(_, operator)| operator.withdrawn.is_none());
        let Some(oldest) = seen.min_by_key(|(_, operator)| operator.last_seen).map(|(name, _)| name.clone()) else {
            let reason = format!(
                "{OPERATORS_MAX} operators were withdrawn: make a new coordinator, whose authority none of them has a credential of"
            );
            return Err(Refusal::new(RefusalCode::TooLarge, reason));
        };
        self.write(Write::DropOperator(oldest));
        Ok(())
    }
}

fn view(name: &str, operator: &OperatorRecord) -> OperatorView {
    let OperatorRecord { first_seen, last_seen, until, withdrawn } = operator.clone();
    OperatorView { name: name.to_owned(), first_seen, last_seen, until, withdrawn }
}
