// The whole machine with boot sectors of a few bytes: every way in which a run ends, reset in
// place, pause, and what build() refuses.
#include "vmm/machine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/kvm/mini_machine.h"

namespace calf::vmm {
namespace {

using namespace std::chrono_literals;
using Bytes = std::vector<int>;

// Collects what the guest sends; delivers what a test types.
class TestChannel final : public devices::ByteChannel {
 public:
  size_t send(std::span<const uint8_t> bytes) override {
    std::lock_guard lock(mutex_);
    sent_.append(bytes.begin(), bytes.end());
    return bytes.size();
  }
  void set_receiver(Receiver receiver) override { receiver_ = std::move(receiver); }
  void receiver_ready() override {}
  void set_writable_callback(std::function<void()>) override {}

  void type(std::string_view text) {
    receiver_({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  std::string sent() {
    std::lock_guard lock(mutex_);
    return sent_;
  }

 private:
  std::mutex mutex_;
  std::string sent_;
  Receiver receiver_;
};

class MachineTest : public testing::Test {
 protected:
  void SetUp() override {
    CALF_NEED_KVM();
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("calf-machine-test-{}", static_cast<int>(getpid()));
    std::filesystem::create_directories(folder_);
    loop_ = std::move(*EventLoop::create());
    config_.memory_bytes = uint64_t{4} << 20;
    config_.debug_exit = DebugExitConfig{0xF4, 4};
    config_.timeout = 30s;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // A raw disk of 1 MiB that starts with `code` and the boot signature.
  std::string disk(const Bytes& code, const char* name = "disk.raw") {
    std::vector<char> sector(512, 0);
    std::transform(code.begin(), code.end(), sector.begin(),
                   [](int byte) { return static_cast<char>(byte); });
    sector[510] = 0x55;
    sector[511] = static_cast<char>(0xAA);
    std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        .write(sector.data(), static_cast<std::streamsize>(sector.size()));
    std::filesystem::resize_file(path, 1 << 20);
    return path;
  }

  void add_disk(const std::string& path) {
    DiskConfig config;
    config.filename = path;
    config.format = "raw";
    config_.disks.push_back(config);
  }

  Result<std::unique_ptr<Machine>> build() {
    HostServices services{log_, *loop_, clock_, {}, nullptr};
    services.serial[0] = &console_;
    return Machine::build(config_, services);
  }

  RunResult run(const Bytes& boot_sector) {
    add_disk(disk(boot_sector));
    Result<std::unique_ptr<Machine>> machine = build();
    EXPECT_TRUE(machine.ok()) << (machine.ok() ? "" : machine.error().message());
    if (!machine.ok()) return {};
    return (*machine)->run();
  }

  static void collect_log(void* context, std::string_view line) {
    static_cast<MachineTest*>(context)->log_text_ += line;
  }

  std::filesystem::path folder_;
  std::string log_text_;
  Log log_{"test", LogLevel::kWarning, collect_log, this};
  std::unique_ptr<EventLoop> loop_;
  devices::HostClock clock_;
  TestChannel console_;
  MachineConfig config_;
};

const Bytes kExit = {
    0xB0, 0x2A,  // mov al, 2Ah
    0xE6, 0xF4,  // out F4h, al
    0xF4,        // hlt
};
const Bytes kSpin = {0xEB, 0xFE};  // jmp $

TEST_F(MachineTest, DebugExit) {
  RunResult result = run(kExit);
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
  EXPECT_EQ(result.debug_exit_value, 0x2Au);
  EXPECT_GT(result.statistics.exits, 0u);
}

TEST_F(MachineTest, BiosTextReachesTheSerialConsole) {
  RunResult result = run({
      0xB4, 0x0E,  // mov ah, 0Eh
      0xB0, 'c',   // mov al, 'c'
      0xCD, 0x10,  // int 10h
      0xB0, 'a',   // mov al, 'a'
      0xCD, 0x10,  // int 10h
      0xE6, 0xF4,  // out F4h, al
      0xF4,        // hlt
  });
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
  EXPECT_NE(console_.sent().find("ca"), std::string::npos);
}

TEST_F(MachineTest, TypedKeysReachTheBios) {
  add_disk(disk({
      0xB4, 0x00,  // mov ah, 0
      0xCD, 0x16,  // int 16h: waits for a key
      0xE6, 0xF4,  // out F4h, al
      0xF4,        // hlt
  }));
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  std::thread typist([&] {
    std::this_thread::sleep_for(100ms);
    loop_->post([&] { console_.type("k"); });
  });
  RunResult result = (*machine)->run();
  typist.join();
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
  EXPECT_EQ(result.debug_exit_value & 0xFF, static_cast<uint32_t>('k'));
}

TEST_F(MachineTest, PowerOff) {
  RunResult result = run({
      0xBA, 0x04, 0x06,  // mov dx, 604h
      0xB8, 0x00, 0x20,  // mov ax, 2000h
      0xEF,              // out dx, ax
      0xF4,              // hlt
  });
  EXPECT_EQ(result.reason, EndReason::kPowerOff) << result.text;
}

// Counts its starts in RAM, which a reset keeps.
const Bytes kThreeStarts = {
    0xFE, 0x06, 0x00, 0x06,        // inc byte [600h]
    0x80, 0x3E, 0x00, 0x06, 0x03,  // cmp byte [600h], 3
    0x74, 0x05,                    // je +5
    0xB0, 0xFE,                    // mov al, FEh
    0xE6, 0x64,                    // out 64h, al: reset
    0xF4,                          // hlt
    0xA0, 0x00, 0x06,              // mov al, [600h]
    0xE6, 0xF4,                    // out F4h, al
    0xF4,                          // hlt
};

TEST_F(MachineTest, ResetBootsAgainInPlace) {
  RunResult result = run(kThreeStarts);
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
  EXPECT_EQ(result.debug_exit_value, 3u);
  EXPECT_EQ(result.statistics.resets, 2u);
}

TEST_F(MachineTest, ResetWithFourProcessorsAndDevices) {
  config_.topology = {4, 1, 2, 2};
  config_.rng_devices = 1;
  RunResult result = run(kThreeStarts);
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
  EXPECT_EQ(result.statistics.resets, 2u);
}

TEST_F(MachineTest, ResetEndsTheRunUnderNoReboot) {
  config_.no_reboot = true;
  EXPECT_EQ(run(kThreeStarts).reason, EndReason::kReset);
}

TEST_F(MachineTest, TripleFaultUnderNoReboot) {
  config_.no_reboot = true;
  RunResult result = run({
      0x0F, 0x01, 0x1E, 0x00, 0x07,  // lidt [700h]: no vectors
      0x0F, 0x20, 0xC0,              // mov eax, cr0
      0x66, 0x83, 0xC8, 0x01,        // or eax, 1
      0x0F, 0x22, 0xC0,              // mov cr0, eax
      0x31, 0xDB,                    // xor bx, bx
      0xF7, 0xF3,                    // div bx
  });
  EXPECT_EQ(result.reason, EndReason::kTripleFault) << result.text;
}

TEST_F(MachineTest, StopEndsAGuestThatSpins) {
  add_disk(disk(kSpin));
  config_.topology = {2, 2, 1, 1};
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  std::thread person([&] {
    std::this_thread::sleep_for(50ms);
    (*machine)->stop();
  });
  RunResult result = (*machine)->run();
  person.join();
  EXPECT_EQ(result.reason, EndReason::kQuit) << result.text;
}

TEST_F(MachineTest, ATimeLimitEndsIt) {
  config_.timeout = 100ms;
  RunResult result = run(kSpin);
  EXPECT_EQ(result.reason, EndReason::kTimeout);
  EXPECT_NE(result.text.find("7c00"), std::string::npos) << "where it stood: " << result.text;
}

TEST_F(MachineTest, APowerOffUnderNoShutdownWaitsForAPerson) {
  add_disk(disk({
      0xBA, 0x04, 0x06,  // mov dx, 604h
      0xB8, 0x00, 0x20,  // mov ax, 2000h
      0xEF,              // out dx, ax
      0xF4,              // hlt
  }));
  config_.no_shutdown = true;
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  std::atomic<bool> asked{false};
  std::thread person([&] {
    std::this_thread::sleep_for(200ms);
    asked = true;
    (*machine)->stop();
  });
  RunResult result = (*machine)->run();
  EXPECT_TRUE(asked);
  person.join();
  EXPECT_EQ(result.reason, EndReason::kPowerOff);
}

TEST_F(MachineTest, APausedGuestDoesNothingUntilItIsResumed) {
  add_disk(disk(kExit));
  config_.start_paused = true;
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  EXPECT_TRUE((*machine)->paused());
  std::atomic<bool> resumed{false};
  std::thread person([&] {
    std::this_thread::sleep_for(100ms);
    resumed = true;
    (*machine)->resume();
  });
  RunResult result = (*machine)->run();
  EXPECT_TRUE(resumed);
  person.join();
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
}

TEST_F(MachineTest, PauseAndResumeManyTimes) {
  add_disk(disk(kSpin));
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  std::thread person([&] {
    for (int i = 0; i < 200; ++i) {
      (*machine)->pause();
      (*machine)->resume();
    }
    (*machine)->stop();
  });
  RunResult result = (*machine)->run();
  person.join();
  EXPECT_EQ(result.reason, EndReason::kQuit) << result.text;
}

TEST_F(MachineTest, WhatTheGuestWritesIsInTheImage) {
  std::string path = disk({
      0xB8, 0x01, 0x03,  // mov ax, 0301h: write one sector
      0xB9, 0x02, 0x00,  // mov cx, 2: cylinder 0, sector 2
      0xB6, 0x00,        // mov dh, 0
      0xBB, 0x00, 0x7C,  // mov bx, 7C00h
      0xCD, 0x13,        // int 13h
      0xB0, 0x00,        // mov al, 0
      0xD0, 0xD0,        // rcl al, 1: the carry
      0xE6, 0xF4,        // out F4h, al
      0xF4,              // hlt
  });
  add_disk(path);
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  RunResult result = (*machine)->run();
  EXPECT_EQ(result.debug_exit_value, 0u);
  std::ifstream file(path, std::ios::binary);
  std::vector<char> sectors(1024);
  file.read(sectors.data(), 1024);
  EXPECT_TRUE(std::equal(sectors.begin(), sectors.begin() + 512, sectors.begin() + 512));
}

TEST_F(MachineTest, ASecondMachineOnOneImageIsRefused) {
  add_disk(disk(kSpin));
  Result<std::unique_ptr<Machine>> first = build();
  ASSERT_TRUE(first.ok()) << first.error().message();
  Result<std::unique_ptr<Machine>> second = build();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::kLocked) << second.error().message();
}

TEST_F(MachineTest, AMachineThatNeverRanGoesQuietly) {
  add_disk(disk(kExit));
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_TRUE(machine.ok()) << machine.error().message();
  machine->reset();
  EXPECT_EQ(log_text_, "");
}

TEST_F(MachineTest, SixtyFourProcessors) {
  config_.topology = {64, 1, 32, 2};
  config_.memory_bytes = uint64_t{64} << 20;
  RunResult result = run(kExit);
  EXPECT_EQ(result.reason, EndReason::kDebugExit) << result.text;
}

// ---- What build() refuses ----

TEST_F(MachineTest, NothingToBoot) {
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_FALSE(machine.ok());
  EXPECT_NE(machine.error().message().find("nothing to boot"), std::string::npos);
}

TEST_F(MachineTest, AnImageThatIsNotThere) {
  add_disk(folder_ / "missing.raw");
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_FALSE(machine.ok());
  EXPECT_EQ(machine.error().kind(), ErrorKind::kNotFound);
  EXPECT_NE(machine.error().message().find("missing.raw"), std::string::npos);
}

TEST_F(MachineTest, ADiskWithoutBootSector) {
  std::string path = disk(kExit);
  std::ofstream(path, std::ios::binary | std::ios::in).write("\0", 1);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(510);
  file.write("\0\0", 2);
  file.close();
  add_disk(path);
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_FALSE(machine.ok());
  EXPECT_NE(machine.error().message().find("disk.raw"), std::string::npos)
      << machine.error().message();
}

TEST_F(MachineTest, ImpossibleNumbers) {
  add_disk(disk(kExit));
  config_.topology = {3, 2, 1, 1};
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_FALSE(machine.ok());
  EXPECT_NE(machine.error().message().find("-smp"), std::string::npos);
  config_.topology = {};
  config_.memory_bytes = 512 << 10;
  machine = build();
  ASSERT_FALSE(machine.ok());
  EXPECT_NE(machine.error().message().find("-m"), std::string::npos);
  config_.memory_bytes = uint64_t{1} << 41;
  machine = build();
  ASSERT_FALSE(machine.ok());
}

TEST_F(MachineTest, AKernelThatIsNotThere) {
  config_.kernel = folder_ / "vmlinuz";
  Result<std::unique_ptr<Machine>> machine = build();
  ASSERT_FALSE(machine.ok());
  EXPECT_NE(machine.error().message().find("vmlinuz"), std::string::npos);
}

}  // namespace
}  // namespace calf::vmm
