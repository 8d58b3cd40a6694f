//! `stow` beside the program that it is to agree with, where that is installed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use sloth_core::fs::{Access, create_dir, replace};
use sloth_workflow::Capabilities;

use super::{Bench, Phase};

/// How many histories are compared.
const HISTORIES: u64 = 12;
/// How many calls each has.
const CALLS: u64 = 12;
const PACKAGES: [&str; 3] = ["one", "two", "three"];
const FILES: [&str; 8] = ["a", "d/a", "d/b", "d/e/a", "d/e/b", "e/a", "e/f/g/h", "README"];

/// Random histories of calls leave the same links as the same calls of the program do.
#[test]
fn links_are_those_that_gnu_stow_makes() {
    if Command::new("stow").arg("--version").output().is_err() {
        eprintln!("GNU stow is not installed here: only the script `stow.luau` says what is right");
        return;
    }
    for seed in 0..HISTORIES {
        let bench = Bench::new(Capabilities::all(), Phase::Run);
        let (ours, theirs) = (bench.context.workdir.join("ours"), bench.context.workdir.join("theirs"));
        let mut random = Random(seed);
        let mut history = Vec::new();
        for root in [&ours, &theirs] {
            fill(root, &mut Random(seed + 1_000));
        }
        for _ in 0..CALLS {
            let (flag, function) = [("-S", "stow"), ("-D", "unstow"), ("-R", "restow")][random.below(3)];
            let package = PACKAGES[random.below(PACKAGES.len())];
            let no_folding = random.below(5) == 0 && flag == "-S";
            let arguments = [flag, package].into_iter().chain(no_folding.then_some("--no-folding"));
            let ended =
                Command::new("stow").current_dir(&theirs).args(["-d", "dots", "-t", "home"]).args(arguments).output();
            let ended = ended.expect("GNU stow");
            let script = format!(
                "local ok, reason = stow.{function}({{package = '{package}', dir = 'ours/dots', target = 'ours/home', no_folding = {no_folding}}})
                 check((ok and true or false) == {}, reason)",
                ended.status.success()
            );
            history.push(format!("{function} {package} {no_folding}"));
            let ran = bench.run(&script);
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ran, Ok(()), "history {seed}: {history:#?}\n{said}");
            assert_eq!(tree(&ours), tree(&theirs), "history {seed}: {history:#?}\n{said}");
        }
    }
}

/// Files of packages and, in the target, some that are in the way.
fn fill(root: &Path, random: &mut Random) {
    create_dir(&root.join("home"), Access::Everyone).expect("a directory");
    let put = |path: PathBuf| {
        create_dir(path.parent().expect("a directory"), Access::Everyone).expect("a directory");
        replace(&path, b"x", Access::Everyone).expect("a file");
    };
    for package in PACKAGES {
        put(root.join("dots").join(package).join(package));
        for file in FILES {
            if random.below(3) == 0 {
                put(root.join("dots").join(package).join(file));
            }
        }
    }
    if random.below(3) == 0 {
        put(root.join("home/d/other"));
    }
}

/// What is at each path of the target: the text of a link, or nothing for a directory and for a file.
fn tree(root: &Path) -> BTreeMap<PathBuf, Option<PathBuf>> {
    let home = root.join("home");
    let (mut found, mut left) = (BTreeMap::new(), vec![home.clone()]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(&home).expect("beneath").to_owned();
            found.insert(name, path.read_link().ok());
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            }
        }
    }
    found
}

/// A run that only checks changes nothing and says what it would do.
#[test]
fn checking_links_nothing() {
    let bench = Bench::new(Capabilities::all(), Phase::Run);
    let made = "fs.mkdir('dots/vim') fs.write('dots/vim/.vimrc', 'x')";
    bench.run(made).expect("made");
    let checking = Bench::in_place(&bench.context, Phase::Check);
    let script = "
        local result, err = stow.stow({package = 'vim', dir = 'dots', target = 'home'})
        equal({result.changed, result.check, err}, {true, true, nil})
        has(result.message, 'would link `vim`')
        has(result.diff, 'link .vimrc to ../dots/vim/.vimrc')
        check(not fs.exists('home'))
        has(stow.stow({package = 'later', dir = 'dots', target = 'home'}).message, 'once it is there')
        has(stow.ensure_target('home').message, 'would make the directory')
        check(not fs.exists('home'))";
    checking.run(script).expect("every check holds");
}

/// What is made belongs to the user of the task, whose home directory `~` is.
#[test]
fn links_belong_to_the_user_of_the_task() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can make links for another user");
        return;
    }
    let mut bench = Bench::new(Capabilities::all(), Phase::Run);
    bench.run("fs.mkdir('dots/vim') fs.write('dots/vim/.vimrc', 'x')").expect("made");
    let scope = std::rc::Rc::get_mut(&mut bench.scope).expect("nothing runs");
    scope.user = Some("nobody".to_owned());
    let script = "
        check(stow.stow({package = 'vim', dir = 'dots', target = 'home/deep'}))
        check(stow.ensure_target('home/deep/made'))
        for _, path in {'home', 'home/deep', 'home/deep/.vimrc', 'home/deep/made'} do
            equal(fs.lstat(path).owner, 'nobody')
        end
        local home = user.get_home('nobody')
        refused('`' .. home .. '/.dotfiles`', stow.stow({package = 'none-here'}))
        refused('/x`', stow.stow({package = 'none-here', dir = '~/x'}))";
    bench.run(script).expect("every check holds");
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed >> 40) % bound as u64).expect("small")
    }
}
