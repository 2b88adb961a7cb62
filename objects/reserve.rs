// SPDX-License-Identifier: GPL-2.0

//! Memory for handles.
//!
//! Each CPU keeps what was freed there last for the next handles that are taken there. When it has none
//! it comes from `kmalloc_nolock()`, which may refuse: on `PREEMPT_RT` it always does in NMI, and
//! anywhere when it would have to wait for a lock that the interrupted code holds. Then a spare block
//! serves, one of a few that are kept for that and replaced from process context.
//!
//! The spare blocks lie in cells, each of which holds one or none. A cell is emptied by exchanging
//! its pointer for null, which any number of contexts may do at once without mixing up blocks.

use crate::{
    abstractions::{
        module_static::{
            Alive,
            ModuleStatic, //
        },
        nolock::NolockBox,
        percpu_stack::PerCpuStack,
        workqueue::flush_work,
    },
    bindings::kptr_defer_slot,
    defer::{
        pending::{
            InHardIrq,
            PendingDrop, //
        },
        queue::Engine,
    },
};
use core::{
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    container_of, impl_has_work, new_work,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    types::Opaque,
    workqueue::{
        Work,
        WorkItem, //
    },
};

/// The memory of a handle: 32 bytes.
pub(crate) type Block = [usize; 4];

type FreeBlock = NolockBox<MaybeUninit<Block>>;

/// The one reserve there is.
pub(crate) static RESERVE: ModuleStatic<Reserve> = ModuleStatic::new();

/// Holds a spare block or none.
///
/// # Invariants
///
/// The pointer is null or comes from [`FreeBlock::into_raw`], which the cell owns.
struct Cell(Atomic<*mut MaybeUninit<Block>>);

impl Cell {
    const fn new() -> Self {
        // INVARIANT: Null.
        Self(Atomic::new(ptr::null_mut()))
    }

    #[inline]
    fn take(&self) -> Option<FreeBlock> {
        // A look first: exchanging would fetch the cache line for writing.
        if self.is_empty() {
            return None;
        }
        // INVARIANT: Null.
        let block = NonNull::new(self.0.xchg(ptr::null_mut(), Full))?;
        // SAFETY: By the type invariant it is a box's pointer, and now ours alone.
        Some(unsafe { FreeBlock::from_raw(block) })
    }

    fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }

    /// Only one context at a time fills cells, so an empty one stays empty until it does.
    fn fill(&self, block: FreeBlock) {
        // INVARIANT: The pointer has been given up by its box for this cell.
        let before = self.0.xchg(block.into_raw().as_ptr(), Full);
        if let Some(before) = NonNull::new(before) {
            // SAFETY: By the type invariant it is a box's pointer, and now ours alone.
            drop(unsafe { FreeBlock::from_raw(before) });
        }
    }
}

/// Blocks that a CPU keeps. None when KASAN is to see each of them freed.
const KEPT: usize = if cfg!(CONFIG_KASAN) { 0 } else { 32 };

/// Where the memory of handles comes from, and goes.
#[pin_data]
pub(crate) struct Reserve {
    #[pin]
    spare: SpareBlocks,
    kept: PerCpuStack<MaybeUninit<Block>, KEPT>,
}

impl Reserve {
    pub(crate) fn new(engine: Arc<Alive<Engine>>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            spare <- SpareBlocks::new(engine),
            kept: PerCpuStack::new()?,
        }? Error)
    }

    /// Memory for one handle.
    ///
    /// Context: any.
    #[inline(always)]
    pub(crate) fn block(&self) -> Option<FreeBlock> {
        self.kept
            .pop()
            .or_else(FreeBlock::new_uninit)
            .or_else(|| self.spare.take())
    }

    /// Takes back the memory of one handle.
    ///
    /// Context: any.
    #[inline(always)]
    pub(crate) fn put_back(&self, block: FreeBlock) {
        drop(self.kept.push(block));
    }
}

/// Spare blocks.
#[pin_data(PinnedDrop)]
struct SpareBlocks {
    cells: [Cell; Self::CELLS],
    /// Where to look first: the cells before it are more likely to be empty.
    next: Atomic<usize>,
    /// Goes through the queue like a drop, from NMI to where a work item may be queued.
    #[pin]
    notice: Opaque<kptr_defer_slot>,
    notice_sent: Atomic<bool>,
    #[pin]
    refill: Work<SpareBlocks>,
    /// What notices go through.
    engine: Arc<Alive<Engine>>,
}

// SAFETY: What is not atomic is `notice`, which is used by whoever has set `notice_sent`.
unsafe impl Sync for SpareBlocks {}
// SAFETY: It belongs to no thread in particular.
unsafe impl Send for SpareBlocks {}

impl_has_work! {
    impl HasWork<Self> for SpareBlocks { self.refill }
}

// SAFETY: Only the work item holds such a reference; nobody outside of this file can make one. It has
// returned before the blocks are dropped: counting would tell nothing.
unsafe impl AlwaysRefCounted for SpareBlocks {
    #[inline]
    fn inc_ref(&self) {}

    #[inline]
    unsafe fn dec_ref(_: NonNull<Self>) {}
}

impl WorkItem for SpareBlocks {
    type Pointer = ARef<Self>;

    fn run(this: ARef<Self>) {
        this.fill();
    }
}

impl SpareBlocks {
    /// As many as may be taken in NMI before a work item has had its turn. A power of two.
    const CELLS: usize = 512;

    fn new(engine: Arc<Alive<Engine>>) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            cells: [const { Cell::new() }; Self::CELLS],
            next: Atomic::new(0),
            notice: Opaque::zeroed(),
            notice_sent: Atomic::new(false),
            refill <- new_work!("kptr_defer::refill"),
            engine,
            _: {
                // SAFETY: All fields are initialised.
                unsafe { this.as_ref() }.fill();
            },
        }? Error)
    }

    #[cold]
    #[inline(never)]
    fn take(&self) -> Option<FreeBlock> {
        let first = self.next.fetch_add(1, Relaxed);
        let spare = (0..Self::CELLS)
            .find_map(|i| self.cells[first.wrapping_add(i) & (Self::CELLS - 1)].take());
        self.ask_for_refill();
        spare
    }

    fn ask_for_refill(&self) {
        if self.notice_sent.xchg(true, Full) {
            return;
        }
        // SAFETY: An `Opaque` is not at null.
        let notice = unsafe { NonNull::new_unchecked(self.notice.get()) };
        // SAFETY: The notice is ours until `notice_sent` is false again.
        let notice = unsafe { PendingDrop::<InHardIrq>::new(notice, Self::receive_notice) };
        self.engine.get().defer(notice);
    }

    /// # Safety
    ///
    /// `notice` is that of a reserve, just off the queue.
    unsafe extern "C" fn receive_notice(notice: *mut kptr_defer_slot) {
        let notice = Opaque::cast_from(notice);
        // SAFETY: By the safety requirement it is in a reserve; that is not dropped while a notice
        // is under way.
        let this = unsafe { &*container_of!(notice, Self, notice) };
        this.engine.get().stats().in_hard_irq.is_no_drop();
        this.notice_sent.store(false, Release);
        // If it is queued already, it will see what this notice is about.
        let _ = this.engine.get().workqueue().enqueue(ARef::from(this));
    }

    /// Called by one context at a time, a work item does not overlap with itself.
    fn fill(&self) {
        for cell in self.cells.iter().filter(|cell| cell.is_empty()) {
            let Some(block) = FreeBlock::new_uninit() else {
                return;
            };
            cell.fill(block);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for SpareBlocks {
    fn drop(self: Pin<&mut Self>) {
        // After this no notice is under way.
        self.engine.get().barrier();
        flush_work(&self.refill);
        for cell in &self.cells {
            drop(cell.take());
        }
    }
}
