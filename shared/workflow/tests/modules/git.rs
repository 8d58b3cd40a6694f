//! What `git` does in a run that only checks.

use std::{collections::BTreeMap, path::Path, rc::Rc};

use sloth_workflow::{Capabilities, modules::Phase};

use super::Bench;

#[test]
fn a_run_that_only_checks_says_what_git_would_do() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let prepare = "exec.run([[
        git init -q --bare -b main remote.git; git init -q -b main seed; cd seed
        git -c user.name=T -c user.email=t@x commit -q --allow-empty -m first; git push -q ../remote.git main
        cd ..; git clone -q remote.git work; git clone -q remote.git behind; cd work; echo x > new
        git -c user.name=T -c user.email=t@x commit -q --allow-empty -m second; git push -q; git status]])";
    bench.run(prepare).expect("prepared");
    let (context, dir) = (Rc::clone(&bench.context), bench.dir);
    let before = tree(&context.workdir);
    let bench = Bench { dir, ..Bench::in_place(&context, Phase::Check) };
    bench.run(include_str!("../../lua/modules/check_git.luau")).expect("every check holds");
    let mut changed = tree(&context.workdir);
    changed.retain(|path, digest| before.get(path) != Some(digest));
    assert_eq!(changed, BTreeMap::new(), "nothing may have changed");
    let lines: Vec<_> = bench.host.lines.take().into_iter().map(|line| line.text).collect();
    assert!(lines.iter().all(|line| line.starts_with("would ") || line.contains("is a clone of")), "{lines:?}");
}

/// Every file below a directory with its size and bytes' digest.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        found.insert(path.display().to_string(), blake3::hash(&bytes).to_hex().to_string());
    }
    found
}
