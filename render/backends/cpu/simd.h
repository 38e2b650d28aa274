// Vectors of W floats: 8 with AVX2, else 4 (SSE2, NEON, or whatever the compiler makes of it).
// Built on the vector extension of GCC and Clang; intrinsics only where it has no equivalent.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace recon {

#if defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef std::int32_t vi __attribute__((vector_size(4 * W)));

inline vf splat(float x) { return x - vf{}; }
inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
// The first `count` values of a vector; the others are loaded as 0 and not stored.
inline vf load_some(const float* from, int count) {
  if (count == W) return load(from);
  float lanes[W] = {};
  std::memcpy(lanes, from, count * sizeof(float));
  return load(lanes);
}

inline void store_some(float* to, vf value, int count) {
  if (count == W) return store(to, value);
  float lanes[W];
  store(lanes, value);
  std::memcpy(to, lanes, count * sizeof(float));
}

inline vi bits(vf v) { return (vi)v; }
inline vf floats(vi v) { return (vf)v; }
inline vf vmin(vf a, vf b) { return a < b ? a : b; }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
inline vf vabs(vf a) { return floats(bits(a) & 0x7fffffff); }
inline vf keep(vi mask, vf a) { return floats(mask & bits(a)); }

// a b + c, rounded once where the machine can. Contraction is off for the whole build, so
// that forward and backward compute the same bits from the same words.
inline vf fma(vf a, vf b, vf c) {
#if defined(__FMA__) && defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
inline vf fnma(vf a, vf b, vf c) { return fma(-a, b, c); }

// One bit a lane: its sign.
inline unsigned signs(vf v) {
#if defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(v));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_ps(v));
#else
  unsigned mask = 0;
  for (int i = 0; i < W; ++i) mask |= (bits(v)[i] < 0 ? 1u : 0u) << i;
  return mask;
#endif
}
constexpr unsigned ALL_SIGNS = (1u << W) - 1;

inline vf vsqrt(vf v) {
#if defined(__AVX2__)
  return _mm256_sqrt_ps(v);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(v);
#else
  vf r;
  for (int i = 0; i < W; ++i) r[i] = std::sqrt(v[i]);
  return r;
#endif
}

// 1 / x of normal x, relative error under 2e-7: an estimate of 12 bits and a step of Newton, which
// does not block the pipeline as a division does.
inline vf reciprocal(vf x) {
#if defined(__AVX2__)
  const vf estimate = _mm256_rcp_ps(x);
  return estimate * fnma(x, estimate, splat(2));
#else
  return splat(1) / x;
#endif
}

inline vf iota() {
  vf v;
  for (int i = 0; i < W; ++i) v[i] = static_cast<float>(i);
  return v;
}

inline float lane_sum(vf v) {
#if defined(__AVX2__)
  __m128 s = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
  s += _mm_movehl_ps(s, s);
  return s[0] + s[1];
#else
  float sums[W];
  store(sums, v);
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
#endif
}

// W rows of 8 floats each become 8 vectors: out[k] holds the k-th float of every row.
inline void transpose8(const float* const rows[W], vf out[8]) {
#if defined(__AVX2__)
  __m256 r[8], s[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(rows[i]);
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    s[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int half = 0; half < 2; ++half) {
    const int i = 4 * half;
    r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    out[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    out[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
#else
  for (int k = 0; k < 8; ++k) {
    float lanes[W];
    for (int i = 0; i < W; ++i) lanes[i] = rows[i][k];
    out[k] = load(lanes);
  }
#endif
}

// out[k] = sum of the lanes of v[k], for W vectors at once: a transposing tree of additions.
inline vf lane_sums(const vf* v) {
#if defined(__AVX2__)
  const __m256 ab = _mm256_hadd_ps(v[0], v[1]), cd = _mm256_hadd_ps(v[2], v[3]);
  const __m256 ef = _mm256_hadd_ps(v[4], v[5]), gh = _mm256_hadd_ps(v[6], v[7]);
  const __m256 low = _mm256_hadd_ps(ab, cd), high = _mm256_hadd_ps(ef, gh);
  return _mm256_permute2f128_ps(low, high, 0x20) + _mm256_permute2f128_ps(low, high, 0x31);
#else
  float sums[W];
  for (int k = 0; k < W; ++k) sums[k] = lane_sum(v[k]);
  return load(sums);
#endif
}

// 2^x for -126 < x < 1, relative error under 2e-7: the whole part moves into the exponent
// (adding 1.5 * 2^23 rounds), the rest through a minimax polynomial on [-1/2, 1/2].
inline vf exp2(vf x) {
  const vf magic = splat(12582912.0f);
  vf whole = x + magic;
  vf f = x - (whole - magic);
  vf p = splat(1.32647e-3f);
  p = fma(p, f, splat(9.67151e-3f));
  p = fma(p, f, splat(5.550734e-2f));
  p = fma(p, f, splat(2.4022242e-1f));
  p = fma(p, f, splat(6.9314698e-1f));
  p = fma(p, f, splat(1.0f));
  return floats((bits(whole) << 23) + bits(p));
}

// e^x, relative error under 3e-7: exact multiples of ln 2 off (Cody & Waite 1980), then as exp2.
// Outside of [-87, 88] the result is that of the nearest bound.
inline vf exp(vf x) {
  x = vmin(vmax(x, splat(-87.0f)), splat(88.0f));
  const vf magic = splat(12582912.0f);
  const vf whole = fma(x, splat(1.44269504f), magic);
  const vf times = whole - magic;
  const vf rest = fnma(times, splat(-2.12194440e-4f), fnma(times, splat(0.693359375f), x));
  const vf scale = floats(((bits(whole) << 23) + 0x3f800000));
  return scale * exp2(rest * splat(1.44269504f));
}

// log2 of positive normal x: exponent plus the series of 2 atanh((m - 1) / (m + 1)).
inline vf log2(vf x) {
  vi shifted = bits(x) - 0x3f3504f3;  // so that m lies in [sqrt(1/2), sqrt(2))
  vi exponent = shifted >> 23;
  vf m = floats((shifted & 0x7fffff) + 0x3f3504f3);
  vf s = (m - splat(1)) / (m + splat(1));
  vf s2 = s * s;
  vf p = splat(2.885390082f / 9);
  p = fma(p, s2, splat(2.885390082f / 7));
  p = fma(p, s2, splat(2.885390082f / 5));
  p = fma(p, s2, splat(2.885390082f / 3));
  p = fma(p, s2, splat(2.885390082f));
  return fma(p, s, __builtin_convertvector(exponent, vf));
}

}  // namespace recon
