// SPDX-License-Identifier: GPL-2.0

//! Loads the BPF objects that lie beside the executable, and reads what their programs counted.

use crate::{
    check,
    ktap::{
        failed,
        Outcome, //
    },
    module::built,
};
use libbpf_rs::{
    query::ProgInfoIter,
    set_print,
    MapCore,
    MapFlags,
    MapHandle,
    Object,
    ObjectBuilder,
    PrintLevel,
    ProgramInput,
    ProgramMut, //
};
use std::{
    ffi::OsStr,
    marker::PhantomData,
    sync::Mutex, //
};

/// All of the .bss of a BPF object.
///
/// # Safety
///
/// Any bytes are a valid value.
pub unsafe trait Globals: Copy {}

/// Reads it, also when the object is closed and only a link keeps its programs.
pub struct Reader<T: Globals>(MapHandle, PhantomData<T>);

impl<T: Globals> Reader<T> {
    pub fn read(&self) -> Outcome<T> {
        let bytes = self.0.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?;
        let bytes = bytes.unwrap_or_default();
        check!(bytes.len() >= size_of::<T>());
        // SAFETY: Long enough, as just checked, and any bytes are valid.
        Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}

/// `struct counted` of bpf/common.bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub nmi: u64,
    pub not_nmi: u64,
    pub acquired: u64,
    pub acquired_in_nmi: u64,
    pub acquire_failed: u64,
    pub released: u64,
    pub released_in_nmi: u64,
    pub last_in_nmi: u64,
    pub call_rcu_in_nmi: u64,
    pub objects: u64,
    pub freed: u64,
    pub freed_while_held: u64,
    pub put_in_nmi: u64,
    pub ended_in_kworker: u64,
    pub freed_in_kworker: u64,
    pub freed_in_hardirq: u64,
    pub taking: u64,
    pub dying_refused: u64,
}

// SAFETY: Numbers.
unsafe impl Globals for Counted {}

pub struct Bpf(Object);

impl Bpf {
    /// Loads bpf/`theme`.bpf.c with only these programs.
    pub fn load(theme: &str, programs: &[impl AsRef<str>]) -> Outcome<Bpf> {
        set_print(Some((PrintLevel::Info, remember)));
        let mut open = ObjectBuilder::default().open_file(built(&format!("{theme}.bpf.o"))?)?;
        for mut program in open.progs_mut() {
            let wanted = programs
                .iter()
                .any(|name| program.name() == OsStr::new(name.as_ref()));
            program.set_autoload(wanted);
        }
        Ok(Bpf(open.load()?))
    }

    pub fn program(&self, name: &str) -> Outcome<ProgramMut<'_>> {
        match self.0.progs_mut().find(|program| program.name() == name) {
            Some(program) => Ok(program),
            None => failed(format!("no BPF program {name}")),
        }
    }

    /// The map, independent of the object and its programs.
    pub fn map(&self, name: &str) -> Outcome<MapHandle> {
        match self.0.maps().find(|map| map.name() == name) {
            Some(map) => Ok(MapHandle::try_from(&map)?),
            None => failed(format!("no BPF map {name}")),
        }
    }

    /// Runs a syscall program with `args` as its context.
    pub fn call(&self, program: &str, args: &mut [u8]) -> Outcome<u32> {
        let output = self.program(program)?.test_run(ProgramInput {
            context_in: (!args.is_empty()).then_some(args),
            ..ProgramInput::default()
        })?;
        Ok(output.return_value)
    }

    pub fn globals<T: Globals>(&self) -> Outcome<Reader<T>> {
        match self
            .0
            .maps()
            .find(|map| map.name().to_string_lossy().ends_with(".bss"))
        {
            Some(bss) => Ok(Reader(MapHandle::try_from(&bss)?, PhantomData)),
            None => failed("the BPF object has no .bss"),
        }
    }

    pub fn counted(&self) -> Outcome<Counted> {
        self.globals()?.read()
    }
}

/// How often the kernel did not run the loaded program of this name, since the CPU was in the middle
/// of it already: what it calls a recursion is one task that preempts another one, too.
pub fn missed(program: &str) -> u64 {
    ProgInfoIter::default()
        .filter(|info| info.name == program)
        .map(|info| info.recursion_misses)
        .sum()
}

static MESSAGES: Mutex<String> = Mutex::new(String::new());

fn remember(_level: PrintLevel, message: String) {
    if let Ok(mut messages) = MESSAGES.lock() {
        messages.push_str(&message);
    }
}

/// What libbpf said, the verifier's log with it.
pub fn messages() -> String {
    MESSAGES
        .lock()
        .map(|messages| messages.clone())
        .unwrap_or_default()
}

pub fn forget_messages() {
    if let Ok(mut messages) = MESSAGES.lock() {
        messages.clear();
    }
}
