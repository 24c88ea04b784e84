// Kernels that others built: the guests' Linux in each packing (tests/guests/linux/build.sh makes
// them), and Debian's iPXE. Skipped, by name, where they are missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "firmware/boot/elf.h"
#include "firmware/boot/kernel.h"
#include "tests/firmware/boot/boot_images.h"

namespace calf::firmware {
namespace {

using testing::HasSubstr;
using namespace testing_support;
namespace fs = std::filesystem;

Bytes slurp(const fs::path& path) {
  std::error_code missing;
  uint64_t size = fs::file_size(path, missing);
  if (missing) return {};
  Bytes bytes(size);
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  return bytes;
}

// The guest that this tree's recipe makes; empty if it is not in the cache. Any other may lie there
// too.
fs::path linux_folder() {
  FILE* script = ::popen(CALF_LINUX_BUILD " --cached 2>/dev/null", "r");
  if (script == nullptr) return {};
  std::string folder;
  for (int c = std::fgetc(script); c != EOF && c != '\n'; c = std::fgetc(script))
    folder += static_cast<char>(c);
  bool found = ::pclose(script) == 0;
  return found ? fs::path(folder) : fs::path();
}

class LinuxGuest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = linux_folder();
    if (folder_.empty()) GTEST_SKIP() << "no Linux guest: run `make linux-guest` first";
  }
  fs::path folder_;
};

TEST_P(LinuxGuest, UnpacksToTheSegmentsOfItsVmlinux) {
  Bytes vmlinux = slurp(folder_ / "vmlinux");
  auto elf = parse_elf(vmlinux);
  ASSERT_TRUE(elf.ok()) << elf.error().message();
  EXPECT_TRUE(elf->pvh_entry.has_value());

  Bytes kernel = slurp(folder_ / GetParam());
  Bytes initrd = slurp(folder_ / "initrd");
  TestGuest guest(128 * kOneMiB);
  auto loaded = load_kernel({.kernel = kernel, .initrd = initrd, .command_line = "console=ttyS0"},
                            guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(loaded->state.mode, CpuMode::kLong64);
  EXPECT_EQ(loaded->state.rip, elf->entry);
  EXPECT_THAT(loaded->description, HasSubstr("6.1"));
  size_t different = 0;
  for (const ElfSegment& segment : elf->segments) {
    auto bytes = guest.bytes(segment.physical.offset, segment.bytes.size());
    for (size_t i = 0; i < bytes.size(); ++i)
      different += bytes[i] != segment.bytes[i];
  }
  // Each packing may have been linked again: another build number and build ID.
  EXPECT_LE(different, 32u);
}

TEST_P(LinuxGuest, HasTheOtherEntriesToo) {
  Bytes kernel = slurp(folder_ / GetParam());
  for (KernelEntry entry :
       {KernelEntry::kPacked64, KernelEntry::kPacked32, KernelEntry::kRealMode}) {
    TestGuest guest(128 * kOneMiB);
    auto loaded = load_kernel({.kernel = kernel, .entry = entry}, guest.map(), guest.memory());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded->needs_bios, entry == KernelEntry::kRealMode);
  }
}

INSTANTIATE_TEST_SUITE_P(Packings, LinuxGuest,
                         testing::Values("bzImage", "bzImage.zstd", "bzImage.lz4", "bzImage.xz",
                                         "bzImage.stored"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

TEST(RealKernels, VmlinuxStartsByItsPvhNote) {
  fs::path folder = linux_folder();
  if (folder.empty()) GTEST_SKIP() << "no Linux guest: run `make linux-guest` first";
  Bytes kernel = slurp(folder / "vmlinux");
  TestGuest guest(128 * kOneMiB);
  auto loaded = load_kernel({.kernel = kernel}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(loaded->state.mode, CpuMode::kProtected32);
}

TEST(RealKernels, IpxeStartsInRealMode) {
  Bytes kernel = slurp("/usr/lib/ipxe/ipxe.lkrn");
  if (kernel.empty()) GTEST_SKIP() << "no /usr/lib/ipxe/ipxe.lkrn (package ipxe)";
  TestGuest guest(128 * kOneMiB);
  auto loaded =
      load_kernel({.kernel = kernel, .command_line = "shell"}, guest.map(), guest.memory());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_TRUE(loaded->needs_bios);
  EXPECT_THAT(loaded->description, HasSubstr("1.0.0+git"));
}

}  // namespace
}  // namespace calf::firmware
