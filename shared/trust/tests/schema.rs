//! Schemas of values: what they take, what they are refused for, and what people read of them.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking, with what they saw")]

use serde_json::{Map, Value, json};
use sloth_trust::schema::{CHOICES_MAX, DEPTH_MAX, MISFITS_MAX, NODES_MAX, PATTERNS_MAX, SCHEMA_BYTES_MAX, Schema};

fn schema(source: Value) -> Schema {
    Schema::parse(source).unwrap_or_else(|error| panic!("{error}"))
}

fn mapping(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("{value} is no mapping") };
    map
}

fn verdict(source: &Value, values: Value) -> String {
    schema(source.clone()).check(&mapping(values)).expect_err("misfits").to_string()
}

fn refusal(source: Value) -> String {
    Schema::parse(source).expect_err("a refusal").to_string()
}

/// What Python's `jsonschema` 4.26 says of each value, as a draft of 2020-12.
#[test]
fn verdicts_are_those_of_json_schema() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("schema/verdicts.json")).expect("JSON");
    let mut count = 0;
    for row in &recorded {
        let wrapped = schema(json!({ "properties": { "it": row["schema"] } }));
        for (list, fits) in [("fits", true), ("misfits", false)] {
            for value in row[list].as_array().expect("a list") {
                let judged = wrapped.check(&mapping(json!({ "it": value })));
                assert_eq!(judged.is_ok(), fits, "{} and {value}: {judged:?}", row["schema"]);
                count += 1;
            }
        }
        // A mapping for all values is judged as one within them.
        let Ok(outermost) = Schema::parse(row["schema"].clone()) else { continue };
        for (list, fits) in [("fits", true), ("misfits", false)] {
            for value in row[list].as_array().expect("a list").iter().filter(|value| value.is_object()) {
                assert_eq!(outermost.check(&mapping(value.clone())).is_ok(), fits, "{} and {value}", row["schema"]);
            }
        }
    }
    assert!(150 < count, "{count} verdicts");
}

#[test]
fn a_verdict_names_the_place_and_what_was_wanted() {
    let site = json!({
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 8 },
            "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "mode": { "enum": ["fast", "slow"] },
            "odd key": { "const": 1 },
            "sites": { "type": ["array", "null"], "minItems": 1, "uniqueItems": true, "items": {
                "type": "object", "properties": { "port": { "type": "number", "multipleOf": 0.1 } } } },
        },
    });
    for (values, wanted) in [
        (json!({}), "`name` is missing"),
        (json!({ "name": 5 }), "`name` must be a string, and is an integer"),
        (json!({ "name": "WEB" }), "`name` must match the pattern `^[a-z]+$`"),
        (json!({ "name": "toolongname" }), "`name` must have 8 characters at most"),
        (json!({ "name": "a", "port": 0 }), "`port` must be at least 1"),
        (json!({ "name": "a", "port": 80.5 }), "`port` must be an integer, and is a number"),
        (json!({ "name": "a", "port": "80" }), "`port` must be an integer, and is a string"),
        (json!({ "name": "a", "mode": "odd" }), r#"`mode` must be one of `"fast"`, `"slow"`"#),
        (json!({ "name": "a", "odd key": 2 }), r#"`["odd key"]` must be `1`"#),
        (json!({ "name": "a", "sites": 1 }), "`sites` must be an array or null, and is an integer"),
        (json!({ "name": "a", "sites": [] }), "`sites` must have 1 items at least"),
        (json!({ "name": "a", "sites": [{}, {}] }), "`sites[1]` is there before: every item must be another"),
        (json!({ "name": "a", "sites": [{}, { "port": 0.25 }] }), "`sites[1].port` must be a multiple of 0.1"),
        (
            json!({ "name": "a", "prot": 1 }),
            r"`prot` is no parameter: there are `name`, `port`, `mode`, `odd key`, `sites`",
        ),
        (json!({ "port": 0, "prot": 1 }), "`name` is missing; `port` must be at least 1; `prot` is no parameter"),
    ] {
        let said = verdict(&site, values);
        assert!(said.starts_with(wanted), "{said}");
    }
}

/// A value may be a secret, and what is refused stands in logs.
#[test]
fn a_verdict_repeats_no_value_and_is_short() {
    let list = json!({ "properties": { "all": { "items": { "type": "integer", "maximum": 3 } } } });
    let said = verdict(&list, json!({ "all": vec![987_654; 1000] }));
    assert!(!said.contains("987654") && said.matches("must be").count() == MISFITS_MAX, "{said}");
    let closed = json!({ "additionalProperties": false });
    let said = verdict(&closed, json!({ "x".repeat(100_000): 1 }));
    assert!(said.len() < 400 && said.ends_with("is no parameter: there are none"), "{said}");
}

#[test]
fn what_is_not_enforced_is_refused() {
    for (source, wanted) in [
        (
            json!({ "properties": { "a": { "minimun": 1 } } }),
            "at `properties.a`: `minimun` is no keyword that is known",
        ),
        (json!({ "oneOf": [] }), "the whole schema: `oneOf` is no keyword"),
        (json!({ "oneOf": [] }), "known are $comment, $schema, additionalProperties, const, default"),
        (json!({ "$ref": "#" }), "`$ref` is no keyword"),
        (json!({ "type": "text" }), "at `type`: `text` is no type; there are `null`, `boolean`"),
        (json!({ "type": [] }), "at `type`: a type, or a list of types"),
        (json!({ "type": "string" }), "values are a mapping"),
        (json!({ "additionalProperties": {} }), "at `additionalProperties`: `true` or `false` is wanted"),
        (json!({ "required": "a" }), "at `required`: a list"),
        (json!({ "required": [1] }), "a list of names"),
        (json!({ "enum": [] }), "at least one value"),
        (json!({ "properties": { "a": { "enum": [0], "multipleOf": 0 } } }), "above zero"),
        (json!({ "properties": { "a": { "minLength": -1 } } }), "a whole number of zero or more"),
        (json!({ "properties": { "a": { "pattern": "(?=x)" } } }), "at `properties.a.pattern`: looking around"),
        (json!({ "properties": { "a": true } }), "at `properties.a`: a schema is a mapping of keywords"),
        (json!({ "properties": { "a": { "items": [{}] } } }), "at `properties.a.items`: a schema is a mapping"),
        (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "at `$schema`: this draft is not known"),
        (json!([]), "a schema is a mapping"),
    ] {
        let said = refusal(source);
        assert!(said.contains(wanted), "{said}");
    }
    for draft in ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"] {
        schema(json!({ "$schema": draft, "type": "object" }));
    }
    let said = Schema::read(b"{ nothing").expect_err("no JSON").to_string();
    assert!(said.starts_with("it is not JSON: "), "{said}");
}

#[test]
fn a_schema_is_bounded() {
    let deep = |depth| (1..depth).fold(json!({}), |inner, _| json!({ "properties": { "a": inner } }));
    schema(deep(DEPTH_MAX));
    assert!(refusal(deep(DEPTH_MAX + 1)).contains("16 deep"));
    let wide = |count| json!({ "properties": (0..count).map(|n| (n.to_string(), json!({}))).collect::<Map<_, _>>() });
    schema(wide(NODES_MAX - 1));
    assert!(refusal(wide(NODES_MAX)).contains("1024 others"));
    let choices = |count| json!({ "properties": { "a": { "enum": (0..count).collect::<Vec<_>>() } } });
    schema(choices(CHOICES_MAX));
    assert!(refusal(choices(CHOICES_MAX + 1)).contains("1024 are listed at most"));
    let patterned = (0..=PATTERNS_MAX).map(|n| (n.to_string(), json!({ "pattern": "a" }))).collect::<Map<_, _>>();
    assert!(refusal(json!({ "properties": patterned })).contains("32 patterns"));
    assert!(refusal(json!({ "description": "x".repeat(SCHEMA_BYTES_MAX) })).contains("65536 bytes at most"));
}

/// What takes the square of its size elsewhere: as many values as a run may have, and as deep as JSON is read.
#[test]
fn large_values_are_judged_soon() {
    let source = json!({ "properties": { "all": { "uniqueItems": true, "items": { "pattern": "^(a|b|ab)*$" } } } });
    let texts: Vec<String> = (0..30_000).map(|n: u32| format!("{n:b}").replace('0', "a").replace('1', "b")).collect();
    schema(source.clone()).check(&mapping(json!({ "all": texts }))).expect("fits");
    let said = verdict(&source, json!({ "all": vec!["a"; 30_000] }));
    assert!(said.starts_with("`all[1]` is there before"), "{said}");
}

#[test]
fn defaults_are_compared_where_that_is_asked_for() {
    let source = json!({ "properties": {
        "port": { "type": "integer", "default": "80" },
        "sites": { "items": { "properties": { "name": { "minLength": 1, "default": "" } } } },
    } });
    let said = schema(source).check_defaults().expect_err("misfits").to_string();
    let wanted = "`port` must be an integer, and is a string; `sites[].name` must have 1 characters at least";
    assert_eq!(said, wanted);
    schema(json!({ "properties": { "port": { "type": "integer", "default": 80 } } })).check_defaults().expect("fits");
}

#[test]
fn parameters_are_listed_in_their_order() {
    let source = json!({ "required": ["sites"], "properties": {
        "sites": { "type": "array", "description": "Where", "items": {
            "type": "object", "required": ["port"], "properties": { "port": { "type": "integer" } } } },
        "mode": { "enum": ["fast", "slow"], "default": "fast" },
        "other": { "type": ["string", "null"], "items": {} },
        "any": {},
        "names": { "type": "array", "items": { "type": "string" } },
    } });
    let listed = schema(source).parameters();
    let listed: Vec<_> = listed
        .iter()
        .map(|p| {
            let default = p.default.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{}|{}|{}|{default}|{}", p.name, p.kind, p.required, p.description)
        })
        .collect();
    let wanted = [
        "sites|array of object|true||Where",
        "sites[].port|integer|true||",
        r#"mode|one of "fast", "slow"|false|"fast"|"#,
        "other|string or null|false||",
        "any|any|false||",
        "names|array of string|false||",
    ];
    assert_eq!(listed, wanted);
}

#[test]
fn it_is_written_as_it_was_read() {
    let source = json!({ "type": "object", "properties": { "b": {}, "a": {} } });
    let text = serde_json::to_string(&schema(source.clone())).expect("JSON");
    assert_eq!(text, source.to_string());
    assert_eq!(serde_json::from_str::<Schema>(&text).expect("a schema"), schema(source));
    let error = serde_json::from_str::<Schema>(r#"{"oneOf":[]}"#).expect_err("refused").to_string();
    assert!(error.starts_with("`parameters`: the whole schema: `oneOf` is no keyword"), "{error}");
}
