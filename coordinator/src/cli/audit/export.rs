//! `sloth-coord audit export`.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::fs::{self, Access, Action, FsError};
use sloth_protocol::wire::ReceiptsAsked;
use sloth_trust::{ChainEntry, PublicKey};

use super::{
    super::{client::with_client, printed},
    ExportArgs,
    source::{self, Ends, Layout},
};

#[derive(Serialize)]
struct Report {
    dir: String,
    entries: u64,
    heads: u64,
    receipts: u64,
}

pub(super) fn run(args: &ExportArgs, format: Format) -> Result<Outcome, Failure> {
    let layout = Layout::new(&args.dir);
    check_empty(&args.dir)?;
    let report = with_client(&args.credential, async |client| {
        let (agent, run) = args.filter.resolved(client).await?;
        let asked = ReceiptsAsked { after: 0, agent, run };
        for dir in [layout.dir().to_owned(), layout.keys(), layout.receipts()] {
            fs::create_dir(&dir, Access::Everyone).map_err(Outcome::Usage.because())?;
        }
        for (agent, (_, key)) in source::agents(client).await? {
            put(&layout.key(agent), key.file().as_bytes())?;
        }
        let mut heads = Lines::create(&layout.heads())?;
        let head_ends = source::each_head(client, |_, head| heads.add(&head.payload)).await?;
        let heads = heads.finish()?;
        let mut chain = Lines::create(&layout.chain())?;
        let whole = ReceiptsAsked { after: 0, agent: None, run: None };
        let receipts = source::each_receipt(client, whole, |_, line| chain.add(&line)).await?;
        let ends = Ends { receipts, heads: head_ends };
        let entries = chain.finish()?;
        let mut receipts = 0;
        source::each_receipt(client, asked, |_, line| {
            receipts += u64::from(export(&layout, &line)?);
            Ok(())
        })
        .await?;
        fs::sync_file_system(layout.dir()).map_err(Outcome::Usage.because())?;
        // What says that the export is whole comes last.
        let ends = serde_json::to_vec(&ends).map_err(Outcome::Internal.because())?;
        put(&layout.ends(), &ends)?;
        Ok(Report { dir: args.dir.display().to_string(), entries, heads, receipts })
    })?;
    print(&report, &layout, format)?;
    Ok(Outcome::Done)
}

/// What was in the directory before would pass for a part of the export: receipts that the chain does not have, keys of
/// whoever put them there.
fn check_empty(dir: &Path) -> Result<(), Failure> {
    let refuse = |error| Outcome::Usage.because()(FsError::of(Action::Read, dir)(error));
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                let sentence = format!("`{}` is not empty: give a new directory to each export", dir.display());
                Err(Failure::new(Outcome::Usage, sentence))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(error)),
    }
}

/// Writes a receipt as `minisign` takes it; false for an entry that cannot be read.
fn export(layout: &Layout, line: &[u8]) -> Result<bool, Failure> {
    let Ok(entry) = ChainEntry::decode(line) else { return Ok(false) };
    // There may be a million: the disk is waited for once, when all are written.
    create(&layout.receipt(entry.number), entry.receipt.as_bytes())?;
    create(&layout.signature(entry.number), entry.signature.as_bytes())?;
    if let Some(receipt) = entry.claimed() {
        keep_key(&layout.key(receipt.agent), &entry.key)?;
    }
    Ok(true)
}

/// Keeps the key of an agent that the coordinator knows no more.
fn keep_key(path: &Path, key: &PublicKey) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { put(path, key.file().as_bytes()) }
}

fn print(report: &Report, layout: &Layout, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return printed(print_json(report));
    }
    let Report { dir, entries, heads, receipts } = report;
    printed(print_line(&format!(
        "{entries} entries of the chain, {heads} heads and {receipts} receipts are in `{dir}`"
    )))?;
    let (keys, files) = (layout.keys(), layout.receipts());
    let line = format!("minisign -V -p {}/AGENT.pub -m {}/NUMBER.json", keys.display(), files.display());
    printed(print_line(&format!("check one with `{line}`")))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::replace(path, bytes, Access::Everyone).map_err(Outcome::Usage.because())
}

fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| failed(path, error))
}

/// A file of lines, which may be larger than the memory: it gets its name when it is whole.
struct Lines {
    file: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    lines: u64,
}

impl Lines {
    fn create(path: &Path) -> Result<Self, Failure> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let (temporary, file) = fs::create_temporary(dir, Access::Everyone).map_err(Outcome::Usage.because())?;
        Ok(Self { file: BufWriter::new(file), temporary, path: path.to_owned(), lines: 0 })
    }

    fn add(&mut self, line: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(line).and_then(|()| self.file.write_all(b"\n"));
        self.lines += 1;
        written.map_err(|error| failed(&self.temporary, error))
    }

    /// How many lines there are.
    fn finish(self) -> Result<u64, Failure> {
        let Self { file, temporary, path, lines } = self;
        let file = file.into_inner().map_err(|error| failed(&temporary, error.into_error()))?;
        file.sync_all().map_err(|error| failed(&temporary, error))?;
        fs::rename(&temporary, &path).map_err(Outcome::Usage.because())?;
        Ok(lines)
    }
}

fn failed(path: &Path, error: io::Error) -> Failure {
    Outcome::Usage.because()(FsError::of(Action::Write, path)(error))
}
