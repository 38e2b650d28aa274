// Which tiles each Gaussian touches, exactly, and the tiles' lists in depth order.
#include <algorithm>

#include "ellipse.h"
#include "pool.h"
#include "state.h"

namespace recon {
namespace {

constexpr int BLOCK = 1 << 14;  // Gaussians a work item; fixed, so that threads change nothing

struct Block {
  std::vector<std::uint32_t> tiles;   // of each pair, Gaussian by Gaussian
  std::vector<std::uint32_t> counts;  // by tile, then where this block's entries start
};

// Appends the tiles of one record, column by column; returns how many.
int tiles_of(const Request& rq, const Record& r, std::vector<std::uint32_t>& tiles) {
  const Span columns = pixel_span(r.x - r.reach_x, r.x + r.reach_x, rq.width);
  int count = 0;
  for (int tx = columns.first / TILE; tx * TILE <= columns.last; ++tx) {
    const int x0 = std::max(columns.first, tx * TILE);
    const int x1 = std::min(columns.last, tx * TILE + TILE - 1);
    const Rows rows = rows_between(r, x0 + 0.5f - r.x, x1 + 0.5f - r.x);
    const Span span = pixel_span(r.y + rows.low, r.y + rows.high, rq.height);
    for (int ty = span.first / TILE; ty * TILE <= span.last; ++ty, ++count)
      tiles.push_back(static_cast<std::uint32_t>(ty * rq.tiles_x() + tx));
  }
  return count;
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
      if (i + 8 < end) __builtin_prefetch(&view.records[view.order[i + 8]]);
      const std::uint32_t record = view.order[i];
      const auto begin = static_cast<std::uint32_t>(block.tiles.size());
      const int found = tiles_of(rq, view.records[record], block.tiles);
      view.pairs[record] = {begin, static_cast<std::uint32_t>(found)};  // begin within the block
    }
    for (std::uint32_t tile : block.tiles) ++block.counts[tile];
  });

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
  std::vector<std::uint32_t> first_pair(blocks.size(), 0);
  for (std::size_t b = 1; b < blocks.size(); ++b)
    first_pair[b] = first_pair[b - 1] + static_cast<std::uint32_t>(blocks[b - 1].tiles.size());

  view.entries = Buffer<Entry>(sum);
  parallel_for(static_cast<int>(blocks.size()), rq.threads, [&](int b, int) {
    Block& block = blocks[b];
    const int end = std::min(count, (b + 1) * BLOCK);
    std::uint32_t pair = 0;
    for (int i = b * BLOCK; i < end; ++i) {
      const std::uint32_t record = view.order[i];
      PairRange& range = view.pairs[record];
      range.begin += first_pair[b];
      for (std::uint32_t k = 0; k < range.count; ++k, ++pair)
        view.entries[block.counts[block.tiles[pair]]++] = {record, first_pair[b] + pair};
    }
    block = Block();
  });
}

}  // namespace recon
