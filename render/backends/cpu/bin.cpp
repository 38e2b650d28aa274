// Which tiles each Gaussian touches, exactly, and the tiles' lists in depth order.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "ellipse.h"
#include "pool.h"
#include "state.h"

namespace recon {
namespace {

constexpr int BLOCK = 8;  // chunks a work item; fixed, so that threads change nothing

// Pairs of a Gaussian and a tile in one view: entries and pairs are counted in 32 bits, and a Walk
// looks some entries ahead. A test builds with a lower limit.
#if !defined(RECON_MAX_PAIRS)
#define RECON_MAX_PAIRS (UINT32_MAX - 4096)
#endif

struct Block {
  std::vector<std::uint32_t> tiles;   // of each pair, Gaussian by Gaussian
  std::vector<std::uint32_t> counts;  // by tile, then where this block's entries start
  std::uint32_t first_pair = 0;
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

// Where each tile's list starts, and within it each block's part. Pairs are numbered in the order
// of the records, not of depth: neighbours in the input are mostly neighbours in the image, and the
// backward pass reads the slots in this order.
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
  std::uint32_t pairs = 0;
  for (Block& block : blocks) {
    block.first_pair = pairs;
    pairs += static_cast<std::uint32_t>(block.tiles.size());
  }
}

// Calls body(record) for the visible records of a block.
template <class Body>
void for_records(const Request& rq, const View& view, int block, const Body& body) {
  const int end = std::min(rq.chunks(), (block + 1) * BLOCK);
  for (int chunk = block * BLOCK; chunk < end; ++chunk) {
    const std::uint32_t first = static_cast<std::uint32_t>(chunk) * CHUNK;
    for (std::uint32_t r = first; r < first + view.visible[chunk]; ++r) body(r);
  }
}

}  // namespace

void bin_view(const Request& rq, View& view) {
  const int tiles = rq.tiles();
  std::vector<Block> blocks((rq.chunks() + BLOCK - 1) / BLOCK);
  const int count = static_cast<int>(blocks.size());
  view.pairs = Buffer<PairRange>(rq.count);
  parallel_for(count, rq.threads, [&](int b, int) {
    Block& block = blocks[b];
    block.counts.assign(tiles, 0);
    block.tiles.reserve(3 * BLOCK * CHUNK);
    for_records(rq, view, b, [&](std::uint32_t record) {
      const int found = tiles_of(rq, view, record, block.tiles);
      view.pairs[record] = {0, static_cast<std::uint32_t>(found)};
    });
    for (std::uint32_t tile : block.tiles) ++block.counts[tile];
  });

  start_lists(tiles, blocks, view);
  view.boxes = Buffer<TileBox>();
  view.entries = Buffer<Entry>(view.tile_begin[tiles]);
  parallel_for(count, rq.threads, [&](int b, int) {
    Block& block = blocks[b];
    const std::uint32_t* tile = block.tiles.data();
    std::uint32_t pair = block.first_pair;
    for_records(rq, view, b, [&](std::uint32_t record) {
      view.pairs[record].begin = pair;
      for (std::uint32_t k = 0; k < view.pairs[record].count; ++k)
        view.entries[block.counts[*tile++]++] = {record, pair++};
    });
    block = Block();
  });
  parallel_for(tiles, rq.threads, [&](int tile, int) { sort_tile(view, tile); });
  view.depths = Buffer<float>();
}

}  // namespace recon
