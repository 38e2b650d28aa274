// The traversal of a tile that forward, backward and contributions have in common: for a Record,
// the W-wide columns that start at its own left edge, each with its exact rows.
#pragma once
#include "ellipse.h"
#include "state.h"

namespace recon {

// A row of a plane has W dead pixels at its end, so that a column may start anywhere.
constexpr int STRIDE = TILE + W;
constexpr int PLANE = TILE * STRIDE;
constexpr int MAX_COLUMNS = TILE / W;

struct TileFrame {
  int x0, y0, columns, rows;  // origin and size in the image (px)

  TileFrame(const Request& rq, int tile)
      : x0(tile % rq.tiles_x() * TILE), y0(tile / rq.tiles_x() * TILE),
        columns(std::min(TILE, rq.width - x0)), rows(std::min(TILE, rq.height - y0)) {}
};

// The columns of a stretch of a tile's list, W Gaussians at a time: finding them one by one
// costs as much as compositing them.
struct Plan {
  static constexpr int GROUPS = 8, ENTRIES = GROUPS * W;
  struct Column {  // of W Gaussians
    std::int32_t at[W], rows[W];  // first pixel in a plane; rows, which may be 0 or less
    float dx[W], dy[W];           // that pixel's centre less the Gaussian's mean
  };
  std::int32_t count[ENTRIES];  // columns of each entry
  Column columns[GROUPS][MAX_COLUMNS];
};

inline vi whole(vf v) { return __builtin_convertvector(v, vi); }
inline vf real(vi v) { return __builtin_convertvector(v, vf); }

inline void plan_group(const float* const records[W], const TileFrame& frame, std::int32_t* count,
                       Plan::Column* columns) {
  vf field[8];
  transpose8(records, field);
  const vf x = field[0] - splat(frame.x0), y = field[1] - splat(frame.y0), reach = field[2];
  const vf top_dx = field[3], slope = field[4], h0 = field[5], h1 = field[6], zero = {};
  const vf low = vmin(vmax(x - reach + splat(0.499f), zero), splat(TILE));
  const vf high = vmax(vmin(x + reach - splat(0.499f), splat(frame.columns - 1.0f)), splat(-1));
  const vi first_x = whole(low);
  const vi counts = (whole(high) - first_x + W) / W;  // 0 where high < low
  std::memcpy(count, &counts, sizeof counts);
  int most = 0;
  for (int i = 0; i < W; ++i) most = std::max(most, count[i]);
  const vf limit = high + splat(1) - x;
  for (int j = 0; j < most; ++j) {
    const vi column_x = first_x + j * W;
    const vf left = real(column_x) + splat(0.5f) - x;
    const vf right = vmin(left + splat(W - 1.0f), limit);
    const vf at_high = vmin(vmax(top_dx, left), right);
    const vf at_low = vmin(vmax(-top_dx, left), right);
    const vf up = vsqrt(vmax(fnma(h1, at_high * at_high, h0), zero));
    const vf down = vsqrt(vmax(fnma(h1, at_low * at_low, h0), zero));
    const vf slack = fma(splat(1e-5f), vabs(slope * at_high) + up + down, splat(1e-3f));
    const vf from = y + splat(0.499f) + fma(slope, at_low, -down) - slack;
    const vf to = y - splat(0.5f) + fma(slope, at_high, up) + slack;
    const vi first = whole(vmin(vmax(from, zero), splat(TILE)));
    const vi last = whole(vmin(vmax(to, splat(-1)), splat(frame.rows - 1.0f)));
    const vi at = first * STRIDE + column_x, rows = last - first + 1;
    std::memcpy(columns[j].at, &at, sizeof at);
    std::memcpy(columns[j].rows, &rows, sizeof rows);
    store(columns[j].dx, left);
    store(columns[j].dy, real(first) + splat(0.5f) - y);
  }
}

// Iterates over a tile's list, nearest first, with the columns of each entry. Later entries are
// prefetched: records are scattered over more memory than a cache holds.
class Walk {
 public:
  Walk(const View& view, const TileFrame& frame, int tile)
      : view_(view), frame_(frame), end_(view.tile_begin[tile + 1]),
        entry_(view.tile_begin[tile] - 1), planned_(view.tile_begin[tile]) {}

  // Goes to the next entry; false behind the last.
  bool next() {
    if (++entry_ == end_) return false;
    if (entry_ == planned_) plan();
    __builtin_prefetch(&view_.records[view_.entries[clamped(entry_ + Plan::ENTRIES)].record]);
    return true;
  }

  // The same for an entry that is not composited; none can be composited afterwards.
  bool skip() { return entry_ != end_ && ++entry_ != end_; }

  std::uint32_t record() const { return view_.entries[entry_].record; }
  std::uint32_t pair() const { return view_.entries[entry_].pair; }
  // The pair some entries ahead, for prefetching.
  std::uint32_t pair_ahead() const { return view_.entries[clamped(entry_ + 12)].pair; }
  int columns() const { return plan_.count[index()]; }
  const Plan::Column& column(int j) const { return plan_.columns[index() / W][j]; }
  unsigned lane() const { return index() % W; }

 private:
  unsigned index() const { return entry_ - from_; }
  std::uint32_t clamped(std::uint32_t entry) const { return std::min(entry, end_ - 1); }

  void plan() {
    from_ = entry_;
    planned_ = std::min(end_, from_ + Plan::ENTRIES);
    for (std::uint32_t e = from_; e < planned_; e += W) {
      const float* records[W];
      for (std::uint32_t i = 0; i < W; ++i)
        records[i] = &view_.records[view_.entries[std::min(e + i, planned_ - 1)].record].x;
      plan_group(records, frame_, plan_.count + (e - from_), plan_.columns[(e - from_) / W]);
    }
  }

  const View& view_;
  const TileFrame& frame_;
  std::uint32_t end_, entry_, planned_, from_ = 0;
  Plan plan_;
};

// u and v of a column's pixels in its first row; the next row subtracts a_shear and adds c.
struct ColumnStart {
  vf u, v;
};

inline ColumnStart column_start(const Record& r, float dx0, float dy0) {
  const vf dx = splat(dx0) + iota(), dy = splat(dy0);
  return {fnma(splat(r.a_shear), dy, splat(r.a) * dx), splat(r.c) * dy};
}

// Marks the pixels inside the image with transmittance 1 and all others as done (-1).
inline void open_pixels(float* through, const TileFrame& frame) {
  for (int y = 0; y < frame.rows; ++y)
    for (int x = 0; x < STRIDE; ++x) through[y * STRIDE + x] = x < frame.columns ? 1.0f : -1.0f;
}

// Buffers of one worker, kept between tiles; grown, never shrunk.
inline float* scratch(std::size_t floats) {
  thread_local Buffer<float> buffer;
  if (buffer.size() < floats) buffer = Buffer<float>(floats);
  return buffer.data();
}

inline int popcount(unsigned mask) { return __builtin_popcount(mask); }

// The effect of one Gaussian on W pixels, given their transmittance.
struct Step {
  vf alpha;      // clamped; 0 where below alpha_min
  vf weight;     // alpha times transmittance; 0 where the pixel is done
  vf after;      // transmittance afterwards, negative where done
  vi live;
};

struct Limits {
  vf log_min, alpha_max, through_min;
  explicit Limits(const Request& rq)
      : log_min(log2(splat(rq.alpha_min))), alpha_max(splat(rq.alpha_max)),
        through_min(splat(rq.transmittance_min)) {}
};

// raw is opacity times the Gaussian, before the clamp.
inline Step composite(vf log_alpha, vf raw, vf through, const Limits& limits) {
  Step s;
  s.alpha = keep(log_alpha >= limits.log_min, vmin(raw, limits.alpha_max));
  const vf weight = s.alpha * through;
  const vf after = through - weight;
  s.live = after > limits.through_min;
  s.weight = keep(s.live, weight);
  s.after = s.live ? after : floats(bits(through) | INT32_MIN);
  return s;
}

}  // namespace recon
