//! A run that finds nothing to do: 25 files as they should be and 25 commands, beside others who do the same.
//!
//! Peers are measured where they are installed: `apt-get install cfengine3 puppet-agent ansible-core`, and Salt by
//! `pip install salt` with `salt-call` in the search path.

use std::{fmt::Write, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{repeat, write};
use crate::{
    Bench,
    process::{self, Cost},
    report::{Bar, Figure},
    samples::Samples,
};

/// Files, and commands.
const FILES: usize = 25;
/// Bytes of each file.
const FILE_BYTES: usize = 2_000;

/// Somebody who brings a host into a state.
struct Peer {
    name: &'static str,
    program: &'static str,
    /// Writes what it reads below the directory, and gives its arguments.
    prepare: fn(&Path) -> Result<Vec<String>>,
}

const PEERS: [Peer; 4] = [
    Peer { name: "CFEngine `cf-agent`", program: "cf-agent", prepare: cfengine },
    Peer { name: "`salt-call --local`", program: "salt-call", prepare: salt },
    Peer { name: "`puppet apply`", program: "puppet", prepare: puppet },
    Peer { name: "`ansible-playbook`, local", program: "ansible-playbook", prepare: ansible },
];

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let dir = bench.directory()?;
    let root = dir.path();
    std::fs::create_dir_all(root.join("files"))?;
    std::fs::create_dir_all(root.join("target"))?;
    for number in 0..FILES {
        write(root, &format!("files/{number}"), &content(number))?;
        write(root, &format!("target/{number}"), &content(number))?;
    }
    write(root, "resources.sloth", &workflow(root)?)?;
    let ours = cost(bench.pick(30, 2), || {
        let mut command = Command::new(bench.programs.join("sloth-agent"));
        command.arg("run").arg(root.join("resources.sloth")).arg("--dir").arg(root.join("agent"));
        command
    })?;
    let spawns = cost(bench.pick(30, 2), || {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("for i in $(seq {FILES}); do /bin/true; done")]);
        command
    })?;
    let mut figures = vec![
        Figure::new("processor", "s", ours.cpu.clone()).beside(format!("{FILES} `/bin/true` of a shell"), spawns.cpu),
        Figure::new("start to end", "s", ours.wall.clone()),
    ];
    for peer in PEERS {
        let Ok(arguments) = installed(peer.program).and_then(|()| (peer.prepare)(root)) else {
            crate::note(format_args!("{} is not installed: not measured beside it", peer.program));
            continue;
        };
        let theirs = cost(bench.pick(5, 1), || {
            let mut command = Command::new(peer.program);
            command.args(&arguments).env("HOME", root).env("ANSIBLE_LOCALHOST_WARNING", "False");
            command
        })?;
        let figure = Figure::new("processor", "s", ours.cpu.clone()).beside(peer.name, theirs.cpu);
        // The bar names one of them.
        figures.push(if peer.program == "cf-agent" { figure.bar(Bar::RatioAtMost(0.5)) } else { figure });
        figures.push(Figure::new("start to end", "s", ours.wall.clone()).beside(peer.name, theirs.wall));
    }
    Ok(figures)
}

/// What several runs of a command cost.
struct Costs {
    cpu: Samples,
    wall: Samples,
}

fn cost(count: usize, command: impl Fn() -> Command) -> Result<Costs> {
    // The first run may have something to do.
    process::cost(&mut command())?;
    let mut walls = Vec::new();
    let cpu = repeat(count, || {
        let Cost { cpu, wall } = process::cost(&mut command())?;
        walls.push(wall.as_secs_f64());
        Ok(cpu.as_secs_f64())
    })?;
    Ok(Costs { cpu, wall: Samples::new(walls).context("nothing was measured")? })
}

fn installed(program: &str) -> Result<()> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    anyhow::ensure!(found, "`{program}` is not installed");
    Ok(())
}

fn content(number: usize) -> String {
    format!("file {number}\n{}\n", "x".repeat(FILE_BYTES))
}

fn workflow(root: &Path) -> Result<String> {
    let mut text = String::new();
    let target = root.join("target");
    writeln!(text, "task('files'):command(function()")?;
    writeln!(text, "  local changed = false")?;
    writeln!(text, "  for i = 0, {} do", FILES - 1)?;
    writeln!(
        text,
        "    local r = assert(file_ops.copy{{ src = bundle.path('files/' .. i), dest = '{}/' .. i }})",
        target.display()
    )?;
    writeln!(text, "    changed = changed or r.changed")?;
    writeln!(text, "  end")?;
    writeln!(text, "  return true, 'files', {{ changed = changed }}")?;
    writeln!(text, "end)")?;
    writeln!(text, "task('commands'):command(function()")?;
    writeln!(text, "  for i = 1, {FILES} do assert(exec.run({{ '/bin/true' }}).success) end")?;
    writeln!(text, "  return true, 'commands', {{ changed = false }}")?;
    writeln!(text, "end)")?;
    Ok(text)
}

fn cfengine(root: &Path) -> Result<Vec<String>> {
    let mut text = String::from("bundle agent main\n{\n  files:\n");
    for number in 0..FILES {
        writeln!(text, "    \"{0}/target/{number}\" copy_from => digest(\"{0}/files/{number}\");", root.display())?;
    }
    text.push_str("  commands:\n");
    for number in 0..FILES {
        writeln!(text, "    \"/bin/true\" args => \"{number}\";")?;
    }
    text.push_str("}\nbody copy_from digest(from)\n{\n  source => \"$(from)\";\n  compare => \"digest\";\n}\n");
    write(root, "main.cf", &text)?;
    let path = root.join("main.cf").display().to_string();
    // CFEngine reads no policy that others could have written.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(["--no-lock", "--file", &path].map(str::to_owned).into())
}

fn salt(root: &Path) -> Result<Vec<String>> {
    let salt = root.join("salt");
    std::fs::create_dir_all(&salt)?;
    let mut text = String::new();
    for number in 0..FILES {
        writeln!(text, "{}/target/{number}:\n  file.managed:\n    - source: salt://f{number}", root.display())?;
        write(&salt, &format!("f{number}"), &content(number))?;
    }
    for number in 0..FILES {
        writeln!(text, "true-{number}:\n  cmd.run:\n    - name: /bin/true")?;
    }
    write(&salt, "resources.sls", &text)?;
    let at = |flag: &str, path: &Path| format!("{flag}={}", path.display());
    Ok(vec![
        "--local".to_owned(),
        at("--file-root", &salt),
        at("--config-dir", &root.join("salt-config")),
        at("--cachedir", &root.join("salt-cache")),
        at("--log-file", &root.join("salt.log")),
        "state.apply".to_owned(),
        "resources".to_owned(),
    ])
}

fn puppet(root: &Path) -> Result<Vec<String>> {
    let mut text = String::new();
    for number in 0..FILES {
        writeln!(
            text,
            "file {{ '{0}/target/{number}': ensure => file, source => '{0}/files/{number}' }}",
            root.display()
        )?;
        writeln!(text, "exec {{ 'true-{number}': command => '/bin/true' }}")?;
    }
    write(root, "resources.pp", &text)?;
    Ok(["apply", &root.join("resources.pp").display().to_string()].map(str::to_owned).into())
}

fn ansible(root: &Path) -> Result<Vec<String>> {
    let mut text = String::from("- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks:\n");
    for number in 0..FILES {
        writeln!(
            text,
            "    - ansible.builtin.copy: {{ src: '{0}/files/{number}', dest: '{0}/target/{number}' }}",
            root.display()
        )?;
        writeln!(text, "    - ansible.builtin.command: /bin/true\n      changed_when: false")?;
    }
    write(root, "resources.yml", &text)?;
    Ok(["-i", "localhost,", &root.join("resources.yml").display().to_string()].map(str::to_owned).into())
}
