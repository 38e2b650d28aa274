// Which tiles each Gaussian touches, exactly, and the tiles' lists in depth order.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "ellipse.h"
#include "pool.h"
#include "state.h"

namespace recon {
namespace {

constexpr int BLOCK = 1 << 14;  // Gaussians a work item; fixed, so that threads change nothing

// Pairs of a Gaussian and a tile in one view: entries and pairs are counted in 32 bits, and a Walk
// looks some entries ahead. A test builds with a lower limit.
#if !defined(RECON_MAX_PAIRS)
#define RECON_MAX_PAIRS (UINT32_MAX - 4096)
#endif

struct Block {
  std::vector<std::uint32_t> tiles;   // of each pair, Gaussian by Gaussian
  std::vector<std::uint32_t> counts;  // by tile, then where this block's entries start
};

// Appends the tiles of one record, column by column; returns how many. A box one tile wide or
// high is touched throughout; in a larger one the ellipse leaves corners out.
int tiles_of(const Request& rq, const View& view, std::uint32_t record,
             std::vector<std::uint32_t>& tiles) {
  const TileBox box = view.boxes[record];
  const int across = rq.tiles_x();
  if (box.x0 == box.x1 || box.y0 == box.y1) {
    for (int tx = box.x0; tx <= box.x1; ++tx)
      for (int ty = box.y0; ty <= box.y1; ++ty) tiles.push_back(ty * across + tx);
    return (box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1);
  }
  const Record& r = view.records[record];
  const Span columns = pixel_span(r.x - r.reach_x, r.x + r.reach_x, rq.width);
  int count = 0;
  for (int tx = columns.first / TILE; tx * TILE <= columns.last; ++tx) {
    const int x0 = std::max(columns.first, tx * TILE);
    const int x1 = std::min(columns.last, tx * TILE + TILE - 1);
    const Rows rows = rows_between(r, x0 + 0.5f - r.x, x1 + 0.5f - r.x);
    const Span span = pixel_span(r.y + rows.low, r.y + rows.high, rq.height);
    for (int ty = span.first / TILE; ty * TILE <= span.last; ++ty, ++count)
      tiles.push_back(ty * across + tx);
  }
  return count;
}

// Throws when a view has more pairs than 32 bits can count.
void check_pairs(const std::vector<Block>& blocks) {
  std::uint64_t pairs = 0;
  for (const Block& block : blocks) pairs += block.tiles.size();
  if (pairs > RECON_MAX_PAIRS)
    throw std::length_error("one view has " + std::to_string(pairs) +
                            " pairs of a Gaussian and a tile, expected at most " +
                            std::to_string(RECON_MAX_PAIRS) +
                            "; render smaller images or fewer Gaussians");
}

// Where each tile's list starts, and within it each block's part.
void start_lists(int tiles, std::vector<Block>& blocks, View& view) {
  check_pairs(blocks);
  view.tile_begin.assign(tiles + 1, 0);
  std::uint32_t sum = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    view.tile_begin[tile] = sum;
    for (Block& block : blocks) {
      const std::uint32_t size = block.counts[tile];
      block.counts[tile] = sum;
      sum += size;
    }
  }
  view.tile_begin[tiles] = sum;
}

// Pairs are numbered in the order of the records, not of depth: neighbours in the input are
// mostly neighbours in the image, and the backward pass reads the slots in this order.
void number_pairs(const Request& rq, View& view) {
  std::uint32_t next = 0;
  for (int chunk = 0; chunk < rq.chunks(); ++chunk) {
    const std::size_t begin = static_cast<std::size_t>(chunk) * CHUNK;
    for (std::size_t r = begin; r < begin + view.visible[chunk]; ++r) {
      view.pairs[r].begin = next;
      next += view.pairs[r].count;
    }
  }
}

}  // namespace

void bin_view(const Request& rq, View& view) {
  const int count = static_cast<int>(view.order.size()), tiles = rq.tiles();
  std::vector<Block> blocks((count + BLOCK - 1) / BLOCK);
  view.pairs = Buffer<PairRange>(rq.count);
  parallel_for(static_cast<int>(blocks.size()), rq.threads, [&](int b, int) {
    Block& block = blocks[b];
    block.counts.assign(tiles, 0);
    block.tiles.reserve(3 * BLOCK);
    const int end = std::min(count, (b + 1) * BLOCK);
    for (int i = b * BLOCK; i < end; ++i) {
      if (i + 8 < end) __builtin_prefetch(&view.boxes[view.order[i + 8]]);
      const std::uint32_t record = view.order[i];
      const int found = tiles_of(rq, view, record, block.tiles);
      view.pairs[record] = {0, static_cast<std::uint32_t>(found)};
    }
    for (std::uint32_t tile : block.tiles) ++block.counts[tile];
  });

  start_lists(tiles, blocks, view);
  number_pairs(rq, view);

  view.entries = Buffer<Entry>(view.tile_begin[tiles]);
  parallel_for(static_cast<int>(blocks.size()), rq.threads, [&](int b, int) {
    Block& block = blocks[b];
    const int end = std::min(count, (b + 1) * BLOCK);
    const std::uint32_t* tile = block.tiles.data();
    for (int i = b * BLOCK; i < end; ++i) {
      if (i + 8 < end) __builtin_prefetch(&view.pairs[view.order[i + 8]]);
      const std::uint32_t record = view.order[i];
      const PairRange range = view.pairs[record];
      for (std::uint32_t k = 0; k < range.count; ++k, ++tile)
        view.entries[block.counts[*tile]++] = {record, range.begin + k};
    }
    block = Block();
  });
  view.boxes = Buffer<TileBox>();
}

}  // namespace recon
