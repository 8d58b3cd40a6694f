//! `lineinfile`, `blockinfile` and `replace`: parts of a text file as they are to be.

use mlua::MultiValue;

use super::{
    super::{
        call::Call,
        foreseen::{self, Made, Seen},
        regex,
        report::{Answer, Change, Report},
    },
    arguments::Arguments,
    lines::{self, Block, Line, Matched, Place},
    place::{self, Content, Placing, Settings},
};
use crate::beneath::{Place as Target, inode};

const LINE: [&str; 15] = [
    "path",
    "line",
    "state",
    "regexp",
    "insertafter",
    "insertbefore",
    "firstmatch",
    "backrefs",
    "create",
    "mode",
    "owner",
    "group",
    "backup",
    "validate",
    "search",
];
const BLOCK: [&str; 14] = [
    "path",
    "block",
    "state",
    "marker",
    "marker_begin",
    "marker_end",
    "insertafter",
    "insertbefore",
    "create",
    "mode",
    "owner",
    "group",
    "backup",
    "validate",
];
const REPLACE: [&str; 9] = ["path", "pattern", "replacement", "count", "mode", "owner", "group", "backup", "validate"];
const MARKER_BEGIN: &str = "# BEGIN MANAGED BLOCK";
const MARKER_END: &str = "# END MANAGED BLOCK";
/// What becomes `BEGIN` and `END` in `marker`.
const MARK: &str = "{mark}";

/// Whether something is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Present,
    Absent,
}

/// Whether a file that is missing is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Made,
    Refused,
    /// There is nothing to take away from it.
    Fine,
}

pub(super) async fn line(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["path", "line"], &LINE)?;
    let path = arguments.writable("path")?;
    let presence = presence(&call, &arguments)?;
    let regexp = compiled(&call, &arguments, "regexp")?;
    let literal = arguments.text("search")?;
    let line = arguments.text("line")?.map(|line| one_line(&call, &line)).transpose()?;
    let matched = match (regexp, literal) {
        (Some(_), Some(_)) => return Err(call.error("takes `regexp` or `search`, not both")),
        (Some(regexp), None) => Matched::By(regexp),
        (None, Some(literal)) => Matched::Holding(literal.into_bytes()),
        (None, None) => Matched::Itself,
    };
    let wanted = Line {
        matched,
        first_only: arguments.flag("firstmatch")?.unwrap_or(false),
        expanded: arguments.flag("backrefs")?.unwrap_or(false),
        place: placement(&call, &arguments)?,
    };
    let settings = Settings::read(&call, &arguments)?;
    let missing = missing(&arguments, presence)?;
    let outcome = match (presence, line) {
        (Presence::Present, None) => return Err(arguments.missing("line")),
        (Presence::Absent, None) if matches!(wanted.matched, Matched::Itself) => return Err(arguments.missing("line")),
        (Presence::Present, Some(line)) => {
            change(&call, path, missing, settings, move |text| lines::with_line(text, line.as_bytes(), &wanted)).await
        }
        (Presence::Absent, line) => {
            let line = line.unwrap_or_default();
            change(&call, path, missing, settings, move |text| {
                Ok(lines::without_line(text, line.as_bytes(), &wanted.matched))
            })
            .await
        }
    };
    Ok(call.answer(outcome))
}

pub(super) async fn block(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["path", "block"], &BLOCK)?;
    let path = arguments.writable("path")?;
    let presence = presence(&call, &arguments)?;
    let marker = arguments.text("marker")?;
    if marker.as_ref().is_some_and(|marker| !marker.contains(MARK)) {
        return Err(call.error("`marker` takes a line with `{mark}` in it, which becomes `BEGIN` and `END`"));
    }
    let edge = |name: &str, word: &str, usual: &str| {
        let text = arguments.text(name)?.or_else(|| marker.as_ref().map(|marker| marker.replace(MARK, word)));
        one_line(&call, &text.unwrap_or_else(|| usual.to_owned()))
    };
    let (begin, end) = (edge("marker_begin", "BEGIN", MARKER_BEGIN)?, edge("marker_end", "END", MARKER_END)?);
    if begin == end || begin.trim().is_empty() || end.trim().is_empty() {
        return Err(call.error("the two markers must be lines that differ"));
    }
    let wanted = Block { begin: begin.into_bytes(), end: end.into_bytes(), place: placement(&call, &arguments)? };
    let settings = Settings::read(&call, &arguments)?;
    let missing = missing(&arguments, presence)?;
    let text = match presence {
        Presence::Present => Some(arguments.required_text("block")?),
        Presence::Absent => None,
    };
    let outcome = change(&call, path, missing, settings, move |before| {
        lines::with_block(before, text.as_deref().map(str::as_bytes), &wanted)
    });
    Ok(call.answer(outcome.await))
}

pub(super) async fn replace(call: Call, values: MultiValue) -> mlua::Result<Answer> {
    let arguments = Arguments::read(&call, &values, &["path", "pattern", "replacement"], &REPLACE)?;
    let path = arguments.writable("path")?;
    let Some(pattern) = compiled(&call, &arguments, "pattern")? else { return Err(arguments.missing("pattern")) };
    let replacement = arguments.text("replacement")?.unwrap_or_default();
    let count = arguments.value("count")?;
    let count =
        if count.is_nil() { usize::MAX } else { whole(call.integer("count", &count, 1, u64::from(u32::MAX))?) };
    let settings = Settings::read(&call, &arguments)?;
    let outcome = change(&call, path, Missing::Refused, settings, move |text| {
        lines::replaced(text, &pattern, replacement.as_bytes(), count)
    });
    Ok(call.answer(outcome.await))
}

/// Puts what `edit` makes of the file in its place.
async fn change(
    call: &Call,
    path: Target,
    missing: Missing,
    settings: Settings,
    edit: impl FnOnce(&[u8]) -> Result<Vec<u8>, String> + Send + 'static,
) -> Result<Report, String> {
    let seen = foreseen::look(call, &path);
    let there = match seen {
        Seen::AsItIs => inode(&path).metadata().is_ok(),
        Seen::File(_) | Seen::Directory => true,
        Seen::Gone | Seen::Perhaps => false,
    };
    let before = match (there, missing) {
        (true, _) if seen == Seen::File(None) => return change_untold(call, &path, &settings),
        (true, _) => foreseen::read(call, &path)?,
        (false, Missing::Made) => Vec::new(),
        (false, Missing::Fine) => return Ok(Report::unchanged(format!("there is no `{}`", path.display()))),
        (false, Missing::Refused) if seen == Seen::Perhaps => return change_untold(call, &path, &settings),
        (false, Missing::Refused) => return Err(format!("there is no file `{}`", path.display())),
    };
    let shown = path.display().to_string();
    let after = place::beside(move || edit(&before).map_err(|reason| format!("`{shown}`: {reason}"))).await?;
    place::put(call, Placing { path, content: Content::Bytes(after), mode: None, settings }).await
}

/// In a run that only checks: a file that an earlier step makes is to be changed, and nobody knows what is in it.
fn change_untold(call: &Call, path: &Target, settings: &Settings) -> Result<Report, String> {
    settings.attributes.check(call)?;
    let change = Change::new(format!("change `{}`, whose content cannot be told yet", path.display()), "");
    let report = change.apply(call, || Ok(()))?;
    foreseen::note(call, path, Made::File(None));
    Ok(report.with("path", path.display().to_string()))
}

fn presence(call: &Call, arguments: &Arguments<'_>) -> mlua::Result<Presence> {
    match arguments.text("state")?.as_deref() {
        None | Some("present") => Ok(Presence::Present),
        Some("absent") => Ok(Presence::Absent),
        Some(other) => Err(call.error(format_args!("`state` takes `present` or `absent`, got `{other}`"))),
    }
}

fn missing(arguments: &Arguments<'_>, presence: Presence) -> mlua::Result<Missing> {
    let made = arguments.flag("create")?.unwrap_or(true);
    Ok(match (presence, made) {
        (Presence::Absent, _) => Missing::Fine,
        (Presence::Present, true) => Missing::Made,
        (Presence::Present, false) => Missing::Refused,
    })
}

fn placement(call: &Call, arguments: &Arguments<'_>) -> mlua::Result<Place> {
    let (after, before) = (arguments.text("insertafter")?, arguments.text("insertbefore")?);
    match (after.as_deref(), before.as_deref()) {
        (Some(_), Some(_)) => Err(call.error("takes `insertafter` or `insertbefore`, not both")),
        (None | Some("EOF"), None) => Ok(Place::End),
        (None, Some("BOF")) => Ok(Place::Start),
        (Some(_), None) => Ok(compiled(call, arguments, "insertafter")?.map_or(Place::End, Place::After)),
        (None, Some(_)) => Ok(compiled(call, arguments, "insertbefore")?.map_or(Place::Start, Place::Before)),
    }
}

fn compiled(call: &Call, arguments: &Arguments<'_>, name: &str) -> mlua::Result<Option<::regex::bytes::Regex>> {
    let compiled = arguments.text(name)?.map(|text| regex::compile_bytes(&text)).transpose();
    compiled.map_err(|reason| call.error(format_args!("`{name}`: {reason}")))
}

fn one_line(call: &Call, text: &str) -> mlua::Result<String> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    if line.contains(['\n', '\r']) {
        return Err(call.error("takes one line; for several there is `blockinfile`"));
    }
    Ok(line.to_owned())
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
