//! The page of the modules.

use std::fmt::Write as _;

use super::{Field, Function, Module, Type, find, modules};

const HEAD: &str = "# Modules

What workflow files can call. This page is made from the definitions of the modules: `sloth-agent modules docs` prints it,
`sloth-agent modules show NAME` one module, and `sloth-agent modules types` the definitions for editors. How a file is
written at all is on the page about [the language](language.md).

A wrong call (an argument missing, an unknown option) raises an error. What the host refuses comes back: `nil` and a reason
from functions that give a value, `false` and a reason from functions that do something. Each example is the body of a
task.

";

/// The page of all modules, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| module | |\n|---|---|\n");
    for module in modules() {
        line(&mut page, format_args!("| [`{0}`](#{0}) | {1} |", module.name, module.summary));
    }
    if let Some(testing) = find("testing") {
        line(&mut page, format_args!("\n## testing\n\n{}", testing.summary));
        section(&mut page, &testing.text);
        testing.functions.iter().for_each(|known| function(&mut page, known));
        testing.types.iter().for_each(|kind| type_of(&mut page, kind));
    }
    if let Some(types) = find("types") {
        line(&mut page, format_args!("\n## Shared types\n\n{}", types.summary));
        section(&mut page, &types.text);
        types.types.iter().for_each(|kind| type_of(&mut page, kind));
    }
    for module in modules() {
        line(&mut page, format_args!("\n## {}", module.name));
        page.push('\n');
        page.push_str(&module_page(module));
    }
    page
}

/// One module, without its heading.
fn module_page(module: &Module) -> String {
    let mut page = String::new();
    line(&mut page, format_args!("{}", module.summary));
    section(&mut page, &module.text);
    if !module.values.is_empty() {
        fields(
            &mut page,
            "value",
            module.values.iter().map(|field| (format!("{}.{}", module.name, field.name), field)),
        );
    }
    module.functions.iter().for_each(|described| function(&mut page, described));
    module.types.iter().for_each(|kind| type_of(&mut page, kind));
    page
}

fn function(page: &mut String, function: &Function) {
    line(page, format_args!("\n### {}\n\n```luau\n{}\n```", function.call, function.signature));
    if let Some(instead) = &function.deprecated {
        line(page, format_args!("\nDeprecated: {instead}"));
    }
    section(page, &function.text);
    if !function.capabilities.is_empty() {
        let needed: Vec<String> = function.capabilities.iter().map(|needed| format!("`{needed}`")).collect();
        line(page, format_args!("\nNeeds {}.", needed.join(" and ")));
    }
}

fn type_of(page: &mut String, kind: &Type) {
    line(page, format_args!("\n### {}", kind.name));
    section(page, &kind.text);
    if kind.fields.is_empty() {
        line(page, format_args!("\n```luau\ntype {} = {}\n```", kind.name, kind.definition));
    } else {
        fields(page, "field", kind.fields.iter().map(|field| (field.name.clone(), field)));
    }
}

fn fields<'a>(page: &mut String, what: &str, rows: impl Iterator<Item = (String, &'a Field)>) {
    line(page, format_args!("\n| {what} | type | |\n|---|---|---|"));
    for (name, field) in rows {
        let (kind, text) = (field.kind.replace('|', "\\|"), field.text.replace("\n\n", "<br>").replace('\n', " "));
        line(page, format_args!("| `{name}` | `{kind}` | {} |", text.replace('|', "\\|")));
    }
}

fn section(page: &mut String, text: &str) {
    if !text.is_empty() {
        line(page, format_args!("\n{text}"));
    }
}

/// Writing to a text cannot fail.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{text}");
}
