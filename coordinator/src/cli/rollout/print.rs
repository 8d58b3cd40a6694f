//! Rollouts for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;
use sloth_cli::{Failure, Format, Table, print_json, print_line};
use sloth_core::{Clock, Millis, config::Span};
use sloth_protocol::wire::{
    Approval, HostView, ReasonView, RolloutPlan, RolloutSubject, RolloutSummary, RolloutView, WaveCounts, WaveMembers,
    WaveSpec, WaveView,
};

use super::super::{printed, show};

/// Characters of a wave's bar.
const BAR_CHARS: u32 = 24;

#[derive(Serialize)]
struct ShownSummary {
    id: String,
    name: String,
    /// `bundle` or `agent`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    version: String,
    number: u64,
    selector: String,
    operator: String,
    created: String,
    status: &'static str,
    since: String,
    waves: u32,
    open: u32,
    hosts: ShownCounts,
}

#[derive(Serialize)]
struct ShownCounts {
    members: u32,
    waiting: u32,
    away: u32,
    under_way: u32,
    soaking: u32,
    proven: u32,
    failed: u32,
    silent: u32,
    returning: u32,
    returned: u32,
    not_returned: u32,
    held: u32,
}

#[derive(Serialize)]
struct ShownWave {
    wave: usize,
    members: String,
    soak_ms: u64,
    approval: bool,
    hosts: ShownCounts,
}

#[derive(Serialize)]
struct ShownReason<'a> {
    code: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct ShownRollout<'a> {
    #[serde(flatten)]
    summary: ShownSummary,
    attempt: u32,
    windows: Vec<String>,
    wave: Vec<ShownWave>,
    reasons: Vec<ShownReason<'a>>,
}

#[derive(Serialize)]
struct ShownPlan {
    version: String,
    wave: Vec<ShownWave>,
    hosts: Vec<ShownHost>,
}

#[derive(Serialize)]
struct ShownHost {
    agent: String,
    name: String,
    wave: u32,
    standing: String,
    in_reach: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    run: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// One rollout.
pub(super) fn rollout(view: &RolloutView, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => printed(print_json(&shown(view))),
        Format::Text => {
            for line in lines(view, Clock::new().now()) {
                printed(print_line(&line))?;
            }
            Ok(())
        }
    }
}

/// A listing.
pub(super) fn list(rollouts: &[RolloutSummary], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return printed(print_json(&rollouts.iter().map(shown_summary).collect::<Vec<_>>()));
    }
    let now = Clock::new().now();
    let mut table = Table::new(&["ROLLOUT", "OF", "RELEASE", "ON", "STATUS", "SINCE", "WAVES", "PROVEN", "FAILED"]);
    for rollout in rollouts {
        let hosts = rollout.hosts;
        table.row(vec![
            rollout.name.clone(),
            rollout.subject.to_string(),
            rollout.version.clone(),
            rollout.selector.clone(),
            rollout.status.name().to_owned(),
            show::ago(now, rollout.since),
            format!("{}/{}", rollout.open, rollout.waves),
            format!("{}/{}", hosts.proven, hosts.members),
            (hosts.failed + hosts.silent).to_string(),
        ]);
    }
    printed(table.print())
}

/// Who would fall into which wave.
pub(super) fn plan(plan: &RolloutPlan, hosts: &[HostView], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        let hosts = hosts.iter().map(shown_host).collect();
        let wave = plan.waves.iter().enumerate().map(shown_wave).collect();
        return printed(print_json(&ShownPlan { version: plan.version.clone(), wave, hosts }));
    }
    printed(print_line(&format!("release {} would go to these waves:", plan.version)))?;
    let mut table = Table::new(&["WAVE", "MEMBERS", "HOSTS", "OUT OF REACH", "SOAK", "APPROVAL"]);
    for (place, wave) in plan.waves.iter().enumerate() {
        table.row(vec![
            (place + 1).to_string(),
            members(&wave.spec),
            wave.counts.members.to_string(),
            wave.counts.away.to_string(),
            Span::new(wave.spec.soak).to_string(),
            if wave.spec.approval == Approval::Needed { "yes" } else { "no" }.to_owned(),
        ]);
    }
    printed(table.print())?;
    self::hosts(hosts, format)
}

/// Hosts, wave by wave.
pub(super) fn hosts(hosts: &[HostView], format: Format) -> Result<(), Failure> {
    let mut hosts: Vec<&HostView> = hosts.iter().collect();
    hosts.sort_by(|a, b| (a.wave, &a.name).cmp(&(b.wave, &b.name)));
    if format == Format::Json {
        return printed(print_json(&hosts.into_iter().map(shown_host).collect::<Vec<_>>()));
    }
    let mut table = Table::new(&["WAVE", "HOST", "STANDING", "IN REACH", "RUN OR REASON"]);
    for host in hosts {
        let in_reach = if host.in_reach { "yes" } else { "no" }.to_owned();
        let why = if host.run.is_empty() { &host.reason } else { &host.run };
        table.row(vec![host.wave.to_string(), host.name.clone(), host.standing.clone(), in_reach, why.clone()]);
    }
    printed(table.print())
}

/// A rollout in lines: itself, its waves as bars, and why it waits.
pub(super) fn lines(view: &RolloutView, now: Millis) -> Vec<String> {
    let RolloutSummary { name, subject, version, counter, status, since, operator, selector, .. } = &view.summary;
    let mut lines = vec![format!(
        "{name}: {subject} {version} (number {counter}) on `{selector}` · {} since {} · by {operator}",
        status.name(),
        show::ago(now, *since)
    )];
    let width = view.waves.iter().map(|wave| members(&wave.spec).chars().count()).max().unwrap_or(0);
    for (place, wave) in view.waves.iter().enumerate() {
        let begun = u32::try_from(place).is_ok_and(|place| place < view.summary.open);
        let members = members(&wave.spec);
        let marker = if begun { '*' } else { ' ' };
        lines.push(format!(
            "{marker} {:>2} {members:width$} [{}] {}",
            place + 1,
            bar(&wave.counts),
            said(&wave.counts)
        ));
    }
    lines.extend(view.reasons.iter().map(|ReasonView { text, .. }| format!("  {text}")));
    lines
}

/// `#` proven, `+` done and watched, `>` at work, `!` failed or silent, `-` held, `<` back, `.` not yet.
fn bar(counts: &WaveCounts) -> String {
    let parts = [
        ('#', counts.proven),
        ('+', counts.soaking),
        ('>', counts.under_way),
        ('!', counts.failed + counts.silent + counts.not_returned),
        ('-', counts.held),
        ('<', counts.returning + counts.returned),
        ('.', counts.waiting + counts.away),
    ];
    let all = counts.members.max(1);
    let mut bar = String::new();
    let (mut hosts, mut chars) = (0, 0);
    for (sign, count) in parts {
        hosts += count;
        // Whoever is there is seen, however many others there are.
        let until = (hosts * BAR_CHARS / all).max(chars + u32::from(0 < count)).min(BAR_CHARS);
        (chars..until).for_each(|_| bar.push(sign));
        chars = until;
    }
    format!("{bar:24}")
}

fn said(counts: &WaveCounts) -> String {
    let mut said = format!("{}/{} proven", counts.proven, counts.members);
    for (what, count) in [
        ("watched", counts.soaking),
        ("at work", counts.under_way),
        ("failed", counts.failed),
        ("silent", counts.silent),
        ("going back", counts.returning),
        ("back", counts.returned),
        ("not back", counts.not_returned),
        ("held by their own rules", counts.held),
        ("waiting", counts.waiting),
        ("out of reach", counts.away),
    ] {
        if 0 < count {
            let _ = write!(said, ", {count} {what}");
        }
    }
    said
}

fn members(spec: &WaveSpec) -> String {
    match &spec.members {
        WaveMembers::UpTo(share) => share.to_string(),
        WaveMembers::Labelled(selector) => selector.clone(),
    }
}

fn shown(view: &RolloutView) -> ShownRollout<'_> {
    ShownRollout {
        summary: shown_summary(&view.summary),
        attempt: view.attempt,
        windows: view.spec.windows.iter().map(ToString::to_string).collect(),
        wave: view.waves.iter().enumerate().map(shown_wave).collect(),
        reasons: view.reasons.iter().map(|ReasonView { code, text }| ShownReason { code, text }).collect(),
    }
}

fn shown_summary(summary: &RolloutSummary) -> ShownSummary {
    let (kind, bundle, channel) = match &summary.subject {
        RolloutSubject::Bundle(name) => ("bundle", Some(name.to_string()), None),
        RolloutSubject::Agent(channel) => ("agent", None, Some(channel.to_string())),
    };
    ShownSummary {
        id: summary.id.to_string(),
        name: summary.name.clone(),
        kind,
        bundle,
        channel,
        version: summary.version.clone(),
        number: summary.counter,
        selector: summary.selector.clone(),
        operator: summary.operator.clone(),
        created: summary.created.to_string(),
        status: summary.status.name(),
        since: summary.since.to_string(),
        waves: summary.waves,
        open: summary.open,
        hosts: shown_counts(&summary.hosts),
    }
}

fn shown_wave((place, wave): (usize, &WaveView)) -> ShownWave {
    ShownWave {
        wave: place + 1,
        members: members(&wave.spec),
        soak_ms: wave.spec.soak.as_u64(),
        approval: wave.spec.approval == Approval::Needed,
        hosts: shown_counts(&wave.counts),
    }
}

const fn shown_counts(counts: &WaveCounts) -> ShownCounts {
    ShownCounts {
        members: counts.members,
        waiting: counts.waiting,
        away: counts.away,
        under_way: counts.under_way,
        soaking: counts.soaking,
        proven: counts.proven,
        failed: counts.failed,
        silent: counts.silent,
        returning: counts.returning,
        returned: counts.returned,
        not_returned: counts.not_returned,
        held: counts.held,
    }
}

fn shown_host(host: &HostView) -> ShownHost {
    let HostView { agent, name, wave, standing, in_reach, run, reason } = host.clone();
    ShownHost { agent: agent.to_string(), name, wave, standing, in_reach, run, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_everybody_who_is_there() {
        let counts = |proven, failed, waiting| WaveCounts {
            members: proven + failed + waiting,
            proven,
            failed,
            waiting,
            ..WaveCounts::default()
        };
        for (counts, expected) in [
            (counts(12, 0, 12), "############............"),
            (counts(0, 1, 9_999), "!......................."),
            (counts(24, 0, 0), "########################"),
            (counts(0, 0, 0), "                        "),
        ] {
            assert_eq!(bar(&counts), expected);
        }
    }
}
