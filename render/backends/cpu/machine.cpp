// Capabilities of this machine: instruction sets, and its arithmetic peak for `recon bench`.
#include <atomic>
#include <chrono>

#include "api.h"
#include "pool.h"
#include "simd.h"

using namespace recon;

RECON_API std::int32_t recon_cpu_supports_v3() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
#else
  return 0;
#endif
}

// Multiply-adds of this build's vectors, in GFLOP/s of one thread each summed over `threads`.
RECON_API double recon_cpu_fma_peak(std::int32_t threads) {
  constexpr int CHAINS = 12, ROUNDS = 1 << 22;
  std::atomic<float> sink{0};
  const auto start = std::chrono::steady_clock::now();
  parallel_for(threads, threads, [&](int, int) {
    vf sums[CHAINS];
    for (int k = 0; k < CHAINS; ++k) sums[k] = splat(static_cast<float>(k));
    vf factor = splat(0.999f), term = splat(1e-3f);
    for (int i = 0; i < ROUNDS; ++i)
      for (int k = 0; k < CHAINS; ++k) sums[k] = fma(sums[k], factor, term);
    float total = 0;
    for (int k = 0; k < CHAINS; ++k) total += lane_sum(sums[k]);
    sink = sink + total;
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return 2.0 * W * CHAINS * ROUNDS * threads / seconds.count() / 1e9;
}
