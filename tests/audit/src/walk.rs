// SPDX-License-Identifier: GPL-2.0

//! Follows the code from its entry points.

use crate::{
    allowed::{
        self,
        Path,
        TRUE_IN_NMI, //
    },
    module::{
        Module,
        Place,
        Target, //
    },
};
use iced_x86::{
    Code,
    ConditionCode,
    Decoder,
    DecoderOptions,
    FlowControl,
    Instruction,
    Mnemonic,
    Register, //
};
use rustc_demangle::demangle;
use std::collections::{
    BTreeMap,
    BTreeSet,
    HashMap,
    HashSet, //
};

/// What is known about the answer to "in NMI?", which is yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Known {
    Nothing,
    /// It is in `al`.
    InAl,
    /// It was tested: the zero flag is not set.
    InFlags,
}

/// In which module, and where.
type At = (usize, Place);

pub struct Walk<'a> {
    modules: &'a [Module],
    nmi_mask: u32,
    path: Path,
    ahead: Vec<(At, Known)>,
    seen: HashSet<(At, Known)>,
    /// The function that each function was first called from.
    caller: HashMap<At, Option<At>>,
    closure: Closure,
}

/// What has been reached.
#[derive(Default)]
pub struct Closure {
    pub functions: BTreeSet<String>,
    pub instructions: usize,
    /// With the reasons for which they are allowed.
    pub outside: BTreeMap<String, &'static str>,
    pub violations: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    /// `nmi_mask` is the kernel's `NMI_MASK`.
    pub fn new(modules: &'a [Module], nmi_mask: u32, path: Path) -> Walk<'a> {
        Walk {
            modules,
            nmi_mask,
            path,
            ahead: Vec::new(),
            seen: HashSet::new(),
            caller: HashMap::new(),
            closure: Closure::default(),
        }
    }

    /// Follows the function that starts there.
    pub fn enter(&mut self, module: usize, function: Place) {
        self.call((module, function), None);
        while let Some((at, known)) = self.ahead.pop() {
            self.run(at, known);
        }
    }

    pub fn finish(mut self) -> Closure {
        let places: HashSet<At> = self.seen.iter().map(|(at, _)| *at).collect();
        self.closure.instructions = places.len();
        self.closure
    }

    fn call(&mut self, function: At, caller: Option<At>) {
        let (module, place) = function;
        if self.caller.contains_key(&function) {
            return;
        }
        self.caller.insert(function, caller);
        if let Some(name) = self.modules[module].function(place) {
            self.closure.functions.insert(readable(name));
        }
        self.ahead.push((function, Known::Nothing));
    }

    /// Follows straight code to its end; what it branches to comes later.
    fn run(&mut self, (module, start): At, mut known: Known) {
        let code = self.modules[module].code(start);
        let Some(code) = code else {
            self.violation((module, start), "there is no code");
            return;
        };
        let mut decoder = Decoder::with_ip(64, code, start.address, DecoderOptions::NONE);
        for instruction in &mut decoder {
            let at = (
                module,
                Place {
                    address: instruction.ip(),
                    ..start
                },
            );
            if !self.seen.insert((at, known)) {
                return;
            }
            if let Some(target) = self.modules[module].static_branch(at.1) {
                self.ahead.push(((module, target), Known::Nothing));
            }
            match self.step(at, &instruction, known) {
                Some(next) => known = next,
                None => return,
            }
        }
    }

    /// What is known when it goes on after this instruction, if it does.
    fn step(&mut self, at: At, instruction: &Instruction, known: Known) -> Option<Known> {
        match instruction.flow_control() {
            FlowControl::Next => Some(
                if known == Known::InAl && tests_al(instruction)
                    || self.tests_preempt_count(at, instruction)
                {
                    Known::InFlags
                } else {
                    Known::Nothing
                },
            ),
            FlowControl::ConditionalBranch => {
                let taken = match (known, instruction.condition_code()) {
                    (Known::InFlags, ConditionCode::e) => Some(false),
                    (Known::InFlags, ConditionCode::ne) => Some(true),
                    _ => None,
                };
                if taken != Some(false) {
                    self.branch(at, instruction);
                }
                (taken != Some(true)).then_some(Known::Nothing)
            }
            FlowControl::UnconditionalBranch => {
                self.branch(at, instruction);
                None
            }
            FlowControl::Call => self.called(at, instruction),
            FlowControl::Return => None,
            FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                self.violation(at, "an indirect call or jump");
                None
            }
            FlowControl::Interrupt | FlowControl::XbeginXabortXend => {
                self.violation(at, "a trap");
                None
            }
            FlowControl::Exception => {
                self.violation(at, "a trap: BUG(), WARN() or a panic");
                None
            }
        }
    }

    /// Whether it looks for an NMI in this CPU's `__preempt_count`, as `in_nmi()` does.
    fn tests_preempt_count(&self, (module, place): At, instruction: &Instruction) -> bool {
        const IMMEDIATE: u64 = size_of::<u32>() as u64;

        let operand = Place {
            address: instruction.next_ip().wrapping_sub(2 * IMMEDIATE),
            ..place
        };
        instruction.mnemonic() == Mnemonic::Test
            && instruction.code() == Code::Test_rm32_imm32
            && instruction.immediate32() == self.nmi_mask
            && instruction.segment_prefix() == Register::GS
            && instruction.is_ip_rel_memory_operand()
            && matches!(
                self.modules[module].relocated(operand),
                Some(Target::Outside(name)) if name == "__preempt_count"
            )
    }

    fn target(&self, (module, place): At, instruction: &Instruction) -> Target {
        let operand = Place {
            address: instruction.next_ip() - 4,
            ..place
        };
        match self.modules[module].relocated(operand) {
            Some(target) => target.clone(),
            None => Target::Here(Place {
                address: instruction.near_branch_target(),
                ..place
            }),
        }
    }

    fn branch(&mut self, at: At, instruction: &Instruction) {
        match self.target(at, instruction) {
            Target::Outside(name) if name == "__x86_return_thunk" => (),
            Target::Here(place) if self.modules[at.0].function(place).is_none() => {
                self.ahead.push(((at.0, place), Known::Nothing));
            }
            // A call that does not come back.
            function => self.reach(at, function),
        }
    }

    fn called(&mut self, at: At, instruction: &Instruction) -> Option<Known> {
        let function = self.target(at, instruction);
        let name = self.name(at, &function);
        if name == TRUE_IN_NMI {
            return Some(Known::InAl);
        }
        self.reach(at, function);
        Some(Known::Nothing)
    }

    fn name(&self, (module, _): At, function: &Target) -> String {
        match function {
            Target::Outside(name) => name.clone(),
            Target::Here(place) => {
                let name = self.modules[module].function(*place);
                name.unwrap_or("a function without a name").to_string()
            }
        }
    }

    fn reach(&mut self, at: At, function: Target) {
        let name = self.name(at, &function);
        if let Some(why) = allowed::why(&name, self.path) {
            self.closure.outside.insert(readable(&name), why);
            return;
        }
        let exporter = |(number, module): (usize, &Module)| Some((number, module.exported(&name)?));
        let found = match function {
            Target::Here(place) => Some((at.0, place)),
            Target::Outside(_) => self.modules.iter().enumerate().find_map(exporter),
        };
        match found {
            Some(function) => self.call(function, Some(self.function_of(at))),
            None => self.violation(at, &readable(&name)),
        }
    }

    fn function_of(&self, (module, place): At) -> At {
        (module, self.modules[module].function_around(place))
    }

    /// With all callers, up to the entry point.
    fn violation(&mut self, at: At, what: &str) {
        let mut text = what.to_string();
        let mut function = Some(self.function_of(at));
        while let Some((module, place)) = function {
            let name = self.modules[module].function(place).unwrap_or("?");
            text += &format!(", in {}", readable(name));
            function = self.caller.get(&(module, place)).copied().flatten();
        }
        self.closure.violations.insert(text);
    }
}

fn tests_al(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Test
        && instruction.op0_register() == Register::AL
        && instruction.op1_register() == Register::AL
}

fn readable(name: &str) -> String {
    format!("{:#}", demangle(name))
}
