//! Random bytes from the operating system, asked for by the page: a call into the system for each record would cost more
//! than its checksum.

use std::cell::RefCell;

/// Bytes that are asked for at once.
const PAGE_BYTES: usize = 2_048;

/// What was asked for and not given out yet.
struct Page {
    bytes: [u8; PAGE_BYTES],
    /// How many of them are left, at the end.
    left: usize,
}

thread_local! {
    static PAGE: RefCell<Page> = const { RefCell::new(Page { bytes: [0; PAGE_BYTES], left: 0 }) };
}

/// Sixteen random bytes. None is given out twice.
pub(in crate::store) fn sixteen() -> Result<[u8; 16], getrandom::Error> {
    PAGE.with_borrow_mut(|page| {
        if page.left == 0 {
            getrandom::fill(&mut page.bytes)?;
            page.left = PAGE_BYTES;
        }
        let mut sixteen = [0; 16];
        let unused = page.bytes.iter_mut().skip(PAGE_BYTES - page.left);
        for (to, from) in sixteen.iter_mut().zip(unused) {
            // What was given out is not kept.
            *to = std::mem::take(from);
        }
        page.left -= sixteen.len();
        Ok(sixteen)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_are_alike_over_pages_and_threads() {
        let made = || (0..1_000).map(|_| sixteen().unwrap()).collect::<Vec<_>>();
        let other = std::thread::spawn(made);
        let all: HashSet<_> = made().into_iter().chain(other.join().unwrap()).collect();
        assert_eq!(all.len(), 2_000);
        assert!(!all.contains(&[0; 16]));
    }
}
