//! A rollout as it goes: a picture that is drawn anew on a terminal, a line for each change elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use sloth_cli::{Failure, Format, Outcome};
use sloth_core::{Clock, Millis};
use sloth_protocol::wire::{RolloutStatus, RolloutView};

use super::{
    super::{
        CredentialArgs,
        client::{AskError, Client, note},
        printed,
    },
    print, shown,
};

/// How often the coordinator is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How long a coordinator that went away may take to come back.
const RETURN_MAX: Millis = Millis::from_secs(120);

/// How the picture is shown.
#[derive(Debug)]
enum Screen {
    /// Drawn over the one before, which took so many lines.
    Drawn { lines: usize },
    /// One after the other, whenever something changed.
    Listed,
}

/// Shows a rollout until it is over, or waits for an operator after a halt.
pub(super) async fn watch(credential: &CredentialArgs, name: &str, format: Format) -> Result<Outcome, Failure> {
    let clock = Clock::new();
    let plain = anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never;
    let drawn = format == Format::Text && io::stdout().is_terminal() && !plain;
    let mut screen = if drawn { Screen::Drawn { lines: 0 } } else { Screen::Listed };
    let (mut last, mut lost_at): (Option<RolloutView>, Option<Millis>) = (None, None);
    loop {
        match look(credential, name, &mut last, &mut screen, format).await {
            Ok(outcome) => return Ok(outcome),
            Err(Interrupted::Ask(error)) if error.may_pass() => {
                let since = *lost_at.get_or_insert_with(|| clock.now());
                if RETURN_MAX < clock.now().since(since) {
                    return Err(error.into());
                }
                if since == clock.now() {
                    note("the coordinator went away; waiting for it");
                }
            }
            Err(Interrupted::Seen(error)) if error.may_pass() => lost_at = None,
            Err(Interrupted::Ask(error) | Interrupted::Seen(error)) => return Err(error.into()),
            Err(Interrupted::Other(failure)) => return Err(failure),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Why looking stopped.
enum Interrupted {
    /// Nothing was seen.
    Ask(AskError),
    /// Something was seen before.
    Seen(AskError),
    Other(Failure),
}

/// Looks over one connection.
async fn look(
    credential: &CredentialArgs,
    name: &str,
    last: &mut Option<RolloutView>,
    screen: &mut Screen,
    format: Format,
) -> Result<Outcome, Interrupted> {
    let client = Client::connect(&credential.path()).await.map_err(Interrupted::Ask)?;
    let mut seen = false;
    let result = loop {
        let view = match shown(&client, name).await {
            Ok(view) => view,
            Err(error) if seen => break Err(Interrupted::Seen(error)),
            Err(error) => break Err(Interrupted::Ask(error)),
        };
        seen = true;
        if last.as_ref() != Some(&view)
            && let Err(failure) = draw(&view, screen, format)
        {
            break Err(Interrupted::Other(failure));
        }
        let outcome = outcome(view.summary.status);
        *last = Some(view);
        if let Some(outcome) = outcome {
            break Ok(outcome);
        }
        tokio::time::sleep(EVERY).await;
    };
    client.close().await;
    result
}

fn draw(view: &RolloutView, screen: &mut Screen, format: Format) -> Result<(), Failure> {
    let Screen::Drawn { lines } = screen else { return print::rollout(view, format) };
    let text = print::lines(view, Clock::new().now());
    let mut out = anstream::stdout();
    let mut drawn = || -> io::Result<()> {
        if 0 < *lines {
            // To the first line of the picture before, and everything below it away.
            write!(out, "\x1b[{lines}F\x1b[J")?;
        }
        for line in &text {
            writeln!(out, "{line}")?;
        }
        out.flush()
    };
    printed(drawn())?;
    *lines = text.len();
    Ok(())
}

/// How watching ends; none while there is more to come.
const fn outcome(status: RolloutStatus) -> Option<Outcome> {
    match status {
        RolloutStatus::Running | RolloutStatus::Paused | RolloutStatus::RollingBack => None,
        RolloutStatus::Complete => Some(Outcome::Done),
        RolloutStatus::Halted | RolloutStatus::RolledBack | RolloutStatus::Aborted | RolloutStatus::Superseded => {
            Some(Outcome::Failed)
        }
    }
}
