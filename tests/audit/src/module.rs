// SPDX-License-Identifier: GPL-2.0

//! A module's code, with what the relocations say about it.

use object::{
    elf::{
        R_X86_64_PC32,
        R_X86_64_PLT32, //
    },
    Object,
    ObjectSection,
    ObjectSymbol,
    RelocationFlags,
    RelocationTarget,
    SectionIndex,
    SymbolKind, //
};
use rustc_demangle::demangle;
use std::{
    collections::{
        BTreeMap,
        HashMap, //
    },
    error::Error,
    fs, //
};

/// A place in the code of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub section: usize,
    pub address: u64,
}

/// Where a call or jump leads.
#[derive(Clone, Debug)]
pub enum Target {
    Here(Place),
    /// To a symbol of another module or the kernel.
    Outside(String),
}

pub struct Module {
    code: HashMap<usize, Vec<u8>>,
    /// The relocation of each place that has one that leads to code.
    relocated: HashMap<Place, Target>,
    functions: BTreeMap<Place, String>,
    exported: HashMap<String, Place>,
    /// Where a branch is patched in, and where it leads then.
    static_branches: HashMap<Place, Place>,
}

impl Module {
    pub fn read(path: &str) -> Result<Module, Box<dyn Error>> {
        let data = fs::read(path)?;
        let file = object::File::parse(&*data)?;
        if file.architecture() != object::Architecture::X86_64 {
            return Err("only x86-64 code can be read".into());
        }
        let mut module = Module {
            code: HashMap::new(),
            relocated: HashMap::new(),
            functions: BTreeMap::new(),
            exported: HashMap::new(),
            static_branches: HashMap::new(),
        };
        for symbol in file.symbols() {
            let (Some(section), Ok(name)) = (symbol.section_index(), symbol.name()) else {
                continue;
            };
            if symbol.kind() != SymbolKind::Text || name.starts_with("__pfx_") {
                continue;
            }
            let place = Place {
                section: section.0,
                address: symbol.address(),
            };
            module.functions.insert(place, name.to_string());
            if symbol.is_global() {
                module.exported.insert(name.to_string(), place);
            }
        }
        for section in file.sections() {
            if section.kind() == object::SectionKind::Text {
                module
                    .code
                    .insert(section.index().0, section.data()?.to_vec());
            }
            let is_jump_table = section.name() == Ok("__jump_table");
            let mut code = None;
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    continue;
                };
                let symbol = file.symbol_by_index(symbol)?;
                let addend = relocation.addend();
                let pc_relative = matches!(
                    relocation.flags(),
                    RelocationFlags::Elf {
                        r_type: R_X86_64_PC32 | R_X86_64_PLT32
                    }
                );
                let place_of = |addend: i64| {
                    symbol.section_index().map(|SectionIndex(section)| Place {
                        section,
                        address: symbol.address().wrapping_add_signed(addend),
                    })
                };
                if is_jump_table {
                    // struct jump_entry: where the branch is, where it leads, its key.
                    match (offset % 16, place_of(addend)) {
                        (0, place) => code = place,
                        (4, Some(target)) => {
                            let code = code.ok_or("a branch in __jump_table is nowhere")?;
                            module.static_branches.insert(code, target);
                        }
                        _ => (),
                    }
                } else if pc_relative {
                    let place = Place {
                        section: section.index().0,
                        address: offset,
                    };
                    // From the end of the instruction, of which it is the last four bytes.
                    let target = match place_of(addend + 4) {
                        Some(place) => Target::Here(place),
                        None => Target::Outside(symbol.name()?.to_string()),
                    };
                    module.relocated.insert(place, target);
                }
            }
        }
        Ok(module)
    }

    /// What runs in NMI at the latest when somebody uses the module there: kfuncs, the C API, what
    /// ftrace calls.
    pub fn entries(&self) -> Vec<(String, Place)> {
        self.functions
            .iter()
            .map(|(place, name)| (format!("{:#}", demangle(name)), *place))
            .filter(|(name, _)| {
                name.starts_with("bpf_kptr_defer_")
                    || ["kptr_defer_drop", "kptr_defer_drop_sleepable"].contains(&name.as_str())
                    || name.contains("::ftrace::Ops<") && name.ends_with(">::called")
                    || name.ends_with("::return_at_once")
            })
            .collect()
    }

    pub fn exported(&self, name: &str) -> Option<Place> {
        self.exported.get(name).copied()
    }

    /// The name of the function that starts here.
    pub fn function(&self, place: Place) -> Option<&str> {
        self.functions.get(&place).map(String::as_str)
    }

    /// Where the function starts that a place is in.
    pub fn function_around(&self, place: Place) -> Place {
        match self.functions.range(..=place).next_back() {
            Some((start, _)) if start.section == place.section => *start,
            _ => place,
        }
    }

    /// The code from here to the end of its section.
    pub fn code(&self, place: Place) -> Option<&[u8]> {
        self.code.get(&place.section)?.get(place.address as usize..)
    }

    pub fn relocated(&self, place: Place) -> Option<&Target> {
        self.relocated.get(&place)
    }

    pub fn static_branch(&self, place: Place) -> Option<Place> {
        self.static_branches.get(&place).copied()
    }
}
