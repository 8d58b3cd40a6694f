//! `sloth-agent modules`: what workflow files can call.

use sloth_cli::{Failure, Format, Outcome, OutputArgs, Table, print_json, print_line};
use sloth_workflow::{
    describe::{self, Function, Module, Type},
    plan::nearest,
};

/// How far the text of a function is set in, in characters.
const INDENT: usize = 4;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The modules
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// A module, one of its functions or a type, like `fs`, `fs.read` or `Change`; `language` is the language itself,
    /// `testing` what test files call
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Print the types of everything, for editors with luau-lsp: save them as `sloth.d.luau`
    Types,
    /// Print the documentation of all modules, in Markdown
    Docs,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let printed = match &arguments.command {
        Command::List { output } => list(output.format),
        Command::Show { name, output } => show(name, output.format)?,
        Command::Types => print_line(describe::types().trim_end()),
        Command::Docs => print_line(describe::markdown().trim_end()),
    };
    printed.map_err(Outcome::Internal.because())?;
    Ok(Outcome::Done)
}

fn list(format: Format) -> std::io::Result<()> {
    if format == Format::Json {
        return print_json(&describe::modules().collect::<Vec<_>>());
    }
    let mut table = Table::new(&["MODULE", "FUNCTIONS", "WHAT FOR"]);
    for module in describe::modules() {
        table.row(vec![module.name.clone(), module.functions.len().to_string(), module.summary.clone()]);
    }
    table.print()
}

fn show(name: &str, format: Format) -> Result<std::io::Result<()>, Failure> {
    if let Some(module) = describe::find(name) {
        return Ok(match format {
            Format::Json => print_json(module),
            Format::Text => print_module(module),
        });
    }
    let functions = || describe::all().iter().flat_map(|module| &module.functions);
    if let Some(function) = functions().find(|function| function.call == name) {
        return Ok(match format {
            Format::Json => print_json(function),
            Format::Text => print_function(function, 0),
        });
    }
    let types = || describe::all().iter().flat_map(|module| &module.types);
    if let Some(kind) = types().find(|kind| kind.name == name) {
        return Ok(match format {
            Format::Json => print_json(kind),
            Format::Text => print_type(kind),
        });
    }
    let modules = describe::modules().map(|module| module.name.as_str());
    let known = modules.chain(functions().map(|function| function.call.as_str()));
    let known = known.chain(types().map(|kind| kind.name.as_str()));
    let hint = nearest(name, known).map_or_else(
        || "; `sloth-agent modules list` names the modules".to_owned(),
        |near| format!("; did you mean `{near}`?"),
    );
    Err(Failure::new(Outcome::Refused, format!("there is no module, function or type `{name}`{hint}")))
}

fn print_module(module: &Module) -> std::io::Result<()> {
    print_line(&format!("{}: {}", module.name, module.summary))?;
    if !module.text.is_empty() {
        print_line("")?;
        print_line(&module.text)?;
    }
    for value in &module.values {
        print_line(&format!("\n{}.{}: {}", module.name, value.name, value.kind))?;
        print_line(&indented(&value.text, INDENT))?;
    }
    for function in &module.functions {
        print_line("")?;
        print_function(function, INDENT)?;
    }
    for kind in &module.types {
        print_line("")?;
        print_type(kind)?;
    }
    Ok(())
}

fn print_type(kind: &Type) -> std::io::Result<()> {
    print_line(&format!("type {}", kind.name))?;
    if !kind.text.is_empty() {
        print_line(&indented(&kind.text, INDENT))?;
    }
    if kind.fields.is_empty() {
        print_line(&indented(&kind.definition, INDENT))?;
    }
    for field in &kind.fields {
        let text = field.text.replace('\n', " ");
        print_line(&indented(format!("{}: {}  {text}", field.name, field.kind).trim_end(), INDENT))?;
    }
    Ok(())
}

fn print_function(function: &Function, indent: usize) -> std::io::Result<()> {
    print_line(&function.signature)?;
    if let Some(instead) = &function.deprecated {
        print_line(&indented(&format!("Deprecated: {instead}"), indent))?;
    }
    print_line(&indented(&function.text, indent))?;
    let needed: Vec<String> = function.capabilities.iter().map(|capability| format!("`{capability}`")).collect();
    if needed.is_empty() { Ok(()) } else { print_line(&indented(&format!("Needs {}.", needed.join(" and ")), indent)) }
}

fn indented(text: &str, by: usize) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{}{line}", " ".repeat(by)) };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
