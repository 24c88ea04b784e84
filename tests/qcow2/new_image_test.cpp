// New images whose disk is mapped from the start, in every shape: clean, all of it mapped in order,
// zeroes, and as good to work with as any other.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

Result<crypto::SecretBytes> passphrase() {
  return crypto::SecretBytes::copy_of(std::string("secret"));
}

struct Shape {
  const char* name;
  void (*ask)(CreateOptions&);
};

void encrypt(CreateOptions& options, Encryption method) {
  options.encrypt.emplace();
  options.encrypt->method = method;
  options.encrypt->luks.iter_time = 1;
  options.encrypt->passphrase = passphrase;
}

const Shape kShapes[] = {
    {"Plain", [](CreateOptions&) {}},
    {"Version2", [](CreateOptions& o) { o.version = 2; }},
    {"Subclusters", [](CreateOptions& o) { o.extended_l2 = true; }},
    {"SubclustersOverABase",
     [](CreateOptions& o) {
       o.extended_l2 = true;
       o.backing_name = "base";
       o.backing_format = "raw";
     }},
    {"SmallClusters", [](CreateOptions& o) { o.cluster_size = 512; }},
    {"LargeClusters", [](CreateOptions& o) { o.cluster_size = 2 << 20; }},
    {"BitsOfCounts",
     [](CreateOptions& o) {
       o.cluster_size = 512;
       o.refcount_bits = 1;
     }},
    {"NibblesOfCounts",
     [](CreateOptions& o) {
       o.cluster_size = 512;
       o.refcount_bits = 4;
     }},
    {"WideCounts",
     [](CreateOptions& o) {
       o.cluster_size = 512;
       o.refcount_bits = 64;
     }},
    {"LazyCounts", [](CreateOptions& o) { o.lazy_refcounts = true; }},
    {"Luks", [](CreateOptions& o) { encrypt(o, Encryption::kLuks); }},
    {"Aes", [](CreateOptions& o) { encrypt(o, Encryption::kAes); }},
    {"AesVersion2",
     [](CreateOptions& o) {
       o.version = 2;
       encrypt(o, Encryption::kAes);
     }},
    {"DataFile", [](CreateOptions& o) { o.data_file = "data"; }},
    {"RawDataFile",
     [](CreateOptions& o) {
       o.data_file = "data";
       o.data_file_raw = true;
     }},
};

class MappedImage : public test::ImageTest, public testing::WithParamInterface<Shape> {
 protected:
  Result<std::unique_ptr<Image>> open_it(OpenOptions open_options) {
    if (options_.encrypt) open_options.passphrase = passphrase;
    TRY(auto image, open(disk_, std::move(open_options)));
    if (data_) {
      image->set_data_file(
          std::make_unique<test::SimulatedFile>(executor(), data_, test::SimulatedFile::Options{}));
    }
    return image;
  }

  void expect_it_clean() {
    OpenOptions for_check;
    for_check.for_check = true;
    auto image = open_it(std::move(for_check));
    ASSERT_OK(image);
    FindingSink sink = [](std::string_view line) { ADD_FAILURE() << line; };
    auto result = run(qcow2::check(**image, Repair::kNone, sink));
    ASSERT_OK(result);
    EXPECT_EQ(result->corruptions + result->leaks + result->check_errors, 0u);
    ASSERT_OK(close(**image));
  }

  // Every cluster has its place, one behind the other.
  void expect_mapped(Image& image) {
    std::optional<uint64_t> expected;
    for (uint64_t at = 0; at < image.size();) {
      auto extent = run(image.map({at, image.size() - at}));
      ASSERT_OK(extent);
      if (!options_.encrypt) {
        ASSERT_TRUE(extent->host_offset.has_value()) << at;
        EXPECT_EQ(*extent->host_offset, expected.value_or(*extent->host_offset)) << at;
        expected = *extent->host_offset + extent->range.length;
      } else {
        EXPECT_TRUE(extent->allocated) << at;
      }
      at += extent->range.length;
    }
  }

  CreateOptions options_;
  std::shared_ptr<test::SimulatedDisk> disk_;
  std::shared_ptr<test::SimulatedDisk> data_;
};

TEST_P(MappedImage, IsCleanAndUsable) {
  // Neither whole clusters nor one L2 table.
  options_.size = (700 << 10) + 512;
  GetParam().ask(options_);
  options_.preallocation = block::Preallocation::kMetadata;
  disk_ = make(options_, &data_);
  expect_it_clean();
  Bytes flat(options_.size);
  {
    OpenOptions writable;
    writable.writable = true;
    auto image = open_it(std::move(writable));
    ASSERT_OK(image);
    expect_mapped(**image);
    EXPECT_TRUE(*read(**image, 0, flat.size()) == flat);
    const uint64_t file_size = disk_->content.size();
    const Bytes bytes = pattern(1, 150000);
    for (uint64_t at : {uint64_t{0}, uint64_t{300001}, options_.size - bytes.size()}) {
      ASSERT_OK(write(**image, at, bytes));
      std::copy(bytes.begin(), bytes.end(), flat.begin() + static_cast<ptrdiff_t>(at));
    }
    EXPECT_TRUE(*read(**image, 0, flat.size()) == flat);
    ASSERT_OK(close(**image));
    // There was a place for all of it.
    EXPECT_EQ(disk_->content.size(), file_size);
  }
  expect_it_clean();
  auto image = open_it(OpenOptions{});
  ASSERT_OK(image);
  EXPECT_TRUE(*read(**image, 0, flat.size()) == flat);
  ASSERT_OK(close(**image));
}

INSTANTIATE_TEST_SUITE_P(Shapes, MappedImage, testing::ValuesIn(kShapes),
                         [](const auto& shape) { return std::string(shape.param.name); });

class ManyTables : public test::ImageTest {};

// More L2 tables and refcount blocks than are composed at once.
TEST_F(ManyTables, AreWrittenFromFrontToBack) {
  CreateOptions options;
  options.size = uint64_t{24} << 30;
  options.cluster_size = 4096;
  options.preallocation = block::Preallocation::kMetadata;
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->start_log();
  test::SimulatedFile node(executor(), disk, {});
  auto create_on = [](Executor* executor, block::Node* file, const CreateOptions* how) -> Async<> {
    co_return co_await create(*executor, *file, *how);
  };
  ASSERT_OK(run(create_on(&executor(), &node, &options)));
  uint64_t end = 0;
  for (const test::LoggedOp& op : disk->log) {
    if (op.kind != test::LoggedOp::Kind::kWrite || op.offset == 0) continue;
    EXPECT_GE(op.offset, end);
    end = op.offset + op.length;
  }
  // Some 48 MiB of L2 tables and 12 MiB of counts, in writes of 1 MiB.
  EXPECT_LT(disk->log.size(), 80u);
  expect_clean(disk);
  auto image = open(disk, OpenOptions{});
  ASSERT_OK(image);
  auto extent = run((*image)->map({0, options.size}));
  ASSERT_OK(extent);
  auto last = run((*image)->map({options.size - 4096, 4096}));
  ASSERT_OK(last);
  EXPECT_EQ(*last->host_offset - *extent->host_offset, options.size - 4096);
  ASSERT_OK(close(**image));
}

}  // namespace
}  // namespace calf::qcow2
