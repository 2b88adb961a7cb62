#[cfg(CONFIG_RUST_IRQ_WORK_KUNIT_TEST)]
#[macros::kunit_tests(rust_irq_work)]
mod tests {
    use super::*;
    use crate::{
        interrupt::local_interrupt_disable,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        }, //
    };
    use core::ptr;

    struct Counts(Arc<Atomic<u32>>);

    impl Handler for Counts {
        fn run(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn counts() -> Result<Pin<KBox<IrqWork<Counts>>>> {
        let runs = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        KBox::pin_init(IrqWork::new(Counts(runs)), GFP_KERNEL)
    }

    #[test]
    fn runs_each_time_it_is_queued() -> Result {
        let work = counts()?;
        for times in 1..=3 {
            assert!(work.queue());
            work.sync();
            assert_eq!(work.handler().0.load(Relaxed), times);
        }
        Ok(())
    }

    #[test]
    fn is_pending_while_interrupts_are_off() -> Result {
        let work = counts()?;
        let off = local_interrupt_disable();
        let (first, second) = (work.queue(), work.queue());
        let meanwhile = work.handler().0.load(Relaxed);
        drop(off);
        work.sync();
        assert!(first);
        assert!(!second);
        assert_eq!(meanwhile, 0);
        assert_eq!(work.handler().0.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn dropping_waits() -> Result {
        let work = counts()?;
        let runs = work.handler().0.clone();
        let off = local_interrupt_disable();
        work.queue();
        drop(off);
        drop(work);
        assert_eq!(runs.load(Relaxed), 1);
        Ok(())
    }

    /// Queues itself while it runs, so many times.
    struct Again {
        work: Atomic<*const IrqWork<Self>>,
        left: Atomic<i32>,
        runs: Atomic<i32>,
    }

    impl Handler for Again {
        fn run(&self) {
            self.runs.fetch_add(1, Relaxed);
            if self.left.fetch_sub(1, Relaxed) > 0 {
                // SAFETY: Where the work is has been noted down before it was queued, and it does
                // not go away while its handler runs.
                unsafe { (*self.work.load(Relaxed)).queue() };
            }
        }
    }

    #[test]
    fn can_be_queued_while_it_runs() -> Result {
        let again = Again {
            work: Atomic::new(ptr::null()),
            left: Atomic::new(10),
            runs: Atomic::new(0),
        };
        let work = KBox::pin_init(IrqWork::new(again), GFP_KERNEL)?;
        work.handler().work.store(&raw const *work, Relaxed);
        work.queue();
        for _ in 0..100 {
            work.sync();
            if work.handler().left.load(Relaxed) < 0 {
                break;
            }
        }
        work.sync();
        assert_eq!(work.handler().runs.load(Relaxed), 11);
        Ok(())
    }
}
