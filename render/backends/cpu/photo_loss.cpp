// The absolute error and SSIM (Wang et al. 2004, eq. 13) of an image, and their gradient:
// recon/optimisation/photo_loss.py says the same in torch. Images are 0 beyond their border, as in 3DGS.
#include "photo_loss.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "buffer.h"
#include "pool.h"
#include "simd.h"

namespace recon {
namespace {

constexpr int REACH = 5, TAPS = 2 * REACH + 1;
constexpr float SIGMA = 1.5f, C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;
constexpr int BAND = 32;   // rows of an item of work, for which REACH more on each side are blurred
constexpr int CHANNELS = 3;
constexpr int MOMENTS = 5;  // blurred x, y, x^2, y^2, xy
constexpr int SLOPES = 3;   // derivatives of SSIM by blurred x, x^2, xy

struct Window {
  vf taps[TAPS];
  Window() {
    double weights[TAPS], sum = 0;
    for (int i = 0; i < TAPS; ++i)
      sum += weights[i] = std::exp(-0.5 * (i - REACH) * (i - REACH) / (SIGMA * SIGMA));
    for (int i = 0; i < TAPS; ++i) taps[i] = splat(static_cast<float>(weights[i] / sum));
  }
};

// Widths and steps of rows that are a whole number of vectors, with zeros around them.
struct Rows {
  int width, height, padded;  // padded: width rounded up to vectors
  std::size_t step;           // of a row with REACH zeros on the left and a vector on the right

  explicit Rows(const PhotoLoss& loss)
      : width(loss.width), height(loss.height), padded((loss.width + W - 1) / W * W),
        step(padded + TAPS + W) {}
};

// Blurs W columns along TAPS values that are `step` floats apart, from the first ones on.
inline vf blur(const Window& window, const float* first, std::size_t step) {
  vf sum{};
  for (int i = 0; i < TAPS; ++i) sum = fma(window.taps[i], load(first + i * step), sum);
  return sum;
}

// A row of values with zeros around them, and its blur.
class BlurredRow {
 public:
  BlurredRow(const Rows& rows, const Window& window) : values_(rows.step, 0.0f), window_(window) {}
  float* values() { return values_.data() + REACH; }
  vf at(int column) const { return blur(window_, values_.data() + column, 1); }

 private:
  std::vector<float> values_;
  const Window& window_;
};

// The first `count` lanes, and 0 in the others.
inline vf in_image(vf value, int count) {
  return keep(iota() < splat(static_cast<float>(count)), value);
}

// Channels [channel, end) of rows [first, last): one channel, or all of them if their mean is
// compared.
struct Band {
  int channel, end, first, last;

  Band(int item, const Rows& rows, bool grey) {
    const int bands = (rows.height + BAND - 1) / BAND;
    channel = item / bands;
    end = grey ? CHANNELS : channel + 1;
    first = item % bands * BAND;
    last = std::min(rows.height, first + BAND);
  }
  int height() const { return last - first + 2 * REACH; }

  // Mean of the channels of `count` pixels from `at` on.
  vf mean(const float* image, std::size_t size, std::size_t at, int count) const {
    vf sum = load_some(image + channel * size + at, count);
    for (int c = channel + 1; c < end; ++c) sum += load_some(image + c * size + at, count);
    return sum * splat(1.0f / static_cast<float>(end - channel));
  }
};

// SSIM of W pixels of one channel from their moments, and its derivatives.
inline vf similarity(const vf m[MOMENTS], vf slopes[SLOPES]) {
  const vf two = splat(2), mx = m[0], my = m[1];
  const vf a1 = two * mx * my + splat(C1), a2 = two * (m[4] - mx * my) + splat(C2);
  const vf b1 = mx * mx + my * my + splat(C1);
  const vf b2 = m[2] - mx * mx + m[3] - my * my + splat(C2);
  const vf inverse = splat(1) / (b1 * b2), value = a1 * a2 * inverse;
  slopes[2] = two * a1 * inverse;
  slopes[1] = -value / b2;
  slopes[0] = two * my * a2 * inverse - two * mx * value / b1 - my * slopes[2] -
              two * mx * slopes[1];
  return value;
}

// Writes the slopes of a band, and returns its sum of SSIM.
double slopes_of_band(const PhotoLoss& loss, const Rows& rows, const Window& window, Band band,
                      float* slopes, std::size_t plane) {
  const std::size_t size = static_cast<std::size_t>(rows.width) * rows.height;
  const std::size_t across = static_cast<std::size_t>(band.height()) * rows.padded;
  Buffer<float> blurred(MOMENTS * across);
  std::vector<BlurredRow> row(MOMENTS, BlurredRow(rows, window));
  for (int r = 0; r < band.height(); ++r) {
    const int y = band.first + r - REACH;
    float* out = blurred.data() + static_cast<std::size_t>(r) * rows.padded;
    if (y < 0 || y >= rows.height) {
      for (int k = 0; k < MOMENTS; ++k) std::fill_n(out + k * across, rows.padded, 0.0f);
      continue;
    }
    const std::size_t at = static_cast<std::size_t>(y) * rows.width;
    for (int x = 0; x < rows.width; x += W) {
      const int n = std::min(W, rows.width - x);
      const vf valid = load_some(loss.valid + at + x, n);
      const vf a = band.mean(loss.image, size, at + x, n) * valid;
      const vf b = band.mean(loss.photo, size, at + x, n) * valid;
      const vf moments[MOMENTS] = {a, b, a * a, b * b, a * b};
      for (int k = 0; k < MOMENTS; ++k) store(row[k].values() + x, moments[k]);
    }
    for (int k = 0; k < MOMENTS; ++k)
      for (int x = 0; x < rows.padded; x += W) store(out + k * across + x, row[k].at(x));
  }
  double sum = 0;
  for (int y = band.first; y < band.last; ++y) {
    const float* top = blurred.data() + static_cast<std::size_t>(y - band.first) * rows.padded;
    float* out = slopes + static_cast<std::size_t>(y) * rows.padded;
    vf row_sum{};
    for (int x = 0; x < rows.padded; x += W) {
      vf moments[MOMENTS], found[SLOPES];
      for (int k = 0; k < MOMENTS; ++k)
        moments[k] = blur(window, top + k * across + x, rows.padded);
      row_sum += in_image(similarity(moments, found), rows.width - x);
      for (int k = 0; k < SLOPES; ++k) store(out + k * plane + x, found[k]);
    }
    sum += lane_sum(row_sum);
  }
  return sum;
}

// Writes a band of the gradient, and returns its absolute error.
double gradient_of_band(const PhotoLoss& loss, const Rows& rows, const Window& window, Band band,
                        const float* slopes, std::size_t plane) {
  const std::size_t size = static_cast<std::size_t>(rows.width) * rows.height;
  const std::size_t across = static_cast<std::size_t>(band.height()) * rows.padded;
  const bool has_ssim = slopes != nullptr;
  Buffer<float> blurred(has_ssim ? SLOPES * across : 0);
  BlurredRow row(rows, window);
  for (int r = 0; r < band.height() && has_ssim; ++r) {
    const int y = band.first + r - REACH;
    for (int k = 0; k < SLOPES; ++k) {
      float* out = blurred.data() + k * across + static_cast<std::size_t>(r) * rows.padded;
      if (y < 0 || y >= rows.height) {
        std::fill_n(out, rows.padded, 0.0f);
        continue;
      }
      std::copy_n(slopes + k * plane + static_cast<std::size_t>(y) * rows.padded, rows.width,
                  row.values());
      for (int x = 0; x < rows.padded; x += W) store(out + x, row.at(x));
    }
  }
  const vf ssim_weight = splat(loss.ssim_weight), error_weight = splat(1 - loss.ssim_weight);
  double absolute = 0;
  for (int y = band.first; y < band.last; ++y) {
    const float* top = blurred.data() + static_cast<std::size_t>(y - band.first) * rows.padded;
    const std::size_t row_start = static_cast<std::size_t>(y) * rows.width;
    vf row_sum{};
    for (int x = 0; x < rows.width; x += W) {
      const int n = std::min(W, rows.width - x);
      const std::size_t at = row_start + x;
      const vf valid = load_some(loss.valid + at, n);
      vf slope{};
      if (has_ssim) {
        vf v[SLOPES];
        for (int k = 0; k < SLOPES; ++k) v[k] = blur(window, top + k * across + x, rows.padded);
        slope = v[0] + splat(2) * band.mean(loss.image, size, at, n) * valid * v[1] +
                band.mean(loss.photo, size, at, n) * valid * v[2];
      }
      for (int c = band.channel; c < band.end; ++c) {
        const vf a = load_some(loss.image + c * size + at, n) * valid;
        const vf b = load_some(loss.photo + c * size + at, n) * valid;
        const vf sign = keep(a > b, splat(1)) - keep(a < b, splat(1));
        const vf gradient = error_weight * sign - ssim_weight * slope;
        store_some(loss.gradient + c * size + at, valid * gradient, n);
        row_sum += vabs(a - b);
      }
    }
    absolute += lane_sum(row_sum);
  }
  return absolute;
}

}  // namespace

void photo_loss(const PhotoLoss& loss) {
  const Rows rows(loss);
  const Window window;
  const bool grey = loss.grey != 0, has_ssim = loss.ssim_weight > 0;
  const int planes = grey ? 1 : CHANNELS, items = planes * ((rows.height + BAND - 1) / BAND);
  const std::size_t plane = static_cast<std::size_t>(rows.padded) * rows.height;
  Buffer<float> slopes(has_ssim ? planes * SLOPES * plane : 0);
  std::vector<double> absolute(items, 0.0), similar(items, 0.0);
  if (has_ssim) {
    parallel_for(items, loss.threads, [&](int item, int) {
      const Band band(item, rows, grey);
      float* own = slopes.data() + band.channel * SLOPES * plane;
      similar[item] = slopes_of_band(loss, rows, window, band, own, plane);
    });
  }
  parallel_for(items, loss.threads, [&](int item, int) {
    const Band band(item, rows, grey);
    const float* own = has_ssim ? slopes.data() + band.channel * SLOPES * plane : nullptr;
    absolute[item] = gradient_of_band(loss, rows, window, band, own, plane);
  });
  *loss.absolute = *loss.similarity = 0;
  for (int item = 0; item < items; ++item) {
    *loss.absolute += absolute[item];
    *loss.similarity += similar[item] * (CHANNELS / planes);
  }
}

}  // namespace recon
