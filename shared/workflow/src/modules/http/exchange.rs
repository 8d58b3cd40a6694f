//! Requests made as often as they are to be, and what scripts see of them.

use http::{HeaderMap, Method, StatusCode};
use mlua::{Function, IntoLuaMulti, MultiValue, Table};
use tokio::time::{sleep, timeout};

use super::{
    client::{Request, Trouble, send},
    options::Plan,
};
use crate::{
    Level,
    host::Stream,
    modules::{self, call::Call},
    vm::{Builtin, convert::to_lua},
};

/// Each wait before a retry is twice as long, up to this.
const RETRY_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Requests whose answers are in memory at a time; others wait for them.
const AT_ONCE: usize = 32;
static ROOM: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(AT_ONCE);

/// Headers are found however they are written.
static HEADERS: Builtin = Builtin::new(
    r#"
local gsub, lower, rawget, type, upper = string.gsub, string.lower, rawget, type, string.upper
local function usual(name) return (gsub(lower(name), "%f[%a]%a", upper)) end
return {
    __index = function(headers, name)
        if type(name) ~= "string" then return nil end
        return rawget(headers, usual(name))
    end,
}
"#,
);

/// Answers are asked for their content in several ways: `data` is the body, and `data.json()` and `json()` what it says.
static CONTENT: Builtin = Builtin::new(
    r#"
local decode = ...
local rawget, setmetatable, tostring, type = rawget, setmetatable, tostring, type
local methods = string
local body = { __json = "text" }
local function text(value)
    if type(value) == "table" then return rawget(value, "text") or value end
    return value
end
function body.__index(self, name)
    if name == "json" then
        return function() return decode(rawget(self, "text")) end
    end
    local method = methods[name]
    if method == nil then return nil end
    return function(first, ...) return method(text(first), ...) end
end
function body.__tostring(self) return rawget(self, "text") end
function body.__concat(left, right) return tostring(text(left)) .. tostring(text(right)) end
function body.__len(self) return #rawget(self, "text") end
function body.__eq(left, right) return text(left) == text(right) end
table.freeze(body)
local response = {}
function response.__index(self, name)
    if name == "data" then return setmetatable({ text = rawget(self, "body") }, body) end
    return nil
end
table.freeze(response)
local called = table.freeze({ __call = function(self) return self end })
return function(table)
    if type(table.json) == "table" and getmetatable(table.json) == nil then setmetatable(table.json, called) end
    return setmetatable(table, response)
end
"#,
);
const CONTENT_REGISTRY: &str = "sloth.http.content";
const HEADERS_REGISTRY: &str = "sloth.http.headers";

/// An answer with its body.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    url: String,
}

/// A response, or nothing and why; or what stands for a response in a run that only checks.
pub(crate) enum Outcome {
    Answered(Response),
    Failed(String),
    PassedOver,
}

/// How a failure is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As nothing, and why.
    Bare,
    /// As a table whose `success` is false, and why: those who pass one table look into what they get.
    Table,
}

/// Makes the request.
///
/// # Errors
///
/// When the bundle may not speak to the host.
pub(crate) async fn perform(call: &Call, plan: &Plan) -> mlua::Result<Outcome> {
    let request = &plan.request;
    // A body is there to be acted on, whatever the method.
    let looks = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&request.method) && request.body.is_empty();
    if call.checking() && !looks && !plan.is_check {
        call.reach(&request.address.host, request.address.port)?;
        let told = format!("would send {} `{}`", request.method, request.address.shown());
        call.context.log(Stream::Log(Level::Info), &told);
        return Ok(Outcome::PassedOver);
    }
    match attempts(plan, async || answer(call, plan).await).await {
        Ok(response) => Ok(Outcome::Answered(response)),
        Err(Trouble::Denied(error)) => Err(error),
        Err(Trouble::Refused(reason) | Trouble::Broken(reason)) => Ok(Outcome::Failed(named(request, &reason))),
    }
}

/// Tries as often as the plan says, each time within its timeout.
pub(crate) async fn attempts<T: Repeatable>(
    plan: &Plan,
    attempt: impl AsyncFn() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut wait = plan.retry_wait;
    let mut left = plan.retries;
    loop {
        let limit = humantime::format_duration(plan.timeout);
        let tried = timeout(plan.timeout, attempt()).await;
        let tried =
            tried.unwrap_or_else(|_| Err(Trouble::Broken(format!("it took longer than its timeout of {limit}"))));
        let again = match &tried {
            Ok(done) => done.is_to_be_repeated(),
            Err(Trouble::Broken(_)) => true,
            Err(Trouble::Denied(_) | Trouble::Refused(_)) => false,
        };
        if !again || left == 0 {
            return tried;
        }
        left -= 1;
        sleep(wait.min(RETRY_WAIT_MAX)).await;
        wait = wait.saturating_mul(2);
    }
}

/// What a message about a request says.
pub(crate) fn named(request: &Request, reason: &str) -> String {
    format!("Request failed: {} `{}`: {reason}", request.method, request.address.shown())
}

/// Whether what came is to be asked for once more.
pub(crate) trait Repeatable {
    fn is_to_be_repeated(&self) -> bool {
        false
    }
}

impl Repeatable for bool {}

impl Repeatable for Response {
    /// The host says that it is busy, or what stands before it says so.
    fn is_to_be_repeated(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 502 | 503 | 504)
    }
}

async fn answer(call: &Call, plan: &Plan) -> Result<Response, Trouble> {
    // It is never closed, so that waiting for it cannot fail.
    let _room = ROOM.acquire().await;
    let mut reply = send(call, &plan.request).await?;
    let body = reply.bytes(plan.body_bytes_max).await?;
    let url = reply.address.shown();
    Ok(Response { status: reply.status, headers: std::mem::take(&mut reply.headers), body, url })
}

impl Outcome {
    /// The response as a table; nothing and why when there is none.
    pub(crate) fn into_values(self, call: &Call, form: Form) -> mlua::Result<MultiValue> {
        match self {
            Self::Answered(response) => response.into_table(call)?.into_lua_multi(&call.lua),
            Self::Failed(reason) => match form {
                Form::Bare => (mlua::Value::Nil, reason).into_lua_multi(&call.lua),
                Form::Table => {
                    let table = call.lua.create_table_from([("error", reason.as_str()), ("body", "")])?;
                    table.raw_set("success", false)?;
                    table.raw_set("status_code", 0)?;
                    table.raw_set("headers", call.lua.create_table()?)?;
                    (content(&call.lua)?.call::<Table>(table)?, reason).into_lua_multi(&call.lua)
                }
            },
            Self::PassedOver => {
                let (status, headers) = (StatusCode::NO_CONTENT, HeaderMap::new());
                let response = Response { status, headers, body: Vec::new(), url: String::new() };
                let table = response.into_table(call)?;
                table.raw_set("skipped", true)?;
                table.into_lua_multi(&call.lua)
            }
        }
    }
}

impl Response {
    fn into_table(self, call: &Call) -> mlua::Result<Table> {
        let lua = &call.lua;
        let table = lua.create_table()?;
        table.raw_set("status_code", self.status.as_u16())?;
        table.raw_set("status", self.status.to_string())?;
        table.raw_set("success", self.status.is_success())?;
        table.raw_set("url", self.url.as_str())?;
        if let Some(json) = self.json() {
            // What is nested deeper than a table may be stays a text.
            table.raw_set("json", to_lua(lua, &json).unwrap_or(mlua::Value::Nil))?;
        }
        let headers = lua.create_table()?;
        for name in self.headers.keys() {
            headers.raw_set(usual(name.as_str()), lua.create_string(self.values(name.as_str()).join(&b", "[..]))?)?;
        }
        headers.set_metatable(Some(found_by_any_case(lua)?))?;
        table.raw_set("headers", headers)?;
        table.raw_set("body", lua.create_string(self.body)?)?;
        content(lua)?.call(table)
    }

    /// The headers as lists of values.
    pub(crate) fn header_lists(&self, call: &Call) -> mlua::Result<Table> {
        let headers = call.lua.create_table()?;
        for name in self.headers.keys() {
            let values = self.values(name.as_str()).into_iter().map(|value| call.lua.create_string(value));
            headers.raw_set(usual(name.as_str()), values.collect::<mlua::Result<Vec<_>>>()?)?;
        }
        headers.set_metatable(Some(found_by_any_case(&call.lua)?))?;
        Ok(headers)
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect()
    }

    /// The body's value, where it says that it is JSON or looks like it.
    fn json(&self) -> Option<serde_json::Value> {
        let kind = self.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let looks = self.body.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first));
        if kind.contains("json") || looks { serde_json::from_slice(&self.body).ok() } else { None }
    }
}

/// What gives an answer its ways to be asked for its content.
pub(crate) fn content(lua: &mlua::Lua) -> mlua::Result<Function> {
    if let Ok(mlua::Value::Function(known)) = lua.named_registry_value(CONTENT_REGISTRY) {
        return Ok(known);
    }
    let json: Table = modules::find(lua, "json")?.ok_or_else(|| mlua::Error::runtime("there is no module `json`"))?;
    let made: Function = CONTENT.function(lua)?.call(json.get::<Function>("decode")?)?;
    lua.set_named_registry_value(CONTENT_REGISTRY, &made)?;
    Ok(made)
}

fn found_by_any_case(lua: &mlua::Lua) -> mlua::Result<Table> {
    if let Ok(mlua::Value::Table(known)) = lua.named_registry_value(HEADERS_REGISTRY) {
        return Ok(known);
    }
    let metatable: Table = HEADERS.function(lua)?.call(())?;
    metatable.set_readonly(true);
    lua.set_named_registry_value(HEADERS_REGISTRY, &metatable)?;
    Ok(metatable)
}

/// `Content-Type` for `content-type`.
fn usual(name: &str) -> String {
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}
