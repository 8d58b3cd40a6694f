//! What a script says of a request.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use hyper::body::Bytes;
use mlua::{Table, Value};

use super::{
    address::{Address, form},
    client::{Request, basic},
};
use crate::{
    modules::{
        call::{Call, tostring},
        options::Options,
        paths::readable,
    },
    vm::convert::{Foreign, to_json},
};

/// What a request may be given.
pub(crate) const OPTIONS: [&str; 16] = [
    "headers",
    "body",
    "json",
    "form",
    "query",
    "timeout",
    "redirects",
    "auth",
    "ca",
    "proxy",
    "retries",
    "retry_wait",
    "max_bytes",
    "check",
    "url",
    "method",
];
/// Options that say what is sent: by them a table is told from one that is to be sent as JSON.
const SENT: [&str; 4] = ["body", "json", "form", "headers"];
/// How long a request may take, its answer and all redirects included, when the script does not say.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS: u64 = 10;
const REDIRECTS_MAX: u64 = 50;
/// Most bytes of an answer that a script gets, and of what it sends.
pub(crate) const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
const RETRIES_MAX: u64 = 20;
const RETRY_WAIT: Duration = Duration::from_secs(1);
const USER_AGENT: &str = concat!("sloth/", env!("CARGO_PKG_VERSION"));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A request, and how it is made.
pub(crate) struct Plan {
    pub(crate) request: Request,
    pub(crate) timeout: Duration,
    pub(crate) retries: u64,
    /// The wait before the first retry; each is twice as long.
    pub(crate) retry_wait: Duration,
    pub(crate) body_bytes_max: u64,
    /// Whether the script says that it changes nothing.
    pub(crate) is_check: bool,
}

impl Plan {
    /// A request without options.
    pub(crate) fn new(call: &Call, method: Method, url: &Value) -> mlua::Result<Self> {
        let url = call.text("url", url)?;
        let address = Address::parse(&url).map_err(|reason| call.error(format_args!("`url`: {reason}")))?;
        let headers = HeaderMap::from_iter([
            (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
        ]);
        let (body, ca, proxy) = (Bytes::new(), None, None);
        Ok(Self {
            request: Request { method, address, headers, body, redirects_max: REDIRECTS, ca, proxy },
            timeout: TIMEOUT,
            retries: 0,
            retry_wait: RETRY_WAIT,
            body_bytes_max: BODY_BYTES_MAX,
            is_check: false,
        })
    }

    /// Takes what `value` says: options, or the names and values of headers.
    pub(crate) fn take(&mut self, call: &Call, value: &Value) -> mlua::Result<()> {
        match value.as_table() {
            Some(table) if !is_options(table)? => self.take_headers(call, table),
            Some(_) | None => self.take_options(call, &Options::new(call, value, &OPTIONS)?),
        }
    }

    /// Takes options. Their headers come last, over those that other options make.
    pub(crate) fn take_options(&mut self, call: &Call, options: &Options<'_>) -> mlua::Result<()> {
        let request = &mut self.request;
        let query = options.texts("query")?;
        request.address = request.address.clone().with_query(pairs(&query));
        if let Some(proxy) = options.text("proxy")? {
            let proxy = Address::parse(&proxy).map_err(|reason| call.error(format_args!("`proxy`: {reason}")))?;
            request.proxy = Some(proxy);
        }
        let ca = options.value("ca")?;
        if !ca.is_nil() {
            request.ca = Some(readable(call, "ca", &ca)?);
        }
        let whole = |name: &str, max: u64, otherwise: u64| -> mlua::Result<u64> {
            let value = options.value(name)?;
            if value.is_nil() { Ok(otherwise) } else { call.integer(name, &value, 0, max) }
        };
        request.redirects_max = match options.value("redirects")?.as_boolean() {
            Some(true) => REDIRECTS,
            Some(false) => 0,
            None => whole("redirects", REDIRECTS_MAX, request.redirects_max)?,
        };
        self.retries = whole("retries", RETRIES_MAX, self.retries)?;
        self.body_bytes_max = whole("max_bytes", BODY_BYTES_MAX, self.body_bytes_max)?;
        self.timeout = options.duration("timeout")?.unwrap_or(self.timeout);
        self.retry_wait = options.duration("retry_wait")?.unwrap_or(self.retry_wait);
        self.is_check = options.flag("check")?.unwrap_or(self.is_check);
        self.take_auth(call, &options.value("auth")?)?;
        self.take_sent(call, options)?;
        let headers = options.value("headers")?;
        if !headers.is_nil() {
            self.take_headers(call, &call.table("headers", &headers)?)?;
        }
        Ok(())
    }

    /// A text is sent as it is, a table as JSON.
    pub(crate) fn take_body(&mut self, call: &Call, body: &Value) -> mlua::Result<()> {
        if body.is_nil() {
            return Ok(());
        }
        if body.as_table().is_some_and(|table| !table.has_metatable() || table.metatable() == Some(array(call))) {
            return self.take_json(call, "body", body);
        }
        self.send(call, call.bytes("body", body)?, None)
    }

    fn take_sent(&mut self, call: &Call, options: &Options<'_>) -> mlua::Result<()> {
        let (json, form_fields) = (options.value("json")?, options.texts("form")?);
        let given = [!options.value("body")?.is_nil(), !json.is_nil(), !options.value("form")?.is_nil()];
        if 1 < given.into_iter().filter(|given| *given).count() {
            return Err(call.error("takes one of `body`, `json` and `form`"));
        }
        self.take_body(call, &options.value("body")?)?;
        if !json.is_nil() {
            self.take_json(call, "json", &json)?;
        }
        if given[2] {
            self.send(call, form(pairs(&form_fields)).into_bytes(), Some(FORM))?;
        }
        Ok(())
    }

    fn take_json(&mut self, call: &Call, option: &str, value: &Value) -> mlua::Result<()> {
        let json = to_json(&call.lua, value, Foreign::Refuse)
            .map_err(|error| call.error(format_args!("`{option}`: {error}")))?;
        self.send(call, json.to_string().into_bytes(), Some(JSON))
    }

    fn send(&mut self, call: &Call, body: Vec<u8>, kind: Option<HeaderValue>) -> mlua::Result<()> {
        if BODY_BYTES_MAX < body.len() as u64 {
            return Err(call.error(format_args!("a request sends {BODY_BYTES_MAX} bytes at most")));
        }
        self.request.body = body.into();
        if let Some(kind) = kind {
            self.request.headers.insert(header::CONTENT_TYPE, kind);
        }
        Ok(())
    }

    fn take_auth(&mut self, call: &Call, auth: &Value) -> mlua::Result<()> {
        if auth.is_nil() {
            return Ok(());
        }
        let options = Options::new(call, auth, &["username", "password", "token"])?;
        let value = match (options.text("username")?, options.text("token")?) {
            (Some(name), None) => basic(&(name, options.text("password")?.unwrap_or_default())),
            (None, Some(token)) => {
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "`token` cannot be sent".to_owned())
            }
            (Some(_), Some(_)) | (None, None) => Err("takes `username` and `password`, or `token`".to_owned()),
        };
        let mut value = value.map_err(|reason| call.error(format_args!("`auth`: {reason}")))?;
        value.set_sensitive(true);
        self.request.headers.insert(header::AUTHORIZATION, value);
        Ok(())
    }

    fn take_headers(&mut self, call: &Call, headers: &Table) -> mlua::Result<()> {
        for pair in headers.pairs::<Value, Value>() {
            let (name, value) = pair?;
            let name = call.text("headers", &name)?;
            let text = tostring(&call.lua, &value)?;
            // A value may be a secret, so that it is in no message.
            let wrong = || call.error(format_args!("the header `{}` cannot be sent", name.escape_debug()));
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE].contains(&key) {
                return Err(call.error(format_args!("the header `{name}` is made by the request itself")));
            }
            self.request.headers.insert(key, HeaderValue::from_bytes(&text).map_err(|_| wrong())?);
        }
        Ok(())
    }
}

/// Whether a table is one of options, not one of headers: what has a name among them is.
pub(crate) fn is_options(table: &Table) -> mlua::Result<bool> {
    has_one(table, &OPTIONS)
}

/// Whether a table says what is sent and how, and is not what is to be sent itself.
pub(crate) fn says_what_is_sent(table: &Table) -> mlua::Result<bool> {
    let known = |key: &Value| key.as_string().is_some_and(|key| OPTIONS.iter().any(|known| key == known));
    for pair in table.pairs::<Value, Value>() {
        if !known(&pair?.0) {
            return Ok(false);
        }
    }
    has_one(table, &SENT)
}

fn has_one(table: &Table, names: &[&str]) -> mlua::Result<bool> {
    for name in names {
        if !table.raw_get::<Value>(*name)?.is_nil() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn pairs(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

fn array(call: &Call) -> Table {
    mlua::LuaSerdeExt::array_metatable(&call.lua)
}
