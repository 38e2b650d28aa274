// Where {alpha >= alpha_min} of a Record lies. Bounds are a little generous: the raster tests
// every pixel exactly, so slack costs time but never changes the image.
#pragma once
#include <algorithm>

#include "state.h"

namespace recon {

struct Rows {
  float low, high;  // dy (px)
};

// Range of dy over dx in [left, right]. The upper boundary is concave in dx, so its highest
// point within the band is the ellipse's own extreme point, clamped to the band.
inline Rows rows_between(const Record& r, float left, float right) {
  const float at_high = std::min(std::max(r.top_dx, left), right);
  const float at_low = std::min(std::max(-r.top_dx, left), right);
  const float high = std::sqrt(std::max(0.0f, r.h0 - r.h1 * at_high * at_high));
  const float low = std::sqrt(std::max(0.0f, r.h0 - r.h1 * at_low * at_low));
  const float slack = 1e-3f + 1e-5f * (std::fabs(r.slope * at_high) + high + low);
  return {r.slope * at_low - low - slack, r.slope * at_high + high + slack};
}

struct Span {
  int first, last;  // inclusive; empty when last < first
};

// Pixels within [0, size) whose centres lie in [low, high].
inline Span pixel_span(float low, float high, int size) {
  const float first = std::max(low - 0.501f, -1.0f), last = std::min(high - 0.499f, float(size));
  if (!(first < float(size)) || !(last >= 0)) return {0, -1};
  // Truncation after a shift above zero: ceil and floor without a library call.
  const int ceiled = static_cast<int>(first + 2) + (first + 2 > std::floor(first + 2) ? 1 : 0) - 2;
  return {std::max(0, ceiled), std::min(size - 1, static_cast<int>(last))};
}

}  // namespace recon
