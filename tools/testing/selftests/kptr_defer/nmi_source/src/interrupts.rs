// SPDX-License-Identifier: GPL-2.0

//! Whether a sampling event interrupts, without a BPF program: the kernel writes a record into
//! the event's ring buffer for each overflow it is interrupted for, and for nothing else.

use perf_event_open_sys::{
    bindings::perf_event_mmap_page,
    ioctls, //
};
use std::{
    hint::spin_loop,
    io,
    os::fd::{
        AsRawFd,
        OwnedFd, //
    },
    ptr::{
        self,
        NonNull, //
    },
    sync::atomic::{
        AtomicU64,
        Ordering, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// Starts the event, keeps `cpu` busy, and looks for a record.
pub(crate) fn seen_within(event: &OwnedFd, cpu: u32, patience: Duration) -> io::Result<bool> {
    let ring = Ring::of(event)?;
    // SAFETY: The ioctl takes no pointer.
    if unsafe { ioctls::ENABLE(event.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // On a thread of its own, so that the caller's CPU affinity stays as it is.
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            run_on(cpu)?;
            let start = Instant::now();
            while !ring.has_record() && start.elapsed() < patience {
                spin_loop();
            }
            Ok(ring.has_record())
        });
        busy.join().expect("the loop does not panic")
    })
}

fn run_on(cpu: u32) -> io::Result<()> {
    // SAFETY: All zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `CPU_SET` checks the index against the size of the set.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    // SAFETY: `set` is a whole CPU set.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The event's ring buffer: the control page and one page of records.
struct Ring {
    control: NonNull<perf_event_mmap_page>,
    bytes: usize,
}

// SAFETY: Only `data_head` is looked at, atomically.
unsafe impl Sync for Ring {}

impl Ring {
    fn of(event: &OwnedFd) -> io::Result<Ring> {
        // SAFETY: Takes a number and returns one.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = 2 * page;
        // SAFETY: A new mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(control) if address != libc::MAP_FAILED => Ok(Ring { control, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn has_record(&self) -> bool {
        // SAFETY: The control page is mapped for as long as `self` lives.
        let head = unsafe { &raw mut (*self.control.as_ptr()).data_head };
        // SAFETY: The kernel writes it, aligned and in one piece; nobody here does.
        unsafe { AtomicU64::from_ptr(head) }.load(Ordering::Relaxed) != 0
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours and this is the last use of it.
        unsafe { libc::munmap(self.control.as_ptr().cast(), self.bytes) };
    }
}
