// SPDX-License-Identifier: GPL-2.0

//! Lets a BPF program give back the last references of tasks and cgroups in NMI, and shows what the
//! kernel does then: by itself, or with kptr_defer_guard if that is loaded. The program is the same.

use libbpf_rs::{
    Link,
    MapCore,
    MapFlags,
    Object,
    ObjectBuilder,
    ProgramInput,
    ProgramMut, //
};
use nmi_source::KernelWrites;
use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// As in program.bpf.c.
const PAIRS: u32 = 300;

const CGROUPS: &str = "/sys/fs/cgroup";
const GUARD: &str = "/sys/kernel/debug/kptr_defer/guard";

/// For what the kernel does in its own time.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match run() {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                println!("WRONG: {complaint}");
            }
            ExitCode::FAILURE
        }
        Err(err) => {
            eprintln!("last_references: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Vec<String>> {
    // SAFETY: Takes nothing, returns a number.
    if unsafe { libc::geteuid() } != 0 {
        return Err("needs root: it loads BPF programs and makes cgroups".into());
    }
    let observer = Observer::new()?;
    let program = load("program")?;
    let before = Caught::read()?;
    println!(
        "{}",
        match before {
            None => "the kernel alone, and a BPF program that gives back last references in NMI",
            Some(_) => "the same program, with kptr_defer_guard loaded",
        }
    );

    live_and_die(&program, &observer)?;
    let forgotten = {
        let writes = KernelWrites::new()?;
        let forget = writes.event()?.attach(&of(&program, "forget")?)?;
        writes.hit(1)?;
        forget.hits()?
    };
    let freed = |observed: &Observed| {
        observed.tasks_freed == PAIRS.into() && observed.cgroups_freed == PAIRS.into()
    };
    eventually(|| Ok(freed(&observer.observed()?)))?;
    let observed = observer.observed()?;

    let line = |what: &str, n: u64, remark: &str| println!("  {what:<22} {n:>5}{remark}");
    line("tasks died", PAIRS.into(), "");
    line("cgroups were removed", PAIRS.into(), "");
    let illegal = match before {
        None => "   illegal there",
        Some(_) => "",
    };
    line("call_rcu() in NMI", observed.call_rcu_in_nmi, illegal);
    line("queue_work() in NMI", observed.queue_work_in_nmi, illegal);
    let mut complaints = Vec::new();
    let in_nmi = observed.call_rcu_in_nmi + observed.queue_work_in_nmi;
    match (before, Caught::read()?) {
        (Some(before), Some(after)) => {
            let (caught, drained) = (
                after.last_refs - before.last_refs,
                after.drained - before.drained,
            );
            line("caught by the guard", caught, "");
            line("given back since", drained, "");
            if in_nmi != 0 {
                complaints.push(format!("{in_nmi} calls in NMI in spite of the guard"));
            }
            if caught != u64::from(2 * PAIRS) || drained != caught {
                complaints.push(format!("{caught} caught, {drained} given back"));
            }
        }
        _ => {
            if observed.call_rcu_in_nmi == 0 || observed.queue_work_in_nmi == 0 {
                complaints.push("this kernel does not show the hole".into());
            }
        }
    }
    line(
        "freed",
        observed.tasks_freed + observed.cgroups_freed,
        "   tasks and cgroups",
    );
    if !freed(&observed) {
        complaints.push("not all of them were freed".into());
    }
    if forgotten != 1 || observed.breakpoints_in_nmi == 0 {
        complaints.push("there was no NMI".into());
    }
    println!();
    Ok(complaints)
}

/// Tasks and cgroups that the program remembers, and that are no more when this returns.
fn live_and_die(program: &Object, observer: &Observer) -> Result<()> {
    let remember = of(program, "remember")?;
    let mut children = Children(Vec::new());
    for slot in 0..PAIRS {
        let child = children.add()?;
        let cgroup = PathBuf::from(format!("{CGROUPS}/last_references.{slot}"));
        fs::create_dir(&cgroup)
            .map_err(|err| format!("cannot make {}: {err}", cgroup.display()))?;
        let id = fs::metadata(&cgroup)?.ino();
        observer.watch(child, id)?;

        // struct remember
        let mut args = [0u8; 16];
        args[..4].copy_from_slice(&slot.to_ne_bytes());
        args[4..8].copy_from_slice(&child.to_ne_bytes());
        args[8..].copy_from_slice(&id.to_ne_bytes());
        let got = remember.test_run(ProgramInput {
            context_in: Some(&mut args),
            ..Default::default()
        });
        let removed = fs::remove_dir(&cgroup);
        if got?.return_value != 2 {
            return Err("the program did not get hold of a task and its cgroup".into());
        }
        removed?;
    }
    drop(children);

    let held_by_others = of(program, "held_by_others")?;
    eventually(|| {
        let output = held_by_others.test_run(ProgramInput::default())?;
        Ok(output.return_value == 0)
    })
}

/// Processes that wait for their end, which comes with that of this.
struct Children(Vec<libc::pid_t>);

impl Children {
    fn add(&mut self) -> io::Result<libc::pid_t> {
        // SAFETY: This process has one thread, so the child may do whatever it could do itself.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: Takes numbers only. Should the parent die, so does this.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                loop {
                    // SAFETY: Takes nothing.
                    unsafe { libc::pause() };
                }
            }
            child => {
                self.0.push(child);
                Ok(child)
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for &child in &self.0 {
            // SAFETY: A child that has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        for &child in &self.0 {
            // SAFETY: Waits for that child; a null status is not written to.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}

/// `struct observed` of observer.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Observed {
    breakpoints_in_nmi: u64,
    call_rcu_in_nmi: u64,
    queue_work_in_nmi: u64,
    tasks_freed: u64,
    cgroups_freed: u64,
}

struct Observer {
    object: Object,
    _links: Vec<Link>,
}

impl Observer {
    fn new() -> Result<Self> {
        let object = load("observer")?;
        let links = object
            .progs_mut()
            .map(|program| program.attach())
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            object,
            _links: links,
        })
    }

    fn watch(&self, pid: libc::pid_t, cgroup: u64) -> Result<()> {
        for map in self.object.maps() {
            if map.name() == "pids" {
                map.update(&pid.to_ne_bytes(), &[0], MapFlags::ANY)?;
            } else if map.name() == "cgroups" {
                map.update(&cgroup.to_ne_bytes(), &[0], MapFlags::ANY)?;
            }
        }
        Ok(())
    }

    fn observed(&self) -> Result<Observed> {
        let bss = self
            .object
            .maps()
            .find(|map| map.name().to_string_lossy().ends_with(".bss"))
            .ok_or("the observer has no .bss")?;
        let bytes = bss
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?
            .filter(|bytes| bytes.len() >= size_of::<Observed>())
            .ok_or("the observer's .bss is too short")?;
        // SAFETY: Long enough, as just checked, and any bytes are a valid `Observed`.
        Ok(unsafe { bytes.as_ptr().cast::<Observed>().read_unaligned() })
    }
}

/// What the guard has counted, over all functions.
struct Caught {
    last_refs: u64,
    drained: u64,
}

impl Caught {
    /// `None` if it is not loaded.
    fn read() -> Result<Option<Self>> {
        let table = match fs::read_to_string(GUARD) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            table => table?,
        };
        let column = |index: usize| {
            let numbers = table.lines().skip(1).map(|line| {
                let number = line.split(' ').nth(index).unwrap_or_default();
                number.parse::<u64>()
            });
            numbers.sum::<std::result::Result<u64, _>>()
        };
        Ok(Some(Self {
            last_refs: column(3)?,
            drained: column(4)?,
        }))
    }
}

/// Waits until it is so, or for as long as makes sense.
fn eventually(is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Loads the BPF object of that name that lies beside the program.
fn load(name: &str) -> Result<Object> {
    let path = env::current_exe()?.with_file_name(format!("{name}.bpf.o"));
    ObjectBuilder::default()
        .open_file(&path)
        .and_then(|object| object.load())
        .map_err(|err| format!("cannot load {}: {err:#}", path.display()).into())
}

fn of<'a>(object: &'a Object, name: &str) -> Result<ProgramMut<'a>> {
    object
        .progs_mut()
        .find(|program| program.name() == name)
        .ok_or_else(|| format!("there is no BPF program {name}").into())
}
