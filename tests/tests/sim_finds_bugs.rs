//! A test of the simulator: each bug that is planted in a driver is found, by an invariant that is about it.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use sloth_tests::sim::{Bug, Options, run};

/// A bug must be found within so many seeds.
const SEEDS_MAX: u64 = 60;

#[track_caller]
fn is_found(bug: Bug, invariants: &[&str]) {
    let failure = (0..SEEDS_MAX).find_map(|seed| run(Options { seed, bug: Some(bug), trace: false }).err());
    let failure = failure.unwrap_or_else(|| panic!("{bug:?} is not found within {SEEDS_MAX} seeds"));
    assert!(invariants.contains(&failure.invariant), "{bug:?} is found by something else: {failure}");
}

#[test]
fn sending_before_the_commit_is_found() {
    is_found(Bug::SendBeforeCommit, &["commit_before_send"]);
}

#[test]
fn forgotten_sequence_numbers_are_found() {
    is_found(Bug::ForgetSequence, &["numbers_never_fall"]);
}

#[test]
fn a_forgotten_generation_is_found() {
    is_found(Bug::AcceptLowerGeneration, &["numbers_never_fall", "commit_before_send"]);
}

#[test]
fn running_again_what_has_ended_is_found() {
    is_found(Bug::RunAgainWhatEnded, &["finished_tasks_are_not_run_again"]);
}

#[test]
fn a_forgotten_attempt_is_found() {
    is_found(Bug::ForgetWhatBegan, &["an_attempt_without_retry_is_begun_at_most_once"]);
}

#[test]
fn trust_in_somebody_else_is_found() {
    is_found(Bug::TrustAnotherRoot, &["runs_only_what_was_signed_and_assigned", "only_the_coordinators_heads_count"]);
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    is_found(Bug::AcknowledgeBeforeCommit, &["commit_before_send"]);
}

#[test]
fn counting_again_is_found() {
    is_found(Bug::CountAgain, &["each_result_is_counted_once", "numbers_never_fall"]);
}

#[test]
fn forgotten_hosts_of_rollouts_are_found() {
    is_found(Bug::ForgetRolloutHosts, &["a_rollout_keeps_its_budget"]);
}

#[test]
fn believed_hosts_of_rollouts_are_found() {
    is_found(Bug::BelieveInRollouts, &["a_rollout_keeps_its_budget"]);
}

#[test]
fn forgotten_halts_of_rollouts_are_found() {
    is_found(Bug::ForgetHalts, &["a_rollout_keeps_its_budget"]);
}

#[test]
fn reused_generations_are_found() {
    is_found(Bug::ReuseGenerations, &["numbers_never_fall"]);
}

#[test]
fn receipts_by_another_key_are_found() {
    is_found(Bug::SignWithAnotherKey, &["acknowledged_receipts_are_kept"]);
}

#[test]
fn receipts_that_are_not_kept_are_found() {
    is_found(Bug::ForgetReceipts, &["acknowledged_receipts_are_kept"]);
}

#[test]
fn forgotten_cancels_of_updates_are_found() {
    is_found(Bug::ForgetCancels, &["a_halt_takes_back_what_was_not_begun"]);
}

#[test]
fn updates_that_failed_and_are_said_to_work_are_found() {
    is_found(Bug::ConfirmWhatFailed, &["a_rollout_keeps_its_budget"]);
}

#[test]
fn another_version_than_the_staged_one_is_found() {
    is_found(Bug::StartAnother, &["updates_only_to_what_was_signed_and_assigned"]);
}
