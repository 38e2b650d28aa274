// The C ABI of recon's CPU kernels. Every exported symbol starts with recon_cpu_.
// Functions return 0, OUT_OF_MEMORY, or FAILED with the reason in recon_cpu_last_error(); nothing
// throws across the boundary.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>

#include "adam.h"
#include "api.h"
#include "photo_loss.h"
#include "pool.h"
#include "state.h"

using namespace recon;

namespace {

// Gaussians whose records and gradient slots are held at once, in views of one group.
constexpr std::int64_t GROUP_GAUSSIANS = 1 << 20;

int group_size(const Request& rq) {
  return static_cast<int>(std::clamp<std::int64_t>(
      GROUP_GAUSSIANS / std::max(1, rq.count), 1, std::max(1, rq.images())));
}

void open_view(const Request& rq, int image, View& view) {
  view.camera = make_camera(rq, image);
  view.scene = image / rq.views;
  view.records = Buffer<Record>(rq.count);
  view.depths = Buffer<float>(rq.count);
  view.boxes = Buffer<TileBox>(rq.count);
  if (rq.channels() > INLINE_VALUES)
    view.values = Buffer<float>(static_cast<std::size_t>(rq.count) * rq.channels());
  view.visible.assign(rq.chunks(), 0);
  view.nonfinite.assign(rq.chunks(), 0);
}

// Projects, bins and sorts images [first, last).
void prepare(const Request& rq, std::vector<View>& views, int first, int last) {
  const int chunks = rq.chunks(), count = last - first;
  for (int image = first; image < last; ++image) open_view(rq, image, views[image]);
  parallel_for(count * chunks, rq.threads,
               [&](int item, int) { project_chunk(rq, views[first + item / chunks], item % chunks); });
  const auto arrange = [&](int item, int) { bin_view(rq, views[first + item]); };
  // With few views the work inside each is distributed instead.
  if (count >= rq.threads) {
    parallel_for(count, rq.threads, arrange);
  } else {
    for (int item = 0; item < count; ++item) arrange(item, 0);
  }
}

struct TileItem {
  int image, tile;
  std::uint32_t entries;
};

// All tiles of the group, the longest list first, so that no thread is left with a long one.
std::vector<TileItem> tiles_by_work(const Request& rq, const std::vector<View>& views, int first,
                                    int last) {
  std::vector<TileItem> items;
  items.reserve(static_cast<std::size_t>(last - first) * rq.tiles());
  for (int image = first; image < last; ++image)
    for (int tile = 0; tile < rq.tiles(); ++tile) {
      const auto& begin = views[image].tile_begin;
      items.push_back({image, tile, begin[tile + 1] - begin[tile]});
    }
  std::stable_sort(items.begin(), items.end(),
                   [](const TileItem& a, const TileItem& b) { return a.entries > b.entries; });
  return items;
}

// Where each view's pairs start among the group's slots; the last entry is their count.
std::vector<std::size_t> slot_starts(const std::vector<View>& views, int first, int last) {
  std::vector<std::size_t> starts(1, 0);
  for (int image = first; image < last; ++image)
    starts.push_back(starts.back() + views[image].entries.size());
  return starts;
}

std::int64_t count_nonfinite(const View& view) {
  return std::accumulate(view.nonfinite.begin(), view.nonfinite.end(), std::int64_t{0});
}

void forward(const Request& rq, State& state, bool keep, const Images& out,
             std::int64_t* nonfinite) {
  state.views.resize(rq.images());
  const int group = group_size(rq);
  for (int first = 0; first < rq.images(); first += group) {
    const int last = std::min(rq.images(), first + group);
    prepare(rq, state.views, first, last);
    const auto items = tiles_by_work(rq, state.views, first, last);
    parallel_for(static_cast<int>(items.size()), rq.threads, [&](int item, int) {
      const TileItem& work = items[item];
      raster_tile(rq, state.views[work.image], work.image, work.tile, out);
    });
    for (int i = first; i < last; ++i) {
      nonfinite[i] = count_nonfinite(state.views[i]);
      if (!keep) state.views[i] = View();
    }
  }
}

void backward_group(const Request& rq, const State& state, int first, int last,
                    const Images& images, const Images& v_images, const Gradients& out,
                    bool add, double* v_cameras) {
  const int size = slot_size(rq), chunks = rq.chunks();
  const std::vector<std::size_t> starts = slot_starts(state.views, first, last);
  Buffer<float> slots(starts.back() * size);
  const auto items = tiles_by_work(rq, state.views, first, last);
  parallel_for(static_cast<int>(items.size()), rq.threads, [&](int item, int) {
    const TileItem& work = items[item];
    raster_tile_backward(rq, state.views[work.image], work.image, work.tile, images, v_images,
                         slots.data() + starts[work.image - first] * size);
  });
  // A chunk of one scene's Gaussians goes through the views in order: no two threads write to
  // the same gradient and the order of additions is always the same.
  const int scene0 = first / rq.views, scenes = (last - 1) / rq.views - scene0 + 1;
  parallel_for(scenes * chunks, rq.threads, [&](int item, int) {
    const int scene = scene0 + item / chunks, chunk = item % chunks;
    const int begin = std::max(first, scene * rq.views);
    const int end = std::min(last, (scene + 1) * rq.views);
    for (int i = begin; i < end; ++i)
      project_chunk_backward(
          rq, state.views[i], i, chunk, slots.data() + starts[i - first] * size, out,
          add || i % rq.views > 0,
          v_cameras + (static_cast<std::size_t>(i) * chunks + chunk) * CAMERA_GRADIENTS);
  });
}

void backward(const Request& rq, const State& state, const Images& images,
              const Images& v_images, const Gradients& out, bool add) {
  const int group = group_size(rq), chunks = rq.chunks();
  std::vector<double> v_cameras(
      static_cast<std::size_t>(rq.images()) * chunks * CAMERA_GRADIENTS, 0.0);
  for (int first = 0; first < rq.images(); first += group)
    backward_group(rq, state, first, std::min(rq.images(), first + group), images, v_images, out,
                   add, v_cameras.data());
  for (int i = 0; i < rq.images(); ++i) {
    double sum[CAMERA_GRADIENTS] = {};
    for (int chunk = 0; chunk < chunks; ++chunk)
      for (int k = 0; k < CAMERA_GRADIENTS; ++k)
        sum[k] += v_cameras[(static_cast<std::size_t>(i) * chunks + chunk) * CAMERA_GRADIENTS + k];
    finish_camera_gradient(rq, i, sum, out.viewmats + 16 * static_cast<std::size_t>(i));
  }
}

void add_contributions(const Request& rq, const View& view, const float* slots,
                       const Contributions& out) {
  parallel_for(rq.chunks(), rq.threads, [&](int chunk, int) {
    const std::size_t begin = static_cast<std::size_t>(chunk) * CHUNK;
    for (std::size_t r = begin; r < begin + view.visible[chunk]; ++r) {
      const std::size_t g =
          static_cast<std::size_t>(view.scene) * rq.count + view.records[r].gaussian;
      const PairRange range = view.pairs[r];
      for (std::uint32_t p = range.begin; p < range.begin + range.count; ++p) {
        const float* slot = slots + 3 * static_cast<std::size_t>(p);
        out.weight_sum[g] += slot[0];
        out.weight_max[g] = std::max(out.weight_max[g], slot[1]);
        out.hits[g] += static_cast<std::int64_t>(slot[2]);
      }
    }
  });
}

void contributions(const Request& rq, const Contributions& out) {
  std::vector<View> views(rq.images());
  for (int image = 0; image < rq.images(); ++image) {
    prepare(rq, views, image, image + 1);
    Buffer<float> slots(3 * views[image].entries.size());
    const auto items = tiles_by_work(rq, views, image, image + 1);
    parallel_for(static_cast<int>(items.size()), rq.threads, [&](int item, int) {
      raster_tile_contributions(rq, views[image], items[item].tile, slots.data());
    });
    add_contributions(rq, views[image], slots.data(), out);
    views[image] = View();
  }
}

constexpr std::int32_t OUT_OF_MEMORY = 1, FAILED = 2;
thread_local char last_error[256] = "";

template <class Body>
std::int32_t guarded(const Body& body) {
  try {
    body();
    return 0;
  } catch (const std::bad_alloc&) {
    return OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    std::snprintf(last_error, sizeof last_error, "%s", error.what());
    return FAILED;
  }
}

}  // namespace

// Version of this ABI. The Python side refuses a library of another version,
// so that a stale build is named instead of corrupting memory.
RECON_API std::int32_t recon_cpu_abi_version() { return 7; }

// Why the last call on this thread returned FAILED.
RECON_API const char* recon_cpu_last_error() { return last_error; }

// nonfinite [images]. With `state` not null it receives what the backward pass needs, to be
// freed by recon_cpu_free.
RECON_API std::int32_t recon_cpu_forward(const Request* request, const Images* out,
                                         std::int64_t* nonfinite, State** state) {
  return guarded([&] {
    auto kept = std::make_unique<State>();
    forward(*request, *kept, state != nullptr, *out, nonfinite);
    if (state) *state = kept.release();
  });
}

// With `add` the Gaussians' gradients are added to those in `out`, else they overwrite them.
RECON_API std::int32_t recon_cpu_backward(const Request* request, const State* state,
                                          const Images* images, const Images* v_images,
                                          const Gradients* out, std::int32_t add) {
  return guarded([&] { backward(*request, *state, *images, *v_images, *out, add != 0); });
}

RECON_API std::int32_t recon_cpu_adam_step(const AdamStep* step, const Gradients* gradients) {
  return guarded([&] { adam_step(*step, *gradients); });
}

RECON_API std::int32_t recon_cpu_photo_loss(const PhotoLoss* loss) {
  return guarded([&] { photo_loss(*loss); });
}

RECON_API void recon_cpu_free(State* state) { delete state; }

RECON_API std::int32_t recon_cpu_contributions(const Request* request, const Contributions* out) {
  return guarded([&] { contributions(*request, *out); });
}
