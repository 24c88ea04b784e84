// A std::mutex that Clang's thread-safety analysis understands (libstdc++'s carries no attributes).
//
//   Mutex mutex_;
//   State state_ CALF_GUARDED_BY(mutex_);
//   void update() CALF_REQUIRES(mutex_);
//   …
//   MutexLock lock(mutex_);
//
// With other compilers the attributes vanish.
#pragma once

#include <mutex>

#if defined(__clang__)
#define CALF_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define CALF_THREAD_ATTRIBUTE(x)
#endif

#define CALF_GUARDED_BY(x) CALF_THREAD_ATTRIBUTE(guarded_by(x))
#define CALF_REQUIRES(...) CALF_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define CALF_EXCLUDES(...) CALF_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))

namespace calf {

class CALF_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() CALF_THREAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() CALF_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class CALF_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) CALF_THREAD_ATTRIBUTE(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() CALF_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace calf
