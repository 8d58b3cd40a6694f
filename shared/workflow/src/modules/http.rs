//! `http`: requests over HTTP/1.1, encrypted or not.
//!
//! Whether a host may be spoken to is checked by [`Call::reach`] for every request and for every redirect. Nothing is
//! taken from the environment: a proxy and other authorities are said by the script.

pub(super) mod address;
pub(super) mod client;
pub(super) mod download;
pub(super) mod exchange;
pub(super) mod options;
pub(super) mod tls;

use std::rc::Rc;

use http::Method;
use mlua::{Lua, MultiValue, Table, Value};

use self::{
    download::{Wanted, download},
    exchange::{Form, perform},
    options::{OPTIONS, Plan, says_what_is_sent},
};
use super::{
    Context,
    call::{Builder, Call, Gate},
    options::Options,
    report::Answer,
};
use crate::capability::Capability;

/// The functions whose second value is the headers, and those whose second is the body.
const BARE: [(&str, Method); 3] = [("get", Method::GET), ("delete", Method::DELETE), ("head", Method::HEAD)];
const WITH_BODY: [(&str, Method); 3] = [("post", Method::POST), ("put", Method::PUT), ("patch", Method::PATCH)];

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Within(Capability::Net);
    let mut builder = Builder::new(lua, context, "http")?;
    for (name, method) in BARE {
        builder = builder.asynchronous(name, gate, move |call, (url, options): (Value, Value)| {
            let method = method.clone();
            async move {
                let (url, options, form) = one_table(&call, url, options)?;
                let mut plan = Plan::new(&call, method, &url)?;
                plan.take(&call, &options)?;
                perform(&call, &plan).await?.into_values(&call, form)
            }
        })?;
    }
    for (name, method) in WITH_BODY {
        builder = builder.asynchronous(name, gate, move |call, (url, body, options): (Value, Value, Value)| {
            with_body(call, method.clone(), url, body, options)
        })?;
    }
    let table = builder
        .asynchronous("request", gate, request)?
        .asynchronous("download", gate, |call, (url, path, options): (Value, Value, Value)| async move {
            fetch_file(&call, url, path, options).await
        })?
        .finish();
    Ok(table)
}

async fn with_body(call: Call, method: Method, url: Value, body: Value, options: Value) -> mlua::Result<MultiValue> {
    let (url, body, form) = if body.is_nil() { one_table(&call, url, body)? } else { (url, body, Form::Bare) };
    let mut plan = Plan::new(&call, method, &url)?;
    let is_options = options.is_nil() && body.as_table().map_or(Ok(false), says_what_is_sent)?;
    if is_options {
        plan.take(&call, &body)?;
    } else {
        plan.take_body(&call, &body)?;
        plan.take(&call, &options)?;
    }
    perform(&call, &plan).await?.into_values(&call, form)
}

/// `request({ url = …, method = … })`, or the method, the address and options.
async fn request(call: Call, (first, url, options): (Value, Value, Value)) -> mlua::Result<MultiValue> {
    let (method, url, options) = match first.as_table() {
        Some(table) => (table.raw_get("method")?, table.raw_get("url")?, first.clone()),
        None => (first, url, options),
    };
    let method = call.optional_text("method", &method)?.unwrap_or_else(|| "GET".to_owned()).to_ascii_uppercase();
    let parsed = Method::from_bytes(method.as_bytes());
    let Some(method) = parsed.ok().filter(|method| *method != Method::CONNECT && *method != Method::TRACE) else {
        return Err(call.error(format_args!("`method` takes one like `GET`, got `{method}`")));
    };
    let mut plan = Plan::new(&call, method, &url)?;
    plan.take_options(&call, &Options::new(&call, &options, &OPTIONS)?)?;
    perform(&call, &plan).await?.into_values(&call, Form::Bare)
}

async fn fetch_file(call: &Call, url: Value, path: Value, options: Value) -> mlua::Result<Answer> {
    let (url, path, options) = match url.as_table().filter(|table| !table.has_metatable()) {
        Some(table) => (table.raw_get("url")?, table.raw_get("path")?, url.clone()),
        None => (url, path, options),
    };
    let wanted = Wanted::read(call, &url, &path, &options)?;
    Ok(call.answer(download(call, &wanted).await?))
}

/// `get({ url = … })` is `get(url, …)`, and always gives a table.
fn one_table(call: &Call, url: Value, options: Value) -> mlua::Result<(Value, Value, Form)> {
    match url.as_table().filter(|table| !table.has_metatable()) {
        Some(table) if options.is_nil() => Ok((table.raw_get("url")?, url, Form::Table)),
        Some(_) => Err(call.expected("url", "a text", &url)),
        None => Ok((url, options, Form::Bare)),
    }
}
