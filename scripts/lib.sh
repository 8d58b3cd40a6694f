# Sourced by the other scripts: where things are, and what the base system must have.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 70
# Also where Cargo's programs are when a shell was started without a profile, and where the system's are for its users.
PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH:/usr/sbin:/sbin"
target=${CARGO_TARGET_DIR:-$root/target}
export PATH

say() { printf '\n\033[1m==> %s\033[0m\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 70
}

# need PROGRAM DEBIAN_PACKAGE: installs the package where that can be done without asking, else says how.
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $2, for $1"
        apt-get install -y -q "$2" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q "$2" >/dev/null; }
    fi
    command -v "$1" >/dev/null || die "\`$1\` is missing: install it, on Debian with \`sudo apt-get install $2\`"
}

need_base() {
    command -v cargo >/dev/null || die "\`cargo\` is missing: install Rust 1.95 or later from https://rustup.rs"
    need cc gcc
    need c++ g++
}
