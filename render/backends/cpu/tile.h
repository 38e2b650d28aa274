// The walk over a tile that forward, backward and contributions share: for a Record, the
// W-wide columns that start at its own left edge, each with its exact rows.
#pragma once
#include "ellipse.h"
#include "state.h"

namespace recon {

// A row of a plane has W dead pixels at its end, so that a column may start anywhere.
constexpr int STRIDE = TILE + W;
constexpr int PLANE = TILE * STRIDE;
constexpr int MAX_COLUMNS = TILE / W;

struct TileFrame {
  int x0, y0, columns, rows;  // origin and size in the picture (px)

  TileFrame(const Request& rq, int tile)
      : x0(tile % rq.tiles_x() * TILE), y0(tile / rq.tiles_x() * TILE),
        columns(std::min(TILE, rq.width - x0)), rows(std::min(TILE, rq.height - y0)) {}
};

struct Columns {
  int count = 0, x0 = 0;               // column j covers pixels x0 + j W onwards
  std::int32_t first[MAX_COLUMNS], last[MAX_COLUMNS];  // rows, inclusive
};

inline Columns columns_of(const Record& r, const TileFrame& frame, float x, float y) {
  Columns out;
  const float low = std::max(x - r.reach_x + 0.499f, 0.0f);
  const float high = std::min(x + r.reach_x - 0.499f, frame.columns - 1.0f);
  if (!(high >= low - 1)) return out;  // 1: low was rounded up before truncation
  out.x0 = static_cast<int>(low);
  const int last = static_cast<int>(high);
  if (last < out.x0) return out;
  out.count = (last - out.x0) / W + 1;
  const float bottom = frame.rows - 1.0f;
  for (int j = 0; j < MAX_COLUMNS; j += W) {
    const vf left = splat(out.x0 + 0.5f - x + j * W) + splat(float(W)) * iota();
    const vf right = vmin(left + splat(W - 1.0f), splat(high + 1.0f - x));
    const vf at_high = vmin(vmax(splat(r.top_dx), left), right);
    const vf at_low = vmin(vmax(splat(-r.top_dx), left), right);
    const vf up = vsqrt(vmax(fnma(splat(r.h1), at_high * at_high, splat(r.h0)), vf{}));
    const vf down = vsqrt(vmax(fnma(splat(r.h1), at_low * at_low, splat(r.h0)), vf{}));
    const vf slack = fma(splat(1e-5f), vabs(splat(r.slope) * at_high) + up + down, splat(1e-3f));
    const vf from = splat(y + 0.499f) + fma(splat(r.slope), at_low, -down) - slack;
    const vf to = splat(y - 0.5f) + fma(splat(r.slope), at_high, up) + slack;
    const vi first = __builtin_convertvector(vmin(vmax(from, vf{}), splat(TILE)), vi);
    const vi end = __builtin_convertvector(vmin(vmax(to, splat(-1.0f)), splat(bottom)), vi);
    std::memcpy(out.first + j, &first, sizeof(first) < sizeof(out.first) ? sizeof(first) : sizeof(out.first));
    std::memcpy(out.last + j, &end, sizeof(end) < sizeof(out.last) ? sizeof(end) : sizeof(out.last));
  }
  return out;
}

// u and v of a column's pixels in its first row; the next row subtracts a_shear and adds c.
struct ColumnStart {
  vf u, v;
};

inline ColumnStart column_start(const Record& r, float x, float y, int column_x, int row) {
  const vf dx = splat(column_x + 0.5f - x) + iota();
  const vf dy = splat(row + 0.5f - y);
  return {fnma(splat(r.a_shear), dy, splat(r.a) * dx), splat(r.c) * dy};
}

// Marks the pixels that the picture has with transmittance 1 and all others as done (-1).
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

// What one Gaussian does to W pixels, given their transmittance.
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
