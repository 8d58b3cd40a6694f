use serde_json::json;

use super::*;

const BOUNDS: Bounds = Bounds { steps: 100_000, output_bytes: 100_000 };

fn data() -> Map<String, Value> {
    let data = json!({
        "Name": "Ada", "port": 8080, "ratio": 1.5, "on": true, "off": false, "empty": "", "none": [],
        "a": { "b": { "c": "deep" } }, "hosts": ["x", "y"], "zero": 0, "html": "<&>",
        "ports": { "https": 443, "http": 80 },
        "users": [{ "name": "ann", "uid": 1 }, { "name": "bob", "uid": 2 }],
    });
    data.as_object().cloned().unwrap_or_default()
}

fn fill(text: &str) -> Result<String, String> {
    render(text, data(), BOUNDS).map_err(|error| error.to_string())
}

#[test]
fn templates_give_what_go_gives() {
    for (text, expected) in [
        ("plain } text {", "plain } text {"),
        ("Hello {{.Name}}!", "Hello Ada!"),
        ("{{ .a.b.c }}/{{ $.a.b.c }}", "deep/deep"),
        ("{{ .port }} {{ .ratio }} {{ .on }}", "8080 1.5 true"),
        ("{{ .hosts }} {{ .ports }}", "[x y] map[http:80 https:443]"),
        ("a {{- /* gone */ -}} b", "ab"),
        ("{{/* c */}}x{{- \" y\" -}}  z", "x yz"),
        ("{{if .on}}1{{else}}2{{end}}{{if .off}}1{{else}}2{{end}}", "12"),
        ("{{if .off}}1{{else if .zero}}2{{else if .gone}}3{{else}}4{{end}}", "4"),
        ("{{if and .on .Name}}y{{end}}{{if or .off .gone .Name}}z{{end}}{{if not .off}}n{{end}}", "yzn"),
        ("{{ or .empty .gone \"d\" }} {{ and .on \"last\" }}", "d last"),
        ("{{if eq .port 8080}}a{{end}}{{if ne .Name \"Bob\"}}b{{end}}{{if eq .Name \"x\" \"Ada\"}}c{{end}}", "abc"),
        ("{{if and (lt 1 2) (le 2 2) (gt 3 2) (ge 3 3)}}y{{end}}{{if eq .gone \"x\"}}n{{end}}", "y"),
        ("{{range .hosts}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range $i, $h := .hosts}}{{$i}}={{$h}};{{end}}", "0=x;1=y;"),
        ("{{range $h := .hosts}}{{$h}}{{end}}{{range .none}}n{{else}}none{{end}}", "xynone"),
        ("{{range $k, $v := .ports}}{{$k}}:{{$v}} {{end}}", "http:80 https:443 "),
        ("{{range .users}}{{.name}}@{{$.Name}} {{end}}", "ann@Ada bob@Ada "),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .users}}{{if eq .name \"ann\"}}{{continue}}{{end}}{{.name}}{{break}}{{end}}", "bob"),
        ("{{with .a.b}}{{.c}}{{else}}no{{end}}{{with .gone}}x{{else}}no{{end}}", "deepno"),
        ("{{with $x := .Name}}{{$x}}{{end}}", "Ada"),
        ("{{$x := 1}}{{range .hosts}}{{$x = add $x 1}}{{end}}{{$x}}", "3"),
        ("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .Name}}{{template \"t\" 1}}", "[Ada][1]"),
        ("{{block \"b\" .Name}}<{{.}}>{{end}}", "<Ada>"),
        (
            "{{printf \"%s:%d %05.2f %q %v %-4s| %x %%\" .Name .port .ratio \"a\" .on \"l\" 255}}",
            "Ada:8080 01.50 \"a\" true l   | ff %",
        ),
        (
            "{{len .hosts}} {{len .Name}} {{index .hosts 1}} {{index .ports \"http\"}} {{index .users 0 \"name\"}}",
            "2 3 y 80 ann",
        ),
        ("{{.gone | default \"d\"}} {{default \"d\" .Name}} {{.a.x.y | default 5}}", "d Ada 5"),
        ("{{.hosts | join \", \"}} {{join \"-\" .hosts}}", "x, y x-y"),
        ("{{.Name | upper | lower | quote}} {{squote 1}} {{\" a \" | trim}}", "\"ada\" '1' a"),
        ("{{trimSuffix \".x\" \"a.x\"}} {{trimPrefix \"a.\" \"a.x\"}} {{replace \"a\" \"b\" \"aca\"}}", "a x bcb"),
        (
            "{{if contains \"d\" .Name}}y{{end}}{{if hasPrefix \"A\" .Name}}y{{end}}{{if hasKey .ports \"http\"}}y{{end}}",
            "yyy",
        ),
        ("{{ternary 1 2 .on}} {{coalesce .gone .empty 7}} {{empty .none}}", "1 7 true"),
        ("{{add 1 2 3}} {{sub 5 2}} {{mul 2 3}} {{div 7 2}} {{mod 7 2}} {{max 1 3}} {{int \"42\"}}", "6 3 6 3 1 3 42"),
        ("{{toJson .users}}", r#"[{"name":"ann","uid":1},{"name":"bob","uid":2}]"#),
        ("{{indent 2 \"a\\nb\"}}|{{nindent 1 \"c\"}}", "  a\n  b|\n c"),
        ("{{first .hosts}}{{last .hosts}}{{rest .hosts}}{{list 1 \"b\"}}{{keys .ports}}", "xy[y][1 b][http https]"),
        ("{{(index .users 1).name}} {{(dict \"k\" 5).k}}", "bob 5"),
        ("{{b64enc \"a\"}} {{b64dec \"YQ==\"}} {{title \"ab cd\"}} {{html .html}}", "YQ== a Ab Cd &lt;&amp;&gt;"),
        ("{{`raw \\n`}} {{\"tab\\t\"}}|{{'a'}} {{-5}} {{0x10}} {{nil | default 1}}", "raw \\n tab\t|97 -5 16 1"),
        ("{{print 1 2 \"a\" 3}} {{println \"x\" 1}}", "1 2a3 x 1\n"),
        (
            "{{range until 3}}{{.}}{{end}} {{slice .Name 1 3}} {{sortAlpha (list \"b\" \"a\")}} {{uniq (list 1 1 2)}}",
            "012 da [a b] [1 2]",
        ),
        ("{{ if .on -}}\n  yes\n{{- end }}\nend", "yes\nend"),
    ] {
        assert_eq!(fill(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, expected) in [
        (
            "a\n{{.gone}}",
            "line 2: `.gone` is not defined: pass it in the variables, or write `{{ .gone | default \"\" }}`",
        ),
        ("{{.a.x.y}}", "line 1: `.a.x.y` is not defined"),
        ("{{range .users}}{{.age}}{{end}}", "`.age` is not defined"),
        ("{{$.gone}}", "`$.gone` is not defined"),
        ("{{.Name.first}}", "`.Name.first`: a text has no field `first`"),
        ("{{.gone | upper}}", "`upper`: `.gone` is not defined"),
        ("{{Name}}", "there is no function `Name`: a variable is written `.Name`"),
        ("\n{{if .on}}x", "line 2: a block is not closed by `{{ end }}`"),
        ("{{end}}", "`end` closes nothing"),
        ("{{else}}", "`else` closes nothing"),
        ("{{define \"x\"}}{{else}}{{end}}", "`else` is not expected here"),
        ("{{.Name", "an action `{{` is not closed"),
        ("{{\"a}}", "a text is not closed"),
        ("{{(.Name}}", "`(` is not closed"),
        ("{{.Name)}}", "`)` closes nothing"),
        ("{{}}", "an action holds nothing to compute"),
        ("{{| upper}}", "nothing stands before `|`"),
        ("{{.Name .port}}", "a value that is no function is given arguments"),
        ("{{template \"t\"}}", "there is no template `t`"),
        ("{{$x}}", "`$x` is not declared"),
        ("{{$x = 1}}", "`$x` is not declared: write `$x := …` first"),
        ("{{index .hosts 9}}", "the list has 2 items and none at 9"),
        ("{{lt .Name 1}}", "cannot compare a text with a number"),
        ("{{printf \"%d\" .Name}}", "`%d` cannot show a text"),
        ("{{printf \"%d\"}}", "has no argument for `%d`"),
        ("{{printf \"%99999d\" 1}}", "a width is 1000 characters at most"),
        ("{{upper}}", "takes at least 1 argument, got 0"),
        ("{{div 1 0}}", "cannot divide by 0"),
        ("{{required \"say the host\" .gone}}", "say the host"),
        ("{{range .on}}{{end}}", "cannot range over a boolean"),
        ("{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}", "templates call each other more than 64 deep"),
        ("{{range until 1000}}{{range until 1000}}{{end}}{{end}}", "more than the 100000 steps"),
        ("{{range until 1000}}{{repeat 1000 \"x\"}}{{end}}", "larger than the 100000 bytes"),
        ("{{repeat 1000000 \"xxxxxxxxxx\"}}", "larger than the 100000 bytes"),
        ("{{repeat 99999999 \"x\"}}", "takes a number from 0 to 1000000"),
        ("{{@}}", "`@` is not expected in an action"),
    ] {
        let error = fill(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let deep = format!("{}{}", "{{if .on}}".repeat(100), "{{end}}".repeat(100));
    assert!(fill(&deep).expect_err("too deep").contains("more than 64 deep"));
    let parentheses = format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(fill(&parentheses).expect_err("too deep").contains("more than 64 deep"));
    let elses = format!("{{{{if .off}}}}{}{{{{end}}}}", "{{else if .off}}".repeat(10_000));
    assert!(fill(&elses).expect_err("too deep").contains("more than 64 deep"));
}

#[test]
fn the_language_is_told_from_the_text() {
    for (text, go) in [
        ("{{.Name}}", true),
        ("{{ .Name }}", true),
        ("{{- if .x }}", true),
        ("{{ range $k, $v := .m }}", true),
        ("{{/* c */}}", true),
        ("{{ upper .name }}", true),
        ("{{ printf \"%s\" (.x) }}", true),
        ("{{ name }}", false),
        ("{{ user.name | upper }}", false),
        ("{% if x %}{{ .y }}{% endif %}", false),
        ("{{ ending }}", false),
        ("plain", false),
    ] {
        assert_eq!(looks_like_go(text), go, "{text}");
    }
}

#[test]
fn what_repeats_neither_crashes_nor_takes_long() {
    const MANY: usize = 100_000;
    let bounds = Bounds { steps: 5_000_000, output_bytes: 16 * 1024 * 1024 };
    for (before, part, after) in [
        ("{{ ", "(", ""),
        ("{{ ", "not (", ""),
        ("{{ .a", ".b", " }}"),
        ("{{ .a", " | len", " }}"),
        ("{{ $x", ".b", " }}"),
        ("{{ $x", ", $x", " := 1 }}"),
        ("{{ ", "$x, ", ""),
        ("{{ ", " ", ".Name }}"),
        ("{{ 1", " \t", ""),
        ("{{ ", "/**/", "}}"),
        ("{{ add", " 1", " }}"),
        ("", "{{", ""),
        ("", "{{ if ", ""),
        ("", "{{if .on}}", ""),
        ("", "{{range .hosts}}", ""),
        ("", "{{with .a}}", ""),
        ("{{if .off}}", "{{else if .off}}", "{{end}}"),
        ("", "{{define \"x\"}}", ""),
        ("", "{{block \"x\" .}}", ""),
        ("{{define \"x\"}}", "{{template \"x\"}}", "{{end}}{{template \"x\"}}"),
        ("", "{{.Name}}\n", ""),
        ("", "{{-  ", ""),
        ("", "{{\"a", ""),
        ("{{ $x := list }}", "{{ $x = list $x }}", "{{ $x }}"),
        ("{{ $x := list }}{{ range until 100000 }}{{ $x = list $x }}", "", "{{ end }}{{ $x }}"),
        ("{{ $x := dict }}{{ range until 100000 }}{{ $x = dict \"a\" $x }}", "", "{{ end }}{{ toJson $x }}"),
        ("{{ $x := repeat 1000000 \"x\" }}", "{{ $x = printf \"%s%s\" $x $x }}", ""),
        ("{{ $x := repeat 1000000 \"x\" }}{{ $y := trimAll $x $x }}", "", ""),
        ("{{ $x := repeat 1000000 \"x\" }}", "{{ $y := splitList \"\" $x }}", ""),
        ("{{ $x := repeat 1000000 \"[\" }}", "{{ fromJson $x }}", ""),
        ("", "{{ $x := until 1000000 }}", ""),
        ("{{ range until 1000000 }}{{ range until 1000000 }}", "", "{{ end }}{{ end }}"),
    ] {
        let times = MANY.min(900_000 / part.len().max(1));
        let text = format!("{before}{}{after}", part.repeat(times));
        let begin = std::time::Instant::now();
        let _ = looks_like_go(&text);
        let _ = render(&text, data(), bounds);
        let took = begin.elapsed();
        assert!(took.as_secs() < 20, "{before}{part}… took {took:?}");
    }
}
