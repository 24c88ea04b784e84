#include "block/io/sync.h"

#include <gtest/gtest.h>

namespace calf {
namespace {

class SyncTest : public testing::Test {
 protected:
  std::unique_ptr<Executor> executor_ = std::move(*Executor::create());
};

Task<int> critical(Executor& executor, AsyncMutex& mutex, int id, std::vector<int>* log) {
  AsyncMutex::Guard guard = co_await mutex.lock();
  log->push_back(id);
  co_await executor.yield();
  log->push_back(id);
  co_return id;
}

TEST_F(SyncTest, MutexExcludesInOrderOfArrival) {
  AsyncMutex mutex(*executor_);
  std::vector<int> log;
  std::vector<Task<int>> tasks;
  for (int i = 0; i < 4; ++i)
    tasks.push_back(critical(*executor_, mutex, i, &log));
  executor_->run(when_all(*executor_, std::move(tasks)));
  EXPECT_EQ(log, (std::vector<int>{0, 0, 1, 1, 2, 2, 3, 3}));
  EXPECT_FALSE(mutex.locked());
}

Task<int> bounded(Executor& executor, AsyncSemaphore& semaphore, int* inside, int* most) {
  co_await semaphore.acquire();
  *most = std::max(*most, ++*inside);
  for (int i = 0; i < 3; ++i)
    co_await executor.yield();
  --*inside;
  semaphore.release();
  co_return 0;
}

TEST_F(SyncTest, SemaphoreBoundsThoseInside) {
  AsyncSemaphore semaphore(*executor_, 3);
  int inside = 0;
  int most = 0;
  std::vector<Task<int>> tasks;
  for (int i = 0; i < 10; ++i)
    tasks.push_back(bounded(*executor_, semaphore, &inside, &most));
  executor_->run(when_all(*executor_, std::move(tasks)));
  EXPECT_EQ(most, 3);
  EXPECT_EQ(inside, 0);
}

Task<int> reader(Executor& executor, AsyncSharedMutex& mutex, std::string* log) {
  co_await mutex.lock_shared();
  *log += 'r';
  co_await executor.yield();
  *log += 'R';
  mutex.unlock_shared();
  co_return 0;
}

Task<int> writer(Executor& executor, AsyncSharedMutex& mutex, std::string* log) {
  co_await mutex.lock();
  *log += 'w';
  co_await executor.yield();
  *log += 'W';
  mutex.unlock();
  co_return 0;
}

TEST_F(SyncTest, SharedMutexLetsAWriterInBeforeLaterReaders) {
  AsyncSharedMutex mutex(*executor_);
  std::string log;
  std::vector<Task<int>> tasks;
  tasks.push_back(reader(*executor_, mutex, &log));
  tasks.push_back(reader(*executor_, mutex, &log));
  tasks.push_back(writer(*executor_, mutex, &log));
  tasks.push_back(reader(*executor_, mutex, &log));
  executor_->run(when_all(*executor_, std::move(tasks)));
  EXPECT_EQ(log, "rrRRwWrR");
}

Async<> fail_if(bool fail) {
  if (fail) co_return make_error(ErrorKind::kIo, "planned");
  co_return Result<void>();
}

TEST_F(SyncTest, AllSucceedReturnsTheFirstError) {
  std::vector<Async<>> good;
  good.push_back(fail_if(false));
  EXPECT_TRUE(executor_->run(all_succeed(*executor_, std::move(good))).ok());
  std::vector<Async<>> bad;
  bad.push_back(fail_if(false));
  bad.push_back(fail_if(true));
  EXPECT_FALSE(executor_->run(all_succeed(*executor_, std::move(bad))).ok());
}

}  // namespace
}  // namespace calf
