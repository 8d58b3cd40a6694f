//! Which process a number means.

/// When a process began, in the kernel's count; `None` when it has ended, or where the system does not say. With its
/// number it names a process for good.
#[must_use]
pub fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_while_it_runs() {
        let own = started(std::process::id());
        assert_eq!(own, started(std::process::id()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        let began = started(child.id());
        assert!(own <= began, "{own:?} {began:?}");
        child.kill().expect("killed");
        child.wait().expect("buried");
        assert_eq!(started(child.id()), None);
    }
}
