//! A program as lines of text, that chance can write. Each line is a call: a function's name and its arguments, divided
//! by tabs. A name that no function has stands for one that has, so that every line calls something. `&` before the
//! name calls it in a goroutine, `:` calls a method of the first argument. A first line of `?` asks for a run that only
//! checks.
//!
//! | argument | is |
//! |---|---|
//! | `t`, `f` | true, false |
//! | `'TEXT` | a text; `\xNN` stands for a byte |
//! | `#NUMBER` | a number; what is none is an odd one |
//! | `/PATH` | a path in the directory that is granted |
//! | `^PATH` | an absolute path |
//! | `[A,B]`, `{KEY=A,KEY=B}` | tables |
//! | `@N` | what the N-th line gave |
//! | `!N` | a function |
//! | `%N` | an odd value |
//! | anything else | nil |

use std::{fmt::Write, hash::Hasher};

use sloth_workflow::describe;

const LINES_MAX: usize = 24;
const ARGUMENTS_MAX: usize = 6;
const DEPTH_MAX: usize = 4;
/// Of the language itself and of Luau, besides what modules have.
const MORE: [&str; 29] = [
    "goroutine.sleep",
    "goroutine.spawn",
    "goroutine.wait_group",
    "string.rep",
    "string.format",
    "string.gsub",
    "string.find",
    "string.split",
    "string.pack",
    "string.unpack",
    "table.sort",
    "table.concat",
    "table.insert",
    "table.move",
    "table.create",
    "table.unpack",
    "tostring",
    "pcall",
    "error",
    "setmetatable",
    "require",
    "import",
    "load",
    "print",
    "coroutine.wrap",
    "select",
    "task",
    "workflow.define",
    "buffer.create",
];
/// What `!N` stands for.
const FUNCTIONS: [&str; 8] = [
    "function(...) return ... end",
    "function(a, b) return a ~= b end",
    "function() error({}) end",
    "function() goroutine.sleep(1) return 1, 2 end",
    "function() while true do end end",
    "function() return string.rep('x', 100000) end",
    "function(...) return fs.read(...) end",
    "print",
];
/// What `%N` stands for.
const ODD: [&str; 10] = [
    "(function() local t = {} t.t = t return t end)()",
    "(function() local t = {} for i = 1, 300 do t = { t } end return t end)()",
    "setmetatable({}, { __tostring = function() goroutine.sleep(1) return 'x' end })",
    "setmetatable({}, { __tostring = function() error('no') end, __index = error, __len = error })",
    "setmetatable({}, { __index = function(_, k) return k end, __call = function() return 1 end })",
    "string.rep('\\0\\255', 5000)",
    "table.create(5000, 'x')",
    "{ [1.5] = 1, [true] = 2, x = function() end }",
    "newproxy and 1 or buffer.create(16)",
    "coroutine.create(function() end)",
];
const NUMBERS: [&str; 8] = ["0/0", "1/0", "-1/0", "-1", "2^53", "2^53 + 2", "1e300", "0.5"];

/// Whether the run only checks, and the workflow file.
pub(super) fn script(bytes: &[u8], timeout_ms: u64) -> (bool, String) {
    let mut text = format!(
        "local r = {{}}\n\
         local function try(f) local ok, a = pcall(f) if ok then return a end assert(#tostring(a) < 100000, 'long') end\n\
         task('t'):timeout('{timeout_ms}ms'):command(function()\n"
    );
    let mut lines = bytes.split(|byte| *byte == b'\n').take(LINES_MAX).peekable();
    let checks = lines.next_if(|line| *line == b"?").is_some();
    for (at, line) in lines.filter(|line| !line.is_empty()).enumerate() {
        let mut fields = line.split(|byte| *byte == b'\t');
        let name = fields.next().unwrap_or_default();
        let arguments: Vec<String> = fields.take(ARGUMENTS_MAX).map(|field| value(&mut { field }, DEPTH_MAX)).collect();
        let (name, spawned) = name.strip_prefix(b"&").map_or((name, false), |name| (name, true));
        let call = match name.strip_prefix(b":") {
            Some(method) => {
                let method: String = method.iter().map(|b| char::from(*b)).filter(char::is_ascii_lowercase).collect();
                let object = arguments.first().map_or("nil", String::as_str);
                let rest = arguments.get(1..).unwrap_or_default().join(", ");
                let method = if RESERVED.contains(&method.as_str()) { "close" } else { &method };
                format!("({object}):{}({rest})", if method.is_empty() { "close" } else { method })
            }
            None => format!("{}({})", function(name), arguments.join(", ")),
        };
        let open = if spawned { "goroutine.spawn(function() " } else { "" };
        let close = if spawned { " end)" } else { "" };
        // Writing to a text does not fail.
        let _ = writeln!(text, "{open}r[{at}] = try(function() return {call} end){close}");
    }
    text.push_str("return true end)\n");
    (checks, text)
}

const RESERVED: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or",
    "repeat", "return", "then", "true", "until", "while",
];

/// The function of this name, or another one that depends on the name alone.
fn function(name: &[u8]) -> String {
    let known: Vec<&str> = describe::modules()
        .flat_map(|module| module.functions.iter().map(|function| function.call.as_str()))
        .chain(MORE)
        .collect();
    if let Some(known) = known.iter().find(|known| known.as_bytes() == name) {
        return (*known).to_owned();
    }
    #[expect(deprecated, reason = "it gives the same on every machine and in every release")]
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(name);
    let at = usize::try_from(hasher.finish() % known.len() as u64).unwrap_or(0);
    known[at].to_owned()
}

/// Takes a value from the front of `rest`.
fn value(rest: &mut &[u8], depth: usize) -> String {
    let Some((kind, after)) = rest.split_first() else { return "nil".to_owned() };
    *rest = after;
    match kind {
        b't' => "true".to_owned(),
        b'f' => "false".to_owned(),
        b'\'' => quoted(&unescaped(word(rest))),
        b'#' => number(word(rest)),
        b'/' => format!("(values.dir .. {})", quoted(&[b"/in/", word(rest)].concat())),
        b'^' => quoted(&[b"/", word(rest)].concat()),
        b'@' => format!("r[{}]", digits(rest)),
        b'!' => format!("({})", FUNCTIONS[digits(rest) % FUNCTIONS.len()]),
        b'%' => format!("({})", ODD[digits(rest) % ODD.len()]),
        b'[' if 0 < depth => table(rest, depth, |_, _| {}),
        b'{' if 0 < depth => table(rest, depth, |rest, text| {
            let length = rest.iter().position(|byte| b"=,}\t".contains(byte)).unwrap_or(rest.len());
            if rest.get(length) == Some(&b'=') {
                text.push_str(&format!("[{}] = ", quoted(&rest[..length])));
                *rest = &rest[length + 1..];
            }
        }),
        _ => "nil".to_owned(),
    }
}

fn table(rest: &mut &[u8], depth: usize, key: impl Fn(&mut &[u8], &mut String)) -> String {
    let mut text = String::from("{ ");
    while let Some(first) = rest.first() {
        if matches!(first, b']' | b'}') {
            *rest = &rest[1..];
            break;
        }
        if *first == b',' {
            *rest = &rest[1..];
            continue;
        }
        key(rest, &mut text);
        text.push_str(&value(rest, depth - 1));
        text.push_str(", ");
    }
    text.push('}');
    text
}

/// What stands before the next border.
fn word<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = rest.iter().position(|byte| b",]}".contains(byte)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(length);
    *rest = after;
    word
}

fn digits(rest: &mut &[u8]) -> usize {
    let word = word(rest);
    word.iter().filter(|byte| byte.is_ascii_digit()).take(3).fold(0, |sum, byte| 10 * sum + usize::from(byte - b'0'))
}

fn number(word: &[u8]) -> String {
    let parsed = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
    match parsed {
        Some(number) if number.is_finite() => format!("({number:e})"),
        Some(_) | None => format!("({})", NUMBERS[word.len() % NUMBERS.len()]),
    }
}

fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut at = 0;
    while let Some(byte) = word.get(at) {
        let hex = word.get(at + 2..at + 4).filter(|_| word[at..].starts_with(b"\\x"));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(hex.unwrap_or(*byte));
        at += if hex.is_some() { 4 } else { 1 };
    }
    bytes
}

fn quoted(bytes: &[u8]) -> String {
    let escape =
        |byte: &u8| if byte.is_ascii_alphanumeric() { char::from(*byte).to_string() } else { format!("\\{byte:03}") };
    format!("'{}'", bytes.iter().map(escape).collect::<String>())
}
