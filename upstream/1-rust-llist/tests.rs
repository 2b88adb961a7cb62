#[cfg(CONFIG_RUST_LLIST_KUNIT_TEST)]
#[macros::kunit_tests(rust_llist)]
mod tests {
    use super::*;
    use crate::{
        container_of,
        prelude::*,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
        workqueue, //
    };

    struct Item {
        node: Opaque<bindings::llist_node>,
        number: usize,
        dropped: Arc<Atomic<usize>>,
    }

    impl Drop for Item {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    struct Owned(KBox<Item>);

    // SAFETY: The node is a pointer that is used by who owns the item only.
    unsafe impl Send for Owned {}

    impl Owned {
        fn new(number: usize, dropped: &Arc<Atomic<usize>>) -> Result<Self> {
            let item = Item {
                node: Opaque::uninit(),
                number,
                dropped: dropped.clone(),
            };
            Ok(Self(KBox::new(item, GFP_KERNEL)?))
        }
    }

    // SAFETY: The node is a field of the item, nothing else uses it, and the item stays where it is
    // until it is a box again.
    unsafe impl Linked for Owned {
        fn into_node(self) -> NonNull<bindings::llist_node> {
            let item = KBox::into_raw(self.0);
            // SAFETY: The item is valid, so its fields are not at null.
            unsafe { NonNull::new_unchecked(Opaque::cast_into(&raw const (*item).node)) }
        }

        unsafe fn from_node(node: NonNull<bindings::llist_node>) -> Self {
            let node = Opaque::cast_from(node.as_ptr());
            // SAFETY: The caller promises that `into_node` has turned the box that the node is in
            // into a pointer, and that it becomes a box again only here.
            Self(unsafe { KBox::from_raw(container_of!(node, Item, node).cast_mut()) })
        }
    }

    fn counter() -> Result<Arc<Atomic<usize>>> {
        Ok(Arc::new(Atomic::new(0), GFP_KERNEL)?)
    }

    #[test]
    fn add_tells_whether_it_was_empty() -> Result {
        let dropped = counter()?;
        let list = LockLessList::new();
        assert!(list.is_empty());
        assert!(list.add(Owned::new(0, &dropped)?));
        assert!(!list.is_empty());
        assert!(!list.add(Owned::new(1, &dropped)?));
        drop(list.take_all());
        assert!(list.is_empty());
        assert!(list.add(Owned::new(2, &dropped)?));
        Ok(())
    }

    #[test]
    fn takes_all_newest_first() -> Result {
        let dropped = counter()?;
        let list = LockLessList::new();
        for number in 0..100 {
            list.add(Owned::new(number, &dropped)?);
        }
        let mut chain = list.take_all();
        assert!(list.is_empty());
        assert!(!chain.is_empty());
        for number in (0..100).rev() {
            let item = chain.pop().map(|item| item.0.number);
            assert_eq!(item, Some(number));
        }
        assert!(chain.pop().is_none());
        assert!(chain.is_empty());
        assert_eq!(dropped.load(Relaxed), 100);
        Ok(())
    }

    #[test]
    fn a_chain_can_be_reversed_in_parts() -> Result {
        let dropped = counter()?;
        let list = LockLessList::new();
        for number in 0..3 {
            list.add(Owned::new(number, &dropped)?);
        }
        let (mut taken, mut reversed) = (list.take_all(), Chain::new());
        assert_eq!(reversed.push_reversed(&mut taken, 0), 0);
        assert!(reversed.is_empty());
        assert_eq!(reversed.push_reversed(&mut taken, 2), 2);
        assert!(!taken.is_empty());
        assert_eq!(reversed.push_reversed(&mut taken, 2), 1);
        assert!(taken.is_empty());
        for number in 0..3 {
            let item = reversed.pop().map(|item| item.0.number);
            assert_eq!(item, Some(number));
        }
        assert!(reversed.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_left_is_dropped() -> Result {
        let dropped = counter()?;
        let list = LockLessList::new();
        for number in 0..5 {
            list.add(Owned::new(number, &dropped)?);
        }
        let mut chain = list.take_all();
        drop(chain.pop());
        assert_eq!(dropped.load(Relaxed), 1);
        list.add(Owned::new(5, &dropped)?);
        drop(chain);
        assert_eq!(dropped.load(Relaxed), 5);
        drop(list);
        assert_eq!(dropped.load(Relaxed), 6);
        Ok(())
    }

    #[test]
    fn nothing_is_lost_while_others_add() -> Result {
        const ADDERS: usize = 4;
        const EACH: usize = 1000;
        let dropped = counter()?;
        let list = Arc::new(LockLessList::new(), GFP_KERNEL)?;
        for adder in 0..ADDERS {
            let (list, dropped) = (list.clone(), dropped.clone());
            workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
                for number in 0..EACH {
                    if let Ok(item) = Owned::new(adder * EACH + number, &dropped) {
                        list.add(item);
                    }
                }
            })?;
        }

        let mut seen = KVec::from_elem(0u8, ADDERS * EACH, GFP_KERNEL)?;
        for _ in 0..500 {
            let mut chain = list.take_all();
            while let Some(item) = chain.pop() {
                seen[item.0.number] += 1;
            }
            if dropped.load(Relaxed) == ADDERS * EACH {
                break;
            }
            fsleep(Delta::from_millis(10));
        }
        assert!(seen.iter().all(|times| *times == 1));
        Ok(())
    }
}
