//! Who may read what on this machine: files with their owners, processes as the kernel shows them, the kernel's own
//! settings. Nothing is opened that holds a secret.

use crate::audit::facts::{Mode, Process, Read};
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Files of `/proc` and `/sys` are small; more is not read.
const MAX_TEXT: u64 = 64 << 10;
/// Files of one folder that are looked at.
const MAX_FILES: usize = 256;

/// Who may do what with a file or a folder; `None` where there is none. A link is followed.
pub fn mode(path: &Path, shown: &str) -> Option<Read<Mode>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(format!("{shown}: {error}"))),
    };
    let (owner, group) = (metadata.uid(), metadata.gid());
    Some(Ok(Mode {
        path: shown.to_owned(),
        bits: metadata.mode() & 0o7777,
        owner: named("/etc/passwd", owner),
        group: named("/etc/group", group),
        trusted: owner == 0 || owner == rustix::process::geteuid().as_raw(),
        folder: metadata.is_dir(),
    }))
}

/// The files of a folder by the names they are shown with; nothing where it is none.
pub fn files_in(folder: &Path, shown: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_FILES);
    entries.filter_map(|entry| Some(format!("{shown}/{}", entry.ok()?.file_name().to_str()?))).collect()
}

/// `0 root`, by a file whose lines are `name:x:id:...`; the number alone where nobody is called so.
fn named(file: &str, id: u32) -> String {
    let known = fs::read_to_string(file).unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.map_or_else(|| id.to_string(), |name| format!("{id} {name}"))
}

/// Whether two paths are on one file system.
pub fn same_disk(one: &Path, other: &Path) -> Read<bool> {
    let device = |path: &Path| {
        // What is not made yet will be made where its folder is.
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
        fs::metadata(there).map(|metadata| metadata.dev()).map_err(|error| format!("{}: {error}", there.display()))
    };
    Ok(device(one)? == device(other)?)
}

/// A process of a container as `/proc` has it, where that is the `/proc` of the engine's machine. `None` for one that ended.
pub fn process(pid: u32, container: &str) -> Read<Option<Process>> {
    let read = |name: &str| text(Path::new(&format!("/proc/{pid}/{name}")));
    let (Some(groups), Some(status)) = (read("cgroup")?, read("status")?) else { return Ok(None) };
    if container.is_empty() || !groups.contains(container) {
        return Err(format!("/proc/{pid}/cgroup does not name the container: this is not the engine's machine"));
    }
    let command = read("cmdline")?.unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or(format!("/proc/{pid}/status has no {name}"))
    };
    let bits = |name: &str| {
        let text = field(name)?;
        u64::from_str_radix(text, 16).map_err(|_not_hexadecimal| format!("/proc/{pid}/status: {name} is {text}"))
    };
    Ok(Some(Process {
        pid,
        uids: field("Uid")?.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
        bounding: bits("CapBnd")?,
        effective: bits("CapEff")?,
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp: field("Seccomp")?.parse().unwrap_or(0),
        command: command.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    }))
}

/// A setting of the kernel, `/proc/sys/vm/overcommit_memory`.
pub fn kernel(path: &str) -> Read<String> {
    match text(Path::new(path))? {
        Some(text) => Ok(text.trim().to_owned()),
        None => Err(format!("there is no {path}")),
    }
}

/// `None` for what is not there, or is there no longer.
fn text(path: &Path) -> Read<Option<String>> {
    let read = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(MAX_TEXT).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // ESRCH: the process ended between two reads.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
