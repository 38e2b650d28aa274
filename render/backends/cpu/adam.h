// The arguments of a step of Adam; render/backends/abi.py mirrors them, layout.cpp lists them.
#pragma once
#include "state.h"

namespace recon {

struct AdamStep {
  std::int32_t count, coefficients, threads;
  float lr_means, lr_quats, lr_scales, lr_opacities, lr_sh;  // 0: stays as it is
  float beta1, beta2, eps;
  float correction1, correction2;  // 1 - beta^(index of the step, from 1)
  const float* unit;               // [count], of positions
  const float* min_scales;         // [count, 3]
  float *means, *quats, *log_scales, *logits, *sh;  // parameters; quats need not be unit
  float *scales, *opacities;                        // what follows from them
  // By W Gaussians, then by value of a Gaussian: means and squares of W gradients each. Holds
  // 2 (11 + 3 coefficients) floats for each of `count` rounded up to a multiple of 8.
  float* moments;
};

// Updates the Gaussians that have any gradient.
void adam_step(const AdamStep& step, const Gradients& gradients);

}  // namespace recon
