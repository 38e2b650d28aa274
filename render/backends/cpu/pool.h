// A small thread pool: workers sleep between jobs instead of spinning (OpenMP's default burns
// the time of other processes on the machine), and work is handed out an item at a time.
#pragma once
#include <functional>

namespace recon {

constexpr int MAX_THREADS = 256;

// Calls body(item, worker) for every item in [0, items), worker in [0, threads), on at most
// `threads` threads including the caller's. Inside a job, or while another thread of the
// process uses the pool, everything runs on the caller's thread with worker 0.
// Returns when all items are done; an exception of a body is thrown again here.
void parallel_for(int items, int threads, const std::function<void(int, int)>& body);

}  // namespace recon
