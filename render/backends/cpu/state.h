// The arguments of a call, and the state that the forward pass keeps for the backward pass.
#pragma once
#include <cstdint>
#include <vector>

#include "buffer.h"
#include "simd.h"

namespace recon {

constexpr int TILE = 32;          // px; tiles are square
constexpr int CHUNK = 2048;       // Gaussians projected as one item of work
constexpr int INLINE_VALUES = 4;  // channels that fit into a Record

// The C ABI's request; render/backends/abi.py mirrors it and layout.cpp lists it, field by field.
// Gaussians are [scenes, count, ...], cameras [scenes, views, ...], all float32 and contiguous.
struct Request {
  std::int32_t scenes, views, count, width, height, threads;
  std::int32_t colors;        // channels of `colors`; 0 for depth alone
  std::int32_t coefficients;  // SH coefficients of each of 3 colours; 0 for plain colours
  std::int32_t depth;         // 1: depth is composited as the last channel
  std::int32_t antialiased, absgrad;
  float near_plane, far_plane, eps2d, radius_clip, alpha_max, alpha_min, transmittance_min;
  const float *means, *quats, *scales, *opacities, *color_values;
  const std::uint8_t* mask;  // [scenes, count], 0 leaves a Gaussian out; may be null
  const float *viewmats, *Ks;

  int channels() const { return colors + depth; }
  int images() const { return scenes * views; }
  int chunks() const { return (count + CHUNK - 1) / CHUNK; }
  int tiles_x() const { return (width + TILE - 1) / TILE; }
  int tiles_y() const { return (height + TILE - 1) / TILE; }
  int tiles() const { return tiles_x() * tiles_y(); }
};

struct Camera {
  float R[3][3], t[3], center[3];  // camera from world; optical centre in the world
  float fx, fy, cx, cy;
  float slope_min[2], slope_max[2];  // limits of x/z and y/z in the projection's Jacobian
};

// One visible Gaussian: a cache line. With d = pixel - mean,
// log2 alpha = log_opacity - u^2 - v^2, u = a (dx - shear dy), v = c dy: a sum of squares, which
// unlike the expanded quadratic keeps its digits for needles a thousand pixels long.
struct Record {
  float x, y;           // mean (px)
  float reach_x;        // half width of {alpha >= alpha_min} (px)
  float top_dx;         // lowest point of that ellipse in the image: dx of its extreme in y
  float slope, h0, h1;  // its y range at dx: slope dx -+ sqrt(h0 - h1 dx^2)
  float log_opacity;    // base 2
  float a, a_shear, c;  // 1/px
  float values[INLINE_VALUES];
  std::int32_t gaussian;  // index within its scene
};
static_assert(sizeof(Record) == 64, "a Record is one cache line");

// An entry of a tile's list. Pairs of one Gaussian are numbered consecutively.
struct Entry {
  std::uint32_t record, pair;
};

// The tiles that a Record's bounding box touches, inclusive.
struct TileBox {
  std::uint16_t x0, y0, x1, y1;
};

struct PairRange {
  std::uint32_t begin, count;
};

// Everything about one image. Records of chunk k start at k * CHUNK; visible[k] are in use.
struct View {
  Camera camera;
  int scene = 0;
  Buffer<Record> records;
  Buffer<float> values;  // [count, channels] when the channels do not fit into the records
  Buffer<float> depths;
  Buffer<TileBox> boxes;
  std::vector<int> visible;
  std::vector<std::int64_t> nonfinite;  // by chunk
  Buffer<PairRange> pairs;              // by record
  Buffer<Entry> entries;
  std::vector<std::uint32_t> tile_begin;  // tiles + 1
};

struct State {
  std::vector<View> views;
};

inline const float* values_of(const View& view, std::uint32_t record, int channels) {
  return channels <= INLINE_VALUES ? view.records[record].values
                                   : &view.values[static_cast<std::size_t>(record) * channels];
}

// The six moments of g = dL/d(ln alpha) over a Gaussian's pixels, then dL/d(value) by channel,
// then the two sums of |dL/d(mean)|: the output of the backward raster for each pair.
enum Moment { G, GU, GV, GUU, GUV, GVV, MOMENTS };
inline int slot_size(const Request& request) {
  return MOMENTS + request.channels() + (request.absgrad ? 2 : 0);
}

struct Gradients {  // of the inputs; the caller zeroes absgrad
  float *means, *quats, *scales, *opacities, *color_values;
  float* viewmats;  // [scenes, views, 4, 4]
  float* absgrad;   // [scenes, views, count, 2] or null
};

// The planes of all images, or their gradients; a gradient that is null counts as zero.
struct Images {
  float* colors;  // [images, colors, h, w]
  float* depth;   // [images, 1, h, w]; null when depth is not wanted
  float* alpha;   // [images, 1, h, w]

  // Plane of one composited channel, or null.
  float* plane(const Request& rq, int image, int channel) const {
    const std::size_t area = static_cast<std::size_t>(rq.width) * rq.height;
    if (channel < rq.colors)
      return colors ? colors + (static_cast<std::size_t>(image) * rq.colors + channel) * area
                    : nullptr;
    return depth ? depth + image * area : nullptr;
  }
  float* alpha_plane(const Request& rq, int image) const {
    const std::size_t area = static_cast<std::size_t>(rq.width) * rq.height;
    return alpha ? alpha + image * area : nullptr;
  }
};

struct Contributions {  // [scenes, count], over all views
  float *weight_sum, *weight_max;
  std::int64_t* hits;
};

Camera make_camera(const Request& request, int image);
void project_chunk(const Request& request, View& view, int chunk);
void bin_view(const Request& request, View& view);
void sort_tile(View& view, int tile);
void raster_tile(const Request& request, const View& view, int image, int tile,
                 const Images& out);
void raster_tile_contributions(const Request& request, const View& view, int tile, float* slots);
void raster_tile_backward(const Request& request, const View& view, int image, int tile,
                          const Images& images, const Images& v_images, float* slots);
void project_chunk_backward(const Request& request, const View& view, int image, int chunk,
                            const float* slots, const Gradients& out, bool add, double* v_camera);
constexpr int CAMERA_GRADIENTS = 15;  // R (row by row), t, centre
void finish_camera_gradient(const Request& request, int image, const double* v_camera,
                            float* v_viewmat);

}  // namespace recon
