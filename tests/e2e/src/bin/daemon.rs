//! A program that a supervisor starts as if it were an agent's daemon. What it does is in the file `behaviour` beside it.

#![allow(clippy::print_stderr, clippy::panic, reason = "it is there to fail in all ways")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    process::exit,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use signal_hook::consts::signal::SIGTERM;

/// The life of a version that dies after it has connected, and half the time for which one is connected that cannot
/// stay so: less than the soak of the tests.
const SHORT: Duration = Duration::from_millis(15);
/// Most memory of a version that wants more.
const MEMORY_BYTES: u64 = 256 * 1024 * 1024;

fn main() {
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let behaviour = std::fs::read_to_string(own.with_file_name("behaviour")).unwrap_or_default();
    eprintln!("this is {} and it {}", own.parent().unwrap_or(Path::new("")).display(), behaviour.trim());
    match behaviour.trim() {
        "works" => wait(&["ready", "polled", "alive"]),
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
    let limit = Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) };
    let _ = setrlimit(Resource::As, limit);
    say(&["ready", "polled"]);
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(Vec::with_capacity(1 << 24));
    }
}
