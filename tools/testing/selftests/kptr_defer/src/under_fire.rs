// SPDX-License-Identifier: GPL-2.0

//! Load, fire NMIs at all CPUs, unload with drops under way: many rounds of it. In each, all that was
//! handed over has been dropped, as the last words of the modules say.
//!
//! In most rounds it is another module that hands over objects in NMI, the last ones in its exit. In
//! some it is a BPF program with handles in a map, which pin the module until they are gone.

use crate::{
    bpf::Bpf,
    check,
    kmsg::Kmsg,
    ktap::{
        failed,
        no_complaints_in,
        note,
        Outcome,
        Test, //
    },
    module::{
        not_built_in,
        remove,
        Loaded,
        PATIENCE, //
    },
    nmi::{
        cpus,
        send_ipis, //
    },
    workload::rounds, //
};
use std::{
    fs,
    io::ErrorKind,
    ops::AddAssign,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

const FIRE: &str = "kptr_defer_test_fire";

/// In turn.
const PARAMS: [&str; 4] = [
    "",
    "budget=1",
    "defer_when=always",
    "defer_when=always budget=1",
];

/// Rounds, however few drops were under way at the exits.
const MOST: u32 = 1000;

/// Rounds of NMIs before the unloading.
const VOLLEYS: u32 = 3;

/// Every so many rounds a BPF program fires; more often if it would not come to all of [`PARAMS`].
const BPF_EVERY: u32 = 20;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("under_fire: unload with drops in flight, NMI IPI", || {
            under_fire(rounds(1000)?)
        }),
        Test::new(
            "under_fire: some are missing without kptr_defer_barrier(), NMI IPI",
            without_barrier,
        ),
    ]
}

/// What the module has handed over on one lane.
#[derive(Clone, Copy, Default)]
struct Handed {
    handed: u64,
    in_flight: u64,
    missing: u64,
}

impl AddAssign for Handed {
    fn add_assign(&mut self, other: Handed) {
        self.handed += other.handed;
        self.in_flight += other.in_flight;
        self.missing += other.missing;
    }
}

/// Last words, `<name>=<number>` each.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn find<'a>(log: &'a [String], start: &str) -> Outcome<Words<'a>> {
        match log.iter().find_map(|line| line.strip_prefix(start)) {
            Some(words) => Ok(Words(words)),
            None => failed(format!("no '{start}' in {log:?}")),
        }
    }

    fn number(&self, name: &str) -> Outcome<u64> {
        let mut words = self.0.split([' ', ',']);
        let number = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => Ok(number),
            None => failed(format!("no {name} in '{}'", self.0)),
        }
    }
}

/// kptr_defer's, which have to add up.
fn unloaded(log: &[String]) -> Outcome<(u64, u64)> {
    let words = Words::find(log, "kptr_defer: unloaded: ")?;
    let deferred = words.number("deferred")?;
    check!(words.number("drained")? == deferred, "{}", words.0);
    Ok((words.number("inline")?, deferred))
}

/// Returns what drops that may sleep, and others, came to.
fn fire_from_c(log: &mut Kmsg, params: &str, fire_params: &str) -> Outcome<[Handed; 2]> {
    not_built_in("kptr_defer")?;
    let module = Loaded::new("kptr_defer", params)?;
    let fire = Loaded::new(FIRE, fire_params)?;
    send_ipis(VOLLEYS)?;
    fire.unload()?;
    module.unload()?;

    let log = log.read()?;
    let lane = |name| -> Outcome<Handed> {
        let words = Words::find(&log, &format!("{FIRE}: {name}: "))?;
        check!(words.number("again")? == 0, "{}", words.0);
        Ok(Handed {
            handed: words.number("handed")?,
            in_flight: words.number("in_flight")?,
            missing: words.number("missing")?,
        })
    };
    let lanes = [lane("sleepable")?, lane("ordinary")?];
    let [sleepable, ordinary] = lanes;
    check!(unloaded(&log)? == (0, sleepable.handed + ordinary.handed));
    no_complaints_in(log)?;
    Ok(lanes)
}

/// Returns the number of handles.
fn fire_from_bpf(log: &mut Kmsg, params: &str) -> Outcome<u64> {
    not_built_in("kptr_defer")?;
    let module = Loaded::new("kptr_defer", params)?;
    let bpf = Bpf::load("under_fire", &["fire"])?;
    let hook = bpf.program("fire")?.attach()?;
    send_ipis(VOLLEYS)?;
    drop(hook);
    let counted = bpf.counted()?;
    check!(counted.nmi > 0);
    check!(counted.released_in_nmi > 0);
    drop(bpf);
    unload_at_once(module)?;

    let log = log.read()?;
    let (inline, deferred) = unloaded(&log)?;
    check!(
        inline + deferred == counted.acquired,
        "acquired: {}, dropped: {inline} inline, {deferred} deferred",
        counted.acquired
    );
    check!(deferred >= counted.released_in_nmi);
    no_complaints_in(log)?;
    Ok(counted.acquired)
}

/// The moment that nothing pins it any more.
fn unload_at_once(module: Loaded) -> Outcome {
    let start = Instant::now();
    while let Err(err) = remove("kptr_defer") {
        check!(
            err.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE,
            "cannot unload kptr_defer: {err}"
        );
        thread::yield_now();
    }
    std::mem::forget(module);
    Ok(())
}

fn under_fire(at_least: u32) -> Outcome {
    send_ipis(1)?;
    let _settings = in_a_hurry()?;
    let mut log = Kmsg::from_now_on()?;
    let (mut from_c, mut from_bpf) = ([Handed::default(); 2], 0);
    let mut took = [Duration::ZERO; 2];
    let bpf_every = BPF_EVERY.min(at_least / PARAMS.len() as u32);
    let mut rounds = 0;
    while rounds < at_least || !on_all_lanes(&from_c, |lane| lane.in_flight) && rounds < MOST {
        let round = rounds;
        rounds += 1;
        let start = Instant::now();
        let by_bpf = round % bpf_every == 0;
        let turn = if by_bpf { round / bpf_every } else { round };
        let params = PARAMS[turn as usize % PARAMS.len()];
        let result = if by_bpf {
            fire_from_bpf(&mut log, params).map(|handles| from_bpf += handles)
        } else {
            // Waiting for those that sleep takes longer than the others do.
            let may_sleep = format!("may_sleep={}", round / 2 % 2);
            fire_from_c(&mut log, params, &may_sleep).map(|lanes| {
                from_c
                    .iter_mut()
                    .zip(lanes)
                    .for_each(|(sum, lane)| *sum += lane);
            })
        };
        if result.is_err() {
            note(format!("in round {round}, {params}"));
        }
        result?;
        took[usize::from(by_bpf)] += start.elapsed();
    }
    let [sleepable, ordinary] = from_c;
    let of_bpf = rounds.div_ceil(bpf_every);
    let each = |took: Duration, rounds| took.checked_div(rounds).unwrap_or_default().as_millis();
    note(format!(
        "{} rounds of C, {} ms each: handed={}+{} in_flight={}+{}",
        rounds - of_bpf,
        each(took[0], rounds - of_bpf),
        sleepable.handed,
        ordinary.handed,
        sleepable.in_flight,
        ordinary.in_flight
    ));
    note(format!(
        "{of_bpf} rounds of BPF, {} ms each: handles={from_bpf}",
        each(took[1], of_bpf)
    ));
    check!(sleepable.missing == 0 && ordinary.missing == 0);
    check!(sleepable.in_flight > 0);
    at_exit("in flight", ordinary.in_flight)
}

/// The negative control: the module looks without waiting, and only then waits.
fn without_barrier() -> Outcome {
    send_ipis(1)?;
    let mut log = Kmsg::from_now_on()?;
    let mut sums = [Handed::default(); 2];
    let mut rounds = 0;
    while rounds < 20 || !on_all_lanes(&sums, |lane| lane.missing) && rounds < MOST {
        rounds += 1;
        let lanes = fire_from_c(&mut log, "budget=1", "no_barrier=1")?;
        sums.iter_mut()
            .zip(lanes)
            .for_each(|(sum, lane)| *sum += lane);
    }
    let [sleepable, ordinary] = sums;
    note(format!(
        "missing={}+{}",
        sleepable.missing, ordinary.missing
    ));
    check!(sleepable.missing > 0);
    at_exit("missing", ordinary.missing)
}

/// It takes another CPU that is slow at the right moment.
fn on_all_lanes(lanes: &[Handed; 2], drops: impl Fn(&Handed) -> u64) -> bool {
    cpus() == 1 || lanes.iter().all(|lane| drops(lane) > 0)
}

/// What drops that do not sleep have to be when the module exits. A single CPU is done with them
/// before it comes to that.
fn at_exit(what: &str, drops: u64) -> Outcome {
    if cpus() == 1 && drops == 0 {
        note(format!("one CPU: no drop is {what} at the exit"));
    } else {
        check!(drops > 0, "no drop was {what} at the exit");
    }
    Ok(())
}

/// A setting of the kernel, different for as long as this lives.
struct Set {
    file: &'static str,
    before: String,
}

impl Set {
    fn to(file: &'static str, value: &str) -> Outcome<Set> {
        let before = fs::read_to_string(file)?;
        fs::write(file, value)?;
        Ok(Set { file, before })
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = fs::write(self.file, &self.before);
    }
}

/// More rounds in the same time: no waiting for the console, to which only warnings go, and less for
/// RCU.
fn in_a_hurry() -> Outcome<[Set; 3]> {
    Ok([
        Set::to("/proc/sys/kernel/printk", "5")?,
        Set::to("/sys/kernel/rcu_normal", "0")?,
        Set::to("/sys/kernel/rcu_expedited", "1")?,
    ])
}
