//! The services that systemd knows.

use serde_json::{Value as Json, json};

use crate::modules::{call::Call, tool::Tool};

/// `{name, status, state, description}` of each: `status` as systemd's ACTIVE (`active`, `failed`, …) and `state`
/// as its SUB (`running`, `exited`, …).
pub(super) async fn all(call: &Call) -> Result<Json, String> {
    let arguments = ["list-units", "--type=service", "--all", "--plain", "--no-legend", "--no-pager", "--full"];
    let output = Tool::new(call, "systemctl").args(arguments).run().await?.ok()?;
    Ok(output.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Json> {
    let mut words = line.split_whitespace();
    let name = words.next()?.strip_suffix(".service")?;
    let _loaded = words.next()?;
    let (status, state) = (words.next()?, words.next()?);
    let description = words.collect::<Vec<_>>().join(" ");
    Some(json!({ "name": name, "status": status, "state": state, "description": description }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_systemctl_is_a_service() {
        let cron = parse("cron.service loaded active running Regular background jobs");
        let expected = json!({
            "name": "cron", "status": "active", "state": "running", "description": "Regular background jobs",
        });
        assert_eq!(cron, Some(expected));
        assert_eq!(parse("a.socket loaded active running x"), None);
        assert_eq!(parse(""), None);
    }
}
