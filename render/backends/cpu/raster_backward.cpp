// Gradient of a tile's compositing. Replays the forward loop front to back, so that the same
// pixels are done at the same moments, with one more scalar a pixel: R, the part behind,
// R = sum of later weights times (value . v_image) - (final transmittance) v_alpha. Then
//   dL/d(ln alpha) = alpha (T value . v_image - R / (1 - alpha))
// where the clamp of alpha did not bite. Running R down from its total is more accurate than
// dividing the transmittance back up (the usual back-to-front replay).
#include "tile.h"

namespace recon {
namespace {

constexpr int MAX_SLOT = 2 * 8;  // MOMENTS + INLINE_VALUES + 2, rounded up to vectors
static_assert(MOMENTS + INLINE_VALUES + 2 <= MAX_SLOT && MAX_SLOT % W == 0, "slot fits");

struct Planes {
  float *through, *behind, *v_image;  // v_image: one plane a channel
};

// Sums over a column of g, g k and g k^2 (k: row within the column) become the moments of
// u = u0 - shear k and v = v0 + c k.
inline void add_moments(vf* m, vf g, vf gk, vf gkk, const ColumnStart& s, vf shear, vf c) {
  const vf gu = fnma(shear, gk, s.u * g), guk = fnma(shear, gkk, s.u * gk);
  const vf gv = fma(c, gk, s.v * g), gvk = fma(c, gkk, s.v * gk);
  m[G] += g;
  m[GU] += gu;
  m[GV] += gv;
  m[GUU] += fnma(shear, guk, s.u * gu);
  m[GUV] += fma(c, guk, s.v * gu);
  m[GVV] += fma(c, gvk, s.v * gv);
}

template <int C, bool ABS>
void backward_tile(const Request& rq, const View& view, const TileFrame& frame, int tile,
                   const Planes& planes, float* slots, vf* spare) {
  const int channels = C ? C : rq.channels();
  const int size = slot_size(rq);
  const Limits limits(rq);
  int open = frame.rows * frame.columns;
  Walk walk(view, frame, tile);
  while (open > 0 && walk.next()) {
    float* slot = slots + static_cast<std::size_t>(size) * walk.pair();
    const float* soon = slots + static_cast<std::size_t>(size) * walk.pair_ahead();
    __builtin_prefetch(soon, 1);
    __builtin_prefetch(soon + size - 1, 1);
    const std::uint32_t index = walk.record();
    const Record& r = view.records[index];
    const float* values = values_of(view, index, channels);
    const vf shear = splat(r.a_shear), c = splat(r.c), peak = splat(r.log_opacity);
    vf value[C ? C : 1], fixed[MAX_SLOT];
    for (int k = 0; k < C; ++k) value[k] = splat(values[k]);
    // The slot's fields, a vector each until the lanes are summed.
    vf* const fields = C ? fixed : spare;
    for (int k = 0; k < size; ++k) fields[k] = vf{};
    vf* const v_value = fields + MOMENTS;
    const unsigned lane = walk.lane();
    for (int j = 0; j < walk.columns(); ++j) {
      const Plan::Column& column = walk.column(j);
      const ColumnStart start = column_start(r, column.dx[lane], column.dy[lane]);
      std::ptrdiff_t at = column.at[lane];
      vf step = {}, g_sum = {}, gk_sum = {}, gkk_sum = {};
      for (int n = column.rows[lane]; n > 0; --n, at += STRIDE, step += splat(1)) {
        const vf before = load(planes.through + at);
        const unsigned done = signs(before);
        if (done == ALL_SIGNS) continue;
        const vf u = fnma(shear, step, start.u), v = fma(c, step, start.v);
        const vf log_alpha = fnma(u, u, fnma(v, v, peak));
        const vf raw = exp2(log_alpha);
        const Step s = composite(log_alpha, raw, before, limits);
        vf seen = {};
        if constexpr (C > 0) {
          for (int k = 0; k < C; ++k) {
            const vf v_pixel = load(planes.v_image + k * PLANE + at);
            seen = fma(value[k], v_pixel, seen);
            v_value[k] = fma(s.weight, v_pixel, v_value[k]);
          }
        } else {
          for (int k = 0; k < channels; ++k) {
            const vf v_pixel = load(planes.v_image + k * PLANE + at);
            seen = fma(splat(values[k]), v_pixel, seen);
            v_value[k] = fma(s.weight, v_pixel, v_value[k]);
          }
        }
        const vf own = s.weight * seen;
        const vf behind = load(planes.behind + at) - own;
        store(planes.behind + at, behind);
        store(planes.through + at, s.after);
        const vf slope = fnma(s.alpha * behind, reciprocal(splat(1) - s.alpha), own);
        const vf g = keep(s.live & (raw <= limits.alpha_max), slope);
        const vf gk = g * step;
        g_sum += g;
        gk_sum += gk;
        gkk_sum = fma(gk, step, gkk_sum);
        if constexpr (ABS) {
          v_value[channels] += vabs(g * (splat(r.a) * u));
          v_value[channels + 1] += vabs(g * fnma(shear, u, c * v));
        }

        // No branch: it would be guessed wrong, and late.
        open -= popcount(signs(s.after) ^ done);
      }
      add_moments(fields, g_sum, gk_sum, gkk_sum, start, shear, c);
    }
    int k = 0;
    for (; k + W <= size; k += W) store(slot + k, lane_sums(fields + k));
    for (; k < size; ++k) slot[k] = lane_sum(fields[k]);
  }
  while (walk.skip())
    std::fill_n(slots + static_cast<std::size_t>(size) * walk.pair(), size, 0.0f);
}

template <int C>
void choose_abs(const Request& rq, const View& view, const TileFrame& frame, int tile,
                const Planes& planes, float* slots, vf* spare) {
  if (rq.absgrad)
    backward_tile<C, true>(rq, view, frame, tile, planes, slots, spare);
  else
    backward_tile<C, false>(rq, view, frame, tile, planes, slots, spare);
}

// Copies the tile of v_image and initialises R: all of a pixel lies behind its first layer.
void start_planes(const Request& rq, const TileFrame& frame, int image, const Images& images,
                  const Images& v_images, const Planes& planes) {
  const int channels = rq.channels();
  open_pixels(planes.through, frame);
  std::fill_n(planes.behind, static_cast<std::size_t>(PLANE) * (channels + 1), 0.0f);
  const float* alpha = images.alpha_plane(rq, image);
  const float* v_alpha = v_images.alpha_plane(rq, image);
  for (int y = 0; y < frame.rows; ++y) {
    const std::size_t from = static_cast<std::size_t>(frame.y0 + y) * rq.width + frame.x0;
    float* behind = planes.behind + y * STRIDE;
    if (v_alpha)
      for (int x = 0; x < frame.columns; ++x)
        behind[x] = (alpha[from + x] - 1.0f) * v_alpha[from + x];
    for (int k = 0; k < channels; ++k) {
      const float* v_from = v_images.plane(rq, image, k);
      if (!v_from) continue;
      const float* color = images.plane(rq, image, k) + from;
      float* v_plane = planes.v_image + k * PLANE + y * STRIDE;
      std::copy_n(v_from + from, frame.columns, v_plane);
      for (int x = 0; x < frame.columns; ++x) behind[x] += color[x] * v_plane[x];
    }
  }
}

}  // namespace

void raster_tile_backward(const Request& rq, const View& view, int image, int tile,
                          const Images& images, const Images& v_images, float* slots) {
  const TileFrame frame(rq, tile);
  const int channels = rq.channels();
  const std::size_t planes_size = static_cast<std::size_t>(PLANE) * (channels + 2);
  float* through = scratch(planes_size + static_cast<std::size_t>(slot_size(rq) + W) * W);
  const Planes planes{through, through + PLANE, through + 2 * PLANE};
  vf* spare = reinterpret_cast<vf*>(through + planes_size);
  start_planes(rq, frame, image, images, v_images, planes);
  switch (channels) {
    case 1: choose_abs<1>(rq, view, frame, tile, planes, slots, spare); break;
    case 3: choose_abs<3>(rq, view, frame, tile, planes, slots, spare); break;
    case 4: choose_abs<4>(rq, view, frame, tile, planes, slots, spare); break;
    default: choose_abs<0>(rq, view, frame, tile, planes, slots, spare);
  }
}

}  // namespace recon
