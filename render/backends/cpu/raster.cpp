// Front-to-back compositing of a tile (Kerbl et al. 2023, eq. 3).
#include "tile.h"

namespace recon {
namespace {

// C channels, or any number when C is 0.
template <int C>
void composite_tile(const Request& rq, const View& view, const TileFrame& frame, int tile,
                    float* through, float* planes) {
  const int channels = C ? C : rq.channels();
  const Limits limits(rq);
  int open = frame.rows * frame.columns;
  const std::uint32_t end = view.tile_begin[tile + 1];
  for (std::uint32_t e = view.tile_begin[tile]; e < end && open > 0; ++e) {
    if (e + 6 < end) __builtin_prefetch(&view.records[view.entries[e + 6].record]);
    const std::uint32_t index = view.entries[e].record;
    const Record& r = view.records[index];
    const float* values = values_of(view, index, channels);
    const float x = r.x - frame.x0, y = r.y - frame.y0;
    const Columns columns = columns_of(r, frame, x, y);
    const vf shear = splat(r.a_shear), c = splat(r.c), peak = splat(r.log_opacity);
    vf value[C ? C : 1];
    for (int k = 0; k < C; ++k) value[k] = splat(values[k]);
    for (int j = 0; j < columns.count; ++j) {
      const int row = columns.first[j], left = columns.x0 + j * W;
      const ColumnStart start = column_start(r, x, y, left, row);
      std::size_t at = static_cast<std::size_t>(row) * STRIDE + left;
      vf step = {};
      for (int n = columns.last[j] - row; n >= 0; --n, at += STRIDE, step += splat(1)) {
        const vf before = load(through + at);
        const unsigned done = signs(before);
        if (done == ALL_SIGNS) continue;
        const vf u = fnma(shear, step, start.u), v = fma(c, step, start.v);
        const vf log_alpha = fnma(u, u, fnma(v, v, peak));
        const Step s = composite(log_alpha, exp2(log_alpha), before, limits);
        if constexpr (C > 0) {
          for (int k = 0; k < C; ++k) {
            float* plane = planes + k * PLANE + at;
            store(plane, fma(s.weight, value[k], load(plane)));
          }
        } else {
          for (int k = 0; k < channels; ++k) {
            float* plane = planes + k * PLANE + at;
            store(plane, fma(s.weight, splat(values[k]), load(plane)));
          }
        }
        store(through + at, s.after);
        const unsigned now = signs(s.after);
        if (now != done) open -= popcount(now ^ done);
      }
    }
  }
}

}  // namespace

void raster_tile(const Request& rq, const View& view, int image, int tile, const Pictures& out) {
  const TileFrame frame(rq, tile);
  const int channels = rq.channels();
  float* through = scratch(static_cast<std::size_t>(PLANE) * (channels + 1));
  float* planes = through + PLANE;
  open_pixels(through, frame);
  std::fill_n(planes, static_cast<std::size_t>(PLANE) * channels, 0.0f);
  switch (channels) {
    case 1: composite_tile<1>(rq, view, frame, tile, through, planes); break;
    case 3: composite_tile<3>(rq, view, frame, tile, through, planes); break;
    case 4: composite_tile<4>(rq, view, frame, tile, through, planes); break;
    default: composite_tile<0>(rq, view, frame, tile, through, planes);
  }
  for (int y = 0; y < frame.rows; ++y) {
    const std::size_t at = static_cast<std::size_t>(frame.y0 + y) * rq.width + frame.x0;
    for (int k = 0; k < channels; ++k)
      std::copy_n(planes + k * PLANE + y * STRIDE, frame.columns, out.plane(rq, image, k) + at);
    float* alpha = out.alpha_plane(rq, image) + at;
    for (int x = 0; x < frame.columns; ++x) alpha[x] = 1.0f - std::fabs(through[y * STRIDE + x]);
  }
}

// Per pair: sum of weights, largest weight, pixels with any weight.
void raster_tile_contributions(const Request& rq, const View& view, int tile, float* slots) {
  const TileFrame frame(rq, tile);
  const Limits limits(rq);
  float* through = scratch(PLANE);
  open_pixels(through, frame);
  for (std::uint32_t e = view.tile_begin[tile]; e < view.tile_begin[tile + 1]; ++e) {
    const Record& r = view.records[view.entries[e].record];
    const float x = r.x - frame.x0, y = r.y - frame.y0;
    const Columns columns = columns_of(r, frame, x, y);
    vf sum = {}, most = {};
    int hits = 0;
    for (int j = 0; j < columns.count; ++j) {
      const int row = columns.first[j], left = columns.x0 + j * W;
      const ColumnStart start = column_start(r, x, y, left, row);
      std::size_t at = static_cast<std::size_t>(row) * STRIDE + left;
      vf step = {};
      for (int n = columns.last[j] - row; n >= 0; --n, at += STRIDE, step += splat(1)) {
        const vf u = fnma(splat(r.a_shear), step, start.u), v = fma(splat(r.c), step, start.v);
        const vf log_alpha = fnma(u, u, fnma(v, v, splat(r.log_opacity)));
        const Step s = composite(log_alpha, exp2(log_alpha), load(through + at), limits);
        store(through + at, s.after);
        sum += s.weight;
        most = vmax(most, s.weight);
        hits += popcount(signs(floats(s.weight > vf{})));
      }
    }
    float* slot = slots + 3 * static_cast<std::size_t>(view.entries[e].pair);
    float lanes[W];
    store(lanes, most);
    slot[0] = lane_sum(sum);
    slot[1] = *std::max_element(lanes, lanes + W);
    slot[2] = static_cast<float>(hits);
  }
}

}  // namespace recon
