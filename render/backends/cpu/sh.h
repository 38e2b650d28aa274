// Real spherical harmonics, degrees 0 to 4: the basis of render/sh.py (Sloan 2013), written
// once for values and for derivatives (S = vf or Dual).
#pragma once
#include "simd.h"

namespace recon {

constexpr int MAX_COEFFICIENTS = 25;

// A value and its derivatives with respect to x, y and z (forward-mode differentiation).
struct Dual {
  vf v, dx, dy, dz;
};
inline Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.dx + b.dx, a.dy + b.dy, a.dz + b.dz}; }
inline Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.dx - b.dx, a.dy - b.dy, a.dz - b.dz}; }
inline Dual operator*(Dual a, Dual b) {
  return {a.v * b.v, a.v * b.dx + b.v * a.dx, a.v * b.dy + b.v * a.dy, a.v * b.dz + b.v * a.dz};
}
inline Dual operator*(float s, Dual a) { return {s * a.v, s * a.dx, s * a.dy, s * a.dz}; }
inline Dual operator-(Dual a, float s) { return {a.v - s, a.dx, a.dy, a.dz}; }
inline Dual operator+(Dual a, float s) { return {a.v + s, a.dx, a.dy, a.dz}; }
inline Dual constant(float c, Dual) { return {splat(c), vf{}, vf{}, vf{}}; }
inline vf constant(float c, vf) { return splat(c); }

// basis[0 .. coefficients) at the unit direction (x, y, z).
template <class S>
void sh_basis(int coefficients, S x, S y, S z, S* basis) {
  basis[0] = constant(0.28209479177387814f, x);
  if (coefficients < 4) return;
  const float c1 = 0.4886025119029199f;
  basis[1] = -c1 * y;
  basis[2] = c1 * z;
  basis[3] = -c1 * x;
  if (coefficients < 9) return;
  const S xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
  const float c2 = 1.0925484305920792f;
  basis[4] = c2 * xy;
  basis[5] = -c2 * yz;
  basis[6] = 0.31539156525252005f * (2.0f * zz - xx - yy);
  basis[7] = -c2 * xz;
  basis[8] = 0.5462742152960396f * (xx - yy);
  if (coefficients < 16) return;
  basis[9] = -0.5900435899266435f * (y * (3.0f * xx - yy));
  basis[10] = 2.890611442640554f * (xy * z);
  basis[11] = -0.4570457994644658f * (y * (4.0f * zz - xx - yy));
  basis[12] = 0.3731763325901154f * (z * (2.0f * zz - 3.0f * xx - 3.0f * yy));
  basis[13] = -0.4570457994644658f * (x * (4.0f * zz - xx - yy));
  basis[14] = 1.445305721320277f * (z * (xx - yy));
  basis[15] = -0.5900435899266435f * (x * (xx - 3.0f * yy));
  if (coefficients < 25) return;
  basis[16] = 2.5033429417967046f * (xy * (xx - yy));
  basis[17] = -1.7701307697799304f * (yz * (3.0f * xx - yy));
  basis[18] = 0.9461746957575601f * (xy * (7.0f * zz - 1.0f));
  basis[19] = -0.6690465435572892f * (yz * (7.0f * zz - 3.0f));
  basis[20] = 0.10578554691520431f * (zz * (35.0f * zz - 30.0f) + 3.0f);
  basis[21] = -0.6690465435572892f * (xz * (7.0f * zz - 3.0f));
  basis[22] = 0.47308734787878004f * ((xx - yy) * (7.0f * zz - 1.0f));
  basis[23] = -1.7701307697799304f * (xz * (xx - 3.0f * yy));
  basis[24] = 0.6258357354491761f * (xx * (xx - 3.0f * yy) - yy * (3.0f * xx - yy));
}

}  // namespace recon
