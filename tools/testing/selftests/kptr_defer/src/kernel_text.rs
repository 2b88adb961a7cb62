// SPDX-License-Identifier: GPL-2.0

//! The code of the running kernel, as it is now: where instructions begin, and what they call.

use crate::{
    check,
    ktap::{
        failed,
        Outcome,
        Stop, //
    },
};
use iced_x86::{
    Code,
    Decoder,
    DecoderOptions,
    FlowControl,
    Instruction, //
};
use rustc_demangle::demangle;
use std::{
    collections::BTreeMap,
    fs::{
        self,
        File, //
    },
    os::unix::fs::FileExt,
};

/// One that is longer is not looked at to its end.
const LONGEST: u64 = 16384;

/// All functions, and the memory they are in.
pub struct KernelText {
    symbols: BTreeMap<u64, Symbol>,
    memory: Memory,
}

struct Symbol {
    name: String,
    /// Empty for the kernel itself.
    module: String,
}

/// A function of which there are instructions.
pub struct Function {
    pub name: String,
    pub address: u64,
    pub instructions: Vec<Instruction>,
}

impl KernelText {
    pub fn read() -> Outcome<KernelText> {
        let mut symbols = BTreeMap::new();
        for line in fs::read_to_string("/proc/kallsyms")?.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let address = u64::from_str_radix(address, 16).unwrap_or(0);
            check!(
                address != 0,
                "the kernel hides its addresses: sysctl kernel.kptr_restrict=0"
            );
            let module = words.next().unwrap_or_default();
            symbols.entry(address).or_insert_with(|| Symbol {
                name: format!("{:#}", demangle(name)),
                module: module.trim_matches(['[', ']']).into(),
            });
        }
        Ok(KernelText {
            symbols,
            memory: Memory::open()?,
        })
    }

    pub fn function(&self, name: &str) -> Outcome<Function> {
        match self.symbols.iter().find(|(_, symbol)| symbol.name == name) {
            Some((&address, _)) => self.function_at(address),
            None => failed(format!("no function {name}")),
        }
    }

    /// All that are in a module now.
    pub fn functions_of(&self, module: &str) -> Outcome<Vec<Function>> {
        self.symbols
            .iter()
            .filter(|(_, symbol)| symbol.module == module && !symbol.is_padding())
            .map(|(&address, _)| self.function_at(address))
            .collect()
    }

    /// The one that begins there or contains it.
    pub fn function_at(&self, address: u64) -> Outcome<Function> {
        let Some((&start, symbol)) = self.symbols.range(..=address).next_back() else {
            return failed(format!("no function at {address:#x}"));
        };
        let next = self.symbols.range(start + 1..).next();
        let (end, last) = match next {
            Some((&end, next)) => (end, next.module != symbol.module),
            None => (u64::MAX, true),
        };
        let code = self.memory.read(start, (end - start).min(LONGEST))?;
        Ok(Function {
            name: symbol.name.clone(),
            address: start,
            instructions: decode(&code, start, last),
        })
    }
}

impl Symbol {
    /// What is before a function, for the kernel to patch.
    fn is_padding(&self) -> bool {
        self.name.starts_with("__pfx_") || self.name.starts_with("__cfi_")
    }
}

impl Function {
    /// What its instruction at that address calls, or goes on with.
    pub fn called_at(&self, address: u64) -> Option<u64> {
        let instruction = self.instructions.iter().find(|i| i.ip() == address)?;
        let target = instruction.near_branch_target();
        let leaves = match instruction.flow_control() {
            FlowControl::Call => true,
            FlowControl::UnconditionalBranch => !self.contains(target),
            _ => false,
        };
        (leaves && target != 0).then_some(target)
    }

    fn contains(&self, address: u64) -> bool {
        self.instructions.iter().any(|i| i.ip() == address)
    }
}

/// Without the padding at its end. Behind the `last` function of a module may be anything.
fn decode(code: &[u8], start: u64, last: bool) -> Vec<Instruction> {
    let mut instructions = Vec::new();
    let mut branches_to = start;
    for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            break;
        }
        let flow = instruction.flow_control();
        if flow == FlowControl::ConditionalBranch || flow == FlowControl::UnconditionalBranch {
            let target = instruction.near_branch_target();
            if target < start + code.len() as u64 {
                branches_to = branches_to.max(target);
            }
        }
        instructions.push(instruction);
        let goes_on = matches!(
            flow,
            FlowControl::Next
                | FlowControl::Call
                | FlowControl::IndirectCall
                | FlowControl::ConditionalBranch
        );
        if last && !goes_on && instruction.next_ip() > branches_to {
            break;
        }
    }
    let is_padding = |i: &Instruction| i.code() == Code::Int3 || i.is_nop_of_any_kind();
    while instructions.last().is_some_and(is_padding) {
        instructions.pop();
    }
    instructions
}

trait Nop {
    fn is_nop_of_any_kind(&self) -> bool;
}

impl Nop for Instruction {
    fn is_nop_of_any_kind(&self) -> bool {
        matches!(
            self.code(),
            Code::Nopw | Code::Nopd | Code::Nopq | Code::Nop_rm16 | Code::Nop_rm32 | Code::Nop_rm64
        )
    }
}

/// `/proc/kcore`: an ELF file whose segments are the kernel's memory.
struct Memory {
    file: File,
    segments: Vec<Segment>,
}

struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

impl Memory {
    fn open() -> Outcome<Memory> {
        const HEADER: usize = 64;
        const SEGMENT: usize = 56;

        let file = File::open("/proc/kcore").map_err(|err| {
            Stop::Skipped(format!(
                "the kernel's code cannot be read: /proc/kcore: {err}"
            ))
        })?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        check!(
            header.starts_with(b"\x7fELF\x02\x01"),
            "/proc/kcore is no ELF64"
        );
        let number =
            |bytes: &[u8], at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let offset = number(&header, 32);
        let count = u16::from_le_bytes([header[56], header[57]]);
        let mut segments = Vec::new();
        for index in 0..u64::from(count) {
            let mut segment = [0; SEGMENT];
            file.read_exact_at(&mut segment, offset + index * SEGMENT as u64)?;
            segments.push(Segment {
                offset: number(&segment, 8),
                address: number(&segment, 16),
                size: number(&segment, 40),
            });
        }
        Ok(Memory { file, segments })
    }

    fn read(&self, address: u64, length: u64) -> Outcome<Vec<u8>> {
        let there = |segment: &&Segment| {
            address >= segment.address && address - segment.address < segment.size
        };
        let Some(segment) = self.segments.iter().find(there) else {
            return failed(format!("/proc/kcore does not have {address:#x}"));
        };
        let offset = address - segment.address;
        let mut bytes = vec![0; length.min(segment.size - offset) as usize];
        self.file
            .read_exact_at(&mut bytes, segment.offset + offset)?;
        Ok(bytes)
    }
}
