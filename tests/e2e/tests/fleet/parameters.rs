//! Values that publishers signed for, and others.

use sloth_e2e::{Bundle, Fleet};

const USAGE: i32 = 2;

const WORKFLOW: &str = "task('a'):command(function() return true, values.mode .. ' ' .. tostring(values.count) end)";

fn bundle(schema: &str) -> Bundle {
    Bundle::new("job", WORKFLOW).file("values.schema.json", schema.as_bytes())
}

const SCHEMA: &str = r#"{
    "type": "object",
    "required": ["mode"],
    "additionalProperties": false,
    "properties": {
        "mode": { "enum": ["fast", "slow"], "description": "How it is done" },
        "count": { "type": "integer", "minimum": 1, "maximum": 9, "default": 3 }
    }
}"#;

/// What is shown of [`SCHEMA`], by words in the rows of a table.
const ROWS: [&[&str]; 3] = [
    &["PARAMETER", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"],
    &["mode", "one of \"fast\", \"slow\"", "yes", "How it is done"],
    &["count", "integer", "no", "3"],
];

#[test]
fn a_run_has_the_values_that_publishers_signed_for() {
    let mut fleet = Fleet::start();
    let dir = bundle(SCHEMA).write(fleet.dir()).display().to_string();
    let key = fleet.key().display().to_string();
    let dry = fleet.coord(&["publish", &dir, "--key", &key, "--dry-run"]).done();
    shows_parameters(&dry);
    fleet.publish(&bundle(SCHEMA));
    shows_parameters(&fleet.coord(&["bundles", "show", "job"]).done());
    let shown = fleet.coord(&["bundles", "show", "job", "-o", "json"]).json();
    assert_eq!(shown[0]["parameters"]["required"][0], "mode", "{shown}");
    let again = fleet.coord(&["publish", &dir, "--key", &key]).done();
    assert!(again.contains("is published already, as number 1"), "{again}");

    fleet.agents(&["web-1"], &[]);
    let refused = "the values do not fit the parameters that bundle `job` was signed with: ";
    for (values, wanted) in [
        (&[][..], "`mode` is missing"),
        (&["--set", "mode=odd"], "`mode` must be one of `\"fast\"`, `\"slow\"`"),
        (&["--set", "mode=fast", "--set", "count=10"], "`count` must be at most 9"),
        (&["--set", "mode=fast", "--set", "conut=1"], "`conut` is no parameter: there are `mode`, `count`"),
    ] {
        let arguments = [&["run", "job", "--on", "*"], values].concat();
        fleet.coord(&arguments).refuses(USAGE, &[refused, wanted]);
    }
    let runs = fleet.coord(&["runs", "list", "-o", "json"]).done();
    assert!(!runs.contains("job"), "a run was begun: {runs}");
    let run = fleet.run("job", "*", &["--set", "mode=slow", "--set", "count=4"]);
    let view = fleet.wait_ended(&run);
    assert_eq!(view.only().task("a").message, "slow 4");
}

#[test]
fn a_schema_that_cannot_be_enforced_is_not_published() {
    let fleet = Fleet::start();
    let key = fleet.key().display().to_string();
    for (schema, wanted) in [
        ("{", "is not JSON"),
        (r#"{ "oneOf": [] }"#, "`oneOf` is no keyword that is known; known are $comment"),
        (r#"{ "properties": { "a": { "pattern": "(?=a)" } } }"#, "at `properties.a.pattern`: looking around"),
        (r#"{ "properties": { "a": { "type": "integer", "default": "x" } } }"#, "`a` must be an integer"),
    ] {
        let dir = bundle(schema).write(fleet.dir()).display().to_string();
        fleet.coord(&["publish", &dir, "--key", &key]).refuses(USAGE, &["values.schema.json", wanted]);
    }
    let own = bundle(SCHEMA).file("values.yaml", b"mode: odd").write(fleet.dir()).display().to_string();
    let wanted = ["values.yaml` do not fit the bundle's schema", "`mode` must be one of"];
    fleet.coord(&["publish", &own, "--key", &key]).refuses(USAGE, &wanted);
}

fn shows_parameters(text: &str) {
    for words in ROWS {
        let row = text
            .lines()
            .find(|line| line.trim_start().starts_with(words[0]))
            .unwrap_or_else(|| panic!("{words:?}\n{text}"));
        assert!(words.iter().all(|word| row.contains(word)), "{words:?}\n{text}");
    }
}
