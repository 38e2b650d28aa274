// Projection: cull, make records, colour. W Gaussians at a time.
#include <algorithm>

#include "geometry.h"
#include "sh.h"

namespace recon {
namespace {

// As in render/projection.py.
constexpr float FIELD_MARGIN = 0.3f;
constexpr float MAX_EXTENT = 3.33f;
constexpr float LN_2 = 0.6931471805599453f;

vf ceiling(vf x) {
  // Only compared with pixel sizes: beyond 2^22 rounding up changes nothing that matters.
  const vf clamped = vmin(x, splat(4194304.0f));
  const vf whole = __builtin_convertvector(__builtin_convertvector(clamped, vi), vf);
  return whole + keep(whole < clamped, splat(1));
}

vi is_finite(vf x) { return x * splat(0) == vf{}; }

struct Culled {
  vi visible, nonfinite;
  vf opacity, level;  // level: 2 ln(opacity / alpha_min), the squared extent in sigmas
};

Culled cull(const Request& rq, const Lanes& in, const Geometry& g, vi wanted) {
  vf probe = in.opacity;
  for (int k = 0; k < 3; ++k) probe = probe + splat(0) * (in.mean[k] + in.scale[k]);
  for (int k = 0; k < 4; ++k) probe = probe + splat(0) * in.quat[k];
  const vi in_depth = (g.local[2] >= splat(rq.near_plane)) & (g.local[2] <= splat(rq.far_plane));
  // Finite values may still overflow during projection.
  const vi projected = is_finite(g.det) & is_finite(g.mean2d[0] + g.mean2d[1]);
  Culled out;
  out.nonfinite = wanted & (~is_finite(probe) | (in_depth & ~projected));
  out.opacity = in.opacity * g.factor;
  out.level = splat(2 * LN_2) * log2(vmax(out.opacity, splat(rq.alpha_min)) / splat(rq.alpha_min));
  const vf extent = vmin(vsqrt(out.level), splat(MAX_EXTENT));
  vi visible = wanted & ~out.nonfinite & in_depth & (g.det > vf{});
  visible &= out.opacity >= splat(rq.alpha_min);
  const vf radius_x = ceiling(extent * vsqrt(g.var_x));
  const vf radius_y = ceiling(extent * vsqrt(g.var_y));
  visible &= (g.mean2d[0] + radius_x > vf{}) & (g.mean2d[0] - radius_x < splat(float(rq.width)));
  visible &= (g.mean2d[1] + radius_y > vf{}) & (g.mean2d[1] - radius_y < splat(float(rq.height)));
  visible &= (radius_x > splat(rq.radius_clip)) | (radius_y > splat(rq.radius_clip));
  out.visible = visible;
  return out;
}

// The record's geometry as 11 rows of W, in the order of Record's first fields.
void shape_rows(const Geometry& g, const Culled& c, float rows[11][W]) {
  const ConicRoot root = conic_root(g);
  const vf spread = g.det / g.var_x;
  const vf fields[11] = {g.mean2d[0],
                         g.mean2d[1],
                         vsqrt(c.level * g.var_x),
                         g.cov_xy * vsqrt(c.level / g.var_y),
                         g.cov_xy / g.var_x,
                         c.level * spread,
                         spread / g.var_x,
                         log2(c.opacity),
                         root.a,
                         root.a_shear,
                         root.c};
  for (int k = 0; k < 11; ++k) store(rows[k], fields[k]);
}

// Tiles that pixels with centres in mean -+ reach can lie in.
void tile_span(vf mean, vf reach, int size, float first[W], float last[W]) {
  const vf per_tile = splat(1.0f / TILE), none = {};
  const vf end = splat((size - 1) / TILE);
  store(first, vmin(vmax((mean - reach - splat(0.502f)) * per_tile, none), end));
  store(last, vmin(vmax((mean + reach - splat(0.498f)) * per_tile, none), end));
}

// colour = max(0, 0.5 + sum_k basis_k sh_k) of the Gaussian in one lane.
void sh_color(const float* sh, const float basis[][W], int lane, int coefficients, float* color) {
  float sum[3] = {0.5f, 0.5f, 0.5f};
  for (int k = 0; k < coefficients; ++k)
    for (int c = 0; c < 3; ++c) sum[c] += basis[k][lane] * sh[3 * k + c];
  // Written so that NaN stays NaN and is seen.
  for (int c = 0; c < 3; ++c) color[c] = sum[c] < 0 ? 0 : sum[c];
}

bool all_finite(const float* values, int count) {
  float probe = 0;
  for (int c = 0; c < count; ++c) probe += values[c] * 0;
  return probe == 0;
}

}  // namespace

Camera make_camera(const Request& rq, int image) {
  const float* viewmat = rq.viewmats + 16 * static_cast<std::size_t>(image);
  const float* K = rq.Ks + 9 * static_cast<std::size_t>(image);
  Camera cam{};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) cam.R[i][j] = viewmat[4 * i + j];
    cam.t[i] = viewmat[4 * i + 3];
  }
  for (int j = 0; j < 3; ++j) {
    double sum = 0;
    for (int i = 0; i < 3; ++i) sum -= static_cast<double>(cam.R[i][j]) * cam.t[i];
    cam.center[j] = static_cast<float>(sum);
  }
  cam.fx = K[0], cam.fy = K[4], cam.cx = K[2], cam.cy = K[5];
  const float focal[2] = {cam.fx, cam.fy}, center[2] = {cam.cx, cam.cy};
  const float size[2] = {float(rq.width), float(rq.height)};
  for (int k = 0; k < 2; ++k) {
    const float margin = FIELD_MARGIN * 0.5f * size[k] / focal[k];
    cam.slope_min[k] = -center[k] / focal[k] - margin;
    cam.slope_max[k] = (size[k] - center[k]) / focal[k] + margin;
  }
  return cam;
}

void project_chunk(const Request& rq, View& view, int chunk) {
  const int begin = chunk * CHUNK, end = std::min(rq.count, begin + CHUNK);
  const int channels = rq.channels();
  const std::size_t scene_offset = static_cast<std::size_t>(view.scene) * rq.count;
  int visible = 0;
  std::int64_t nonfinite = 0;
  for (int first = begin; first < end; first += W) {
    int gaussian[W];
    vi wanted;
    for (int i = 0; i < W; ++i) {
      gaussian[i] = std::min(first + i, end - 1);
      const bool masked = rq.mask && !rq.mask[scene_offset + gaussian[i]];
      wanted[i] = first + i < end && !masked ? -1 : 0;
    }
    const Lanes in = load_lanes(rq, view.scene, gaussian);
    const Geometry g = project_lanes(rq, view.camera, in);
    const Culled culled = cull(rq, in, g, wanted);
    nonfinite += __builtin_popcount(signs(floats(culled.nonfinite)));
    const unsigned seen = signs(floats(culled.visible));
    if (!seen) continue;

    float rows[11][W], basis[MAX_COEFFICIENTS][W];
    shape_rows(g, culled, rows);
    float box[4][W];
    tile_span(g.mean2d[0], load(rows[2]), rq.width, box[0], box[2]);
    tile_span(g.mean2d[1], vsqrt(culled.level * g.var_y), rq.height, box[1], box[3]);
    if (rq.coefficients) {
      vf dir[3], values[MAX_COEFFICIENTS];
      directions(in, view.camera, dir);
      sh_basis(rq.coefficients, dir[0], dir[1], dir[2], values);
      for (int k = 0; k < rq.coefficients; ++k) store(basis[k], values[k]);
    }
    for (int i = 0; i < W; ++i) {
      if (!(seen >> i & 1)) continue;
      const std::size_t slot = static_cast<std::size_t>(begin) + visible;
      Record& record = view.records[slot];
      float* value = channels <= INLINE_VALUES ? record.values : &view.values[slot * channels];
      const std::size_t global = scene_offset + gaussian[i];
      if (rq.coefficients) {
        sh_color(rq.color_values + global * 3 * rq.coefficients, basis, i, rq.coefficients, value);
      } else {
        std::copy_n(rq.color_values + global * rq.colors, rq.colors, value);
      }
      if (!all_finite(value, rq.colors)) {
        ++nonfinite;
        continue;
      }
      if (rq.depth) value[rq.colors] = g.local[2][i];
      float* fields = &record.x;
      for (int k = 0; k < 11; ++k) fields[k] = rows[k][i];
      record.gaussian = gaussian[i];
      view.depths[slot] = g.local[2][i];
      view.boxes[slot] = {static_cast<std::uint16_t>(box[0][i]), static_cast<std::uint16_t>(box[1][i]),
                          static_cast<std::uint16_t>(box[2][i]), static_cast<std::uint16_t>(box[3][i])};
      ++visible;
    }
  }
  view.visible[chunk] = visible;
  view.nonfinite[chunk] = nonfinite;
}

}  // namespace recon
