// SPDX-License-Identifier: GPL-2.0

//! Loads and unloads kernel modules, and reads what kptr_defer says about itself.

use crate::{
    check,
    kmsg::Kmsg,
    ktap::{
        failed,
        note,
        Outcome,
        Stop, //
    },
};
use std::{
    cell::{
        Cell,
        RefCell, //
    },
    collections::HashMap,
    env,
    ffi::CString,
    fs::{
        self,
        File, //
    },
    io,
    os::fd::AsRawFd,
    path::{
        Path,
        PathBuf, //
    },
    ptr,
    sync::Mutex,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

pub const NMI_SOURCE: &str = "kptr_defer_test_nmi";
pub const USER: &str = "kptr_defer_test_user";
pub const RUST_USER: &str = "kptr_defer_test_rust";
pub const RUST_SAMPLE: &str = "kptr_defer_sample_rust";
pub const GUARD: &str = "kptr_defer_guard";
pub const LIVEPATCH: &str = "kptr_defer_test_livepatch";
const DEBUGFS: &str = "/sys/kernel/debug";
const NMI_LONGEST: &str = "x86/nmi_longest_ns";

/// Maps are freed asynchronously, and they pin the module.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for it.
pub fn eventually(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome {
    let start = Instant::now();
    while !holds()? {
        check!(start.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What lies beside the executable.
pub fn built(file: &str) -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(file))
}

pub fn debugfs(file: &str) -> PathBuf {
    Path::new(DEBUGFS).join(file)
}

pub fn debugfs_number(file: &str) -> Outcome<u64> {
    let text = fs::read_to_string(debugfs(file))?;
    text.trim()
        .parse()
        .or_else(|_| failed(format!("{file}: {text}")))
}

fn sysfs(module: &str) -> PathBuf {
    Path::new("/sys/module").join(module)
}

pub fn is_loaded(name: &str) -> bool {
    sysfs(name).join("initstate").exists()
}

pub fn is_built_in(name: &str) -> bool {
    // One without parameters is not in sysfs.
    let there = match name {
        GUARD => debugfs("kptr_defer/guard"),
        _ => sysfs(name),
    };
    there.exists() && !is_loaded(name)
}

/// For what cannot be done with a module that is built in.
pub fn not_built_in(name: &str) -> Outcome {
    if is_built_in(name) {
        return Err(Stop::Skipped(format!("{name} is built into this kernel")));
    }
    Ok(())
}

/// Where it sees each handle freed, no memory is kept for the next.
pub fn has_kasan() -> Outcome<bool> {
    Ok(fs::read_to_string("/proc/kallsyms")?.contains(" kasan_report\n"))
}

/// For what must not run in NMI, and does in a negative control.
pub fn not_under_lockdep() -> Outcome {
    if Path::new("/proc/lockdep_chains").exists() {
        return Err(Stop::Skipped(
            "lockdep reports what this does without kptr_defer, and nothing after that".into(),
        ));
    }
    Ok(())
}

/// Loads a module that is no file.
pub fn insert_image(image: &[u8], params: &str) -> io::Result<()> {
    let params = CString::new(params)?;
    // SAFETY: That many bytes, and a terminated string.
    let err = unsafe {
        libc::syscall(
            libc::SYS_init_module,
            image.as_ptr(),
            image.len(),
            params.as_ptr(),
        )
    };
    if err != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Loads a module, once.
pub fn insert(file: &str, params: &str) -> io::Result<()> {
    let file = File::open(built(file)?)?;
    let params = CString::new(params)?;
    // SAFETY: An open file and a terminated string.
    let err = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            params.as_ptr(),
            0 as libc::c_int,
        )
    };
    if err != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tries to unload a module, once.
pub fn remove(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: A terminated string.
    if unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

pub fn remove_when_free(name: &str) -> Outcome {
    let start = Instant::now();
    loop {
        match remove(name) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(err) => return failed(format!("cannot unload {name}: {err}")),
            Ok(()) => return Ok(()),
        }
    }
}

/// A module that is loaded for as long as this lives, and longer if it is built in.
pub struct Loaded(&'static str);

impl Loaded {
    pub fn new(name: &'static str, params: &str) -> Outcome<Loaded> {
        if is_built_in(name) && params.is_empty() {
            return Ok(Loaded(name));
        }
        not_built_in(name)?;
        match insert(&format!("{name}.ko"), params) {
            Ok(()) => Ok(Loaded(name)),
            Err(err) => failed(format!("cannot load {name}.ko {params}: {err}")),
        }
    }

    /// The module is this image instead of its file.
    pub fn from_image(name: &'static str, image: &[u8]) -> Outcome<Loaded> {
        not_built_in(name)?;
        match insert_image(image, "") {
            Ok(()) => Ok(Loaded(name)),
            Err(err) => failed(format!("cannot load a changed {name}.ko: {err}")),
        }
    }

    pub fn unload(self) -> Outcome {
        let name = self.0;
        std::mem::forget(self);
        if is_built_in(name) {
            return Ok(());
        }
        remove_when_free(name)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if !is_built_in(self.0) && remove_when_free(self.0).is_err() {
            note(format!("{} stays loaded", self.0));
        }
    }
}

/// Before the test began, when it is built in.
static COUNTED_BEFORE: Mutex<Option<Stats>> = Mutex::new(None);

/// What the module has counted since the test began, by name.
pub struct Stats(HashMap<String, u64>);

impl Stats {
    pub fn read() -> Outcome<Stats> {
        let mut stats = Stats::since_loaded()?;
        if let Some(Stats(before)) = &*COUNTED_BEFORE.lock().unwrap() {
            for (name, number) in before {
                *stats.0.get_mut(name).unwrap() -= number;
            }
        }
        Ok(stats)
    }

    fn since_loaded() -> Outcome<Stats> {
        let text = fs::read_to_string(debugfs("kptr_defer/stats"))?;
        let number = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_string(), value.trim().parse().ok()?))
        };
        Ok(Stats(text.lines().filter_map(number).collect()))
    }

    pub fn get(&self, name: &str) -> Outcome<u64> {
        match self.0.get(name) {
            Some(value) => Ok(*value),
            None => failed(format!("{DEBUGFS}/kptr_defer/stats has no '{name}'")),
        }
    }
}

/// kptr_defer itself, freshly loaded or built in.
pub struct KptrDefer {
    module: Loaded,
    log: Kmsg,
}

impl KptrDefer {
    pub fn load(params: &str) -> Outcome<KptrDefer> {
        let log = Kmsg::from_now_on()?;
        let module = KptrDefer {
            module: Loaded::new("kptr_defer", params)?,
            log,
        };
        *COUNTED_BEFORE.lock().unwrap() = None;
        if is_built_in("kptr_defer") {
            let mut before = module.settled()?;
            // The only one that is no sum.
            before.0.remove("max_batch");
            *COUNTED_BEFORE.lock().unwrap() = Some(before);
        }
        Ok(module)
    }

    /// What the module has said since it was loaded, or since the last call.
    pub fn said(&mut self) -> Outcome<Vec<String>> {
        not_built_in("kptr_defer")?;
        let lines = self.log.read()?;
        Ok(lines
            .into_iter()
            .filter(|line| line.starts_with("kptr_defer: "))
            .collect())
    }

    /// Waits until every handle is given back and every drop is done.
    pub fn settled(&self) -> Outcome<Stats> {
        self.settled_but(0)
    }

    /// Waits until every drop is done, and at most that many handles are left.
    pub fn settled_but(&self, left: u64) -> Outcome<Stats> {
        let start = Instant::now();
        loop {
            let stats = Stats::read()?;
            let (live, deferred, drained) = (
                stats.get("handles_live")?,
                stats.get("deferred")?,
                stats.get("drained")?,
            );
            if live <= left && deferred == drained {
                // The numbers of one reading are not of one moment.
                return Stats::read();
            }
            check!(
                start.elapsed() < PATIENCE,
                "still handles_live={live} deferred={deferred} drained={drained}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Unloads the module and checks its last words, unless it is built in.
    pub fn unload(mut self) -> Outcome {
        let stats = self.settled()?;
        if is_built_in("kptr_defer") {
            return Ok(());
        }
        self.said()?;
        self.module.unload()?;
        let lines = self.log.read()?;
        let expected = format!(
            "kptr_defer: unloaded: inline={} deferred={} drained={} acquire_failed={}",
            stats.get("inline")?,
            stats.get("deferred")?,
            stats.get("drained")?,
            stats.get("acquire_failed")?,
        );
        check!(
            lines.iter().any(|line| line.starts_with(&expected)),
            "no '{expected}' in the kernel log but {lines:?}"
        );
        Ok(())
    }
}

thread_local! {
    /// What was loaded when the tests began, and the parameters that sysfs shows of it.
    static FOUND: RefCell<Vec<(&'static str, String)>> = const { RefCell::new(Vec::new()) };
    static NMI_LONGEST_FOUND: RefCell<Option<String>> = const { RefCell::new(None) };
    static NMI_SOURCE_LOADED: Cell<bool> = const { Cell::new(false) };
}

/// Makes the machine ready, or says why it cannot be.
pub fn prepare() -> Result<(), String> {
    // SAFETY: Takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err("only root can load modules and BPF programs".into());
    }
    if !debugfs("").join("bdi").exists() {
        mount_debugfs().map_err(|err| format!("no debugfs at {DEBUGFS}: {err}"))?;
    }
    for module in [
        "kptr_defer",
        GUARD,
        NMI_SOURCE,
        USER,
        RUST_USER,
        RUST_SAMPLE,
        LIVEPATCH,
    ] {
        if is_built_in(module) {
            continue;
        }
        let path = built(&format!("{module}.ko")).map_err(|err| err.to_string())?;
        if !path.exists() {
            return Err(format!("{} is not built", path.display()));
        }
    }
    for module in [GUARD, "kptr_defer"] {
        if is_loaded(module) {
            let params = parameters(module);
            remove(module).map_err(|err| format!("{module} is in use: {err}"))?;
            FOUND.with_borrow_mut(|found| found.push((module, params)));
        }
    }
    // The kernel finds NMI handlers slow that run on an emulated CPU. x86 only.
    if let Ok(longest) = fs::read_to_string(debugfs(NMI_LONGEST)) {
        let _ = fs::write(debugfs(NMI_LONGEST), "1000000000");
        NMI_LONGEST_FOUND.set(Some(longest));
    }
    insert("kptr_defer_test_nmi.ko", "").map_err(|err| format!("{NMI_SOURCE}.ko: {err}"))?;
    NMI_SOURCE_LOADED.set(true);
    Ok(())
}

/// Leaves the machine as it was found.
pub fn restore() {
    if NMI_SOURCE_LOADED.take() && remove_when_free(NMI_SOURCE).is_err() {
        note(format!("{NMI_SOURCE} stays loaded"));
    }
    if let Some(longest) = NMI_LONGEST_FOUND.take() {
        let _ = fs::write(debugfs(NMI_LONGEST), longest);
    }
    for (module, params) in FOUND.take().into_iter().rev() {
        if let Err(err) = insert(&format!("{module}.ko"), &params) {
            note(format!(
                "{module} was loaded, and cannot be loaded again: {err}"
            ));
        }
    }
}

fn parameters(module: &str) -> String {
    let set = |entry: fs::DirEntry| {
        let value = fs::read_to_string(entry.path()).ok()?;
        Some(format!("{}={}", entry.file_name().to_str()?, value.trim()))
    };
    fs::read_dir(sysfs(module).join("parameters"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(set)
        .collect::<Vec<_>>()
        .join(" ")
}

fn mount_debugfs() -> io::Result<()> {
    let target = CString::new(DEBUGFS)?;
    // SAFETY: Terminated strings, and debugfs takes no data.
    let err = unsafe {
        libc::mount(
            c"debugfs".as_ptr(),
            target.as_ptr(),
            c"debugfs".as_ptr(),
            0,
            ptr::null(),
        )
    };
    if err != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
