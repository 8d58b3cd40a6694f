//! `sloth-agent`: see `sloth_agent::cli`.

fn main() -> sloth_cli::Outcome {
    sloth_agent::cli::main()
}
