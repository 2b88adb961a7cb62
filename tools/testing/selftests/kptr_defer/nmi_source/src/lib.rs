// SPDX-License-Identifier: GPL-2.0

//! Real NMIs for a BPF program of type `perf_event`.
//!
//! | source | what raises it | the program runs |
//! | --- | --- | --- |
//! | [`Event::cycles`] | PMU overflow, every so many CPU cycles | in NMI on x86, whatever was interrupted; on arm64 only with pseudo-NMIs |
//! | [`Event::execute`] | x86 debug register on a kernel instruction | in NMI, before that instruction |
//! | [`KernelWrites`] | x86 debug register on memory that the kernel writes to | in NMI, after the store |
//!
//! A `#DB` taken in kernel mode enters through `irqentry_nmi_enter()`, one taken in user mode
//! does not: hence `exclude_user` on both breakpoint sources. arm64 handles its debug
//! exceptions outside NMI, so there they are [`Error::Absent`]. `PERF_COUNT_SW_CPU_CLOCK`,
//! which opens everywhere, is an hrtimer and no NMI: it is not offered.
//!
//! # What is counted
//!
//! [`Attached::hits`] is how often the hardware condition came about. The program may have run
//! less often: the kernel skips it on a CPU where a perf_event, kprobe or tracepoint program is
//! running already. So a test counts in the program, and compares with `hits` at most.
//!
//! Breakpoints with a period of 1, as here, are never throttled (`perf_swevent_overflow()`
//! throttles from the second overflow of one event on). Cycles are: no more than
//! `kernel.perf_event_max_sample_rate` a second, which the kernel lowers by itself when the
//! NMIs take too long.
//!
//! # Limits
//!
//! Each x86 CPU has four debug registers, shared with debuggers. Opening needs root or
//! CAP_PERFMON; a kernel symbol's address needs `kernel.kptr_restrict=0` as well.
//!
//! # Example
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let object = libbpf_rs::ObjectBuilder::default().open_file("x.bpf.o")?.load()?;
//! # let program = object.progs_mut().next().unwrap();
//! use nmi_source::{kernel_symbol, Event, KernelWrites, Scope};
//!
//! // Whoever looks up a path on CPU 0.
//! let address = kernel_symbol("getname_flags")?;
//! let attached = Event::execute(Scope::Cpu(0), address)?.attach(&program)?;
//! std::fs::metadata("/")?;
//! println!("{} hits", attached.hits()?);
//!
//! // Exactly 1000, in this thread.
//! let writes = KernelWrites::new()?;
//! let attached = writes.event()?.attach(&program)?;
//! writes.hit(1000)?;
//! assert_eq!(attached.hits()?, 1000);
//! # Ok(())
//! # }
//! ```

use libbpf_rs::{
    Link,
    ProgramMut, //
};
use perf_event_open_sys::{
    bindings::{
        perf_event_attr,
        HW_BREAKPOINT_LEN_1,
        HW_BREAKPOINT_W,
        HW_BREAKPOINT_X,
        PERF_COUNT_HW_CPU_CYCLES,
        PERF_FLAG_FD_CLOEXEC,
        PERF_TYPE_BREAKPOINT,
        PERF_TYPE_HARDWARE, //
    },
    ioctls,
};
use std::{
    cell::UnsafeCell,
    ffi::c_long,
    fmt,
    fs::{
        self,
        File, //
    },
    io::{
        self,
        Read, //
    },
    os::fd::{
        AsRawFd,
        FromRawFd,
        IntoRawFd,
        OwnedFd, //
    },
    time::Duration,
};

mod interrupts;

/// Why there is no NMI source, and what can be done about it.
#[derive(Debug)]
pub enum Error {
    /// This machine does not have it. A reason to skip, not to fail.
    Absent(String),
    /// It opens but does not interrupt. A reason to skip, not to fail.
    Silent(String),
    /// The kernel lets nothing interrupt it there.
    NotThere(String),
    /// It is there but was not to be had as asked: rights, arguments, or all slots taken.
    Refused(String),
}

impl Error {
    /// Whether another source may do where this one cannot.
    pub fn is_skip(&self) -> bool {
        matches!(self, Error::Absent(_) | Error::Silent(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Error::Absent(why) | Error::Silent(why) | Error::NotThere(why) | Error::Refused(why)) =
            self;
        f.write_str(why)
    }
}

impl std::error::Error for Error {}

/// What the functions here return.
pub type Result<T> = std::result::Result<T, Error>;

/// Whom a source interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All tasks, while they run on this CPU.
    Cpu(u32),
    /// The calling thread, on whichever CPU it runs. Its children are not included.
    ThisThread,
}

/// An opened source that does not interrupt yet: that starts with [`attach`](Event::attach).
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// Interrupts every `period` CPU cycles, in kernel and user mode.
    ///
    /// That it opens does not mean that it interrupts: ask [`cycles_interrupt`] first.
    pub fn cycles(scope: Scope, period: u64) -> Result<Event> {
        cycles(scope, sampling_every(period))
    }

    /// Interrupts about so many times in a second of a busy CPU: the kernel adapts the period.
    ///
    /// [`Error::Absent`] also if that is more than `kernel.perf_event_max_sample_rate`.
    pub fn cycles_at(scope: Scope, hertz: u64) -> Result<Event> {
        let mut attr = sampling_every(hertz);
        attr.set_freq(1);
        cycles(scope, attr)
    }

    /// Interrupts whenever the kernel is about to execute the instruction at `address`.
    ///
    /// `address` is where an instruction of kernel or module text begins, for one the address of
    /// a function (see [`kernel_symbol`]), and not on the kprobes blacklist. x86 only.
    pub fn execute(scope: Scope, address: u64) -> Result<Event> {
        breakpoint(scope, on_instruction(address))
    }

    /// Lets `program` run on each interrupt, from now on and until the result is dropped.
    pub fn attach(self, program: &ProgramMut<'_>) -> Result<Attached> {
        let failed = |err: &dyn fmt::Display| {
            Error::Refused(format!(
                "cannot attach {} to its perf event: {err}",
                program.name().to_string_lossy()
            ))
        };
        let counter = self.0.try_clone().map_err(|err| failed(&err))?;
        let link = program
            .attach_perf_event(self.0.as_raw_fd())
            .map_err(|err| failed(&err))?;
        // The link closes it, now that there is one.
        let _ = self.0.into_raw_fd();
        Ok(Attached {
            counter: counter.into(),
            _link: link,
        })
    }
}

/// A source that runs a program; dropping it stops that.
#[derive(Debug)]
pub struct Attached {
    counter: File,
    _link: Link,
}

impl Attached {
    /// How often the source fired (of [`Event::cycles`]: how many cycles went by).
    pub fn hits(&self) -> io::Result<u64> {
        let mut count = [0; size_of::<u64>()];
        (&self.counter).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }

    /// Lets an [`Event::execute`] interrupt at another address from now on. It stays where it is if
    /// that fails.
    pub fn move_to(&self, address: u64) -> Result<()> {
        let mut attr = on_instruction(address);
        attr.set_disabled(0);
        // SAFETY: An event of ours, and an `attr` that is initialised and says its size.
        if unsafe { ioctls::MODIFY_ATTRIBUTES(self.counter.as_raw_fd(), &mut attr) } < 0 {
            return Err(no_breakpoint(address, &io::Error::last_os_error()));
        }
        Ok(())
    }
}

/// Memory that the kernel writes to on request, and the NMI that each such write raises.
///
/// Only the thread that called [`event`](KernelWrites::event) is interrupted, so let the same one
/// call [`hit`](KernelWrites::hit). x86 only.
#[derive(Debug)]
pub struct KernelWrites {
    target: Box<UnsafeCell<u8>>,
    zero: File,
}

impl KernelWrites {
    /// Sets aside one byte for the kernel to write to.
    pub fn new() -> Result<KernelWrites> {
        Ok(KernelWrites {
            target: Box::new(UnsafeCell::new(0)),
            zero: File::open("/dev/zero")
                .map_err(|err| Error::Refused(format!("cannot open /dev/zero: {err}")))?,
        })
    }

    /// Interrupts the calling thread each time the kernel has written to the byte.
    pub fn event(&self) -> Result<Event> {
        let address = self.target.get() as u64;
        breakpoint(
            Scope::ThisThread,
            breakpoint_attr(HW_BREAKPOINT_W, address, HW_BREAKPOINT_LEN_1.into()),
        )
    }

    /// Makes the kernel write `n` times.
    pub fn hit(&self, n: u64) -> Result<()> {
        for _ in 0..n {
            // SAFETY: The byte is ours, and nobody else has a reference to it.
            let read = unsafe { libc::read(self.zero.as_raw_fd(), self.target.get().cast(), 1) };
            if read != 1 {
                let err = io::Error::last_os_error();
                return Err(Error::Refused(format!("cannot read /dev/zero: {err}")));
            }
        }
        Ok(())
    }
}

/// Whether PMU cycles really interrupt on `cpu`: watches for one while the CPU is busy.
///
/// Tells the three cases apart: `Ok`, [`Error::Absent`] (no event to be had) and
/// [`Error::Silent`] (it opens, perhaps it counts, but no interrupt ever arrives, as under an
/// emulated or half-virtualised PMU).
pub fn cycles_interrupt(cpu: u32) -> Result<()> {
    const PERIOD: u64 = 100_000;
    const PATIENCE: Duration = Duration::from_secs(3);

    let event = Event::cycles(Scope::Cpu(cpu), PERIOD)?;
    match interrupts::seen_within(&event.0, cpu, PATIENCE) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Silent(format!(
            "PMU cycles open but do not interrupt: not once in {PATIENCE:?} of a busy CPU {cpu}"
        ))),
        Err(err) => Err(refused("PMU cycles", &err)),
    }
}

/// The address of a function of the kernel or of a module.
pub fn kernel_symbol(name: &str) -> Result<u64> {
    kernel_symbols([name]).map(|[address]| address)
}

/// The addresses of several functions: reading all symbols takes the kernel a while.
pub fn kernel_symbols<const N: usize>(names: [&str; N]) -> Result<[u64; N]> {
    let symbols = fs::read_to_string("/proc/kallsyms")
        .map_err(|err| Error::Refused(format!("cannot read /proc/kallsyms: {err}")))?;
    let mut addresses = [None; N];
    for line in symbols.lines() {
        for (name, address) in names.iter().zip(&mut addresses) {
            if address.is_none() {
                *address = text_symbol(line, name);
            }
        }
    }
    let mut found = [0; N];
    for ((name, address), found) in names.iter().zip(addresses).zip(&mut found) {
        *found =
            match address {
                Some(0) => return Err(Error::Refused(
                    "the kernel hides its addresses: be root and set sysctl kernel.kptr_restrict=0"
                        .into(),
                )),
                Some(address) => address,
                None => return Err(Error::Absent(format!("this kernel has no function {name}"))),
            };
    }
    Ok(found)
}

fn text_symbol(line: &str, name: &str) -> Option<u64> {
    if !line.contains(name) {
        return None;
    }
    let mut fields = line.split_ascii_whitespace();
    let (address, kind, symbol) = (fields.next()?, fields.next()?, fields.next()?);
    if symbol != name || !kind.eq_ignore_ascii_case("t") {
        return None;
    }
    u64::from_str_radix(address, 16).ok()
}

fn cycles(scope: Scope, sampling: perf_event_attr) -> Result<Event> {
    let attr = perf_event_attr {
        type_: PERF_TYPE_HARDWARE,
        config: PERF_COUNT_HW_CPU_CYCLES.into(),
        ..sampling
    };
    open(attr, scope).map_err(|err| match err.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL) => Error::Absent(format!(
            "no PMU cycles: perf_event_open says '{err}'. \
             A virtual machine has them only under KVM with a vPMU"
        )),
        _ => refused("PMU cycles", &err),
    })
}

/// With the one length that x86 takes for instructions.
fn on_instruction(address: u64) -> perf_event_attr {
    breakpoint_attr(HW_BREAKPOINT_X, address, size_of::<c_long>() as u64)
}

fn breakpoint_attr(kind: u32, address: u64, length: u64) -> perf_event_attr {
    let mut attr = perf_event_attr {
        type_: PERF_TYPE_BREAKPOINT,
        bp_type: kind,
        ..sampling_every(1)
    };
    attr.__bindgen_anon_3.bp_addr = address;
    attr.__bindgen_anon_4.bp_len = length;
    attr.set_exclude_user(1);
    attr
}

fn breakpoint(scope: Scope, attr: perf_event_attr) -> Result<Event> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        return Err(Error::Absent(
            "hardware breakpoints are no NMI source here: only x86 enters NMI for them".into(),
        ));
    }
    // SAFETY: `breakpoint_attr()` has set it, and any bytes are a number.
    let address = unsafe { attr.__bindgen_anon_3.bp_addr };
    open(attr, scope).map_err(|err| no_breakpoint(address, &err))
}

fn no_breakpoint(address: u64, err: &io::Error) -> Error {
    let what = format!("a hardware breakpoint at {address:#x}");
    match err.raw_os_error() {
        Some(libc::ENOSPC) => Error::Refused(format!(
            "{what} is not to be had: the debug registers are all in use, \
             by other breakpoints here or by a debugger"
        )),
        Some(libc::EINVAL) => Error::NotThere(format!(
            "the kernel allows no breakpoint at {address:#x}: \
             not kernel text, on the kprobes blacklist, or there is no such CPU"
        )),
        Some(libc::ENOENT | libc::EOPNOTSUPP) => {
            Error::Absent(format!("{what} is not supported here: {err}"))
        }
        _ => refused(&what, err),
    }
}

fn sampling_every(period: u64) -> perf_event_attr {
    let mut attr = perf_event_attr {
        size: size_of::<perf_event_attr>() as u32,
        ..perf_event_attr::default()
    };
    attr.__bindgen_anon_1.sample_period = period;
    attr.set_disabled(1);
    attr
}

fn open(mut attr: perf_event_attr, scope: Scope) -> io::Result<Event> {
    let (pid, cpu) = match scope {
        Scope::Cpu(cpu) => (-1, cpu as i32),
        Scope::ThisThread => (0, -1),
    };
    // SAFETY: `attr` is initialised and says its size.
    let fd = unsafe {
        perf_event_open_sys::perf_event_open(&mut attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC.into())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: It was just opened, and nobody else knows it.
    Ok(Event(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn refused(what: &str, err: &io::Error) -> Error {
    Error::Refused(match err.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => format!(
            "{what} needs root or CAP_PERFMON \
             (and kernel.perf_event_paranoid does not forbid it to those): {err}"
        ),
        Some(libc::EMFILE) => format!("{what}: too many open files, raise ulimit -n"),
        Some(libc::ENODEV) => format!("{what}: that CPU is offline"),
        _ => format!("{what}: perf_event_open says '{err}'"),
    })
}
