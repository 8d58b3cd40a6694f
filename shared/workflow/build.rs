//! Lists the definition files, so that a module brings its own by being there.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

const DIR: &str = "src/modules/definitions";
const ENDING: &str = ".d.luau";

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let dir = Path::new(&root).join(DIR);
    let entries = fs::read_dir(&dir)?.collect::<io::Result<Vec<_>>>()?;
    let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(ENDING).map(str::to_owned)).collect();
    names.sort();
    let line = |name: &String| {
        let path = dir.join(format!("{name}{ENDING}"));
        format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string())
    };
    let list: String = names.iter().map(line).collect();
    let text = format!(
        "/// Every definition file: its name without the ending, and its text.\npub const FILES: &[(&str, &str)] = &[\n{list}];\n"
    );
    File::create(Path::new(&out).join("definitions.rs"))?.write_all(text.as_bytes())?;
    writeln!(io::stdout(), "cargo::rerun-if-changed={DIR}")
}
