//! Which series of a tenant a segment has declared.

use hashbrown::HashMap;

const PAGE_WORDS: usize = 8;
const PAGE_BITS: u32 = 64 * PAGE_WORDS as u32;

/// A set of series numbers: dense where numbers are, without a large allocation for a stray large one.
#[derive(Debug, Default)]
pub(super) struct SeriesSet {
    pages: Vec<[u64; PAGE_WORDS]>,
    index: HashMap<u32, usize>,
    last: Option<(u32, usize)>,
}

impl SeriesSet {
    /// Adds a number and returns whether it was new.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let page = match self.find(number / PAGE_BITS) {
            Some(page) => page,
            None => {
                self.pages.push([0; PAGE_WORDS]);
                let page = self.pages.len() - 1;
                self.index.insert(number / PAGE_BITS, page);
                page
            }
        };
        self.last = Some((number / PAGE_BITS, page));
        let word = &mut self.pages[page][(number % PAGE_BITS / 64) as usize];
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Returns whether a number is in the set.
    pub(super) fn contains(&mut self, number: u32) -> bool {
        let Some(page) = self.find(number / PAGE_BITS) else { return false };
        self.last = Some((number / PAGE_BITS, page));
        self.pages[page][(number % PAGE_BITS / 64) as usize] & (1 << (number % 64)) != 0
    }

    fn find(&self, key: u32) -> Option<usize> {
        match self.last {
            Some((last, page)) if last == key => Some(page),
            _ => self.index.get(&key).copied(),
        }
    }
}
