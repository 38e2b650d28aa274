// Stable radix sort of a tile's list by depth, nearest first. A list and its copy fit into a core's
// cache, which all Gaussians of the view together would not.
#include <algorithm>
#include <array>

#include "state.h"

namespace recon {
namespace {

constexpr int DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, PASSES = 32 / DIGIT_BITS;
constexpr std::size_t FEW = 24;  // a list this short is sorted by insertion

struct Key {
  std::uint32_t depth;
  Entry entry;
};

void sort_few(Key* keys, std::size_t count) {
  for (std::size_t i = 1; i < count; ++i) {
    const Key key = keys[i];
    std::size_t at = i;
    for (; at > 0 && keys[at - 1].depth > key.depth; --at) keys[at] = keys[at - 1];
    keys[at] = key;
  }
}

// Sorts by the bits that differ; returns whichever of the two arrays holds the result.
Key* sort_many(Key* keys, Key* other, std::size_t count, std::uint32_t range) {
  std::array<std::array<std::uint32_t, DIGITS>, PASSES> starts{};
  int passes = 0;
  while (passes < PASSES && range >> (passes * DIGIT_BITS)) ++passes;
  const auto digit = [](const Key& key, int pass) {
    return key.depth >> (pass * DIGIT_BITS) & (DIGITS - 1);
  };
  for (std::size_t i = 0; i < count; ++i)
    for (int pass = 0; pass < passes; ++pass) ++starts[pass][digit(keys[i], pass)];
  for (int pass = 0; pass < passes; ++pass) {
    std::uint32_t sum = 0;
    for (std::uint32_t& start : starts[pass]) {
      const std::uint32_t size = start;
      start = sum;
      sum += size;
    }
    for (std::size_t i = 0; i < count; ++i) other[starts[pass][digit(keys[i], pass)]++] = keys[i];
    std::swap(keys, other);
  }
  return keys;
}

// Two arrays of one worker, kept between tiles; grown, never shrunk.
Key* key_space(std::size_t count) {
  thread_local Buffer<Key> buffer;
  if (buffer.size() < 2 * count) buffer = Buffer<Key>(3 * count);
  return buffer.data();
}

}  // namespace

void sort_tile(View& view, int tile) {
  Entry* entries = view.entries.data() + view.tile_begin[tile];
  const std::size_t count = view.tile_begin[tile + 1] - view.tile_begin[tile];
  Key* keys = key_space(count);
  std::uint32_t least = UINT32_MAX, most = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t depth;  // bits of floats above 0 sort as integers
    std::memcpy(&depth, &view.depths[entries[i].record], 4);
    keys[i] = {depth, entries[i]};
    least = std::min(least, depth);
    most = std::max(most, depth);
  }
  if (count <= FEW) {
    sort_few(keys, count);
  } else {
    for (std::size_t i = 0; i < count; ++i) keys[i].depth -= least;
    keys = sort_many(keys, keys + count, count, most - least);
  }
  for (std::size_t i = 0; i < count; ++i) entries[i] = keys[i].entry;
}

}  // namespace recon
