//! Files of the web put in place.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use mlua::Value;
use sloth_core::fs::{Access, create_temporary};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    client::{Reply, Trouble, send},
    exchange::{attempts, named},
    options::Plan,
};
use crate::{
    beneath::{Place, entry, followed, inode, metadata},
    modules::{
        call::Call,
        crypto::Hash,
        files::{MODE_BITS, dress, said, told},
        foreseen::{self, Made},
        options::Options,
        paths::writable,
        report::{Change, Report},
    },
};

const KNOWN: [&str; 15] = [
    "headers",
    "query",
    "timeout",
    "redirects",
    "auth",
    "ca",
    "proxy",
    "retries",
    "retry_wait",
    "max_bytes",
    "checksum",
    "sha256",
    "mode",
    "path",
    "url",
];
/// Most bytes of a download when the script does not say.
const DOWNLOAD_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// The most that a script can say.
const DOWNLOAD_BYTES_LIMIT: u64 = 1 << 50;
/// How long a download may take when the script does not say.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a host may keep silent in the middle.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const MODE: u32 = 0o644;

/// What is to be there.
pub(crate) struct Wanted {
    plan: Plan,
    place: Place,
    bytes_max: u64,
    /// The algorithm and the digest.
    checksum: Option<(String, String)>,
    mode: Option<u32>,
}

impl Wanted {
    pub(crate) fn read(call: &Call, url: &Value, path: &Value, options: &Value) -> mlua::Result<Self> {
        let options = Options::new(call, options, &KNOWN)?;
        let mut plan = Plan::new(call, Method::GET, url)?;
        plan.timeout = DOWNLOAD_TIMEOUT;
        let path = if path.is_nil() {
            let Some(name) = plan.request.address.file_name() else {
                return Err(call.error("`path` is missing, and the address ends in no name"));
            };
            Value::String(call.lua.create_string(name)?)
        } else {
            path.clone()
        };
        let max = options.value("max_bytes")?;
        let bytes_max =
            if max.is_nil() { DOWNLOAD_BYTES_MAX } else { call.integer("max_bytes", &max, 0, DOWNLOAD_BYTES_LIMIT)? };
        plan.take_options(call, &options.without(&["max_bytes"])?)?;
        let checksum = checksum(call, &options)?;
        let mode = mode(call, &options.value("mode")?)?;
        Ok(Self { plan, place: writable(call, "path", &path)?, bytes_max, checksum, mode })
    }
}

/// Puts the file there. Where a checksum is given, a file that has it is left as it is and nothing is asked.
pub(crate) async fn download(call: &Call, wanted: &Wanted) -> mlua::Result<Result<Report, String>> {
    let path = wanted.place.path();
    let shown = format!("`{}` to `{}`", wanted.plan.request.address.shown(), path.display());
    let there = metadata(&followed(path));
    if there.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
        return Ok(Err(format!("`{}` is a directory: name the file", path.display())));
    }
    if let (Some((algorithm, digest)), Ok(_)) = (&wanted.checksum, &there)
        && digest_of(path, algorithm).await.as_ref() == Some(digest)
    {
        return Ok(Ok(Report::unchanged(format!("`{}` is there", path.display()))));
    }
    let change = Change::new(format!("download {shown}"), format!("downloaded {shown}"));
    // What nobody has a checksum of is asked for also by a run that only checks: nothing else tells whether it is new.
    if call.checking() && (there.is_err() || wanted.checksum.is_some()) {
        let report = change.apply(call, || Ok(()));
        foreseen::note(call, path, Made::File(None));
        return Ok(report);
    }
    let fetched = attempts(&wanted.plan, async || fetch(call, wanted).await).await;
    match fetched {
        Ok(true) => {
            let report = change.apply(call, || Ok(()));
            foreseen::note(call, path, Made::File(None));
            Ok(report)
        }
        Ok(false) => Ok(Ok(Report::unchanged(format!("`{}` is there", path.display())))),
        Err(Trouble::Denied(error)) => Err(error),
        Err(Trouble::Refused(reason) | Trouble::Broken(reason)) => Ok(Err(named(&wanted.plan.request, &reason))),
    }
}

/// Whether what was fetched is another than what is there; it is put there then, unless the run only checks.
async fn fetch(call: &Call, wanted: &Wanted) -> Result<bool, Trouble> {
    let path = wanted.place.path();
    let mut reply = send(call, &wanted.plan.request).await?;
    if !reply.status.is_success() {
        let reason = format!("the host answers `{}`", reply.status);
        return Err(if reply.status.is_server_error() { Trouble::Broken(reason) } else { Trouble::Refused(reason) });
    }
    let refused = Trouble::Refused;
    let way = entry(path);
    let target: &Path = way.as_ref();
    // A run that only checks makes no file: the digest tells enough.
    let mut begun = if call.checking() { None } else { Some(Temporary::beside(target).map_err(refused)?) };
    let digest = fill(&mut reply, wanted, begun.as_mut().map(|temporary| &mut temporary.file)).await?;
    if let Some((algorithm, expected)) = &wanted.checksum
        && digest != *expected
    {
        return Err(refused(format!("its {algorithm} is {digest}, and not {expected}")));
    }
    let algorithm = wanted.checksum.as_ref().map_or("blake3", |(algorithm, _)| algorithm.as_str());
    if digest_of(path, algorithm).await.as_ref() == Some(&digest) {
        return Ok(false);
    }
    if let Some(temporary) = begun {
        temporary.file.sync_all().await.map_err(said("write", path)).map_err(refused)?;
        let file = temporary.file.try_clone().await.map_err(said("write", path)).map_err(refused)?;
        finish(&file.into_std().await, path, wanted.mode).map_err(said("write", path)).map_err(refused)?;
        sloth_core::fs::rename(&temporary.path, target).map_err(|error| Trouble::Refused(told(error)))?;
    }
    Ok(true)
}

/// Fills the file, if there is one, and gives the digest of what came.
async fn fill(reply: &mut Reply, wanted: &Wanted, mut file: Option<&mut tokio::fs::File>) -> Result<String, Trouble> {
    let algorithm = wanted.checksum.as_ref().map_or("blake3", |(algorithm, _)| algorithm.as_str());
    let Some(mut hash) = Hash::by_name(algorithm) else {
        return Err(Trouble::Refused(format!("there is no algorithm `{algorithm}`")));
    };
    let mut count = 0;
    loop {
        let piece = timeout(SILENCE_MAX, reply.piece()).await;
        let silent = || Trouble::Broken(format!("the host was silent for {}", humantime::format_duration(SILENCE_MAX)));
        let Some(piece) = piece.unwrap_or_else(|_| Err(silent()))? else { break };
        count += piece.len() as u64;
        if wanted.bytes_max < count {
            return Err(Trouble::Refused(format!(
                "the file is larger than the {} bytes it may have",
                wanted.bytes_max
            )));
        }
        hash.feed(&piece);
        if let Some(file) = &mut file {
            let written = file.write_all(&piece).await.map_err(said("write", wanted.place.path()));
            written.map_err(Trouble::Refused)?;
        }
    }
    if let Some(file) = file {
        file.flush().await.map_err(said("write", wanted.place.path())).map_err(Trouble::Refused)?;
    }
    Ok(hash.end())
}

/// Gives the file the owner of the one that it replaces, and its mode unless another is wanted.
fn finish(file: &std::fs::File, path: &Path, mode: Option<u32>) -> io::Result<()> {
    match metadata(&followed(path)) {
        Ok(before) => dress(file, &before, mode.unwrap_or_else(|| before.mode() & MODE_BITS)),
        Err(_) => file.set_permissions(Permissions::from_mode(mode.unwrap_or(MODE))),
    }
}

async fn digest_of(path: &Path, algorithm: &str) -> Option<String> {
    Hash::by_name(algorithm)?.of_file(&inode(path)).await.ok()
}

/// `sha256:…`, or the digest alone.
fn checksum(call: &Call, options: &Options<'_>) -> mlua::Result<Option<(String, String)>> {
    let (checksum, sha256) = (options.text("checksum")?, options.text("sha256")?);
    let text = match (checksum, sha256) {
        (Some(text), None) => text,
        (None, Some(digest)) => format!("sha256:{digest}"),
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(call.error("`checksum` and `sha256` say the same: give one")),
    };
    let (algorithm, digest) = text.split_once(':').unwrap_or(("sha256", &text));
    let (algorithm, digest) = (algorithm.to_ascii_lowercase(), digest.trim().to_ascii_lowercase());
    let Some(hash) = Hash::by_name(&algorithm) else {
        return Err(call.error(format_args!("`checksum`: there is no algorithm `{algorithm}`")));
    };
    let length = hash.end().len();
    if digest.len() != length || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(call.error(format_args!("`checksum`: a digest by {algorithm} has {length} hexadecimal digits")));
    }
    Ok(Some((algorithm, digest)))
}

/// An octal text such as `0644`.
fn mode(call: &Call, value: &Value) -> mlua::Result<Option<u32>> {
    if value.is_nil() {
        return Ok(None);
    }
    let text = call.text("mode", value)?;
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if mode <= MODE_BITS => Ok(Some(mode)),
        Ok(_) | Err(_) => Err(call.error(format_args!("`mode` takes octal digits like `0644`, got `{text}`"))),
    }
}

/// A file that goes unless it was renamed.
struct Temporary {
    path: PathBuf,
    file: tokio::fs::File,
}

impl Temporary {
    /// An empty file in the directory of `target`.
    fn beside(target: &Path) -> Result<Self, String> {
        let (path, file) = create_temporary(target.parent().unwrap_or(Path::new("/")), Access::Owner).map_err(told)?;
        Ok(Self { path, file: tokio::fs::File::from_std(file) })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone already where all went well.
        let _ = std::fs::remove_file(&self.path);
    }
}
