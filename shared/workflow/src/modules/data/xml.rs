//! XML as tables.
//!
//! An element with nothing but text is that text. Another is a table: its attributes with `@` before their names, its
//! children by their names (a list where a name comes again), and its text, if any, as `#text`.

use quick_xml::{
    Reader, XmlVersion,
    escape::{escape, resolve_xml_entity},
    events::{BytesStart, Event},
};
use serde_json::{Map, Value as Json};

use super::text::{bounded, said};
use crate::limits::VALUE_DEPTH_MAX;

const ATTRIBUTE: &str = "@";
const TEXT: &str = "#text";
/// The name of a list's elements where nothing else names them.
const ITEM: &str = "item";

/// An element that is not closed yet.
struct Open {
    name: String,
    object: Map<String, Json>,
    text: String,
}

/// The root element by its name.
pub(super) fn read(text: &str) -> Result<Json, String> {
    let mut reader = Reader::from_str(bounded(text)?);
    let mut stack: Vec<Open> = Vec::new();
    let mut root = None;
    loop {
        let event = reader.read_event().map_err(|error| format!("byte {}: {error}", reader.error_position()))?;
        match event {
            Event::Start(start) => {
                if VALUE_DEPTH_MAX <= stack.len() {
                    return Err(format!("elements are nested more than {VALUE_DEPTH_MAX} deep"));
                }
                stack.push(Open::new(&start)?);
            }
            Event::Empty(start) => Open::new(&start)?.close(&mut stack, &mut root)?,
            Event::End(_) => {
                let Some(open) = stack.pop() else { return Err("an element ends that never began".to_owned()) };
                open.close(&mut stack, &mut root)?;
            }
            Event::Text(text) => tell(&mut stack, &text.xml10_content())?,
            Event::CData(text) => tell(&mut stack, &text.xml10_content())?,
            Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(said)? {
                Some(char) => tell(&mut stack, char.encode_utf8(&mut [0; 4]))?,
                None => {
                    let name = reference.xml10_content();
                    let Some(text) = resolve_xml_entity(&name) else {
                        return Err(format!("there is no entity `{}`", said(name)));
                    };
                    tell(&mut stack, text)?;
                }
            },
            // Definitions of a document type are passed over, so that none of its entities grows without bound.
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
    }
    match (stack.pop(), root) {
        (Some(open), _) => Err(format!("the element `{}` is not closed", open.name)),
        (None, Some((name, value))) => Ok(Json::Object(Map::from_iter([(name, value)]))),
        (None, None) => Err("there is no element".to_owned()),
    }
}

/// `json` as the element `root`.
pub(super) fn write(json: &Json, root: &str) -> Result<String, String> {
    let mut text = String::new();
    match json {
        Json::Array(items) => {
            let list = Json::Object(Map::from_iter([(ITEM.to_owned(), Json::Array(items.clone()))]));
            element(&mut text, root, &list, 0)?;
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => {
            element(&mut text, root, json, 0)?;
        }
    }
    Ok(text)
}

impl Open {
    fn new(start: &BytesStart<'_>) -> Result<Self, String> {
        let mut object = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(said)?;
            let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(said)?;
            object.insert(format!("{ATTRIBUTE}{}", attribute.key.as_ref()), Json::String(value.into_owned()));
        }
        Ok(Self { name: start.name().as_ref().to_owned(), object, text: String::new() })
    }

    fn close(mut self, stack: &mut [Self], root: &mut Option<(String, Json)>) -> Result<(), String> {
        let text = self.text.trim().to_owned();
        let value = if self.object.is_empty() {
            Json::String(text)
        } else {
            if !text.is_empty() {
                self.object.insert(TEXT.to_owned(), Json::String(text));
            }
            Json::Object(self.object)
        };
        match (stack.last_mut(), &root) {
            (Some(parent), _) => parent.take(self.name, value),
            (None, None) => *root = Some((self.name, value)),
            (None, Some(_)) => return Err("there is more than one element at the top".to_owned()),
        }
        Ok(())
    }

    fn take(&mut self, name: String, value: Json) {
        match self.object.get_mut(&name) {
            None => drop(self.object.insert(name, value)),
            Some(Json::Array(list)) => list.push(value),
            Some(first) => *first = Json::Array(vec![first.take(), value]),
        }
    }
}

fn tell(stack: &mut [Open], text: &str) -> Result<(), String> {
    match stack.last_mut() {
        Some(open) => open.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err("there is text outside of the root element".to_owned()),
    }
    Ok(())
}

fn element(text: &mut String, name: &str, value: &Json, depth: usize) -> Result<(), String> {
    if VALUE_DEPTH_MAX < depth {
        return Err(format!("tables are nested more than {VALUE_DEPTH_MAX} deep"));
    }
    named(name)?;
    match value {
        Json::Array(items) => items.iter().try_for_each(|item| element(text, name, item, depth + 1)),
        Json::Object(object) => object_element(text, name, object, depth),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            let inner = scalar(value);
            text.push_str(&format!("<{name}>{}</{name}>", escape(inner.as_str())));
            Ok(())
        }
    }
}

fn object_element(text: &mut String, name: &str, object: &Map<String, Json>, depth: usize) -> Result<(), String> {
    text.push_str(&format!("<{name}"));
    for (key, value) in object {
        let Some(attribute) = key.strip_prefix(ATTRIBUTE) else { continue };
        named(attribute)?;
        if value.is_array() || value.is_object() {
            return Err(format!("the attribute `{key}` takes a text, a number or a boolean"));
        }
        text.push_str(&format!(" {attribute}=\"{}\"", escape(scalar(value).as_str())));
    }
    text.push('>');
    for (key, value) in object {
        if key == TEXT {
            text.push_str(&escape(scalar(value).as_str()));
        } else if !key.starts_with(ATTRIBUTE) {
            element(text, key, value, depth + 1)?;
        }
    }
    text.push_str(&format!("</{name}>"));
    Ok(())
}

fn scalar(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => value.to_string(),
    }
}

/// Refuses what could not be read again.
fn named(name: &str) -> Result<(), String> {
    let start = |char: char| char.is_alphabetic() || char == '_' || char == ':';
    let more = |char: char| start(char) || char.is_numeric() || char == '-' || char == '.';
    if name.starts_with(start) && name.chars().all(more) {
        return Ok(());
    }
    Err(format!("`{}` cannot be the name of an XML element or attribute", said(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_become_tables() {
        for (text, expected) in [
            ("<a/>", json!({"a": ""})),
            ("<a>x &lt; &#65;&amp;</a>", json!({"a": "x < A&"})),
            ("<a b='1' c=\"&quot;\">t</a>", json!({"a": {"@b": "1", "@c": "\"", "#text": "t"}})),
            ("<a><b>1</b><c/><b>2</b></a>", json!({"a": {"b": ["1", "2"], "c": ""}})),
            (
                "<?xml version=\"1.0\"?><!DOCTYPE a><!-- c --><a>\n<b><![CDATA[<x>]]></b>\n</a>\n",
                json!({"a": {"b": "<x>"}}),
            ),
            ("<n:a xmlns:n=\"u\"><n:b>1</n:b></n:a>", json!({"n:a": {"@xmlns:n": "u", "n:b": "1"}})),
        ] {
            assert_eq!(read(text).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_xml_is_refused() {
        let deep = "<a>".repeat(VALUE_DEPTH_MAX + 1);
        for (text, expected) in [
            ("", "there is no element"),
            ("<a>", "the element `a` is not closed"),
            ("<a></b>", "byte "),
            ("<a/><b/>", "more than one element at the top"),
            ("x<a/>", "text outside of the root"),
            ("<a>&lol;</a>", "there is no entity `lol`"),
            (&deep, "nested more than 64 deep"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let value = json!({"@id": "7 \"<\"", "#text": "a & b", "list": ["1", "2"], "deep": {"x": "y"}});
        let text = write(&value, "root").expect("XML");
        assert_eq!(read(&text).expect(&text), json!({"root": value}));
        assert_eq!(write(&json!([1, true]), "list").expect("XML"), "<list><item>1</item><item>true</item></list>");
        for (value, root) in
            [(json!({"a b": 1}), "r"), (json!({}), "1x"), (json!({}), "a><b"), (json!({"@a": []}), "r")]
        {
            write(&value, root).expect_err("refused");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[<>/a-c&;#x1!\\[\\]CDATA\"'= -]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn any_text_comes_back(text in "\\PC*") {
            let written = write(&json!({"a": text, "@b": text}), "root").expect("XML");
            let trimmed = text.trim();
            let normal = text.replace(['\n', '\r', '\t'], " ");
            let expected = json!({"root": {"@b": normal, "a": trimmed}});
            proptest::prop_assert_eq!(read(&written).expect("XML"), expected);
        }
    }
}
