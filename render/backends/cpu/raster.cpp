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
  Walk walk(view, frame, tile);
  while (open > 0 && walk.next()) {
    const std::uint32_t index = walk.record();
    const Record& r = view.records[index];
    const float* values = values_of(view, index, channels);
    const vf shear = splat(r.a_shear), c = splat(r.c), peak = splat(r.log_opacity);
    vf value[C ? C : 1];
    for (int k = 0; k < C; ++k) value[k] = splat(values[k]);
    const unsigned lane = walk.lane();
    for (int j = 0; j < walk.columns(); ++j) {
      const Plan::Column& column = walk.column(j);
      const ColumnStart start = column_start(r, column.dx[lane], column.dy[lane]);
      std::ptrdiff_t at = column.at[lane];
      vf step = {};
      for (int n = column.rows[lane]; n > 0; --n, at += STRIDE, step += splat(1)) {
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

        // No branch: it would be guessed wrong, and late.
        open -= popcount(signs(s.after) ^ done);
      }
    }
  }
}

}  // namespace

void raster_tile(const Request& rq, const View& view, int image, int tile, const Images& out) {
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
  Walk walk(view, frame, tile);
  while (walk.next()) {
    const Record& r = view.records[walk.record()];
    vf sum = {}, most = {};
    int hits = 0;
    const unsigned lane = walk.lane();
    for (int j = 0; j < walk.columns(); ++j) {
      const Plan::Column& column = walk.column(j);
      const ColumnStart start = column_start(r, column.dx[lane], column.dy[lane]);
      std::ptrdiff_t at = column.at[lane];
      vf step = {};
      for (int n = column.rows[lane]; n > 0; --n, at += STRIDE, step += splat(1)) {
        const vf u = fnma(splat(r.a_shear), step, start.u), v = fma(splat(r.c), step, start.v);
        const vf log_alpha = fnma(u, u, fnma(v, v, splat(r.log_opacity)));
        const Step s = composite(log_alpha, exp2(log_alpha), load(through + at), limits);
        store(through + at, s.after);
        sum += s.weight;
        most = vmax(most, s.weight);
        hits += popcount(signs(floats(s.weight > vf{})));
      }
    }
    float* slot = slots + 3 * static_cast<std::size_t>(walk.pair());
    float lanes[W];
    store(lanes, most);
    slot[0] = lane_sum(sum);
    slot[1] = *std::max_element(lanes, lanes + W);
    slot[2] = static_cast<float>(hits);
  }
}

}  // namespace recon
