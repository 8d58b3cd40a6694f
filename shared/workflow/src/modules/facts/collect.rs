//! Facts that are read from the kernel and from files.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value as Json, json};
use sysinfo::{
    CpuRefreshKind, Disks, MemoryRefreshKind, Networks, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System,
};

use crate::modules::{AgentInfo, account};

/// Most bytes of the small files that are read here.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The parts of all facts, in order.
const SECTIONS: [&str; 12] = [
    "agent",
    "hostname",
    "platform",
    "kernel",
    "cpu",
    "memory",
    "load",
    "uptime",
    "disk",
    "network",
    "processes",
    "users",
];

pub(super) fn all(agent: &AgentInfo) -> Result<Json, String> {
    let mut all = serde_json::Map::new();
    for name in SECTIONS {
        all.insert(name.to_owned(), section(agent, name)?);
    }
    Ok(Json::Object(all))
}

/// One part of all facts; null when there is none of this name.
pub(super) fn section(agent: &AgentInfo, name: &str) -> Result<Json, String> {
    Ok(match name {
        "agent" => json!({ "name": agent.name, "labels": agent.labels }),
        "hostname" => hostname(),
        "platform" | "os" => platform(),
        "kernel" => kernel(),
        "cpu" => cpu()?,
        "memory" => memory()?,
        "load" => load()?,
        "uptime" => uptime()?,
        "disk" => disks()?,
        "network" => networks()?,
        "processes" => processes()?,
        "users" => users(),
        _ => Json::Null,
    })
}

pub(super) fn hostname() -> Json {
    json!(rustix::system::uname().nodename().to_string_lossy())
}

pub(super) fn platform() -> Json {
    let names = rustix::system::uname();
    let release = os_release();
    let get = |key: &str| release.get(key).cloned();
    let id = get("ID").unwrap_or_else(|| "linux".to_owned());
    let family = get("ID_LIKE").and_then(|like| like.split_whitespace().next().map(str::to_owned));
    json!({
        "os": names.sysname().to_string_lossy().to_lowercase(),
        "distribution": id,
        "family": family.unwrap_or_else(|| id.clone()),
        "name": get("PRETTY_NAME"),
        "version": get("VERSION_ID"),
        "codename": get("VERSION_CODENAME"),
        "architecture": names.machine().to_string_lossy(),
        "kernel": names.sysname().to_string_lossy(),
        "kernel_version": names.release().to_string_lossy(),
        "virtualization": virtualization(),
    })
}

pub(super) fn kernel() -> Json {
    let names = rustix::system::uname();
    json!({ "name": names.sysname().to_string_lossy(), "version": names.release().to_string_lossy() })
}

pub(super) fn cpu() -> Result<Json, String> {
    let mut system = System::new().map_err(said)?;
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    let first = system.cpus().first();
    Ok(json!({
        "count": system.cpus().len(),
        "cores": System::physical_core_count().ok(),
        "model": first.map(sysinfo::Cpu::brand),
        "vendor": first.map(sysinfo::Cpu::vendor_id),
    }))
}

/// In bytes.
pub(super) fn memory() -> Result<Json, String> {
    let mut system = System::new().map_err(said)?;
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    let table = read("/proc/meminfo");
    let kib = |name: &str| {
        let line = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    };
    Ok(json!({
        "total": system.total_memory(),
        "available": system.available_memory(),
        "used": system.used_memory(),
        "used_percent": percent(system.used_memory(), system.total_memory()),
        "free": system.free_memory(),
        "cached": kib("Cached"),
        "buffers": kib("Buffers"),
        "swap_total": system.total_swap(),
        "swap_used": system.used_swap(),
        "swap": {
            "total": system.total_swap(),
            "used": system.used_swap(),
            "free": system.free_swap(),
            "used_percent": percent(system.used_swap(), system.total_swap()),
        },
    }))
}

pub(super) fn load() -> Result<Json, String> {
    let load = System::load_average().map_err(said)?;
    Ok(json!({
        "1": load.one, "5": load.five, "15": load.fifteen,
        "load1": load.one, "load5": load.five, "load15": load.fifteen,
    }))
}

pub(super) fn uptime() -> Result<Json, String> {
    Ok(json!({
        "seconds": System::uptime().map_err(said)?,
        "boot_time": System::boot_time().map_err(said)?,
        "timezone": timezone(),
    }))
}

/// Sizes in bytes, in the order of the mount points.
pub(super) fn disks() -> Result<Json, String> {
    let disks = Disks::new_with_refreshed_list().map_err(said)?;
    let mut list = BTreeMap::new();
    for disk in disks.iter() {
        let (total, free) = (disk.total_space(), disk.available_space());
        let used = total.saturating_sub(free);
        let mountpoint = disk.mount_point().to_string_lossy().into_owned();
        let entry = json!({
            "device": disk.name().to_string_lossy(),
            "mountpoint": mountpoint,
            "fstype": disk.file_system().to_string_lossy(),
            "total": total,
            "used": used,
            "free": free,
            "used_percent": percent(used, total),
            "read_only": disk.is_read_only(),
        });
        list.insert(mountpoint, entry);
    }
    Ok(list.into_values().collect())
}

/// In the order of their names.
pub(super) fn networks() -> Result<Json, String> {
    let networks = Networks::new_with_refreshed_list().map_err(said)?;
    let mut list = BTreeMap::new();
    for (name, data) in &networks {
        let name = name.to_string_lossy().into_owned();
        let state = read(&format!("/sys/class/net/{name}/operstate"));
        let flags = read(&format!("/sys/class/net/{name}/flags"));
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
        let speed = read(&format!("/sys/class/net/{name}/speed")).trim().parse::<i64>().ok();
        let entry = json!({
            "name": name,
            "mac": data.mac_address().to_string(),
            "mtu": data.mtu(),
            // The first bit of the flags says that the interface is up, also where its carrier is not known.
            "is_up": flags & 1 == 1,
            "state": state.trim(),
            "speed": speed.filter(|speed| 0 < *speed),
            "addresses": data.ip_networks().iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        list.insert(name, entry);
    }
    Ok(list.into_values().collect())
}

pub(super) fn users() -> Json {
    let users = account::all().into_iter().map(|user| {
        json!({
            "username": user.name,
            "uid": user.uid,
            "gid": user.gid,
            "comment": user.comment,
            "home": user.home,
            "shell": user.shell,
        })
    });
    users.collect()
}

/// How many processes are in which state.
#[expect(clippy::for_kv_map, reason = "the values alone are banned as an order of chance")]
pub(super) fn processes() -> Result<Json, String> {
    let mut system = System::new().map_err(said)?;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing().without_tasks());
    let (mut total, mut running, mut sleeping, mut zombie) = (0_u32, 0, 0, 0);
    // Only counted: their order does not show.
    for (_pid, process) in system.processes() {
        let status = process.status();
        total += 1;
        running += u32::from(status == ProcessStatus::Run);
        sleeping += u32::from(matches!(status, ProcessStatus::Sleep | ProcessStatus::Idle));
        zombie += u32::from(status == ProcessStatus::Zombie);
    }
    Ok(json!({ "total": total, "running": running, "sleeping": sleeping, "zombie": zombie }))
}

fn os_release() -> BTreeMap<String, String> {
    let mut text = read("/etc/os-release");
    if text.is_empty() {
        text = read("/usr/lib/os-release");
    }
    parse_os_release(&text)
}

fn parse_os_release(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        let value = value.trim();
        let inner = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        (!name.starts_with('#')).then(|| (name.to_owned(), inner.unwrap_or(value).to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// What the host runs in; `none` on bare metal, as far as it shows.
fn virtualization() -> String {
    // systemd leaves the name of its container there.
    let container = read("/run/systemd/container");
    if !container.trim().is_empty() {
        return container.trim().to_owned();
    }
    if read("/proc/version").to_lowercase().contains("microsoft") {
        return "wsl".to_owned();
    }
    machine().to_owned()
}

fn machine() -> &'static str {
    const CONTAINERS: [(&str, &str); 2] = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    const VENDORS: [(&str, &str); 9] = [
        ("Parallels", "parallels"),
        ("QEMU", "kvm"),
        ("KVM", "kvm"),
        ("Amazon EC2", "kvm"),
        ("Google", "kvm"),
        ("VMware", "vmware"),
        ("innotek", "virtualbox"),
        ("Microsoft", "hyperv"),
        ("Xen", "xen"),
    ];
    if let Some((_, name)) = CONTAINERS.iter().find(|(path, _)| Path::new(path).exists()) {
        return name;
    }
    let vendor = read("/sys/class/dmi/id/sys_vendor") + &read("/sys/class/dmi/id/product_name");
    if let Some((_, name)) = VENDORS.iter().find(|(mark, _)| vendor.contains(mark)) {
        return name;
    }
    // Where the firmware tells nothing, the processor still says that it is not alone.
    if read("/proc/cpuinfo").contains(" hypervisor") { "vm" } else { "none" }
}

fn timezone() -> String {
    let link = std::fs::read_link("/etc/localtime").unwrap_or_default();
    let link = link.to_string_lossy();
    let zone = link.split_once("zoneinfo/").map_or_else(|| read("/etc/timezone"), |(_, zone)| zone.to_owned());
    if zone.trim().is_empty() { "UTC".to_owned() } else { zone.trim().to_owned() }
}

fn percent(part: u64, whole: u64) -> f64 {
    // Two digits are all that anybody reads of it.
    #[expect(clippy::cast_precision_loss)]
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    (percent * 100.0).round() / 100.0
}

/// A small file as text; empty when it cannot be read.
fn read(path: &str) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read before an error is as good as it gets: files of the kernel may stop anywhere.
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn said(error: sysinfo::Error) -> String {
    format!("the system does not tell: {error:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_file_is_read_in_each_quoting() {
        let release = parse_os_release("# NAME=no\nID=debian\nVERSION_ID=\"12\"\nNAME='A B'\n\nodd\nEMPTY=\n");
        let expected = [("EMPTY", ""), ("ID", "debian"), ("NAME", "A B"), ("VERSION_ID", "12")];
        let release: Vec<_> = release.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(release, expected);
    }

    #[test]
    fn percentages_have_two_digits_and_no_division_by_zero() {
        assert_eq!((percent(1, 3), percent(0, 0)), (33.33, 0.0));
    }
}
