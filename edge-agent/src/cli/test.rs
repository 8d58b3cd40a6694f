//! `sloth-agent test`: the tests of workflow files.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sloth_bundle::parameters;
use sloth_cli::{Failure, Format, Outcome, OutputArgs};
use sloth_core::{Chain, Clock, Labels, RunId};
use sloth_workflow::{
    AgentInfo, CancelSignal, Capabilities, Limits, Stuck, Watch, cancel_pair,
    testing::{TestEnd, TestInput, TestOutcome, ValuesCheck, run_tests},
};

use sloth_trust::Schema;

use super::{
    local_host::LocalHost,
    print::Teller,
    runtime,
    scratch::Scratch,
    signals::FirstEnd,
    test_report::{FileEnd, Report, Style},
};
use crate::{
    leftovers::{self, Whose},
    paths::Paths,
    platform,
    stuck::{self, Ledger},
    worker::random,
};

/// How the names of test files end.
const ENDINGS: [&str; 3] = ["_test.lua", "_test.luau", "_test.sloth"];
/// How deep directories are searched.
const DEPTH_MAX: usize = 16;
/// The file that a bundle's directory has.
const BUNDLE_FILE: &str = "bundle.toml";
/// What tests may do beside reading and what is granted: nothing that changes the host.
const GRANTED: [&str; 3] = ["fs:read", "facts", "state"];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Test files, or directories that are searched for them [default: here]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only the tests whose name contains this
    #[arg(long, default_value = "", value_name = "TEXT")]
    filter: String,
    /// Let tests do this too, like `exec`; they may read files, ask facts, keep state, and write in a directory of their own
    #[arg(long = "allow", value_name = "CAPABILITY")]
    allow: Vec<String>,
    /// How the results are told
    #[arg(long = "format", value_enum, default_value_t)]
    style: Style,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let here = [PathBuf::from(".")];
    let paths = if arguments.paths.is_empty() { &here[..] } else { &arguments.paths };
    let mut files = Vec::new();
    for path in paths {
        find(path, &mut files)?;
    }
    if files.is_empty() {
        let sentence = "there is no test: the names of test files end in `_test.lua`, `_test.luau` or `_test.sloth`";
        return Err(Failure::new(Outcome::Refused, sentence));
    }
    let style = if arguments.output.format == Format::Json { Style::Json } else { arguments.style };
    let mut report = Report::new(style);
    let (canceller, signal) = cancel_pair();
    let runtime = runtime()?;
    let bench = Arc::new(Bench { cancel: signal, watch: Watch::default(), running: Mutex::new(None) });
    let ending = Arc::clone(&bench);
    stuck::end_when_stuck(bench.watch.clone(), move |stuck| ending.end(stuck)).map_err(Outcome::Internal.because())?;
    let killed = Arc::clone(&bench);
    let tested = runtime.block_on(async {
        let mut end = FirstEnd::listen("cancelling the tests; once more kills them", move || killed.kill())
            .map_err(Outcome::Internal.because())?;
        let tests = async {
            for file in &files {
                test_file(arguments, file, &bench, &mut report).await?;
            }
            Ok::<_, Failure>(())
        };
        let mut tests = std::pin::pin!(tests);
        loop {
            tokio::select! {
                tested = &mut tests => return end.unless_killed(tested).await,
                () = end.come() => canceller.cancel(),
            }
        }
    });
    tested?;
    let good = report.finish().map_err(Outcome::Internal.because())?;
    Ok(if good { Outcome::Done } else { Outcome::Failed })
}

/// What the threads of this process have in common.
struct Bench {
    cancel: CancelSignal,
    watch: Watch,
    running: Mutex<Option<Testing>>,
}

/// The tests that run.
#[derive(Clone)]
struct Testing {
    run: RunId,
    file: String,
    scratch: PathBuf,
}

impl Bench {
    fn begins(&self, run: RunId, file: &Path, scratch: &Scratch) {
        let testing = Testing { run, file: file.display().to_string(), scratch: scratch.0.clone() };
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(testing);
    }

    fn running(&self) -> Option<Testing> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what the tests that run have started.
    fn kill(&self) -> i32 {
        if let Some(testing) = self.running() {
            let _ = leftovers::kill(&Whose::run(testing.run, None));
        }
        i32::from(Outcome::Failed.code())
    }

    /// Ends what the tests that run have started while a call keeps their own thread, and says so.
    fn end(&self, stuck: &Stuck) -> i32 {
        let code = self.kill();
        if let Some(Testing { file, scratch, .. }) = self.running() {
            let _ = std::fs::remove_dir_all(scratch);
            let task = stuck.task.as_ref().map(|task| format!("task `{task}` of a test"));
            let who = task.unwrap_or_else(|| "a test".to_owned());
            let what = "was stuck, past its timeout, in a call that nothing interrupts; the tests were ended";
            let _ = writeln!(io::stderr(), "error: {file}: {who} {what}");
        }
        code
    }
}

/// Runs the tests of a file, in a directory and with a state of their own.
async fn test_file(arguments: &Arguments, file: &Path, bench: &Bench, report: &mut Report) -> Result<(), Failure> {
    let clock = Clock::new();
    let run = RunId::new(clock.now(), random());
    let scratch = Scratch::new(run)?;
    bench.begins(run, file, &scratch);
    let workdir = scratch.0.join("work");
    std::fs::create_dir(&workdir).map_err(Outcome::Internal.because())?;
    let (bundle_dir, name) = bundle_of(file)?;
    let values = values_of(&bundle_dir)?;
    let input = TestInput {
        bundle_dir,
        file: name,
        filter: arguments.filter.clone(),
        capabilities: granted(&arguments.allow, &workdir)?,
        limits: Limits::default(),
        workdir,
        run_id: run.to_string(),
        agent: AgentInfo { name: platform::hostname(), labels: Labels::new() },
        watch: bench.watch.clone(),
        values,
    };
    let teller = Rc::new(Teller::plain(run, Format::Text));
    let host = Rc::new(LocalHost::new(clock, teller, Paths::new(scratch.0.join("agent")), Ledger::default()));
    let began = Instant::now();
    report.begins(file).map_err(Outcome::Internal.because())?;
    let mut told = Ok(());
    let mut tests: Vec<TestEnd> = Vec::new();
    let mut each = |end: TestEnd| {
        if told.is_ok() {
            told = report.ended(file, &end);
        }
        tests.push(end);
    };
    let ran = Box::pin(run_tests(input, Rc::clone(&host) as Rc<_>, bench.cancel.clone(), &mut each)).await;
    host.close().await;
    if let Err(error) = ran {
        let message = Chain(&error).to_string();
        let end = TestEnd {
            name: "the file".to_owned(),
            outcome: TestOutcome::Failed,
            message,
            took: began.elapsed(),
            log: Vec::new(),
        };
        told = told.and_then(|()| report.ended(file, &end));
        tests.push(end);
    }
    told.map_err(Outcome::Internal.because())?;
    report.keep(FileEnd { file: file.display().to_string(), took: began.elapsed(), tests });
    Ok(())
}

/// What values the bundle's runs may be given: those that its agents would take.
fn values_of(bundle_dir: &Path) -> Result<ValuesCheck, Failure> {
    let schema = parameters(bundle_dir).map_err(Outcome::Usage.because())?;
    let none = serde_json::Value::Object(serde_json::Map::new());
    Ok(ValuesCheck::new(move |values| {
        let values = if values.is_null() { &none } else { values };
        let against = |schema: &Schema| schema.check(values.as_object()?).err();
        schema.as_ref().and_then(against).map_or(Ok(()), |misfits| Err(Chain(&misfits).to_string()))
    }))
}

/// What tests may do.
fn granted(allowed: &[String], workdir: &Path) -> Result<Capabilities, Failure> {
    let own = format!("fs:write:{}", workdir.display());
    let names = GRANTED.into_iter().chain([own.as_str()]).chain(allowed.iter().map(String::as_str));
    Capabilities::parse(names).map_err(Outcome::Usage.because())
}

/// The bundle that a file is in, or else its directory; and its path in there.
fn bundle_of(file: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let whole = file.canonicalize().map_err(Outcome::Usage.because())?;
    let dir = whole.parent().unwrap_or(Path::new("/"));
    let bundle = dir.ancestors().find(|dir| dir.join(BUNDLE_FILE).is_file()).unwrap_or(dir);
    let name = whole.strip_prefix(bundle).map_err(Outcome::Internal.because())?;
    Ok((bundle.to_owned(), name.to_owned()))
}

/// The test files that a path means.
fn find(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if path.is_file() {
        found.push(path.to_owned());
        return Ok(());
    }
    let failed = |error: io::Error| {
        Failure::new(Outcome::Usage, format!("cannot look for tests in `{}`: {error}", path.display()))
    };
    search(path, DEPTH_MAX, found).map_err(failed)
}

fn search(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (name, kind) = (entry.file_name().to_string_lossy().into_owned(), entry.file_type()?);
        let path = if dir == Path::new(".") { PathBuf::from(&name) } else { entry.path() };
        if kind.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        } else if kind.is_dir() && !name.starts_with('.') && 0 < depth {
            search(&path, depth - 1, found)?;
        }
    }
    Ok(())
}
