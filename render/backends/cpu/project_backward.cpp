// From the raster's moments to gradients of the inputs, W visible Gaussians at a time.
#include <algorithm>

#include "geometry.h"
#include "sh.h"

namespace recon {
namespace {

constexpr float TWO_LN_2 = 1.3862943611198906f;

// Gradients of one view with respect to W Gaussians and, summed over them, to the camera.
struct Adjoint {
  vf mean[3] = {}, quat[4] = {}, scale[3] = {}, opacity = {};
  vf local[3] = {};
  vf R[3][3] = {}, center[3] = {};
};

constexpr int SLOT_BLOCK = 8;  // what transpose8 takes at a time
int padded_size(int size) { return (size + SLOT_BLOCK - 1) / SLOT_BLOCK * SLOT_BLOCK; }

// Sums each lane's slots in the order of its tiles, `sums` being [W, padded]; then turns them
// into rows of W, one a field of the slot.
void gather_slots(const View& view, const std::uint32_t* record, unsigned used, const float* slots,
                  int size, float* sums, float* rows) {
  const int padded = padded_size(size);
  std::fill_n(sums, static_cast<std::size_t>(padded) * W, 0.0f);
  for (int i = 0; i < W; ++i) {
    if (!(used >> i & 1)) continue;
    const PairRange range = view.pairs[record[i]];
    const float* slot = slots + static_cast<std::size_t>(range.begin) * size;
    float* sum = sums + i * padded;
    for (std::uint32_t p = 0; p < range.count; ++p, slot += size)
      for (int k = 0; k < size; ++k) sum[k] += slot[k];
  }
  for (int k = 0; k < padded; k += SLOT_BLOCK) {
    const float* lanes[W];
    vf block[SLOT_BLOCK];
    for (int i = 0; i < W; ++i) lanes[i] = sums + i * padded + k;
    transpose8(lanes, block);
    for (int j = 0; j < SLOT_BLOCK; ++j) store(rows + (k + j) * W, block[j]);
  }
}

// v_root: gradient of J W rotmat S, both rows.
void root_to_inputs(const Camera& cam, const Lanes& in, const Geometry& g,
                    const vf v_root[2][3], Adjoint& out, vf v_focal_z[2], vf v_slope[2]) {
  vf v_rotmat[3][3] = {};
  for (int a = 0; a < 2; ++a) {
    vf v_aligned[3];
    for (int j = 0; j < 3; ++j) {
      out.scale[j] = fma(g.aligned[a][j], v_root[a][j], out.scale[j]);
      v_aligned[j] = v_root[a][j] * in.scale[j];
    }
    vf v_projected[3] = {};
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        v_rotmat[i][j] = fma(g.to_image[a][i], v_aligned[j], v_rotmat[i][j]);
        v_projected[i] = fma(g.rotmat[i][j], v_aligned[j], v_projected[i]);
      }
    // to_image = (f / z) (R_a - slope R_2)
    vf along = {}, against = {};
    for (int i = 0; i < 3; ++i) {
      along = fma(v_projected[i], fnma(g.slope[a], splat(cam.R[2][i]), splat(cam.R[a][i])), along);
      against = fma(v_projected[i], splat(cam.R[2][i]), against);
      const vf scaled = g.focal_z[a] * v_projected[i];
      out.R[a][i] += scaled;
      out.R[2][i] = fnma(g.slope[a], scaled, out.R[2][i]);
    }
    v_focal_z[a] = along;
    v_slope[a] = -g.focal_z[a] * against;
  }
  // Rotation matrix of a unit quaternion, then the normalisation.
  const vf w = g.unit[0], x = g.unit[1], y = g.unit[2], z = g.unit[3], two = splat(2);
  const auto& m = v_rotmat;
  vf v[4];
  v[0] = two * (x * (m[2][1] - m[1][2]) + y * (m[0][2] - m[2][0]) + z * (m[1][0] - m[0][1]));
  v[1] = two * (w * (m[2][1] - m[1][2]) + y * (m[0][1] + m[1][0]) + z * (m[0][2] + m[2][0]) -
                two * x * (m[1][1] + m[2][2]));
  v[2] = two * (w * (m[0][2] - m[2][0]) + x * (m[0][1] + m[1][0]) + z * (m[1][2] + m[2][1]) -
                two * y * (m[0][0] + m[2][2]));
  v[3] = two * (w * (m[1][0] - m[0][1]) + x * (m[0][2] + m[2][0]) + y * (m[1][2] + m[2][1]) -
                two * z * (m[0][0] + m[1][1]));
  vf along = {};
  for (int k = 0; k < 4; ++k) along = fma(v[k], g.unit[k], along);
  for (int k = 0; k < 4; ++k) out.quat[k] = g.inv_norm * fnma(along, g.unit[k], v[k]);
}

void shape_backward(const Request& rq, const Camera& cam, const Lanes& in, const Geometry& g,
                    const float* rows, Adjoint& out) {
  const ConicRoot root = conic_root(g);
  const vf k = splat(TWO_LN_2);
  vf m[MOMENTS];
  for (int i = 0; i < MOMENTS; ++i) m[i] = load(rows + i * W);

  // e = d(sigma)/d(pixel) = k (a u, c v - a_shear u): dL/d(mean) = sum g e and
  // dL/d(covariance) = sum g e e^T / 2.
  const vf ka = k * root.a, kc = k * root.c, ks = k * root.a_shear;
  const vf v_mean2d[2] = {ka * m[GU], fnma(ks, m[GU], kc * m[GV])};
  const vf half = splat(0.5f);
  const vf v_xx = half * ka * ka * m[GUU];
  const vf v_xy = ka * fnma(ks, m[GUU], kc * m[GUV]);  // both off-diagonal entries together
  const vf v_yy = half * (ks * ks * m[GUU] - splat(2) * ks * kc * m[GUV] + kc * kc * m[GVV]);

  // opacity' = opacity * factor
  const vf opacity = in.opacity * g.factor;
  const vf v_factored = m[G] / opacity;
  out.opacity = v_factored * g.factor;

  const vf* u = g.root[0];
  const vf* v = g.root[1];
  vf v_root[2][3];
  for (int j = 0; j < 3; ++j) {
    v_root[0][j] = fma(v_xy, v[j], splat(2) * v_xx * u[j]);
    v_root[1][j] = fma(v_xy, u[j], splat(2) * v_yy * v[j]);
  }
  if (rq.antialiased) {
    // factor^2 = D / (D + eps (uu + vv) + eps^2), D = |u x v|^2.
    const vf v_ratio = half * m[G] / (g.factor * g.factor);  // dL/d(factor^2), factor > 0
    const vf eps = splat(rq.eps2d), rest = g.det - g.det_before;
    const vf v_cross2 = v_ratio * rest / (g.det * g.det);
    const vf v_trace = -v_ratio * eps * g.det_before / (g.det * g.det);
    for (int j = 0; j < 3; ++j) {
      const int i = (j + 1) % 3, l = (j + 2) % 3;
      const vf twice = splat(2) * v_cross2;
      // d|u x v|^2 / du = 2 v x (u x v), and the other way round for v.
      v_root[0][j] += twice * (v[i] * g.cross[l] - v[l] * g.cross[i]) + splat(2) * v_trace * u[j];
      v_root[1][j] += twice * (g.cross[i] * u[l] - g.cross[l] * u[i]) + splat(2) * v_trace * v[j];
    }
  }
  vf v_focal_z[2], v_slope[2];
  root_to_inputs(cam, in, g, v_root, out, v_focal_z, v_slope);
  const float focal[2] = {cam.fx, cam.fy};
  for (int i = 0; i < 2; ++i) {
    const vi inside = (g.ratio[i] >= splat(cam.slope_min[i])) & (g.ratio[i] <= splat(cam.slope_max[i]));
    const vf v_ratio = keep(inside, v_slope[i]) + splat(focal[i]) * v_mean2d[i];
    out.local[i] += v_ratio * g.inv_z;
    out.local[2] -= g.inv_z * fma(v_ratio, g.ratio[i], v_focal_z[i] * g.focal_z[i]);
  }
}

inline void put(bool fresh, float& slot, float value) { slot = fresh ? value : slot + value; }

// Writes colour gradients, and adds those of mean and camera centre through the direction.
void colors_backward(const Request& rq, const View& view, const Lanes& in, const int* gaussian,
                     const std::uint32_t* record, unsigned used, const float* rows,
                     bool fresh, float* v_colors, Adjoint& out) {
  const std::size_t offset = static_cast<std::size_t>(view.scene) * rq.count;
  if (!rq.coefficients) {
    for (int i = 0; i < W; ++i) {
      if (!(used >> i & 1)) continue;
      float* mine = v_colors + (offset + gaussian[i]) * rq.colors;
      for (int c = 0; c < rq.colors; ++c) put(fresh, mine[c], rows[c * W + i]);
    }
    return;
  }
  const int coefficients = rq.coefficients;
  vf dir[3];
  const vf inv_norm = splat(1) / directions(in, view.camera, dir);
  Dual basis[MAX_COEFFICIENTS];
  const vf one = splat(1), none = {};
  sh_basis(coefficients, Dual{dir[0], one, none, none}, Dual{dir[1], none, one, none},
           Dual{dir[2], none, none, one}, basis);
  float values[MAX_COEFFICIENTS][W], v_basis[MAX_COEFFICIENTS][W];
  for (int k = 0; k < coefficients; ++k) {
    store(values[k], basis[k].v);
    store(v_basis[k], none);
  }
  for (int i = 0; i < W; ++i) {
    if (!(used >> i & 1)) continue;
    const float* clamped = values_of(view, record[i], rq.channels());
    const std::size_t first = (offset + gaussian[i]) * 3 * coefficients;
    const float* sh = rq.color_values + first;
    float* v_sh = v_colors + first;
    float v[3];  // nothing flows through a colour clamped at 0
    for (int c = 0; c < 3; ++c) v[c] = clamped[c] > 0 ? rows[c * W + i] : 0;
    for (int k = 0; k < coefficients; ++k) {
      v_basis[k][i] = v[0] * sh[3 * k] + v[1] * sh[3 * k + 1] + v[2] * sh[3 * k + 2];
      for (int c = 0; c < 3; ++c) put(fresh, v_sh[3 * k + c], values[k][i] * v[c]);
    }
  }
  vf v_dir[3] = {};
  for (int k = 1; k < coefficients; ++k) {
    const vf v = load(v_basis[k]);
    v_dir[0] = fma(v, basis[k].dx, v_dir[0]);
    v_dir[1] = fma(v, basis[k].dy, v_dir[1]);
    v_dir[2] = fma(v, basis[k].dz, v_dir[2]);
  }
  const vf along = dot3(v_dir, dir);
  for (int k = 0; k < 3; ++k) {
    const vf v = inv_norm * fnma(along, dir[k], v_dir[k]);
    out.mean[k] += v;
    out.center[k] -= v;
  }
}

// local = R mean + t.
void local_to_inputs(const Camera& cam, const Lanes& in, Adjoint& out) {
  for (int j = 0; j < 3; ++j)
    for (int i = 0; i < 3; ++i) {
      out.mean[j] = fma(splat(cam.R[i][j]), out.local[i], out.mean[j]);
      out.R[i][j] = fma(out.local[i], in.mean[j], out.R[i][j]);
    }
}

void scatter(const Request& rq, int scene, const int* gaussian, unsigned used, bool fresh,
             const Adjoint& adj, const Gradients& out) {
  float rows[11][W];
  for (int k = 0; k < 3; ++k) store(rows[k], adj.mean[k]);
  for (int k = 0; k < 4; ++k) store(rows[3 + k], adj.quat[k]);
  for (int k = 0; k < 3; ++k) store(rows[7 + k], adj.scale[k]);
  store(rows[10], adj.opacity);
  for (int i = 0; i < W; ++i) {
    if (!(used >> i & 1)) continue;
    const std::size_t g = static_cast<std::size_t>(scene) * rq.count + gaussian[i];
    for (int k = 0; k < 3; ++k) put(fresh, out.means[3 * g + k], rows[k][i]);
    for (int k = 0; k < 4; ++k) put(fresh, out.quats[4 * g + k], rows[3 + k][i]);
    for (int k = 0; k < 3; ++k) put(fresh, out.scales[3 * g + k], rows[7 + k][i]);
    put(fresh, out.opacities[g], rows[10][i]);
  }
}

// Zeroes the gradients of Gaussians [first, last) of a scene.
void clear(const Request& rq, int scene, int first, int last, const Gradients& out) {
  if (first >= last) return;
  const std::size_t begin = static_cast<std::size_t>(scene) * rq.count + first;
  const std::size_t count = last - first;
  const std::size_t color = static_cast<std::size_t>(rq.colors) * std::max(1, rq.coefficients);
  std::fill_n(out.means + 3 * begin, 3 * count, 0.0f);
  std::fill_n(out.quats + 4 * begin, 4 * count, 0.0f);
  std::fill_n(out.scales + 3 * begin, 3 * count, 0.0f);
  std::fill_n(out.opacities + begin, count, 0.0f);
  if (color) std::fill_n(out.color_values + color * begin, color * count, 0.0f);
}

// A scene's first view writes every gradient once, zeroes included, and later views add:
// clearing everything beforehand would go through the memory twice.
void clear_unseen(const Request& rq, const View& view, int chunk, const Gradients& out) {
  const std::size_t begin = static_cast<std::size_t>(chunk) * CHUNK;
  int next = static_cast<int>(begin);  // records keep the order of the Gaussians
  for (std::size_t r = begin; r < begin + view.visible[chunk]; ++r) {
    clear(rq, view.scene, next, view.records[r].gaussian, out);
    next = view.records[r].gaussian + 1;
  }
  clear(rq, view.scene, next, std::min(rq.count, static_cast<int>(begin) + CHUNK), out);
}

struct CameraSums {
  vf rows[CAMERA_GRADIENTS] = {};
};

void add_camera(const Adjoint& adj, unsigned used, CameraSums& sums) {
  vi lanes;
  for (int i = 0; i < W; ++i) lanes[i] = used >> i & 1 ? -1 : 0;
  vf* row = sums.rows;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) *row++ += keep(lanes, adj.R[i][j]);
  for (int i = 0; i < 3; ++i) *row++ += keep(lanes, adj.local[i]);
  for (int i = 0; i < 3; ++i) *row++ += keep(lanes, adj.center[i]);
}

}  // namespace

void project_chunk_backward(const Request& rq, const View& view, int image, int chunk,
                            const float* slots, const Gradients& out, bool add, double* v_camera) {
  const bool fresh = !add;
  if (fresh) clear_unseen(rq, view, chunk, out);
  const std::uint32_t begin = static_cast<std::uint32_t>(chunk) * CHUNK;
  const std::uint32_t end = begin + view.visible[chunk];
  const int size = slot_size(rq), channels = rq.channels();
  const std::size_t padded = padded_size(size);
  std::vector<float> space(2 * padded * W);
  float *sums_by_lane = space.data(), *rows = sums_by_lane + padded * W;
  CameraSums sums;
  for (std::uint32_t first = begin; first < end; first += W) {
    std::uint32_t record[W];
    int gaussian[W];
    for (int i = 0; i < W; ++i) {
      record[i] = std::min(first + i, end - 1);
      gaussian[i] = view.records[record[i]].gaussian;
    }
    const unsigned used = end - first >= W ? ALL_SIGNS : (1u << (end - first)) - 1;
    gather_slots(view, record, used, slots, size, sums_by_lane, rows);
    const Lanes in = load_lanes(rq, view.scene, gaussian);
    const Geometry g = project_lanes(rq, view.camera, in);
    Adjoint adj;
    shape_backward(rq, view.camera, in, g, rows, adj);
    const float* v_values = rows + MOMENTS * W;
    if (rq.depth) adj.local[2] += load(v_values + (channels - 1) * W);
    if (rq.colors)
      colors_backward(rq, view, in, gaussian, record, used, v_values, fresh,
                      out.color_values, adj);
    local_to_inputs(view.camera, in, adj);
    scatter(rq, view.scene, gaussian, used, fresh, adj, out);
    add_camera(adj, used, sums);
    if (rq.absgrad) {
      const float* abs = v_values + channels * W;
      for (int i = 0; i < W; ++i)
        if (used >> i & 1)
          for (int k = 0; k < 2; ++k)
            out.absgrad[2 * (static_cast<std::size_t>(image) * rq.count + gaussian[i]) + k] =
                TWO_LN_2 * abs[k * W + i];
    }
  }
  for (int k = 0; k < CAMERA_GRADIENTS; ++k) v_camera[k] += lane_sum(sums.rows[k]);
}

void finish_camera_gradient(const Request& rq, int image, const double* v, float* v_viewmat) {
  const Camera cam = make_camera(rq, image);
  const double* v_center = v + 12;
  for (int i = 0; i < 3; ++i) {
    // centre = -R^T t
    double v_t = v[9 + i];
    for (int j = 0; j < 3; ++j) {
      v_t -= cam.R[i][j] * v_center[j];
      v_viewmat[4 * i + j] = static_cast<float>(v[3 * i + j] - cam.t[i] * v_center[j]);
    }
    v_viewmat[4 * i + 3] = static_cast<float>(v_t);
  }
  std::fill_n(v_viewmat + 12, 4, 0.0f);
}

}  // namespace recon
