// W Gaussians seen by one camera: the maths that projection and its gradient share.
// Names and equations as in render/projection.py (EWA splatting, Zwicker et al. 2001).
#pragma once
#include "state.h"

namespace recon {

struct Lanes {
  vf mean[3], quat[4], scale[3], opacity;
};

inline Lanes load_lanes(const Request& rq, int scene, const int* gaussian) {
  float soa[11][W];
  for (int i = 0; i < W; ++i) {
    const std::size_t g = static_cast<std::size_t>(scene) * rq.count + gaussian[i];
    for (int k = 0; k < 3; ++k) soa[k][i] = rq.means[3 * g + k];
    for (int k = 0; k < 4; ++k) soa[3 + k][i] = rq.quats[4 * g + k];
    for (int k = 0; k < 3; ++k) soa[7 + k][i] = rq.scales[3 * g + k];
    soa[10][i] = rq.opacities[g];
  }
  Lanes lanes;
  for (int k = 0; k < 3; ++k) lanes.mean[k] = load(soa[k]);
  for (int k = 0; k < 4; ++k) lanes.quat[k] = load(soa[3 + k]);
  for (int k = 0; k < 3; ++k) lanes.scale[k] = load(soa[7 + k]);
  lanes.opacity = load(soa[10]);
  return lanes;
}

inline vf dot3(const vf a[3], const vf b[3]) { return fma(a[2], b[2], fma(a[1], b[1], a[0] * b[0])); }

struct Geometry {
  vf local[3], inv_z;
  vf focal_z[2];           // fx / z, fy / z
  vf ratio[2], slope[2];   // x/z, y/z and the same clamped to the field of view
  vf inv_norm, unit[4];    // of the quaternion
  vf rotmat[3][3];         // world from the Gaussian's axes
  vf to_image[2][3];     // J W
  vf aligned[2][3];        // J W rotmat
  vf root[2][3];           // J W rotmat S: the image covariance is root root^T
  vf var_x, cov_xy, var_y; // widened by eps2d
  vf cross[3];             // of root's rows; its square is the determinant before widening
  vf det_before, det;
  vf factor;               // antialiasing: sqrt(det_before / det), else 1
  vf mean2d[2];
};

inline void rotate(Geometry& g, const vf q[4]) {
  const vf norm2 = fma(q[0], q[0], fma(q[1], q[1], fma(q[2], q[2], q[3] * q[3])));
  g.inv_norm = splat(1) / vmax(vsqrt(norm2), splat(1e-12f));
  for (int k = 0; k < 4; ++k) g.unit[k] = q[k] * g.inv_norm;
  const vf w = g.unit[0], x = g.unit[1], y = g.unit[2], z = g.unit[3], one = splat(1), two = splat(2);
  g.rotmat[0][0] = one - two * (y * y + z * z);
  g.rotmat[0][1] = two * (x * y - w * z);
  g.rotmat[0][2] = two * (x * z + w * y);
  g.rotmat[1][0] = two * (x * y + w * z);
  g.rotmat[1][1] = one - two * (x * x + z * z);
  g.rotmat[1][2] = two * (y * z - w * x);
  g.rotmat[2][0] = two * (x * z - w * y);
  g.rotmat[2][1] = two * (y * z + w * x);
  g.rotmat[2][2] = one - two * (x * x + y * y);
}

inline Geometry project_lanes(const Request& rq, const Camera& cam, const Lanes& in) {
  Geometry g;
  for (int k = 0; k < 3; ++k) {
    vf sum = splat(cam.t[k]);
    for (int j = 0; j < 3; ++j) sum = fma(splat(cam.R[k][j]), in.mean[j], sum);
    g.local[k] = sum;
  }
  g.inv_z = splat(1) / g.local[2];
  const float focal[2] = {cam.fx, cam.fy}, center[2] = {cam.cx, cam.cy};
  rotate(g, in.quat);
  for (int k = 0; k < 2; ++k) {
    g.focal_z[k] = splat(focal[k]) * g.inv_z;
    g.ratio[k] = g.local[k] * g.inv_z;
    g.slope[k] = vmin(vmax(g.ratio[k], splat(cam.slope_min[k])), splat(cam.slope_max[k]));
    g.mean2d[k] = fma(g.ratio[k], splat(focal[k]), splat(center[k]));
    for (int j = 0; j < 3; ++j)
      g.to_image[k][j] = g.focal_z[k] * fnma(g.slope[k], splat(cam.R[2][j]), splat(cam.R[k][j]));
    for (int j = 0; j < 3; ++j) {
      vf sum = vf{};
      for (int i = 0; i < 3; ++i) sum = fma(g.to_image[k][i], g.rotmat[i][j], sum);
      g.aligned[k][j] = sum;
      g.root[k][j] = sum * in.scale[j];
    }
  }
  const vf* u = g.root[0];
  const vf* v = g.root[1];
  const vf eps = splat(rq.eps2d);
  const vf uu = dot3(u, u), vv = dot3(v, v);
  g.var_x = uu + eps;
  g.var_y = vv + eps;
  g.cov_xy = dot3(u, v);
  for (int k = 0; k < 3; ++k) {
    const int i = (k + 1) % 3, j = (k + 2) % 3;
    g.cross[k] = u[i] * v[j] - u[j] * v[i];
  }
  g.det_before = dot3(g.cross, g.cross);
  g.det = fma(eps, uu + vv, g.det_before) + eps * eps;
  g.factor = rq.antialiased ? vsqrt(g.det_before / g.det) : splat(1);
  return g;
}

// The record's a, a shear and c: u = a (dx - shear dy), v = c dy, u^2 + v^2 = -log2 of the Gaussian.
struct ConicRoot {
  vf a, a_shear, c;
};

inline ConicRoot conic_root(const Geometry& g) {
  const vf half_log2e = splat(0.5f * 1.4426950408889634f);
  const vf a = vsqrt(half_log2e * g.var_y / g.det);
  return {a, a * (g.cov_xy / g.var_y), vsqrt(half_log2e / g.var_y)};
}

// Unit directions from the camera's centre; returns their length before.
inline vf directions(const Lanes& in, const Camera& cam, vf dir[3]) {
  for (int k = 0; k < 3; ++k) dir[k] = in.mean[k] - splat(cam.center[k]);
  const vf norm = vmax(vsqrt(dot3(dir, dir)), splat(1e-12f));
  for (int k = 0; k < 3; ++k) dir[k] = dir[k] / norm;
  return norm;
}

}  // namespace recon
