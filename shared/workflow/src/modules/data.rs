//! `json`, `yaml`, `toml`, `xml`, `csv` and `data`: values as text and back, and tables by paths.

mod csv;
mod text;
mod tree;
mod xml;

use std::rc::Rc;

use mlua::{IntoLua, IntoLuaMulti, Lua, LuaSerdeExt, MultiValue, Table, Value};
use serde_json::Value as Json;

use super::{
    Context,
    call::{Builder, Call, Gate},
    options::Options,
};
use crate::vm::convert::{Foreign, Null, to_json, to_lua, to_lua_with};
pub(super) use text::bounded;
use text::{
    Decode, Encode, read_json, read_toml, read_yaml, read_yaml_documents, said, write_json, write_pretty, write_toml,
    write_yaml,
};

/// The name of the element that XML begins with when a script gives none.
const XML_ROOT: &str = "root";

/// A value, or nothing and why.
type Answer<T = Value> = mlua::Result<Result<T, String>>;

pub(super) fn json_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "json")?
        .function("encode", Gate::Open, encode_json)?
        .function("pretty", Gate::Open, encoder(write_pretty))?
        .function("decode", Gate::Open, decoder(read_json))?
        .function("validate", Gate::Open, validator(read_json))?
        .function("array", Gate::Open, array)?
        .value("null", Value::NULL)?
        .finish();
    Ok(table)
}

pub(super) fn yaml_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "yaml")?
        .function("encode", Gate::Open, encoder(write_yaml))?
        .function("decode", Gate::Open, decoder(read_yaml))?
        .function("decode_all", Gate::Open, decoder(read_yaml_documents))?
        .function("validate", Gate::Open, validator(read_yaml))?
        .finish();
    Ok(table)
}

pub(super) fn toml_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "toml")?
        .function("encode", Gate::Open, encoder(write_toml))?
        .function("decode", Gate::Open, decoder(read_toml))?
        .function("validate", Gate::Open, validator(read_toml))?
        .finish();
    Ok(table)
}

pub(super) fn xml_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "xml")?
        .function("encode", Gate::Open, encode_xml)?
        .function("decode", Gate::Open, decoder(xml::read))?
        .function("validate", Gate::Open, validator(xml::read))?
        .finish();
    Ok(table)
}

pub(super) fn csv_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "csv")?
        .function("decode", Gate::Open, decode_csv)?
        .function("encode", Gate::Open, encode_csv)?
        .finish();
    Ok(table)
}

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let builder = Builder::new(lua, context, "data")?
        .function("json_encode", Gate::Open, encode_json)?
        .function("json_pretty", Gate::Open, encoder(write_pretty))?
        .alias("to_json", "json_pretty")?
        .function("json_decode", Gate::Open, decoder(read_json))?
        .alias("parse_json", "json_decode")?
        .function("json_validate", Gate::Open, validator(read_json))?
        .function("yaml_encode", Gate::Open, encoder(write_yaml))?
        .alias("to_yaml", "yaml_encode")?
        .function("yaml_decode", Gate::Open, decoder(read_yaml))?
        .alias("parse_yaml", "yaml_decode")?
        .function("yaml_validate", Gate::Open, validator(read_yaml))?
        .function("toml_encode", Gate::Open, encoder(write_toml))?
        .alias("to_toml", "toml_encode")?
        .function("toml_decode", Gate::Open, decoder(read_toml))?
        .alias("parse_toml", "toml_decode")?
        .function("toml_validate", Gate::Open, validator(read_toml))?
        .function("xml_encode", Gate::Open, encode_xml)?
        .function("xml_decode", Gate::Open, decoder(xml::read))?;
    let table = builder
        .function("yaml_to_json", Gate::Open, |call, text: &Value| convert(call, text, read_yaml, write_json))?
        .function("json_to_yaml", Gate::Open, |call, text: &Value| convert(call, text, read_json, write_yaml))?
        .function("toml_to_json", Gate::Open, |call, text: &Value| convert(call, text, read_toml, write_json))?
        .function("json_to_toml", Gate::Open, |call, text: &Value| convert(call, text, read_json, write_toml))?
        .function("xml_to_json", Gate::Open, |call, text: &Value| convert(call, text, xml::read, write_json))?
        .function("csv_parse", Gate::Open, csv_parse)?
        .function("csv_generate", Gate::Open, csv_generate)?
        .function("deep_merge", Gate::Open, tree::deep_merge)?
        .function("flatten", Gate::Open, tree::flatten)?
        .function("unflatten", Gate::Open, tree::unflatten)?
        .function("get_path", Gate::Open, tree::get_path)?
        .function("set_path", Gate::Open, tree::set_path)?
        .finish();
    Ok(table)
}

/// A table that is written as a list also when it is empty.
fn array(call: &Call, table: &Value) -> mlua::Result<Table> {
    let table = if table.is_nil() { call.lua.create_table()? } else { call.table("table", table)? };
    if table.metatable().is_none_or(|metatable| metatable == call.lua.array_metatable()) {
        table.set_metatable(Some(call.lua.array_metatable()))?;
        return Ok(table);
    }
    Err(call.error("`table` has a metatable of its own"))
}

fn encode_json(call: &Call, (value, options): &(Value, Value)) -> Answer<String> {
    // A call that gives its table twice, such as `data.unflatten`, may stand in the place of the value.
    if options.as_table().is_some() && options.as_table() == value.as_table() {
        return encode(call, value, write_json);
    }
    let pretty = match options.as_boolean() {
        Some(pretty) => pretty,
        None => Options::new(call, options, &["pretty"])?.flag("pretty")?.unwrap_or(false),
    };
    encode(call, value, if pretty { write_pretty } else { write_json })
}

fn encoder(write: Encode) -> impl Fn(&Call, &Value) -> Answer<String> {
    move |call, value| encode(call, value, write)
}

fn encode(call: &Call, value: &Value, write: impl Fn(&Json) -> Result<String, String>) -> Answer<String> {
    Ok(to_json(&call.lua, value, Foreign::Refuse)
        .map_err(said)
        .and_then(|json| write(&json))
        .map_err(|reason| call.refusal(reason)))
}

fn encode_xml(call: &Call, (value, root): &(Value, Value)) -> Answer<String> {
    let root = call.optional_text("root", root)?.unwrap_or_else(|| XML_ROOT.to_owned());
    encode(call, value, |json| xml::write(json, &root))
}

fn decoder(read: Decode) -> impl Fn(&Call, &(Value, Value)) -> Answer {
    move |call, (text, options)| {
        let keep = Options::new(call, options, &["nulls"])?.flag("nulls")?.unwrap_or(false);
        let null = if keep { Null::Kept } else { Null::Missing };
        let text = call.text("text", text)?;
        Ok(read(&text)
            .and_then(|json| to_lua_with(&call.lua, &json, null).map_err(said))
            .map_err(|reason| call.refusal(reason)))
    }
}

/// `true`, or `false` and why.
fn validator(read: Decode) -> impl Fn(&Call, &Value) -> mlua::Result<(bool, Option<String>)> {
    move |call, text| {
        let text = call.text("text", text)?;
        Ok(match read(&text) {
            Ok(_) => (true, None),
            Err(error) => (false, Some(error)),
        })
    }
}

fn convert(call: &Call, text: &Value, read: Decode, write: Encode) -> Answer<String> {
    let text = call.text("text", text)?;
    Ok(read(&text).and_then(|json| write(&json)).map_err(|reason| call.refusal(reason)))
}

/// The rows, each a list of texts.
fn csv_parse(call: &Call, (text, separator): &(Value, Value)) -> mlua::Result<MultiValue> {
    let text = call.text("text", text)?;
    let separator = separator_of(call, separator)?;
    match bounded(&text).and_then(|text| csv::parse(text, separator)) {
        Ok(rows) => tree::twice(call, rows.into_lua(&call.lua)?),
        Err(error) => (false, call.refusal(error)).into_lua_multi(&call.lua),
    }
}

fn csv_generate(call: &Call, (rows, separator): &(Value, Value)) -> mlua::Result<String> {
    generate(call, rows, separator_of(call, separator)?, &[])
}

/// The rows: lists of texts, or with `header` tables by the names in the first row.
fn decode_csv(call: &Call, (text, options): &(Value, Value)) -> Answer {
    let options = Options::new(call, options, &["separator", "header"])?;
    let separator = separator_of(call, &options.value("separator")?)?;
    let header = options.flag("header")?.unwrap_or(false);
    let text = call.text("text", text)?;
    let rows = match bounded(&text).and_then(|text| csv::parse(text, separator)) {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(call.refusal(error))),
    };
    let lists = |rows: Vec<Vec<String>>| rows.into_iter().map(Json::from).collect();
    let json = if header { by_name(rows) } else { lists(rows) };
    to_lua(&call.lua, &json).map(Ok)
}

fn by_name(rows: Vec<Vec<String>>) -> Json {
    let mut rows = rows.into_iter();
    let names = rows.next().unwrap_or_default();
    let row = |cells: Vec<String>| names.iter().cloned().zip(cells.into_iter().map(Json::from)).collect();
    Json::Array(rows.map(|cells| Json::Object(row(cells))).collect())
}

fn encode_csv(call: &Call, (rows, options): &(Value, Value)) -> mlua::Result<String> {
    let options = Options::new(call, options, &["separator", "header"])?;
    let separator = separator_of(call, &options.value("separator")?)?;
    let header = options.value("header")?;
    let mut names = Vec::new();
    if !header.is_nil() {
        for name in call.table("header", &header)?.sequence_values::<Value>() {
            names.push(call.text("header", &name?)?);
        }
    }
    generate(call, rows, separator, &names)
}

/// The rows under the names, if any. A row that is no list gives its cells by them.
fn generate(call: &Call, rows: &Value, separator: char, names: &[String]) -> mlua::Result<String> {
    let mut text = String::new();
    if !names.is_empty() {
        csv::write(&mut text, names, separator);
    }
    for row in call.table("rows", rows)?.sequence_values::<Value>() {
        let row = call.table("rows", &row?)?;
        let cells = if row.raw_len() == 0 && !row.is_empty() {
            if names.is_empty() {
                return Err(call.error("a row has names for its cells: give their order in `header`"));
            }
            names.iter().map(|name| cell(call, &row.get(name.as_str())?)).collect::<mlua::Result<Vec<_>>>()?
        } else {
            row.sequence_values::<Value>().map(|value| cell(call, &value?)).collect::<mlua::Result<Vec<_>>>()?
        };
        csv::write(&mut text, &cells, separator);
    }
    Ok(text)
}

fn cell(call: &Call, value: &Value) -> mlua::Result<String> {
    match value.as_boolean() {
        Some(flag) => Ok(flag.to_string()),
        None => Ok(call.optional_text("rows", value)?.unwrap_or_default()),
    }
}

fn separator_of(call: &Call, separator: &Value) -> mlua::Result<char> {
    let text = call.optional_text("separator", separator)?.unwrap_or_else(|| ",".to_owned());
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(char), None) if !"\"\r\n".contains(char) => Ok(char),
        _ => Err(call.error(format_args!("`separator` takes one character, got `{text}`"))),
    }
}
