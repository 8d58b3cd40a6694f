//! Workflows that leave marks.

use sloth_e2e::{Bundle, Witness};

/// A workflow of tasks that leave marks; each line of `plan` is `name` or `name after other`. With `once` at its end, the
/// task must not be repeated; with `retries`, it has retries left; the others are idempotent.
pub(crate) fn marking(plan: &str, pause: &str) -> String {
    let tasks = plan.lines().map(str::trim).filter(|line| !line.is_empty());
    tasks.map(|line| format!("{}\n", task(line, pause))).collect()
}

/// A bundle with such a workflow.
pub(crate) fn marking_bundle(name: &str, plan: &str, pause: &str) -> Bundle {
    Bundle::new(name, &marking(plan, pause))
}

fn task(line: &str, pause: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let name = words[0];
    let after = words.iter().skip_while(|word| **word != "after").nth(1);
    let depends = after.map_or_else(String::new, |after| format!(":depends_on('{after}')"));
    let repeats = match words.last() {
        Some(&"once") => "",
        Some(&"retries") => ":retries(2, 'fixed')",
        Some(_) | None => ":idempotent(true)",
    };
    let shell = Witness::shell(name, pause);
    format!("task('{name}'){depends}{repeats}:command([[{shell}]]):build()")
}
