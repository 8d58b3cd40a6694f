//! `sloth-agent run`: a workflow file here and now.

use std::{io::Write as _, path::Path, rc::Rc, sync::mpsc, thread, time::Duration};

use sloth_cli::{Failure, Format, Outcome};
use sloth_core::{Chain, Clock, Labels, Millis, RunId};
use sloth_workflow::{
    AgentInfo, CancelSignal, Canceller, Elsewhere, Host, LoadError, Outcome as RunOutcome, RunEnd, RunInput, Stuck,
    cancel_pair, modules::Settings,
};

use super::{
    live::TICK_MS, local_host::LocalHost, print::Teller, run_arguments::Arguments, runtime, scratch::Scratch,
    signals::FirstEnd, workflow_file::split,
};
use crate::{
    leftovers::{self, Whose},
    platform,
    stuck::{self, Ledger},
    worker::random,
};

/// How long work beside a run that has ended, such as a file being copied, may go on.
const BESIDE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let clock = Clock::new();
    let run = RunId::new(clock.now(), random());
    let scratch = Scratch::new(run)?;
    let input = input(arguments, run, &scratch)?;
    let began = clock.now();
    let teller = Rc::new(Teller::new(run, arguments, began));
    let ledger = Ledger::default();
    let host = Rc::new(LocalHost::new(clock, Rc::clone(&teller), arguments.dir.paths(), ledger.clone()));
    let told = Told { run, format: arguments.output.format, check: arguments.check, began };
    watch(&input, ledger, told)?;
    let runtime = runtime()?;
    let ran = runtime.block_on(async {
        let (canceller, signal) = cancel_pair();
        let ran = run_until_cancelled(input, Rc::clone(&host), &teller, run, &canceller, signal).await;
        host.close().await;
        teller.view_ends();
        ran
    });
    runtime.shutdown_timeout(BESIDE_PATIENCE);
    let ran = ran?;
    drop(scratch);
    let outcome = match ran {
        Ok(end) => {
            teller.run_ended(host.now(), &end, host.now().since(began), arguments.check);
            match end.outcome {
                RunOutcome::Succeeded => Outcome::Done,
                RunOutcome::Failed | RunOutcome::Cancelled => Outcome::Failed,
            }
        }
        Err(error) => {
            let outcome = match &error {
                LoadError::Cancelled { .. } => Outcome::Failed,
                LoadError::Machine(_) => Outcome::Internal,
                LoadError::Source(_)
                | LoadError::Syntax { .. }
                | LoadError::Script { .. }
                | LoadError::Memory { .. }
                | LoadError::Slow { .. }
                | LoadError::NoWorkflow { .. }
                | LoadError::NoTest { .. }
                | LoadError::UnknownWorkflow { .. }
                | LoadError::UnknownTask { .. }
                | LoadError::NoCommand { .. }
                | LoadError::Delegate { .. }
                | LoadError::Elsewhere { .. }
                | LoadError::Plan(_) => Outcome::Usage,
            };
            return Err(Failure::new(outcome, Chain(&error).to_string()));
        }
    };
    match teller.broken() {
        None => Ok(outcome),
        // Whoever read the output has seen enough; the run's end is told by the exit code.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(outcome),
        Some(error) => Err(Failure::new(Outcome::Internal, format!("cannot write to standard output: {error}"))),
    }
}

/// What to run, and with what.
fn input(arguments: &Arguments, run: RunId, scratch: &Scratch) -> Result<RunInput, Failure> {
    let (bundle_dir, file) = split(arguments.file()?)?;
    let (values, capabilities) = (arguments.values.read_for(&bundle_dir)?, arguments.grants.read()?);
    Ok(RunInput {
        bundle_dir,
        file,
        workflow: arguments.workflow.clone(),
        selection: arguments.selection(),
        values,
        capabilities,
        run_id: run.to_string(),
        workdir: scratch.0.clone(),
        agent: AgentInfo { name: platform::hostname(), labels: Labels::new() },
        check: arguments.check,
        settings: Settings {
            stack: arguments.stack(),
            elsewhere: Elsewhere::Here,
            secrets: Rc::new(arguments.secrets.read()?),
            ..Settings::default()
        },
        ..RunInput::default()
    })
}

/// Runs to the end. The first signal cancels, the second kills.
async fn run_until_cancelled(
    input: RunInput,
    host: Rc<LocalHost>,
    teller: &Teller,
    run: RunId,
    canceller: &Canceller,
    signal: CancelSignal,
) -> Result<Result<RunEnd, LoadError>, Failure> {
    let scratch = input.workdir.clone();
    let end = FirstEnd::listen("cancelling the run; once more kills it", move || killed(run, &scratch));
    let mut end = end.map_err(Outcome::Internal.because())?;
    let mut running = std::pin::pin!(sloth_workflow::run(input, Rc::clone(&host) as Rc<dyn Host>, signal));
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    loop {
        tokio::select! {
            ran = &mut running => return Ok(end.unless_killed(ran).await),
            () = end.come() => canceller.cancel(),
            _ = ticks.tick(), if teller.is_live() => teller.tick(host.now()),
        }
    }
}

/// Has a thread of its own end the run when it is stuck.
fn watch(input: &RunInput, ledger: Ledger, told: Told) -> Result<(), Failure> {
    let scratch = input.workdir.clone();
    let end = move |stuck: &Stuck| end_stuck(stuck, &ledger, told, &scratch);
    stuck::end_when_stuck(input.watch.clone(), end).map_err(Outcome::Internal.because())
}

/// How the end of a run is told.
#[derive(Debug, Clone, Copy)]
struct Told {
    run: RunId,
    format: Format,
    check: bool,
    began: Millis,
}

/// Ends all that the run started, and tells how it ended, while a call keeps the run's own thread.
fn end_stuck(stuck: &Stuck, ledger: &Ledger, told: Told, scratch: &Path) -> i32 {
    let _ = leftovers::kill(&Whose::run(told.run, None));
    let now = Clock::new().now();
    let timed_out = ledger.timed_out(stuck, now);
    let last = ledger.last_ends(timed_out.as_ref(), now);
    let end = ledger.run_end(timed_out.as_ref(), last.clone());
    let message = end.message.clone();
    let (done, is_told) = mpsc::channel::<()>();
    // The thread that is stuck may keep standard output, or nobody may read it.
    let telling = thread::Builder::new().spawn(move || {
        let teller = Teller::plain(told.run, told.format);
        last.iter().for_each(|end| teller.ended(end));
        teller.run_ended(now, &end, now.since(told.began), told.check);
        drop(done);
    });
    if telling.is_err() || is_told.recv_timeout(BESIDE_PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        let _ = writeln!(std::io::stderr(), "error: {message}");
    }
    // What it began meanwhile, if it was about to go on.
    let _ = leftovers::kill(&Whose::run(told.run, None));
    let _ = std::fs::remove_dir_all(scratch);
    i32::from(Outcome::Failed.code())
}

/// Ends all that the run started, whatever this process is at.
fn killed(run: RunId, scratch: &Path) -> i32 {
    // First: when nothing of it runs any more it may come to its own end.
    let _ = writeln!(std::io::stderr(), "error: the run was killed");
    let _ = leftovers::kill(&Whose::run(run, None));
    // What writes there at this moment may leave some of it; it lies among the files that the system clears away.
    let _ = std::fs::remove_dir_all(scratch);
    i32::from(Outcome::Failed.code())
}
