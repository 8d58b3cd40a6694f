use serde_json::json;

use super::*;

/// More than any native stack has room for.
const MANY: usize = 100_000;

fn render(text: &str) -> Result<String, String> {
    let variables = json!({ "a": { "b": 1 }, "list": [1, 2] });
    rendered_beside(PathBuf::new(), "t", text, variables.as_object().cloned().unwrap_or_default())
}

/// `before`, `part` `times`, `after`.
fn shape(before: &str, part: &str, times: usize, after: &str) -> String {
    format!("{before}{}{after}", part.repeat(times))
}

#[test]
fn a_chain_is_bounded_before_it_is_parsed() {
    for (before, part, after) in [
        ("{{ a", ".b", " }}"),
        ("{{ a", "|upper", " }}"),
        ("{{ a", "|default(1)", " }}"),
        ("{{ a", "[0]", " }}"),
        ("{{ a", "['b']", " }}"),
        ("{{ a", "[1:2]", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ a", ".b(1, 2)", " }}"),
        ("{{ a", " is defined", " }}"),
        ("{{ 1", "~1", " }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ 1", " and 1", " }}"),
        ("{{ 1", " or 1", " }}"),
        ("{{ 1", "**1", " }}"),
        ("{{ 1", " < 1", " }}"),
        ("{{ [1]", " in [1]", " }}"),
        ("{{ ", "-", "1 }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ ", "(", ""),
        ("{{ ", "[", ""),
        ("{{ ", "{'a': ", ""),
        ("{{ ", "a(", ""),
        ("{{ ", "a[", ""),
        ("{{ ", "-(", ""),
        ("{{ 1", " if 1", " }}"),
        ("{{ ", "1 if 0 else ", "1 }}"),
        ("{% if a", ".b", " %}{% endif %}"),
        ("{% set x = a", ".b", " %}"),
        ("{% set ", "(", ""),
        ("{% for ", "(", ""),
        ("{% for x in a", ".b", " %}{% endfor %}"),
        ("{% with x = a", ".b", " %}{% endwith %}"),
        ("{% filter upper", "|upper", " %}{% endfilter %}"),
        ("{% set x", "|upper", " %}{% endset %}"),
        ("{% do a", ".b", " %}"),
        ("{% macro m(x=1", "+1", ") %}{% endmacro %}"),
        ("{% if 0 %}", "{% elif 0 %}", "{% endif %}"),
        ("", "{% if 1 %}", ""),
        ("", "{% for x in list %}", ""),
        ("", "{% with x = 1 %}", ""),
        ("", "{% filter upper %}", ""),
        ("", "{% block a %}", ""),
        ("", "{% macro m() %}", ""),
        ("", "{% call m() %}", ""),
        ("{% set x = [] %}", "{% set x=[x] %}", ""),
        ("{% set x = [] %}", "{% set x=x|list|batch(1) %}", ""),
    ] {
        let text = shape(before, part, MANY.min(900_000 / part.len()), after);
        assert!(render(&text).is_err(), "{before}{part}…");
        // As much as may be is parsed, compiled and freed without an end of the stack.
        for times in [120, 249, 330, 480, 990] {
            let _ = render(&shape(before, part, times, after));
        }
    }
}

#[test]
fn what_is_long_and_not_deep_is_rendered() {
    let list = format!("{{{{ [{}]|length }}}}", "a.b + 1, ".repeat(20_000));
    assert_eq!(render(&list), Ok("20000".to_owned()));
    assert_eq!(render(&"{{ a.b }}".repeat(50_000)).map(|text| text.len()), Ok(50_000));
    assert_eq!(render(&shape("{{ 1", "~1", 400, " }}")).map(|text| text.len()), Ok(401));
    assert_eq!(render(&shape("{% if 0 %}", "{% elif 0 %}", 200, "{% else %}x{% endif %}")), Ok("x".to_owned()));
    assert_eq!(render(&format!("{{% raw %}}{}{{% endraw %}}", "{{ a.".repeat(9))), Ok("{{ a.".repeat(9)));
    assert_eq!(render(&format!("{{# {} #}}x", "{{ a.b.b".repeat(MANY))), Ok("x".to_owned()));
    assert_eq!(render(&format!("{{{{ '{}'|length }}}}", ".b".repeat(MANY))), Ok((2 * MANY).to_string()));
    assert!(render(&"x".repeat(2 * 1024 * 1024)).unwrap_err().contains("longer than the 1048576 bytes"));
    let wrong = format!("one\n{}", shape("{{ a", ".b", 501, " }}"));
    assert!(render(&wrong).unwrap_err().starts_with("`t` line 2: an expression has more than 1000 parts"));
}

#[test]
fn values_do_not_grow_deep() {
    let loops = "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}";
    assert!(render(loops).unwrap_err().contains("at most 16 deep"), "{:?}", render(loops));
    for text in [
        "{% set n = namespace() %}{% set n.x = n %}{{ n }}",
        "{% set n = namespace() %}{% set n.x = {'a': n} %}{{ n }}",
        "{% set n = namespace() %}{% set m = namespace(n=n) %}{% set n.m = m %}{{ n }}",
        "{% set n = namespace() %}{% set a, n.x = 1, n %}{{ n }}",
        "{% set n = namespace() %}{% set n.x|default(n, true) %}{% endset %}{{ n }}",
        "{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}",
        "{% for x in [[1]] recursive %}{{ loop([[x]]) }}{% endfor %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
    ] {
        let error = render(text).unwrap_err();
        assert!(error.contains("a namespace keeps") || error.contains("recursion"), "{text}: {error}");
    }
    // What can be kept over statements of macros that call each other.
    let more = "{% set x = [[[[[[[[[[x]]]]]]]]]] %}".repeat(149);
    let deep = format!("{{% macro m(x) %}}{more}{{{{ m(x) }}}}{{% endmacro %}}{{{{ m(1) }}}}");
    assert!(render(&deep).unwrap_err().contains("recursion"));
    let shown = "{% set x = [[[[[[[[[[x]]]]]]]]]] %}".repeat(149);
    assert!(render(&format!("{{% set x = 1 %}}{shown}{{{{ x == x }}}}{{{{ x }}}}{{{{ x|tojson }}}}")).is_ok());
}

#[test]
fn namespaces_still_count() {
    let text = "{% set n = namespace(sum=0, seen=[]) -%}
{% for x in list %}{% set n.sum = n.sum + x %}{% set n.seen = n.seen + [x] -%} {% endfor -%}
{% set n.pair = n.sum, {'a': [1]} -%}
{% set n.text %}<{{ n.sum }}>{% endset -%}
{% set n.up|upper %}b{% endset -%}
{{ n.sum }} {{ n.seen }} {{ n.pair }} {{ n.text }} {{ n.up }}";
    assert_eq!(render(text), Ok("3 [1, 2] [3, {'a': [1]}] <3> B".to_owned()));
    assert!(render("{% set n = namespace() %}\n{% set n.x = gone.y %}").unwrap_err().contains("line 2: `gone"));
}
