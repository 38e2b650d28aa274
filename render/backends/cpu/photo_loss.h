// The arguments of the loss of a rendered image; render/backends/abi.py mirrors them, layout.cpp
// lists them.
#pragma once
#include <cstdint>

namespace recon {

struct PhotoLoss {
  std::int32_t width, height, threads;
  std::int32_t grey;              // SSIM of the means of the channels, counted for each channel
  float ssim_weight;              // of 1 - SSIM; that of the absolute error is the rest
  const float *image, *photo;     // [3, height, width]
  const float* valid;             // [height, width], factor of both
  float* gradient;                // [3, height, width], out, with respect to `image`
  double *absolute, *similarity;  // out: sums over pixels of the absolute error and of SSIM
};

// Computes the sums, and the gradient of the loss summed over pixels and channels.
void photo_loss(const PhotoLoss& loss);

}  // namespace recon
