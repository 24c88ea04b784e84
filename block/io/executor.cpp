#include "block/io/executor.h"

#include <utility>

namespace calf {

Result<std::unique_ptr<Executor>> Executor::create(Options options) {
  std::unique_ptr<IoEngine> engine;
  if (options.engine != Engine::kThreads) {
    Result<std::unique_ptr<IoEngine>> uring = make_uring_engine();
    if (uring.ok()) {
      engine = std::move(*uring);
    } else if (options.engine == Engine::kUring) {
      return std::move(uring.error());
    }
  }
  if (!engine) engine = make_thread_engine();
  return std::unique_ptr<Executor>(new Executor(std::move(engine), options));
}

Executor::Executor(std::unique_ptr<IoEngine> engine, const Options& options)
    : engine_(std::move(engine)), pool_(options.pool), alone_(options.alone) {}

Executor::~Executor() = default;

OffloadPool& Executor::pool() {
  if (pool_ == nullptr) {
    own_pool_ = std::make_unique<OffloadPool>();
    pool_ = own_pool_.get();
  }
  return *pool_;
}

detail::Detached Executor::drive(Executor* self, Task<void> task) {
  co_await task;
  --self->spawned_;
}

void Executor::spawn(Task<void> task) {
  ++spawned_;
  drive(this, std::move(task));
}

void Executor::post(std::function<void()> work) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  engine_->wake();
}

void Executor::post_batched(std::function<void()> work, unsigned workers) {
  constexpr size_t kBatch = 8;
  size_t waiting = 0;
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
    waiting = posted_.size();
  }
  // Whoever ends as one of the last sees few left and wakes: nothing is left lying.
  const unsigned left = --batched_;
  if (left < workers || waiting >= kBatch) engine_->wake();
}

void Executor::run_posted() {
  std::deque<std::function<void()>> work;
  {
    std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (auto& item : work)
    item();
}

bool Executor::has_posted() {
  std::lock_guard lock(posted_mutex_);
  return !posted_.empty();
}

void Executor::run_ready() {
  // Only what is ready now: coroutines that yield() let I/O in between.
  size_t count = ready_.size();
  for (size_t i = 0; i < count; ++i) {
    std::coroutine_handle<> handle = ready_.front();
    ready_.pop_front();
    handle.resume();
  }
}

bool Executor::work() {
  run_posted();
  run_ready();
  bool more = false;
  for (IdlePoller* poller : pollers_)
    more |= poller->end_turn();
  return more;
}

void Executor::rest(bool onward) {
  if (onward || !ready_.empty()) {
    engine_->wait(false, ready_);
  } else {
    idle();
  }
}

void Executor::idle() {
  if (pollers_.empty()) return engine_->wait(true, ready_);
  if (window_.now() > IdleWindow::Duration::zero()) {
    engine_->wait(false, ready_);  // what is queued must be on its way first
    // That may have met a wake(): it is told once only, so nobody may sleep over it.
    if (!ready_.empty() || has_posted()) return;
    if (look_around()) return engine_->wait(false, ready_);
  }
  auto begin = std::chrono::steady_clock::now();
  engine_->wait(true, ready_);
  window_.slept(std::chrono::steady_clock::now() - begin);
}

bool Executor::look_around() {
  for (IdlePoller* poller : pollers_)
    poller->start_looking();
  const auto begin = std::chrono::steady_clock::now();
  auto now = begin;
  bool found = false;
  do {
    for (IdlePoller* poller : pollers_)
      found |= poller->look();
    found |= engine_->has_finished();
    __builtin_ia32_pause();
    now = std::chrono::steady_clock::now();
  } while (!found && now < begin + window_.now());
  if (!found) window_.looked(now - begin);
  for (IdlePoller* poller : pollers_)
    found |= poller->stop_looking();
  return found;
}

void Executor::run_until_stopped() {
  run_until([this] { return stopping_ && spawned_ == 0; });
}

void Executor::stop() {
  post([this] { stopping_ = true; });
}

namespace {

IoOp transfer(IoOp::Code code, IoFile file, const iovec* iov, unsigned count, uint64_t offset,
              Executor::Copy copy) {
  IoOp op;
  op.code = code;
  op.at_disk = copy == Executor::Copy::kNone;
  op.file = file;
  op.iov = iov;
  op.iov_count = count;
  op.offset = offset;
  return op;
}

}  // namespace

Executor::IoAwaiter Executor::readv(IoFile file, const iovec* iov, unsigned count, uint64_t offset,
                                    Copy copy) {
  IoAwaiter awaiter{this, transfer(IoOp::Code::kReadv, file, iov, count, offset, copy)};
  const bool may_wait = begins_alone();
  awaiter.now = alone_ && may_wait;
  // One half each, so that both copy at the same time.
  awaiter.aside = awaiter.op.aside = copy == Copy::kLarge && 2 * aside_ <= transfers_;
  return awaiter;
}

Executor::IoAwaiter Executor::writev(IoFile file, const iovec* iov, unsigned count, uint64_t offset,
                                     int rw_flags, Copy copy) {
  IoAwaiter awaiter{this, transfer(IoOp::Code::kWritev, file, iov, count, offset, copy)};
  awaiter.op.flags = rw_flags;
  const bool may_wait = begins_alone();
  if (!alone_) return awaiter;
  if (copy == Copy::kNone) {
    awaiter.now = may_wait;
  } else {
    // Writers of one file wait for each other in any case: one thread of the kernel is enough for
    // all that there are, and this one reads for them.
    // Not said to the engine, which finds out: io_uring is a fifth slower when told.
    awaiter.aside = copy == Copy::kLarge && has_others();
    awaiter.now = !awaiter.aside;
  }
  return awaiter;
}

bool Executor::begins_alone() {
  return lone_.begins(has_others() || batched_ != 0);
}

Executor::IoAwaiter Executor::fdatasync(IoFile file) {
  IoOp op;
  op.code = IoOp::Code::kFdatasync;
  op.file = file;
  return {this, op};
}

Executor::IoAwaiter Executor::fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
  IoOp op;
  op.code = IoOp::Code::kFallocate;
  op.file = fd;
  op.flags = mode;
  op.offset = offset;
  op.length = length;
  return {this, op, alone_};
}

Executor::IoAwaiter Executor::open(const char* path, int flags, mode_t permissions) {
  IoOp op;
  op.code = IoOp::Code::kOpen;
  op.path = path;
  op.flags = flags;
  op.length = permissions;
  return {this, op, alone_};
}

Executor::IoAwaiter Executor::poll_in(int fd) {
  IoOp op;
  op.code = IoOp::Code::kPollIn;
  op.file = fd;
  return {this, op};
}

Executor::IoAwaiter Executor::sleep_until(std::chrono::steady_clock::time_point when) {
  IoOp op;
  op.code = IoOp::Code::kTimeout;
  op.deadline = when;
  return {this, op};
}

}  // namespace calf
