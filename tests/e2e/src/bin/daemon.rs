//! A program that a supervisor starts as if it were an agent's daemon. What it does is in the file `behaviour` beside it,
//! or written into the program itself.

#![allow(clippy::print_stderr, clippy::panic, reason = "it is there to fail in all ways")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::exit,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use signal_hook::consts::signal::SIGTERM;

/// The life of a version that dies after it has connected, and half the time for which one is connected that cannot
/// stay so: less than the soak of the tests.
const SHORT: Duration = Duration::from_millis(15);
/// While this file is there, the coordinator is out of reach.
const OUTAGE_VARIABLE: &str = "SLOTH_E2E_OUTAGE";
/// How often it is looked for.
const OUTAGE_STEP: Duration = Duration::from_millis(5);
/// Where tests write a version and a behaviour into a copy of this program, filled up with blanks.
static WRITTEN: [u8; 64] = *b"sloth-e2e:                                                      ";

fn main() {
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let written = String::from_utf8_lossy(std::hint::black_box(&WRITTEN)).into_owned();
    let written = written.trim_start_matches("sloth-e2e:").trim();
    let (version, written) = written.split_once(' ').unwrap_or_default();
    if std::env::args().nth(1).as_deref() == Some("--version") {
        return print_version(version);
    }
    let behaviour = std::fs::read_to_string(own.with_file_name("behaviour"));
    let behaviour = behaviour.unwrap_or_else(|_| written.to_owned());
    eprintln!("this is {} and it {}", own.parent().unwrap_or(Path::new("")).display(), behaviour.trim());
    match behaviour.trim() {
        "works" | "works, and its coordinator is away" => work(),
        "works and ignores what it is told" => {
            let _ = signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false)));
            say(&["ready", "polled"]);
            sleep();
        }
        "crashes" => std::process::abort(),
        "ends well" => exit(0),
        "refuses its settings" => exit(2),
        "hangs" => sleep(),
        "never connects" => wait(&["ready"]),
        "connects and dies" => {
            say(&["ready", "polled"]);
            thread::sleep(SHORT);
            exit(1);
        }
        "loses its connection" => loop {
            say(&["polled"]);
            thread::sleep(SHORT);
            say(&["lost"]);
        },
        "eats memory" => eat(),
        other => panic!("`{other}` is no behaviour"),
    }
}

fn print_version(version: &str) {
    let _ = writeln!(std::io::stdout(), "sloth-agent {version}");
}

/// Is connected while there is no outage.
fn work() {
    let outage = std::env::var_os(OUTAGE_VARIABLE).map(PathBuf::from);
    let is_away = move || outage.as_ref().is_some_and(|file| file.exists());
    say(&["ready", "alive"]);
    thread::spawn(move || {
        let mut connected = false;
        loop {
            if connected == is_away() {
                connected = !connected;
                say(&[if connected { "polled" } else { "lost" }]);
            }
            thread::sleep(OUTAGE_STEP);
        }
    });
    wait(&[]);
}

/// Says words and waits until it is told to end.
fn wait(words: &[&str]) {
    say(words);
    let Some(supervisor) = supervisor() else { return };
    let told = BufReader::new(supervisor).lines().map_while(Result::ok).any(|line| line == "end");
    exit(if told { 0 } else { 1 });
}

fn say(words: &[&str]) {
    let Some(mut supervisor) = supervisor() else { return };
    for word in words {
        let _ = writeln!(supervisor, "{word}");
    }
}

fn supervisor() -> Option<UnixStream> {
    Some(UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?))
}

fn sleep() {
    loop {
        thread::park();
    }
}

fn eat() {
    say(&["ready", "polled"]);
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(Vec::with_capacity(1 << 24));
    }
}
