//! Room for the open chunks of many series: blocks of a few samples, taken and given back as a whole.
//!
//! A vector a series would be reallocated four times on its way to a full chunk, leave holes of every size behind,
//! and keep its largest size for ever.

/// Samples of a block: a cache line.
pub(super) const BLOCK_SAMPLES: usize = 4;
/// Blocks of a slab, which are allocated together.
const SLAB_BLOCKS: usize = 256;
/// No block.
const NONE: u32 = u32::MAX;

type Block = [(i64, f64); BLOCK_SAMPLES];

#[derive(Debug)]
struct Slab {
    blocks: Box<[Block]>,
    /// The block behind each: of the same series, or the next free one.
    links: Box<[u32]>,
}

/// Blocks of open chunks.
#[derive(Debug)]
pub(super) struct OpenBlocks {
    slabs: Vec<Slab>,
    free: u32,
}

/// The blocks of one open chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenChunk {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for OpenChunk {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl OpenChunk {
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }
}

impl Default for OpenBlocks {
    fn default() -> Self {
        Self { slabs: Vec::new(), free: NONE }
    }
}

impl OpenBlocks {
    /// Appends a sample to a chunk; returns by how many bytes the blocks have grown.
    #[inline]
    pub(super) fn push(&mut self, chunk: &mut OpenChunk, sample: (i64, f64)) -> usize {
        let place = chunk.len() % BLOCK_SAMPLES;
        let mut grown = 0;
        if place == 0 {
            let (block, bytes) = self.take();
            grown = bytes;
            match chunk.len {
                0 => chunk.first = block,
                _ => *self.link(chunk.last) = block,
            }
            chunk.last = block;
        }
        self.slabs[chunk.last as usize / SLAB_BLOCKS].blocks[chunk.last as usize % SLAB_BLOCKS][place] =
            sample;
        chunk.len += 1;
        grown
    }

    /// Returns the samples of a chunk in the order of their coming.
    pub(super) fn samples(&self, chunk: &OpenChunk) -> impl Iterator<Item = (i64, f64)> + '_ {
        let (mut block, mut left) = (chunk.first, chunk.len());
        let blocks = std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let (slab, place) = (&self.slabs[block as usize / SLAB_BLOCKS], block as usize % SLAB_BLOCKS);
            let here = left.min(BLOCK_SAMPLES);
            left -= here;
            block = slab.links[place];
            Some(&slab.blocks[place][..here])
        });
        blocks.flatten().copied()
    }

    /// Empties a chunk and keeps its blocks for others.
    pub(super) fn give_back(&mut self, chunk: &mut OpenChunk) {
        if chunk.len > 0 {
            *self.link(chunk.last) = self.free;
            self.free = chunk.first;
        }
        *chunk = OpenChunk::default();
    }

    fn link(&mut self, block: u32) -> &mut u32 {
        &mut self.slabs[block as usize / SLAB_BLOCKS].links[block as usize % SLAB_BLOCKS]
    }

    /// Takes a block, and makes a slab of them where none is free.
    fn take(&mut self) -> (u32, usize) {
        let mut grown = 0;
        if self.free == NONE {
            let first =
                u32::try_from(self.slabs.len() * SLAB_BLOCKS).expect("memory ends before 2^32 blocks");
            let mut links: Box<[u32]> = (first + 1..=first + SLAB_BLOCKS as u32).collect();
            links[SLAB_BLOCKS - 1] = NONE;
            let blocks = vec![[(0, 0.0); BLOCK_SAMPLES]; SLAB_BLOCKS].into_boxed_slice();
            self.slabs.push(Slab { blocks, links });
            self.free = first;
            grown = SLAB_BLOCKS * (size_of::<Block>() + size_of::<u32>());
        }
        let block = self.free;
        self.free = *self.link(block);
        (block, grown)
    }
}
