//! Runs work on text that nobody vouches for, and gives up on it when it takes too much.
//!
//! Templates can loop, and tera counts no steps; the parser's limits bound the rest. The work runs on
//! a thread of its own, which is left behind when it is given up: the process ends soon after.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Processor time, not wall time: a busy machine must not make a good spec look hostile.
const MAX_PROCESSOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3_000 } else { 600 });
/// A stuck thread that uses no processor is still stuck.
const MAX_WALL: Duration = Duration::from_secs(60);
/// On top of what the process uses when the work begins.
const MAX_MEMORY: u64 = 64 << 20;

/// What was used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exceeded {
    Time,
    Memory,
}

/// Runs `work`, watching the processor time and the memory of the whole process.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Exceeded> {
    let (sender, receiver) = mpsc::channel();
    let (memory, processor, began) = (resident(), processor_time(), Instant::now());
    // Parsers recurse; a deep spec ends at their limits well inside this stack.
    let spawned = thread::Builder::new().stack_size(16 << 20).spawn(move || sender.send(work()));
    if spawned.is_err() {
        return Err(Exceeded::Memory);
    }
    loop {
        match receiver.recv_timeout(Duration::from_millis(5)) {
            Ok(result) => return Ok(result),
            // The thread panicked; its message is already on stderr.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Exceeded::Time),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if processor_time().saturating_sub(processor) > MAX_PROCESSOR || began.elapsed() > MAX_WALL {
            return Err(Exceeded::Time);
        }
        if resident().saturating_sub(memory) > MAX_MEMORY {
            return Err(Exceeded::Memory);
        }
    }
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident bytes of this process; 0 where the kernel does not say.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}
