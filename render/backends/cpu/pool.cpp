#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace recon {
namespace {

using Body = std::function<void(int, int)>;

long process_id() {
#if defined(_WIN32)
  return 0;
#else
  return static_cast<long>(getpid());
#endif
}

class Pool {
 public:
  void run(int items, int threads, const Body& body) {
    grow(threads - 1);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      items_ = items;
      next_.store(0);
      // Workers that exist beyond what this job may use stay asleep.
      wanted_ = std::min(threads - 1, static_cast<int>(workers_.size()));
      joined_ = 0;
      busy_ = 0;
      error_ = nullptr;
      ++job_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // who has not started by now need not
    done_.wait(lock, [this] { return busy_ == 0; });
    body_ = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void grow(int count) {
    while (static_cast<int>(workers_.size()) < count) {
      try {
        workers_.emplace_back([this] { loop(); });
      } catch (const std::system_error&) {
        return;  // the system allows no more threads (pids.max): those that there are do the work
      }
      workers_.back().detach();  // they sleep until the process ends
    }
  }

  void loop() {
    long seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return job_ != seen; });
      seen = job_;
      if (joined_ >= wanted_) continue;
      const int worker = ++joined_;
      ++busy_;
      lock.unlock();
      work(worker);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  void work(int worker) {
    try {
      for (int item; (item = next_.fetch_add(1)) < items_;) (*body_)(item, worker);
    } catch (...) {
      next_.store(items_);
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const Body* body_ = nullptr;
  std::atomic<int> next_{0};
  int items_ = 0, wanted_ = 0, joined_ = 0, busy_ = 0;
  long job_ = 0;
  std::exception_ptr error_;
};

// A fork leaves the child without the workers: it makes a pool of its own and forgets ours.
struct Shared {
  Pool* pool = new Pool;
  std::mutex* in_use = new std::mutex;
  long owner = process_id();
};

Shared& shared() {
  static std::mutex guard;
  static Shared* current = new Shared;
  if (current->owner != process_id()) {
    std::lock_guard<std::mutex> lock(guard);
    if (current->owner != process_id()) current = new Shared;
  }
  return *current;
}

thread_local bool inside = false;

}  // namespace

void parallel_for(int items, int threads, const Body& body) {
  threads = std::min({threads, items, MAX_THREADS});
  if (threads > 1 && !inside) {
    Shared& mine = shared();
    std::unique_lock<std::mutex> lock(*mine.in_use, std::try_to_lock);
    if (lock.owns_lock()) {
      const Body marked = [&body](int item, int worker) {
        inside = true;
        struct Leave {
          ~Leave() { inside = false; }
        } leave;
        body(item, worker);
      };
      mine.pool->run(items, threads, marked);
      return;
    }
  }
  for (int item = 0; item < items; ++item) body(item, 0);
}

}  // namespace recon
