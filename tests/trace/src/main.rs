//! Runs a command under `ptrace` and kills it just before the system call of a number: of those that change something, on a
//! disk or at somebody's who listens, whichever thread makes them.
//!
//!     trace NUMBER COMMAND [ARGUMENT...]    0 kills nothing; counting starts at 1
//!
//! Prints how many calls there were and how it ended, `97 exit 0` or `12 killed`. What the command prints goes to standard
//! error.

use anyhow::{Context as _, bail, ensure};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let number = arguments.next().context("usage: trace NUMBER COMMAND [ARGUMENT...]")?;
    let number = number.to_str().and_then(|text| text.parse().ok()).context("NUMBER counts system calls")?;
    let output = || io::stderr().as_fd().try_clone_to_owned();
    // The shell stops itself before it becomes the command, so that nothing of it is missed.
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).args(arguments);
    let child = shell.stdin(Stdio::null()).stdout(output()?).stderr(output()?).spawn().context("no shell")?;
    let process = Pid::from_raw(child.id().cast_signed());
    let first = waitpid(process, Some(WaitPidFlag::WUNTRACED))?;
    ensure!(matches!(first, WaitStatus::Stopped(_, Signal::SIGSTOP)), "the shell did not stop: {first:?}");
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(process, options).context("ptrace is not allowed here")?;
    kill(process, Signal::SIGCONT)?;
    match follow(process, number)? {
        (calls, Some(code)) => println!("{calls} exit {code}"),
        (calls, None) => println!("{calls} killed"),
    }
    Ok(())
}

/// The calls that were made, and the exit code; none where it was killed.
fn follow(process: Pid, number: usize) -> anyhow::Result<(usize, Option<i32>)> {
    let mut calls = 0;
    let mut inside = BTreeSet::new();
    loop {
        let (thread, deliver) = match waitpid(None, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(id, code) if id == process => return Ok((calls, Some(code))),
            WaitStatus::Signaled(id, Signal::SIGKILL, _) if id == process => return Ok((calls, None)),
            WaitStatus::Signaled(id, signal, _) if id == process => bail!("it ended by {signal}"),
            WaitStatus::PtraceSyscall(thread) => {
                // The same stop comes again when the call returns.
                if !inside.remove(&thread.as_raw()) {
                    inside.insert(thread.as_raw());
                    if number_of(thread).is_some_and(|call| CHANGES.contains(&call)) {
                        calls += 1;
                        if calls == number {
                            kill(process, Signal::SIGKILL)?;
                        }
                    }
                }
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Stopped(thread, Signal::SIGTRAP) => (thread, None),
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            _ => continue,
        };
        // A thread that is gone by now says so itself.
        let _ = ptrace::syscall(thread, deliver);
    }
}

#[cfg(target_arch = "x86_64")]
fn number_of(thread: Pid) -> Option<i64> {
    ptrace::getregs(thread).ok().map(|registers| registers.orig_rax.cast_signed())
}

#[cfg(target_arch = "aarch64")]
fn number_of(thread: Pid) -> Option<i64> {
    ptrace::getregs(thread).ok().and_then(|registers| registers.regs.get(8).map(|call| call.cast_signed()))
}

/// What changes files by any way there is, and what is said over a socket.
const CHANGES: &[i64] = &[
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_copy_file_range,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
];
