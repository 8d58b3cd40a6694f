//! What is asked for, from options and a file: options count over the file.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};
use sloth_cli::{Failure, Outcome, window};
use sloth_core::{Selector, config::Span, excerpt};
use sloth_protocol::{
    rollout::EVERYTHING,
    wire::{Approval, OnHalt, RolloutAgent, RolloutBundle, RolloutSpec, RolloutWhat, Share, WaveMembers, WaveSpec},
};

use crate::cli::work::WorkArgs;

/// Most bytes of a file that describes a rollout.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const SOAK: Span = Span::from_secs(600);
const TIMEOUT: Span = Span::from_secs(3600);
const SILENT_AFTER: u32 = 3;
const WAVES: [&str; 4] = ["1%", "10%", "50%", "100%"];

/// What shall reach whom, and how carefully.
#[derive(Debug, Args)]
pub(super) struct SpecArgs {
    /// The bundle's name
    #[arg(conflicts_with = "agent")]
    bundle: Option<String>,
    /// Instead of a bundle: the release of the agent, by its version, to which hosts are to go
    #[arg(long, value_name = "VERSION")]
    agent: Option<String>,
    /// The channel in which that release was published [default: any]
    #[arg(long)]
    channel: Option<String>,
    /// A file, TOML or YAML, with the options below; options count over it
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the rollout is called [default: the bundle, or `agent`, and the release]
    #[arg(long)]
    name: Option<String>,
    /// Which agents, as `role=web,region!=eu`; `*` for all
    #[arg(long, value_name = "SELECTOR")]
    on: Option<Selector>,
    /// The waves: shares or counts, each over those before, `100%` at last [default: 1%,10%,50%,100%]
    #[arg(long, value_name = "SHARES", value_delimiter = ',', conflicts_with = "wave")]
    waves: Vec<String>,
    /// One wave, as `10%; soak=1h; approve` or `canary=yes; soak=1h`; give as many as there are
    #[arg(long, value_name = "WAVE")]
    wave: Vec<String>,
    /// How long hosts must be well after their success [default: 10m]
    #[arg(long)]
    soak: Option<Span>,
    /// How many of a wave may fail or fall silent, as 2% or 3 [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    error_budget: Option<Share>,
    /// How many of all hosts may [default: 100%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    error_budget_total: Option<Share>,
    /// How many hosts may be changed and unproven at a time [default: 100%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_unproven: Option<Share>,
    /// How many of a wave must be proven before the next begins; one always [default: 1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    min_proven: Option<Share>,
    /// When hosts may be changed, as `Mon-Fri 22:00-04:00 Europe/Berlin`; give as many as there are
    #[arg(long, value_name = "WINDOW")]
    window: Vec<String>,
    /// Each wave after the first waits for `rollout approve`
    #[arg(long)]
    approve_each: bool,
    /// After how many of its own rhythms an assigned host that is not heard of counts as failed [default: 3]
    #[arg(long, value_name = "RHYTHMS")]
    silent_after: Option<u32>,
    /// How long a host may take; for a release of the agent, until it begins [default: 1h]
    #[arg(long)]
    timeout: Option<Span>,
    /// What follows a halt [default: stop]
    #[arg(long, value_enum)]
    on_halt: Option<AfterHalt>,
    #[command(flatten)]
    work: WorkArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AfterHalt {
    /// An operator decides
    Stop,
    /// Changed hosts go back to the release before
    Rollback,
}

/// A file that describes a rollout.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    bundle: Option<String>,
    agent: Option<String>,
    channel: Option<String>,
    name: Option<String>,
    on: Option<String>,
    waves: Vec<FileWave>,
    soak: Option<Span>,
    error_budget: Option<FileShare>,
    error_budget_total: Option<FileShare>,
    max_unproven: Option<FileShare>,
    min_proven: Option<FileShare>,
    windows: Vec<String>,
    approve_each: bool,
    silent_after: Option<u32>,
    timeout: Option<Span>,
    on_halt: Option<AfterHalt>,
    release: Option<String>,
    workflow: Option<String>,
    values: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileShare {
    Count(u32),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileWave {
    Count(u32),
    Text(String),
    Table(WaveTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveTable {
    up_to: Option<FileShare>,
    on: Option<String>,
    soak: Option<Span>,
    #[serde(default)]
    approve: bool,
}

/// Why an option or a file was refused.
#[derive(Debug, thiserror::Error)]
enum SpecRefused {
    #[error("`{text}` is neither a share nor a count: write `2%`, `0.5%` or `3`")]
    Share { text: String },
    #[error("`{text}` is not a wave: write a share, a count or a selector, then `; soak=1h` and `; approve` as needed")]
    Wave { text: String },
    #[error("a wave of a file takes either `up_to` or `on`")]
    Table,
    #[error(
        "name the bundle to roll out, on the command line or as `bundle` in the file, or a release of the agent with `--agent` or as `agent`"
    )]
    NoBundle,
    #[error("a rollout brings either a bundle or a release of the agent")]
    Both,
    #[error("{what} is for rollouts of bundles")]
    OfBundles { what: &'static str },
    #[error("a channel is of releases of the agent: name one with `--agent`")]
    OfAgents,
    #[error("say which agents with `--on`, or as `on` in the file; `--on '*'` is all of them")]
    NoSelector,
    #[error("cannot read `{}`: {why}", path.display())]
    File { path: PathBuf, why: String },
}

impl SpecArgs {
    /// The specification; its name is empty where nothing says it.
    pub(super) fn read(&self) -> Result<RolloutSpec, Failure> {
        let mut file = match &self.file {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let usage = |error: SpecRefused| Outcome::Usage.because()(error);
        let what = self.what(&mut file)?;
        let on = self.on.as_ref().map(ToString::to_string).or(file.on.take());
        let waves = self.waves(&file).map_err(usage)?;
        let pick = |option: Option<Share>, file: Option<FileShare>, usual: Share| match (option, file) {
            (Some(share), _) => Ok(share),
            (None, Some(share)) => share.read(),
            (None, None) => Ok(usual),
        };
        let windows = if self.window.is_empty() { &file.windows } else { &self.window };
        let windows = windows.iter().map(|text| window::parse(text)).collect::<Result<_, _>>();
        Ok(RolloutSpec {
            name: self.name.clone().or(file.name.take()).unwrap_or_default(),
            what,
            selector: on.ok_or(SpecRefused::NoSelector).map_err(usage)?,
            waves,
            errors_per_wave: pick(self.error_budget, file.error_budget, Share::Count(0)).map_err(usage)?,
            errors_in_all: pick(self.error_budget_total, file.error_budget_total, ALL).map_err(usage)?,
            unproven_max: pick(self.max_unproven, file.max_unproven, ALL).map_err(usage)?,
            proven_min: pick(self.min_proven, file.min_proven, Share::Count(1)).map_err(usage)?,
            windows: windows.map_err(Outcome::Usage.because())?,
            silent_after: self.silent_after.or(file.silent_after).unwrap_or(SILENT_AFTER),
            timeout: self.timeout.or(file.timeout).unwrap_or(TIMEOUT).millis(),
            on_halt: match self.on_halt.or(file.on_halt).unwrap_or(AfterHalt::Stop) {
                AfterHalt::Stop => OnHalt::Stop,
                AfterHalt::Rollback => OnHalt::RollBack,
            },
        })
    }

    /// What is rolled out: what the command line names counts over what the file does.
    fn what(&self, file: &mut File) -> Result<RolloutWhat, Failure> {
        let usage = |error: SpecRefused| Outcome::Usage.because()(error);
        let named = (self.bundle.clone(), self.agent.clone());
        let (bundle, agent) = if named == (None, None) { (file.bundle.take(), file.agent.take()) } else { named };
        let version = self.work.release.clone().or(file.release.take());
        let workflow = self.work.workflow.clone().or(file.workflow.take());
        let channel = self.channel.clone().or(file.channel.take());
        let values = self.work.values(std::mem::take(&mut file.values))?;
        let of_bundles =
            [(version.is_some(), "`release`"), (workflow.is_some(), "`workflow`"), (values != "{}", "a value")];
        match (bundle, agent) {
            (Some(_), Some(_)) => Err(usage(SpecRefused::Both)),
            (None, None) => Err(usage(SpecRefused::NoBundle)),
            (Some(_), None) if channel.is_some() => Err(usage(SpecRefused::OfAgents)),
            (Some(name), None) => Ok(RolloutWhat::Bundle(RolloutBundle { name, version, workflow, values })),
            (None, Some(version)) => match of_bundles.into_iter().find(|(given, _)| *given) {
                Some((_, what)) => Err(usage(SpecRefused::OfBundles { what })),
                None => Ok(RolloutWhat::Agent(RolloutAgent { version, channel })),
            },
        }
    }

    fn waves(&self, file: &File) -> Result<Vec<WaveSpec>, SpecRefused> {
        let soak = self.soak.or(file.soak).unwrap_or(SOAK);
        let mut waves: Vec<WaveSpec> = if !self.waves.is_empty() {
            self.waves.iter().map(|text| plain_wave(text, soak)).collect::<Result<_, _>>()?
        } else if !self.wave.is_empty() {
            self.wave.iter().map(|text| wave(text, soak)).collect::<Result<_, _>>()?
        } else if !file.waves.is_empty() {
            file.waves.iter().map(|wave| wave.read(soak)).collect::<Result<_, _>>()?
        } else {
            WAVES.iter().map(|text| plain_wave(text, soak)).collect::<Result<_, _>>()?
        };
        if self.approve_each || file.approve_each {
            waves.iter_mut().skip(1).for_each(|wave| wave.approval = Approval::Needed);
        }
        Ok(waves)
    }
}

const ALL: Share = Share::Hundredths(EVERYTHING);

impl FileShare {
    fn read(&self) -> Result<Share, SpecRefused> {
        match self {
            Self::Count(count) => Ok(Share::Count(*count)),
            Self::Text(text) => parse_share(text),
        }
    }
}

impl FileWave {
    fn read(&self, soak: Span) -> Result<WaveSpec, SpecRefused> {
        match self {
            Self::Count(count) => Ok(plain(WaveMembers::UpTo(Share::Count(*count)), soak)),
            Self::Text(text) => wave(text, soak),
            Self::Table(table) => {
                let members = match (&table.up_to, &table.on) {
                    (Some(share), None) => WaveMembers::UpTo(share.read()?),
                    (None, Some(selector)) => WaveMembers::Labelled(selector.clone()),
                    (Some(_), Some(_)) | (None, None) => return Err(SpecRefused::Table),
                };
                let approval = if table.approve { Approval::Needed } else { Approval::NotNeeded };
                Ok(WaveSpec { members, soak: table.soak.unwrap_or(soak).millis(), approval })
            }
        }
    }
}

/// Reads a share for the command line.
fn share(text: &str) -> Result<Share, String> {
    parse_share(text).map_err(|error| error.to_string())
}

fn parse_share(text: &str) -> Result<Share, SpecRefused> {
    let wrong = || SpecRefused::Share { text: excerpt(text) };
    let text = text.trim();
    let Some(part) = text.strip_suffix('%') else { return text.parse().map(Share::Count).map_err(|_| wrong()) };
    let (whole, hundredths) = part.trim().split_once('.').unwrap_or((part.trim(), ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || 2 < hundredths.len() || !digits(whole) || !digits(hundredths) {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let hundredths: u32 = format!("{hundredths:0<2}").parse().map_err(|_| wrong())?;
    whole.checked_mul(100).and_then(|whole| whole.checked_add(hundredths)).map(Share::Hundredths).ok_or_else(wrong)
}

fn plain_wave(text: &str, soak: Span) -> Result<WaveSpec, SpecRefused> {
    Ok(plain(WaveMembers::UpTo(parse_share(text)?), soak))
}

const fn plain(members: WaveMembers, soak: Span) -> WaveSpec {
    WaveSpec { members, soak: soak.millis(), approval: Approval::NotNeeded }
}

/// Reads `10%; soak=1h; approve`.
fn wave(text: &str, soak: Span) -> Result<WaveSpec, SpecRefused> {
    let wrong = || SpecRefused::Wave { text: excerpt(text) };
    let mut parts = text.split(';').map(str::trim);
    let members = parts.next().filter(|members| !members.is_empty()).ok_or_else(wrong)?;
    let members = match parse_share(members) {
        Ok(share) => WaveMembers::UpTo(share),
        Err(_) if members.parse::<Selector>().is_ok() => WaveMembers::Labelled(members.to_owned()),
        Err(_) => return Err(wrong()),
    };
    let mut wave = plain(members, soak);
    for part in parts {
        match part.split_once('=') {
            Some(("soak", span)) => wave.soak = span.parse::<Span>().map_err(|_| wrong())?.millis(),
            None if part == "approve" => wave.approval = Approval::Needed,
            Some(_) | None => return Err(wrong()),
        }
    }
    Ok(wave)
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let because = Outcome::Usage.because();
    let bytes = sloth_core::fs::read_capped(path, FILE_BYTES_MAX).map_err(Outcome::Usage.because())?;
    if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        let of_file = |why: String| SpecRefused::File { path: path.to_owned(), why };
        let text = String::from_utf8(bytes).map_err(|_| because(of_file("it is not UTF-8".to_owned())))?;
        return sloth_core::yaml::read(&text).map_err(|why| because(of_file(why)));
    }
    sloth_core::config::parse(path, &bytes).map_err(Outcome::Usage.because())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_exactly() {
        for (text, expected) in [
            ("2%", Share::Hundredths(200)),
            ("0.5%", Share::Hundredths(50)),
            ("12.25%", Share::Hundredths(1225)),
            ("100%", ALL),
            ("3", Share::Count(3)),
            ("0", Share::Count(0)),
        ] {
            assert_eq!(parse_share(text).expect(text), expected);
        }
        for text in ["", "%", "-1", "-1%", "1.234%", "x", "1e2%", "99999999999%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn waves_are_read_as_people_write_them() {
        let minute = Span::from_secs(60);
        let read = |text: &str| wave(text, minute).expect("a wave");
        assert_eq!(read("10%"), plain(WaveMembers::UpTo(Share::Hundredths(1000)), minute));
        let canary = read("canary in (yes, soon); soak=1h; approve");
        assert_eq!(canary.members, WaveMembers::Labelled("canary in (yes, soon)".to_owned()));
        assert_eq!((canary.soak, canary.approval), (Span::from_secs(3600).millis(), Approval::Needed));
        for text in ["", ";", "10%; soak", "10%; soak=x", "10%; later", "((", "10% soak=1h"] {
            assert!(wave(text, minute).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_says_what_options_say() {
        let toml = "bundle = 'web'\non = 'role=web'\nwaves = ['canary=yes; soak=1h', 5, { up_to = '10%', approve = true }, '100%']\n\
                    soak = '5m'\nerror_budget = '2%'\nmax_unproven = 50\nwindows = ['22:00-04:00 UTC']\non_halt = 'rollback'\n\
                    [values]\na = 1\n";
        let file: File = sloth_core::config::parse(Path::new("r.toml"), toml.as_bytes()).expect("a file");
        let soak = Span::from_secs(300);
        let waves = file.waves.iter().map(|wave| wave.read(soak)).collect::<Result<Vec<_>, _>>().expect("waves");
        assert_eq!(waves.len(), 4);
        assert_eq!(waves[2].approval, Approval::Needed);
        assert_eq!(waves[1].members, WaveMembers::UpTo(Share::Count(5)));
        let yaml = "bundle: web\non: role=web\nwaves: [5, '10%', {on: canary=yes}, '100%']\nmax_unproven: 50\n";
        let file: File = sloth_core::yaml::read(yaml).expect("a file");
        assert_eq!(file.waves.len(), 4);
        assert!(sloth_core::yaml::read::<File>("bundel: web\n").is_err());
    }
}
