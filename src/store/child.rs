//! Signals for a process that this one started.

use rustix::process::{Pid, Signal, kill_process};

/// Passes a signal on; a process that is gone does not hear it.
pub fn signal(process: u32, number: u8) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    if let (Some(process), Some(signal)) = (process, Signal::from_named_raw(i32::from(number))) {
        let _ = kill_process(process, signal);
    }
}

/// Whether a key that interrupts reaches this process and all that it started from the terminal itself.
pub fn hears_the_terminal() -> bool {
    use std::io::IsTerminal as _;
    std::io::stdin().is_terminal()
}
