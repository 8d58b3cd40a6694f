//! `sloth-coord trust status`.

use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, Table, print_json, print_line};
use sloth_core::{Clock, Millis};
use sloth_protocol::wire::{BundleView, OperatorRequest, OperatorResponse};
use sloth_trust::{RoleKeys, Root, Trusted};

use super::{Role, StatusArgs, all_roles, fetch, keys_of, read_root, trusted};
use crate::cli::{
    client::{AskError, expect_answer, with_client},
    printed, show,
};

/// Parts of a life, in hundredths, after which it is said that it ends.
const WARN_HUNDREDTHS: u64 = 50;
const URGE_HUNDREDTHS: u64 = 80;

#[derive(Serialize)]
struct Shown {
    version: u64,
    sha256: String,
    repository: String,
    expires: String,
    roles: Vec<ShownRole>,
    bundles: Vec<ShownBundle>,
    /// What must be renewed soon, or should have been.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct ShownRole {
    role: String,
    threshold: usize,
    keys: Vec<String>,
}

#[derive(Serialize)]
struct ShownBundle {
    name: String,
    version: String,
    expires: String,
}

pub(super) fn run(args: &StatusArgs, format: Format) -> Result<Outcome, Failure> {
    let (trusted, bundles) = match &args.root {
        Some(path) => (read_root(path)?, Vec::new()),
        None => with_client(&args.credential, async |client| {
            let trusted = trusted(&fetch(client).await?)?;
            let bundles = expect_answer!(client.ask(OperatorRequest::Bundles).await?, Bundles)?;
            Ok((trusted, bundles))
        })?,
    };
    let now = Clock::new().now();
    let shown = Shown {
        version: trusted.root().version,
        sha256: trusted.pin().to_string(),
        repository: trusted.root().repository.to_string(),
        expires: trusted.root().expires.to_string(),
        roles: roles(trusted.root()),
        bundles: bundles.iter().map(ShownBundle::from).collect(),
        warnings: warnings(&trusted, &bundles, now),
    };
    if format == Format::Json {
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    print(&shown, trusted.root().expires, now)?;
    Ok(Outcome::Done)
}

fn roles(root: &Root) -> Vec<ShownRole> {
    let shown = |role: &Role, keys: &RoleKeys| ShownRole {
        role: role.to_string(),
        threshold: keys.threshold(),
        keys: keys.keys().iter().map(|key| key.id().to_string()).collect(),
    };
    let roles = all_roles(&root.roles);
    roles.iter().filter_map(|role| Some(shown(role, keys_of(&root.roles, role)?))).collect()
}

/// What of the root's and the bundles' lives is nearly over.
pub(in crate::cli) fn warnings(trusted: &Trusted, bundles: &[BundleView], now: Millis) -> Vec<String> {
    let root = trusted.root();
    let mut found = Vec::new();
    if root.roles.head.is_none() || root.roles.assignment.is_none() {
        let remedy = "sloth-coord trust rotate-online --key FILE";
        found.push(format!("the trust root names no online key, so that agents begin nothing new: `{remedy}`"));
    }
    found.extend(warning("the trust root", root.issued, root.expires, now, "sloth-coord trust renew --key FILE"));
    for bundle in bundles {
        let what = format!("bundle `{}`", bundle.name);
        found.extend(warning(&what, bundle.published, bundle.expires, now, "sloth-coord publish"));
    }
    found
}

fn warning(what: &str, began: Millis, expires: Millis, now: Millis, remedy: &str) -> Option<String> {
    if expires <= now {
        let since = show::rough(now.since(expires));
        return Some(format!("{what} expired {since} ago and vouches for no new work: `{remedy}`"));
    }
    let life = expires.since(began).as_u64().max(1);
    let spent = now.since(began).as_u64().saturating_mul(100) / life;
    let left = show::rough(expires.since(now));
    match spent {
        URGE_HUNDREDTHS.. => Some(format!("{what} expires in {left}: renew it now with `{remedy}`")),
        WARN_HUNDREDTHS.. => Some(format!("{what} expires in {left}: renew it with `{remedy}`")),
        _ => None,
    }
}

fn print(shown: &Shown, expires: Millis, now: Millis) -> Result<(), Failure> {
    printed(print_line(&format!("root {}, {}, SHA-256 {}", shown.version, life(expires, now), shown.sha256)))?;
    printed(print_line(&format!("repository {}", shown.repository)))?;
    let mut table = Table::new(&["ROLE", "MUST SIGN", "KEYS"]);
    for role in &shown.roles {
        let keys: Vec<String> = role.keys.iter().map(|key| show::key(key)).collect();
        table.row(vec![role.role.clone(), format!("{} of {}", role.threshold, role.keys.len()), keys.join(" ")]);
    }
    printed(table.print())?;
    for warning in &shown.warnings {
        printed(print_line(&format!("warning: {warning}")))?;
    }
    Ok(())
}

fn life(expires: Millis, now: Millis) -> String {
    if expires <= now {
        format!("expired {} ago", show::rough(now.since(expires)))
    } else {
        format!("good for {}", show::rough(expires.since(now)))
    }
}

impl From<&BundleView> for ShownBundle {
    fn from(bundle: &BundleView) -> Self {
        Self { name: bundle.name.clone(), version: bundle.version.clone(), expires: bundle.expires.to_string() }
    }
}
