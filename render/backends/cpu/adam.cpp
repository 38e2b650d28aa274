// One step of Adam (Kingma & Ba 2015, algorithm 1) on a scene, with the chain rule of its
// parameterisation in the same pass: recon/optimisation/adam.py says the same in torch.
#include <algorithm>

#include "adam.h"
#include "pool.h"

namespace recon {
namespace {

// W Gaussians, of which an attribute of `width` values is `width` whole vectors. With ALL they all
// exist and move, which spares the common case the masks.
template <bool ALL>
struct Block {
  std::size_t first, end;  // index of the first Gaussian, and of the scene's end
  unsigned active;         // one bit a Gaussian: those with any gradient

  // Values of vector k that exist.
  int size(int width, int k) const {
    if (ALL) return W;
    const std::ptrdiff_t left = static_cast<std::ptrdiff_t>((end - first) * width) - k * W;
    return static_cast<int>(std::clamp<std::ptrdiff_t>(left, 0, W));
  }
  vf keep_old(int width, int k, vf old, vf updated) const {
    if (ALL) return updated;
    vi lanes;
    for (int i = 0; i < W; ++i) lanes[i] = active >> ((k * W + i) / width) & 1 ? -1 : 0;
    return lanes ? updated : old;
  }
};

// Constants of the step as vectors: a copy, which no store of floats can change.
struct Constants {
  vf beta1_rest, beta2, beta2_rest, eps, inv_root;

  explicit Constants(const AdamStep& step)
      : beta1_rest(splat(1 - step.beta1)), beta2(splat(step.beta2)),
        beta2_rest(splat(1 - step.beta2)), eps(splat(step.eps)),
        inv_root(splat(1 / std::sqrt(step.correction2))) {}
};

// An attribute of all Gaussians: its parameter, gradient and learning rate (corrected).
struct Attribute {
  float* values;
  const float* gradient;
  float rate;
  int width;
};

// Updates one attribute and moves `moments` on. `chain(k, at, n, old, g)` makes the attribute's
// gradient that of the parameter; `finish(k, at, n, old, change)` stores the
// parameter less its change, and what follows from it.
template <bool ALL, class Chain, class Finish>
inline void update(const Constants& c, const Block<ALL>& block, const Attribute& a, float*& moments,
                   const Chain& chain, const Finish& finish) {
  const int width = a.width;
  float* own = moments;
  moments += 2 * width * W;
  if (a.rate == 0) return;
  for (int k = 0; k < width; ++k, own += 2 * W) {
    const int n = block.size(width, k);
    if (n == 0) return;
    const std::size_t at = block.first * width + static_cast<std::size_t>(k) * W;
    const vf old = load_some(a.values + at, n);
    const vf g = chain(k, at, n, old, load_some(a.gradient + at, n));
    const vf mean = load(own), square = load(own + W);
    const vf new_mean = mean + c.beta1_rest * (g - mean);
    const vf new_square = c.beta2 * square + c.beta2_rest * g * g;
    store(own, block.keep_old(width, k, mean, new_mean));
    store(own + W, block.keep_old(width, k, square, new_square));
    const vf change = splat(a.rate) * new_mean / (vsqrt(new_square) * c.inv_root + c.eps);
    finish(k, at, n, old, block.keep_old(width, k, vf{}, change));
  }
}

bool any(const float* values, int count) {
  return values && std::any_of(values, values + count, [](float v) { return v != 0; });
}

bool has_gradient(const AdamStep& step, const Gradients& g, std::size_t i) {
  const std::size_t colors = 3 * static_cast<std::size_t>(step.coefficients);
  return any(g.opacities + i, 1) || any(g.color_values + colors * i, colors) ||
         any(g.means + 3 * i, 3) || any(g.quats + 4 * i, 4) || any(g.scales + 3 * i, 3);
}

// exp(2 log_scale), which with the square of the lower limit is the square of the scale.
vf free_variance(vf log_scale) { return exp(splat(2) * log_scale); }

vf sigmoid(vf logit) { return splat(1) / (splat(1) + exp(-logit)); }

template <bool ALL>
void update_block(const AdamStep& step, const Constants& c, const Block<ALL>& block,
                  const Gradients& g) {
  const auto attribute = [&](float* values, float* Gradients::*name, float lr, int width) {
    return Attribute{values, g.*name, lr / step.correction1, width};
  };
  const auto same = [](int, std::size_t, int, vf, vf v) { return v; };
  const auto store_into = [](float* values) {
    return [=](int, std::size_t at, int n, vf old, vf change) {
      store_some(values + at, old - change, n);
    };
  };
  const int colors = 3 * step.coefficients;
  float* moments = step.moments + block.first * 2 * (11 + colors);

  // Positions are measured in units of the Gaussian.
  const auto unit = [&](int k) {
    float lanes[W];
    for (int i = 0; i < W; ++i)
      lanes[i] = step.unit[std::min(block.first + (k * W + i) / 3, block.end - 1)];
    return load(lanes);
  };
  update(c, block, attribute(step.means, &Gradients::means, step.lr_means, 3), moments,
         [&](int k, std::size_t, int, vf, vf v) { return v * unit(k); },
         [&](int k, std::size_t at, int n, vf old, vf change) {
           store_some(step.means + at, old - unit(k) * change, n);
         });
  update(c, block, attribute(step.quats, &Gradients::quats, step.lr_quats, 4), moments, same,
         store_into(step.quats));
  update(
      c, block, attribute(step.log_scales, &Gradients::scales, step.lr_scales, 3), moments,
      [&](int, std::size_t at, int n, vf old, vf v) {
        return v * free_variance(old) / vmax(load_some(step.scales + at, n), splat(1e-30f));
      },
      [&](int, std::size_t at, int n, vf old, vf change) {
        const vf updated = old - change, least = load_some(step.min_scales + at, n);
        store_some(step.log_scales + at, updated, n);
        store_some(step.scales + at, vsqrt(free_variance(updated) + least * least), n);
      });
  update(
      c, block, attribute(step.logits, &Gradients::opacities, step.lr_opacities, 1), moments,
      [&](int, std::size_t at, int n, vf, vf v) {
        const vf opacity = load_some(step.opacities + at, n);
        return v * opacity * (splat(1) - opacity);
      },
      [&](int, std::size_t at, int n, vf old, vf change) {
        store_some(step.logits + at, old - change, n);
        store_some(step.opacities + at, sigmoid(old - change), n);
      });
  update(c, block, attribute(step.sh, &Gradients::color_values, step.lr_sh, colors), moments, same,
         store_into(step.sh));
}

}  // namespace

void adam_step(const AdamStep& step, const Gradients& gradients) {
  const int chunks = (step.count + CHUNK - 1) / CHUNK;
  const Constants constants(step);
  parallel_for(chunks, step.threads, [&](int chunk, int) {
    const int end = std::min(step.count, (chunk + 1) * CHUNK);
    for (int first = chunk * CHUNK; first < end; first += W) {
      const std::size_t from = first, to = step.count;
      unsigned active = 0;
      for (int i = 0; i < W && first + i < end; ++i)
        if (has_gradient(step, gradients, first + i)) active |= 1u << i;
      if (active == ALL_SIGNS) {
        update_block(step, constants, Block<true>{from, to, active}, gradients);
      } else if (active) {
        update_block(step, constants, Block<false>{from, to, active}, gradients);
      }
    }
  });
}

}  // namespace recon
