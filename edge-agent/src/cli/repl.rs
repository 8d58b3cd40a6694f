//! `sloth-agent repl`: Lua with all modules, line by line.

use std::{path::PathBuf, rc::Rc};

use rustyline::{Config, Editor, error::ReadlineError, history::FileHistory};
use sloth_cli::{Failure, Format, Outcome, print_line};
use sloth_core::{
    Chain, Clock, Labels, RunId,
    fs::{self, Access},
};
use sloth_workflow::{AgentInfo, Reply, Session, SessionInput};
use tokio::task::LocalSet;

use super::{
    DirArgs,
    local_host::LocalHost,
    print::Teller,
    run_arguments::{GrantArgs, ValueArgs},
    runtime,
    signals::Ends,
};
use crate::{paths::Paths, platform, stuck::Ledger, worker::random};

const PROMPT: &str = "> ";
/// The prompt where a text goes on.
const MORE: &str = ".. ";
/// Most lines that are kept for the next session.
const HISTORY_LINES_MAX: usize = 1_000;
const HISTORY_FILE: &str = "repl_history";
const WELCOME: &str = "Lua with all modules. `help` says more; `exit` or Ctrl-D ends it.";
const HELP: &str = "\
An expression is shown, a statement is run; what is not finished goes on in the next line.
Variables stay from line to line, also those that a line begins with `local`.
`sloth-agent modules list` names the modules, `sloth-agent modules show NAME` tells one.
Ctrl-C ends what runs; `exit`, `quit` or Ctrl-D ends the session.";

type Input = Editor<(), FileHistory>;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The directory that `require`, `import` and `bundle` read
    #[arg(long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    values: ValueArgs,
    /// Only say what would be changed
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    grants: GrantArgs,
    #[command(flatten)]
    dir: DirArgs,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let clock = Clock::new();
    let run = RunId::new(clock.now(), random());
    let here = std::env::current_dir().map_err(Outcome::Internal.because())?;
    let input = SessionInput {
        bundle_dir: arguments.bundle.clone(),
        capabilities: arguments.grants.read()?,
        values: arguments.values.read()?,
        run_id: run.to_string(),
        workdir: here,
        agent: AgentInfo { name: platform::hostname(), labels: Labels::new() },
        check: arguments.check,
        ..SessionInput::default()
    };
    let paths = arguments.dir.paths();
    let teller = Rc::new(Teller::plain(run, Format::Text));
    let host = Rc::new(LocalHost::new(clock, teller, paths.clone(), Ledger::default()));
    let made = Session::new(input, Rc::clone(&host) as Rc<_>);
    let session = made.map_err(|error| Failure::new(Outcome::Usage, Chain(&error).to_string()))?;
    let talked = talk(&session, &paths);
    runtime()?.block_on(host.close());
    talked
}

fn talk(session: &Session, paths: &Paths) -> Result<Outcome, Failure> {
    use std::io::IsTerminal as _;
    let failed =
        |error: ReadlineError| Failure::new(Outcome::Internal, format!("cannot read from the terminal: {error}"));
    let config = Config::builder().max_history_size(HISTORY_LINES_MAX).map_err(failed)?.auto_add_history(false).build();
    let mut editor: Input = Editor::with_config(config).map_err(failed)?;
    let is_terminal = std::io::stdin().is_terminal();
    let history = paths.dir().join(HISTORY_FILE);
    if is_terminal {
        print_line(WELCOME).map_err(Outcome::Internal.because())?;
        // There is none before the first session.
        let _ = editor.load_history(&history);
    }
    let (runtime, local) = (runtime()?, LocalSet::new());
    let mut outcome = Outcome::Done;
    while let Some((text, reply)) = next(&mut editor, session, &runtime, &local).map_err(failed)? {
        let _ = editor.add_history_entry(text.trim_end());
        match text.trim() {
            "exit" | "quit" => break,
            "help" => {
                print_line(HELP).map_err(Outcome::Internal.because())?;
                continue;
            }
            _ => {}
        }
        let told = match reply {
            Reply::Values(values) => values.iter().try_for_each(|value| print_line(value)),
            Reply::Failed(message) => {
                outcome = if is_terminal { Outcome::Done } else { Outcome::Failed };
                print_line(&format!("error: {message}"))
            }
            Reply::Unfinished => print_line("error: the text ends in the middle"),
        };
        told.map_err(Outcome::Internal.because())?;
    }
    // A session that leaves no history has done its work all the same.
    if is_terminal && fs::create_dir(paths.dir(), Access::Owner).is_ok() {
        let _ = editor.save_history(&history);
    }
    Ok(outcome)
}

/// Reads a text and runs it; lines are added to one that is not finished. `None` when there are no more.
fn next(
    editor: &mut Input,
    session: &Session,
    runtime: &tokio::runtime::Runtime,
    local: &LocalSet,
) -> Result<Option<(String, Reply)>, ReadlineError> {
    let mut text = String::new();
    loop {
        match editor.readline(if text.is_empty() { PROMPT } else { MORE }) {
            Ok(line) => text.push_str(&line),
            Err(ReadlineError::Eof) if text.is_empty() => return Ok(None),
            Err(ReadlineError::Eof) => return Ok(Some((text, Reply::Unfinished))),
            Err(ReadlineError::Interrupted) => {
                text.clear();
                continue;
            }
            Err(error) => return Err(error),
        }
        if text.trim().is_empty() {
            text.clear();
            continue;
        }
        let reply = local.block_on(runtime, run(session, &text));
        if reply != Reply::Unfinished {
            return Ok(Some((text, reply)));
        }
        text.push('\n');
    }
}

/// Runs a text; Ctrl-C ends it.
async fn run(session: &Session, text: &str) -> Reply {
    let Ok(mut ends) = Ends::listen() else { return session.run(text).await };
    tokio::select! {
        reply = session.run(text) => return reply,
        () = ends.next() => {}
    }
    session.stop().await;
    Reply::Failed("it was ended".to_owned())
}
