// SPDX-License-Identifier: GPL-2.0

//! What the modules can do in NMI, read from the built `.ko` files: every instruction that can be
//! reached from their NMI entry points, and everything outside that is called from there.
//!
//! `kptr_defer_audit <NMI_MASK of the kernel> <module.ko>...` prints the closure and ends with
//! `audit: entries=<n> functions=<n> instructions=<n> outside=<n> violations=<n>`. A call that is
//! not [allowed], an indirect call or jump, and a trap are violations.
//!
//! Paths that are not for NMI are left out where the code asks: after a call of [`TRUE_IN_NMI`], or a
//! look at the same bits of this CPU's preempt count, only the branch that is taken in NMI is followed. A branch that is patched in (a tracepoint) is
//! followed as if it were on.

mod allowed;
mod module;
mod walk;

use allowed::Path;
use module::Module;
use std::{
    env,
    error::Error,
    process::ExitCode, //
};
use walk::Walk;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let nmi_mask = args.next().and_then(|mask| mask.parse().ok());
    let paths: Vec<String> = args.collect();
    let (Some(nmi_mask), false) = (nmi_mask, paths.is_empty()) else {
        eprintln!("usage: kptr_defer_audit <NMI_MASK of the kernel> <module.ko>...");
        return Ok(ExitCode::FAILURE);
    };
    let mut modules = Vec::new();
    for path in &paths {
        modules.push(Module::read(path).map_err(|err| format!("{path}: {err}"))?);
    }

    for (module, path) in modules.iter().zip(&paths) {
        if module.entries().is_empty() {
            return Err(format!("{path}: no NMI entry point").into());
        }
    }
    let (mut entries, mut functions, mut instructions, mut outside, mut violations) =
        (0, 0, 0, 0, 0);
    for (path, acquires, title) in [
        (
            Path::Drop,
            false,
            "To give back, and to look at what is held",
        ),
        (Path::Acquire, true, "To acquire"),
    ] {
        println!("{title}\n");
        let mut walk = Walk::new(&modules, nmi_mask, path);
        println!("  entered by");
        for (number, module) in modules.iter().enumerate() {
            for (name, function) in module.entries() {
                if name.contains("_acquire") == acquires {
                    println!("    {name}");
                    walk.enter(number, function);
                    entries += 1;
                }
            }
        }
        let closure = walk.finish();
        println!("  reached");
        for name in &closure.functions {
            println!("    {name}");
        }
        println!("  called outside");
        for (name, why) in &closure.outside {
            println!("    {name}: {why}");
        }
        for violation in &closure.violations {
            println!("  NOT ALLOWED: {violation}");
        }
        println!();
        functions += closure.functions.len();
        instructions += closure.instructions;
        outside += closure.outside.len();
        violations += closure.violations.len();
    }
    println!(
        "audit: entries={entries} functions={functions} instructions={instructions} \
         outside={outside} violations={violations}"
    );
    Ok(if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
