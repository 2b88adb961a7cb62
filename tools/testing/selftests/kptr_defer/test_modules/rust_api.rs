// SPDX-License-Identifier: GPL-2.0

//! A user of kptr_defer's Rust API. BPF programs have it prepare one owner of each kind, for each
//! context, and drop them all; on unload it says how often each was dropped where:
//!
//! ```text
//! kptr_defer_test_rust: <where it should be> <kind> nmi=<n> irq=<n> process=<n>
//! ```

use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    alloc::flags::*,
    error::to_result,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        Refcount, //
    },
    task::Task,
    time::{
        delay::fsleep,
        Delta, //
    },
};
use kptr_defer::{
    impl_has_slot,
    Deferred,
    DeferredArc,
    DeferredBox,
    DeferredRef,
    DropContext,
    DropsInHardIrq,
    InHardIrq,
    InProcess,
    Intrusive,
    Slot, //
};

#[path = "../../../../../include/kptr_defer.rs"]
mod kptr_defer;

module! {
    type: RustApi,
    name: "kptr_defer_test_rust",
    authors: ["The kptr_defer authors"],
    description: "User of the Rust API for the tests of kptr_defer",
    license: "GPL v2",
}

extern "C" {
    fn kptr_defer_test_context() -> usize;
    fn kptr_defer_test_rust_register() -> i32;
}

kernel::sync::global_lock! {
    // SAFETY: Initialised before BPF knows the kfuncs.
    unsafe(uninit) static LOCK: Mutex<()> = ();
}

/// As `kptr_defer_test_context()` says.
const PROCESS: usize = 2;

/// One kind of owner, and how often what it owned was dropped: in NMI, in other interrupts, in process
/// context.
struct Kind {
    should_be: &'static str,
    name: &'static str,
    dropped: [Atomic<u32>; 3],
}

impl Kind {
    const fn new(should_be: &'static str, name: &'static str) -> Self {
        Self {
            should_be,
            name,
            dropped: [const { Atomic::new(0) }; 3],
        }
    }

    fn sum(&self) -> u32 {
        self.dropped.iter().map(|count| count.load(Relaxed)).sum()
    }
}

const fn kinds(should_be: &'static str) -> [Kind; 7] {
    [
        Kind::new(should_be, "value"),
        Kind::new(should_be, "box"),
        Kind::new(should_be, "arc"),
        Kind::new(should_be, "aref"),
        Kind::new(should_be, "intrusive_box"),
        Kind::new(should_be, "pinned_box"),
        Kind::new(should_be, "shared"),
    ]
}

static IN_PROCESS: [Kind; 7] = kinds("process");
static IN_HARD_IRQ: [Kind; 7] = kinds("irq");
static OTHERS: [Kind; 2] = [Kind::new("nmi", "bare"), Kind::new("process", "no_memory")];
static BARE: &Kind = &OTHERS[0];
static NO_MEMORY: &Kind = &OTHERS[1];

/// Notes where it is dropped.
struct Probe {
    slot: Slot,
    kind: &'static Kind,
    sleeps: bool,
}

impl Probe {
    fn new(kind: &'static Kind, sleeps: bool) -> Self {
        let slot = Slot::new();
        Self { slot, kind, sleeps }
    }
}

impl_has_slot! {
    impl HasSlot for Probe { self.slot }
}

// SAFETY: It sleeps only if told so, which it is not where it is dropped in hard interrupt context.
unsafe impl DropsInHardIrq for Probe {}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: Reads the context.
        let context = unsafe { kptr_defer_test_context() };
        if self.sleeps {
            let _guard = LOCK.lock();
            if context == PROCESS {
                fsleep(Delta::from_micros(100));
            }
        }
        if let Some(count) = self.kind.dropped.get(context) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// Counts its references by itself.
struct Counted {
    references: Refcount,
    _probe: Probe,
}

impl Counted {
    fn new(probe: Probe) -> Result<ARef<Self>> {
        let counted = Self {
            references: Refcount::new(1),
            _probe: probe,
        };
        let counted = KBox::into_raw(KBox::new(counted, GFP_KERNEL)?);
        // SAFETY: From a box, with the one reference that it has.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(counted)) })
    }
}

// SAFETY: Freed when the count is zero.
unsafe impl AlwaysRefCounted for Counted {
    fn inc_ref(&self) {
        self.references.inc();
    }

    unsafe fn dec_ref(this: NonNull<Self>) {
        // SAFETY: The caller has a reference.
        if unsafe { this.as_ref() }.references.dec_and_test() {
            // SAFETY: It was the last one; made from a box.
            drop(unsafe { KBox::from_raw(this.as_ptr()) });
        }
    }
}

// SAFETY: As `Probe` is.
unsafe impl DropsInHardIrq for Counted {}

trait Context:
    DropContext<Probe>
    + DropContext<KBox<Probe>>
    + DropContext<Pin<KBox<Probe>>>
    + DropContext<Arc<Probe>>
    + DropContext<ARef<Counted>>
    + DropContext<ARef<Task>>
{
}

impl Context for InProcess {}
impl Context for InHardIrq {}

/// One owner of each kind.
struct Owners<C: Context> {
    _value: Deferred<Probe, C>,
    _boxed: Deferred<KBox<Probe>, C>,
    _arc: Deferred<Arc<Probe>, C>,
    _aref: DeferredRef<Counted, C>,
    _task: DeferredRef<Task, C>,
    _intrusive_box: DeferredBox<Probe, C>,
    _pinned_box: Intrusive<Pin<KBox<Probe>>, C>,
    _shared: [DeferredArc<Probe, C>; 2],
}

impl<C: Context> Owners<C> {
    fn new(kinds: &'static [Kind; 7], sleeps: bool) -> Result<Self> {
        let [value, boxed, arc, aref, intrusive_box, pinned_box, shared] =
            kinds.each_ref().map(|kind| Probe::new(kind, sleeps));
        let shared = DeferredArc::from(Arc::new(shared, GFP_KERNEL)?);
        Ok(Self {
            _value: Deferred::new(value, GFP_KERNEL)?,
            _boxed: Deferred::new(KBox::new(boxed, GFP_KERNEL)?, GFP_KERNEL)?,
            _arc: Deferred::new(Arc::new(arc, GFP_KERNEL)?, GFP_KERNEL)?,
            _aref: Deferred::new(Counted::new(aref)?, GFP_KERNEL)?,
            _task: Deferred::new(ARef::from(&**kernel::current!()), GFP_KERNEL)?,
            _intrusive_box: KBox::new(intrusive_box, GFP_KERNEL)?.into(),
            _pinned_box: KBox::pin(pinned_box, GFP_KERNEL)?.into(),
            _shared: [shared.clone(), shared],
        })
    }
}

/// What is dropped at once.
enum Prepared {
    Owned {
        _in_process: Owners<InProcess>,
        _in_hard_irq: Owners<InHardIrq>,
    },
    /// Not deferred, to see what that looks like.
    Bare { _probe: Probe },
}

/// Where it waits for that.
struct Ready {
    state: Atomic<u32>,
    prepared: UnsafeCell<Option<Prepared>>,
}

const EMPTY: u32 = 0;
const BUSY: u32 = 1;
const READY: u32 = 2;

// SAFETY: Whoever gets from `EMPTY` or `READY` to `BUSY` has it for itself.
unsafe impl Sync for Ready {}

static PREPARED: Ready = Ready {
    state: Atomic::new(EMPTY),
    prepared: UnsafeCell::new(None),
};

impl Ready {
    fn exchange(&self, from: u32, to: u32, new: Option<Prepared>) -> Result<Option<Prepared>> {
        if self.state.cmpxchg(from, BUSY, Acquire).is_err() {
            return Err(EBUSY);
        }
        // SAFETY: It is this one's alone while it is `BUSY`.
        let old = core::mem::replace(unsafe { &mut *self.prepared.get() }, new);
        self.state.store(to, Release);
        Ok(old)
    }
}

fn status(result: Result) -> i32 {
    result.map_or_else(Error::to_errno, |()| 0)
}

#[no_mangle]
extern "C" fn rust_api_prepare(bare: bool) -> i32 {
    let prepare = || {
        let prepared = if bare {
            Prepared::Bare {
                _probe: Probe::new(BARE, true),
            }
        } else {
            Prepared::Owned {
                _in_process: Owners::new(&IN_PROCESS, true)?,
                _in_hard_irq: Owners::new(&IN_HARD_IRQ, false)?,
            }
        };
        PREPARED.exchange(EMPTY, READY, Some(prepared)).map(drop)
    };
    status(prepare())
}

/// Context: any.
#[no_mangle]
extern "C" fn rust_api_drop() -> i32 {
    status(PREPARED.exchange(READY, EMPTY, None).map(drop))
}

/// Wraps values until memory is refused; the value is still there then.
fn until_refused() -> Result {
    let accounted = GFP_KERNEL_ACCOUNT & !GFP_KERNEL;
    let mut wrapped = KVVec::new();
    for number in 0..100_000u32 {
        let value = (Probe::new(NO_MEMORY, false), [number; 200]);
        match Deferred::<_>::new(value, GFP_NOWAIT | __GFP_NOWARN | accounted) {
            Ok(value) => wrapped.push(value, GFP_KERNEL)?,
            Err(refused) => {
                let value = refused.into_inner();
                let unchanged = NO_MEMORY.sum() == 0 && value.1 == [number; 200];
                drop(value);
                return if unchanged && NO_MEMORY.sum() == 1 {
                    Ok(())
                } else {
                    Err(EINVAL)
                };
            }
        }
    }
    Err(EOVERFLOW)
}

#[no_mangle]
extern "C" fn rust_api_no_memory() -> i32 {
    let result = until_refused();
    // Nothing is left when the caller needs memory for itself.
    kptr_defer::barrier();
    status(result)
}

struct RustApi;

impl kernel::Module for RustApi {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This is the one call.
        unsafe { LOCK.init() };
        // SAFETY: This is the one call.
        to_result(unsafe { kptr_defer_test_rust_register() })?;
        Ok(Self)
    }
}

impl Drop for RustApi {
    fn drop(&mut self) {
        drop(PREPARED.exchange(READY, EMPTY, None));
        kptr_defer::barrier();
        for kind in [&IN_PROCESS[..], &IN_HARD_IRQ, &OTHERS]
            .into_iter()
            .flatten()
        {
            let [nmi, irq, process] = kind.dropped.each_ref().map(|count| count.load(Relaxed));
            pr_info!(
                "{} {} nmi={} irq={} process={}\n",
                kind.should_be,
                kind.name,
                nmi,
                irq,
                process
            );
        }
    }
}
