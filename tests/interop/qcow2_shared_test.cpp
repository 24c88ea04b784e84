// One image, written by turns through the engine and by qemu-io, with internal snapshots made by
// qemu-img: after each turn both programs agree with a flat copy, and `qemu-img check` is clean.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "block/file_node.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

struct Shape {
  const char* name;
  const char* options;
  bool snapshots;
  bool base;
};

class SharedImage : public test::ImageTest {
 protected:
  void SetUp() override {
    if (std::system("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null") != 0) {
      GTEST_SKIP() << "qemu-img or qemu-io (package qemu-utils) is missing";
    }
    std::string name = std::filesystem::temp_directory_path() / "calf-shared-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  std::string path(const char* file) { return folder_ + "/" + file; }
  // Runs in the folder; shows the output if it fails.
  void shell(const std::string& command) {
    std::string line = "cd '" + folder_ + "' && { " + command + "; } >log 2>&1";
    if (std::system(line.c_str()) == 0) return;
    std::ifstream log(path("log"));
    ADD_FAILURE() << command << "\n" << std::string(std::istreambuf_iterator<char>(log), {});
  }
  void save(const char* file, const Bytes& bytes) {
    std::ofstream(path(file), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  std::unique_ptr<block::Node> open_file(const char* file, bool writable) {
    block::FileOptions options;
    options.writable = writable;
    options.discard = true;
    auto node = run(block::FileNode::open(executor(), path(file), options));
    EXPECT_OK(node);
    return node.ok() ? std::move(*node) : nullptr;
  }
  std::unique_ptr<Image> open_image(bool writable) {
    OpenOptions options;
    options.writable = writable;
    options.message = [this](std::string_view line) { messages.emplace_back(line); };
    auto image = run(Image::open(executor(), open_file("image", writable), std::move(options)));
    EXPECT_OK(image);
    if (!image.ok()) return nullptr;
    if ((*image)->backing_name()) {
      auto base = run(Image::open(executor(), open_file("base", false), OpenOptions{}));
      EXPECT_OK(base);
      (*image)->set_backing(std::move(*base));
    }
    return std::move(*image);
  }
  ByteRange random_range() {
    uint64_t sectors = flat_.size() / 512;
    uint64_t first = random_() % sectors;
    uint64_t most = std::min<uint64_t>(sectors - first, 300);
    return {first * 512, (1 + random_() % most) * 512};
  }
  void our_turn();
  void their_turn();
  void compare();

  std::mt19937_64 random_{42};
  std::string folder_;
  Bytes flat_;
};

void SharedImage::our_turn() {
  std::unique_ptr<Image> image = open_image(true);
  ASSERT_NE(image, nullptr);
  for (int i = 0; i < 25; ++i) {
    ByteRange range = random_range();
    auto at = flat_.begin() + static_cast<ptrdiff_t>(range.offset);
    switch (random_() % 5) {
      case 0:
        ASSERT_OK(zero(*image, range, random_() % 2 == 0));
        std::fill_n(at, range.length, uint8_t{0});
        break;
      case 1: {
        ASSERT_OK(discard(*image, range));
        Bytes now = *read(*image, range.offset, range.length);
        std::copy(now.begin(), now.end(), at);
        break;
      }
      case 2: {
        uint64_t cluster = image->limits().cluster_size;
        range.offset = align_down(range.offset, cluster);
        range.length = std::min<uint64_t>(cluster, flat_.size() - range.offset);
        Bytes bytes(range.length, static_cast<uint8_t>(random_() | 1));
        ASSERT_OK(write_compressed(*image, range.offset, bytes));
        std::copy(bytes.begin(), bytes.end(), flat_.begin() + static_cast<ptrdiff_t>(range.offset));
        break;
      }
      default: {
        Bytes bytes = pattern(random_(), range.length);
        ASSERT_OK(write(*image, range.offset, bytes));
        std::copy(bytes.begin(), bytes.end(), at);
        break;
      }
    }
    if (i % 7 == 0) {
      ASSERT_OK(flush(*image));
    }
  }
  ASSERT_EQ(*read(*image, 0, flat_.size()), flat_);
  ASSERT_OK(close(*image));
}

void SharedImage::their_turn() {
  std::string command = "qemu-io";
  for (int i = 0; i < 12; ++i) {
    ByteRange range = random_range();
    unsigned byte = 1 + static_cast<unsigned>(random_() % 250);
    auto at = flat_.begin() + static_cast<ptrdiff_t>(range.offset);
    if (random_() % 4 == 0) {
      command += fmt::format(" -c 'write -z -u {} {}'", range.offset, range.length);
      byte = 0;
    } else {
      command += fmt::format(" -c 'write -P {} {} {}'", byte, range.offset, range.length);
    }
    std::fill_n(at, range.length, static_cast<uint8_t>(byte));
  }
  shell(command + " image");
}

void SharedImage::compare() {
  save("flat", flat_);
  shell("qemu-img check image && qemu-img compare -f raw -F qcow2 flat image");
  std::unique_ptr<Image> image = open_image(false);
  ASSERT_NE(image, nullptr);
  EXPECT_EQ(*read(*image, 0, flat_.size()), flat_);
  EXPECT_OK(close(*image));
}

class SharedImageTurns : public SharedImage, public testing::WithParamInterface<Shape> {};

TEST_P(SharedImageTurns, BothProgramsAgree) {
  const Shape& shape = GetParam();
  flat_.assign((3 << 20) + 512 * 5, 0);
  std::string options = fmt::format("-o {}", shape.options);
  if (shape.base) {
    Bytes base = pattern(99, 2 << 20);
    save("base.raw", base);
    shell("qemu-img convert -c -f raw -O qcow2 base.raw base");
    std::copy(base.begin(), base.end(), flat_.begin());
    options += " -b base -F qcow2";
  }
  shell(fmt::format("qemu-img create -q -f qcow2 {} image {}", options, flat_.size()));
  std::vector<Bytes> snapshots;
  for (int turn = 0; turn < 4 && !HasFailure(); ++turn) {
    our_turn();
    if (HasFailure()) return;
    compare();
    if (shape.snapshots) {
      snapshots.push_back(flat_);
      shell(fmt::format("qemu-img snapshot -c s{} image", snapshots.size()));
    }
    their_turn();
    compare();
  }
  for (size_t i = 0; i < snapshots.size() && !HasFailure(); ++i) {
    save("flat", snapshots[i]);
    shell(fmt::format("qemu-img convert -l s{} -O raw image snapshot.raw && cmp flat snapshot.raw",
                      i + 1));
  }
  if (shape.snapshots) {
    shell("qemu-img snapshot -d s2 image && qemu-img check image");
    our_turn();
    compare();
    shell("qemu-img snapshot -a s1 image");
    flat_ = snapshots[0];
    our_turn();
    compare();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, SharedImageTurns,
    testing::Values(Shape{"usual", "compat=1.1", false, true},
                    Shape{"version2", "compat=0.10,cluster_size=4k", false, true},
                    Shape{"tiny_clusters", "cluster_size=512", false, false},
                    Shape{"huge_clusters", "cluster_size=2M", false, true},
                    Shape{"one_bit", "refcount_bits=1,cluster_size=4k", false, false},
                    Shape{"wide", "refcount_bits=64,cluster_size=1k", true, false},
                    Shape{"zstd", "compression_type=zstd,cluster_size=8k", false, true},
                    Shape{"lazy", "lazy_refcounts=on,cluster_size=4k", false, true},
                    Shape{"snapshots", "cluster_size=4k", true, true},
                    Shape{"snapshots_v2", "compat=0.10,cluster_size=16k", true, true}),
    [](const auto& test_info) { return std::string(test_info.param.name); });

// qemu-io dies with the dirty bit set: our open repairs, and Debian's check agrees.
TEST_F(SharedImage, LeftDirtyByQemuIsRepaired) {
  shell("qemu-img create -q -f qcow2 -o lazy_refcounts=on image 4M");
  shell("qemu-io -c 'write -P 7 0 1M' -c 'flush' -c 'sigraise 9' image || true");
  flat_.assign(4 << 20, 0);
  std::fill_n(flat_.begin(), 1 << 20, uint8_t{7});
  {
    std::unique_ptr<Image> image = open_image(false);
    ASSERT_NE(image, nullptr);
    EXPECT_TRUE(image->info().dirty);
    EXPECT_OK(close(*image));
  }
  {
    std::unique_ptr<Image> image = open_image(true);
    ASSERT_NE(image, nullptr);
    EXPECT_FALSE(image->info().dirty);
    EXPECT_OK(close(*image));
  }
  compare();
}

}  // namespace
}  // namespace calf::qcow2
