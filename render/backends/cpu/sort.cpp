// Stable radix sort of the visible Gaussians by depth.
#include <algorithm>

#include "pool.h"
#include "state.h"

namespace recon {
namespace {

constexpr int DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS;
constexpr int BLOCK = 1 << 16;  // keys a work item; fixed, so that threads change nothing

struct Key {
  std::uint32_t depth, record;
};

// Visible records of all chunks, with their depth's bits: floats above 0 sort as integers.
Buffer<Key> collect(const Request& rq, const View& view) {
  std::size_t total = 0;
  for (int count : view.visible) total += count;
  Buffer<Key> keys(total);
  std::size_t out = 0;
  for (int chunk = 0; chunk < rq.chunks(); ++chunk) {
    const std::size_t begin = static_cast<std::size_t>(chunk) * CHUNK;
    for (std::size_t i = begin; i < begin + view.visible[chunk]; ++i) {
      std::uint32_t depth;
      std::memcpy(&depth, &view.depths[i], 4);
      keys[out++] = {depth, static_cast<std::uint32_t>(i)};
    }
  }
  return keys;
}

void sort_digit(const Buffer<Key>& from, Buffer<Key>& to, std::uint32_t least, int shift,
                int threads) {
  const int count = static_cast<int>(from.size());
  const int blocks = (count + BLOCK - 1) / BLOCK;
  std::vector<std::uint32_t> starts(static_cast<std::size_t>(blocks) * DIGITS, 0);
  const auto digit = [=](Key key) { return (key.depth - least) >> shift & (DIGITS - 1); };
  parallel_for(blocks, threads, [&](int block, int) {
    std::uint32_t* mine = &starts[static_cast<std::size_t>(block) * DIGITS];
    const int end = std::min(count, (block + 1) * BLOCK);
    for (int i = block * BLOCK; i < end; ++i) ++mine[digit(from[i])];
  });
  std::uint32_t sum = 0;
  for (int d = 0; d < DIGITS; ++d)
    for (int block = 0; block < blocks; ++block) {
      std::uint32_t& start = starts[static_cast<std::size_t>(block) * DIGITS + d];
      const std::uint32_t size = start;
      start = sum;
      sum += size;
    }
  parallel_for(blocks, threads, [&](int block, int) {
    std::uint32_t* mine = &starts[static_cast<std::size_t>(block) * DIGITS];
    const int end = std::min(count, (block + 1) * BLOCK);
    for (int i = block * BLOCK; i < end; ++i) to[mine[digit(from[i])]++] = from[i];
  });
}

}  // namespace

void sort_view(const Request& rq, View& view) {
  Buffer<Key> keys = collect(rq, view);
  const std::size_t count = keys.size();
  std::uint32_t least = UINT32_MAX, most = 0;
  for (const Key& key : keys) {
    least = std::min(least, key.depth);
    most = std::max(most, key.depth);
  }
  if (count > 1) {
    Buffer<Key> other(count);
    for (int shift = 0; shift < 32 && (most - least) >> shift; shift += DIGIT_BITS) {
      sort_digit(keys, other, least, shift, rq.threads);
      std::swap(keys, other);
    }
  }
  view.order = Buffer<std::uint32_t>(count);
  for (std::size_t i = 0; i < count; ++i) view.order[i] = keys[i].record;
  view.depths = Buffer<float>();
}

}  // namespace recon
