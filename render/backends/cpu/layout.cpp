// The layout of the structs that cross the ABI, so that Python can refuse a library whose structs
// differ from its own instead of corrupting memory.
#include <cstddef>

#include "adam.h"
#include "api.h"
#include "photo_loss.h"

using namespace recon;

namespace {

struct Field {
  const char* name;
  std::int32_t offset, size;
};

#define STRUCT(S) {#S, 0, sizeof(S)}
#define FIELD(S, f) {#S "." #f, offsetof(S, f), sizeof(S::f)}

constexpr Field LAYOUT[] = {
    STRUCT(Request),
    FIELD(Request, scenes), FIELD(Request, views), FIELD(Request, count), FIELD(Request, width),
    FIELD(Request, height), FIELD(Request, threads), FIELD(Request, colors),
    FIELD(Request, coefficients), FIELD(Request, depth), FIELD(Request, antialiased),
    FIELD(Request, absgrad), FIELD(Request, near_plane), FIELD(Request, far_plane),
    FIELD(Request, eps2d), FIELD(Request, radius_clip), FIELD(Request, alpha_max),
    FIELD(Request, alpha_min), FIELD(Request, transmittance_min), FIELD(Request, means),
    FIELD(Request, quats), FIELD(Request, scales), FIELD(Request, opacities),
    FIELD(Request, color_values), FIELD(Request, mask), FIELD(Request, viewmats),
    FIELD(Request, Ks),
    STRUCT(Images), FIELD(Images, colors), FIELD(Images, depth), FIELD(Images, alpha),
    STRUCT(Gradients),
    FIELD(Gradients, means), FIELD(Gradients, quats), FIELD(Gradients, scales),
    FIELD(Gradients, opacities), FIELD(Gradients, color_values), FIELD(Gradients, viewmats),
    FIELD(Gradients, absgrad),
    STRUCT(Contributions),
    FIELD(Contributions, weight_sum), FIELD(Contributions, weight_max), FIELD(Contributions, hits),
    STRUCT(AdamStep), FIELD(AdamStep, count), FIELD(AdamStep, coefficients),
    FIELD(AdamStep, threads), FIELD(AdamStep, lr_means), FIELD(AdamStep, lr_quats),
    FIELD(AdamStep, lr_scales), FIELD(AdamStep, lr_opacities), FIELD(AdamStep, lr_sh),
    FIELD(AdamStep, beta1), FIELD(AdamStep, beta2), FIELD(AdamStep, eps),
    FIELD(AdamStep, correction1), FIELD(AdamStep, correction2), FIELD(AdamStep, unit),
    FIELD(AdamStep, min_scales), FIELD(AdamStep, means), FIELD(AdamStep, quats),
    FIELD(AdamStep, log_scales), FIELD(AdamStep, logits), FIELD(AdamStep, sh),
    FIELD(AdamStep, scales), FIELD(AdamStep, opacities), FIELD(AdamStep, moments),
    STRUCT(PhotoLoss), FIELD(PhotoLoss, width), FIELD(PhotoLoss, height),
    FIELD(PhotoLoss, threads), FIELD(PhotoLoss, grey), FIELD(PhotoLoss, ssim_weight), FIELD(PhotoLoss, image),
    FIELD(PhotoLoss, photo), FIELD(PhotoLoss, valid), FIELD(PhotoLoss, gradient),
    FIELD(PhotoLoss, absolute), FIELD(PhotoLoss, similarity),
};

}  // namespace

// Field `index` of the list above; false behind its end.
RECON_API std::int32_t recon_cpu_layout(std::int32_t index, const char** name,
                                        std::int32_t* offset, std::int32_t* size) {
  if (index < 0 || index >= static_cast<std::int32_t>(sizeof LAYOUT / sizeof *LAYOUT)) return 0;
  *name = LAYOUT[index].name;
  *offset = LAYOUT[index].offset;
  *size = LAYOUT[index].size;
  return 1;
}
