// Random operations on an image of random geometry, many in flight at a time, against a flat array.
// A failure prints its seed; QCOW2_MODEL_SEED runs that one alone, QCOW2_MODEL_RUNS runs more.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "block/io/sync.h"
#include "block/qcow2/bitmap_store.h"
#include "tests/support/image_fixture.h"

namespace calf::qcow2 {
namespace {

using test::Bytes;
using test::pattern;

class Model : public test::ImageBench {
 public:
  explicit Model(uint64_t seed) : random_(seed) {}

  void play();

 private:
  uint64_t up_to(uint64_t n) { return random_() % (n + 1); }
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  CreateOptions random_options();
  ByteRange random_range(uint64_t size);
  void add_layer(const CreateOptions& options);
  // A bitmap that records, sometimes.
  void add_bitmap(Image& image);
  void note_write(ByteRange range);
  void expect_bits(Image& image);
  std::unique_ptr<Image> open_chain(size_t depth, bool writable);
  // A raw data file holds what the guest sees.
  void expect_raw_data_file();
  void batch(Image& image);
  void expect_equal(Image& image);
  Async<> one_operation(Image& image, ByteRange range, unsigned kind, uint64_t tag);

  std::mt19937_64 random_;
  std::vector<std::shared_ptr<test::SimulatedDisk>> disks_;
  // Of the layers that have one.
  std::vector<std::shared_ptr<test::SimulatedDisk>> data_files_;
  bool raw_data_file_ = false;
  // Of the top layer's bitmap; 0: it has none.
  unsigned granularity_bits_ = 0;
  std::vector<bool> bits_;
  std::vector<uint64_t> sizes_;
  Bytes flat_;
  unsigned yields_ = 0;
};

CreateOptions Model::random_options() {
  CreateOptions options;
  options.version = chance(75) ? 3 : 2;
  options.cluster_size = uint64_t{512} << (chance(80) ? up_to(7) : up_to(12));
  if (options.version == 3) {
    options.refcount_bits = uint64_t{1} << up_to(6);
    options.lazy_refcounts = chance(25);
    options.compression = chance(50) ? Compression::kZlib : Compression::kZstd;
  }
  options.size = 512 * (1 + up_to(8000));
  if (options.version == 3 && chance(40)) {
    options.extended_l2 = true;
    options.cluster_size = std::max<uint64_t>(options.cluster_size, 16384);
  }
  if (options.version == 3 && chance(30)) {
    options.data_file = "data";
    options.data_file_raw = disks_.empty() && chance(50);
  }
  if ((disks_.empty() || options.extended_l2) && chance(20)) {
    options.preallocation = block::Preallocation::kMetadata;
  }
  if (options.cluster_size <= 1024 && chance(50) && !options.extended_l2)
    options.size = 512 * (1 + up_to(1000));
  return options;
}

ByteRange Model::random_range(uint64_t size) {
  uint64_t sectors = size / 512;
  uint64_t first = up_to(sectors - 1);
  uint64_t most = std::min<uint64_t>(sectors - first, chance(20) ? sectors : 64);
  return {first * 512, (1 + up_to(most - 1)) * 512};
}

void Model::add_layer(const CreateOptions& options) {
  data_files_.push_back(nullptr);
  disks_.push_back(make(options, &data_files_.back()));
  raw_data_file_ = options.data_file_raw;
}

std::unique_ptr<Image> Model::open_chain(size_t depth, bool writable) {
  OpenOptions options;
  options.writable = writable;
  options.cache_bytes = chance(30) ? 4096 : 1 << 20;
  test::SimulatedFile::Options file;
  file.max_yields = yields_;
  file.seed = random_();
  test::SimulatedFile::Options data = file;
  data.writable = writable;
  auto image = open(disks_[depth], std::move(options), std::move(file));
  EXPECT_OK(image);
  if (!image.ok()) return nullptr;
  if (data_files_[depth]) {
    (*image)->set_data_file(
        std::make_unique<test::SimulatedFile>(executor(), data_files_[depth], std::move(data)));
  }
  if (depth > 0) (*image)->set_backing(open_chain(depth - 1, false));
  return std::move(*image);
}

Async<> Model::one_operation(Image& image, ByteRange range, unsigned kind, uint64_t tag) {
  block::ZeroFlags flags;
  switch (kind) {
    case 0: {
      Bytes bytes = pattern(tag, range.length);
      FlatIo io(std::span<const uint8_t>{bytes});
      CO_TRY_VOID(co_await image.write(range.offset, io.slice(), {}));
      break;
    }
    case 1:
      CO_TRY_VOID(co_await image.write_zeroes(range, flags));
      break;
    case 2:
      flags.may_unmap = true;
      CO_TRY_VOID(co_await image.write_zeroes(range, flags));
      break;
    case 3:
      CO_TRY_VOID(co_await image.discard(range));
      break;
    case 4: {
      Bytes bytes(range.length);
      for (size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<uint8_t>(tag >> (i % 64 / 8));
      FlatIo io(std::span<const uint8_t>{bytes});
      CO_TRY_VOID(co_await image.write_compressed(range.offset, io.slice()));
      break;
    }
    case 5: {
      // A reader next to the writers: what it reads is checked when all is quiet.
      Bytes bytes(range.length);
      FlatIo io(std::span<uint8_t>{bytes});
      CO_TRY_VOID(co_await image.read(range.offset, io.slice()));
      break;
    }
    default:
      CO_TRY_VOID(co_await image.flush());
      break;
  }
  co_return Result<void>();
}

// Operations that do not overlap by sector, all at once; they do meet in clusters.
void Model::batch(Image& image) {
  const uint64_t size = image.size();
  const uint64_t cluster = image.limits().cluster_size;
  std::vector<ByteRange> taken;
  std::vector<Async<>> tasks;
  struct Fate {
    ByteRange range;
    unsigned kind;
    uint64_t tag;
  };
  std::vector<Fate> fates;
  for (uint64_t n = 1 + up_to(12); n != 0; --n) {
    unsigned kind = static_cast<unsigned>(up_to(8));
    if (kind > 6 || (kind == 4 && data_files_.back())) kind = 0;
    ByteRange range = random_range(size);
    if (kind == 4) {
      uint64_t first = align_down(range.offset, cluster);
      range = {first, std::min(cluster, size - first)};
    }
    if (kind != 5 && kind != 6) {
      bool clash = false;
      for (ByteRange other : taken)
        clash |= other.overlaps(range);
      if (clash) continue;
      taken.push_back(range);
    }
    uint64_t tag = random_();
    fates.push_back({range, kind, tag});
    tasks.push_back(one_operation(image, range, kind, tag));
  }
  ASSERT_OK(run(all_succeed(executor(), std::move(tasks))));
  for (const Fate& fate : fates) {
    auto at = flat_.begin() + static_cast<ptrdiff_t>(fate.range.offset);
    if (fate.kind < 5) note_write(fate.range);
    if (fate.kind == 0) {
      Bytes bytes = pattern(fate.tag, fate.range.length);
      std::copy(bytes.begin(), bytes.end(), at);
    } else if (fate.kind == 1 || fate.kind == 2) {
      std::fill_n(at, fate.range.length, uint8_t{0});
    } else if (fate.kind == 3) {
      // Either old or zero, by sector: whatever it is now stays.
      Bytes now = *read(image, fate.range.offset, fate.range.length);
      for (size_t i = 0; i < now.size(); i += 512) {
        bool zero = std::all_of(now.begin() + i, now.begin() + i + 512, [](int b) { return !b; });
        EXPECT_TRUE(zero || std::equal(now.begin() + i, now.begin() + i + 512, at + i))
            << "discard uncovered something at " << fate.range.offset + i;
      }
      std::copy(now.begin(), now.end(), at);
    } else if (fate.kind == 4) {
      for (size_t i = 0; i < fate.range.length; ++i)
        at[static_cast<ptrdiff_t>(i)] = static_cast<uint8_t>(fate.tag >> (i % 64 / 8));
    }
  }
}

void Model::expect_equal(Image& image) {
  Result<Bytes> bytes = read(image, 0, image.size());
  ASSERT_OK(bytes);
  if (*bytes == flat_) return;
  for (size_t i = 0; i < flat_.size(); ++i) {
    if ((*bytes)[i] == flat_[i]) continue;
    FAIL() << "differs at " << i << " (cluster " << i / image.limits().cluster_size
           << "), cluster size " << image.limits().cluster_size;
  }
}

void Model::add_bitmap(Image& image) {
  granularity_bits_ = 0;
  if (image.info().version < 3 || !chance(50)) return;
  granularity_bits_ = static_cast<unsigned>(9 + up_to(10));
  ASSERT_OK(image.bitmaps().add("b", granularity_bits_));
  ASSERT_OK(image.bitmaps().add("off", 9));
  ASSERT_OK(run(image.bitmaps().set_recording("off", false)));
  bits_.assign(div_round_up(image.size(), uint64_t{1} << granularity_bits_), false);
}

void Model::note_write(ByteRange range) {
  if (granularity_bits_ == 0) return;
  for (uint64_t at = range.offset >> granularity_bits_;
       at <= (range.end() - 1) >> granularity_bits_; ++at)
    bits_[at] = true;
}

void Model::expect_bits(Image& image) {
  if (granularity_bits_ == 0) return;
  bits_.resize(div_round_up(image.size(), uint64_t{1} << granularity_bits_));
  auto bits = run(image.bitmaps().bits("b"));
  ASSERT_OK(bits);
  for (size_t i = 0; i < bits_.size(); ++i) {
    ASSERT_EQ((*bits)->is_set(uint64_t{i} << granularity_bits_), bits_[i])
        << "bit " << i << " of " << bits_.size() << ", granularity 2^" << granularity_bits_;
  }
  auto off = run(image.bitmaps().bits("off"));
  ASSERT_OK(off);
  EXPECT_TRUE((*off)->empty());
}

void Model::expect_raw_data_file() {
  if (!raw_data_file_) return;
  Bytes bytes(flat_.size());
  data_files_.back()->content.read(0, bytes);
  EXPECT_TRUE(bytes == flat_) << "the data file alone is not the disk";
}

void Model::play() {
  const size_t depth = up_to(3);
  yields_ = static_cast<unsigned>(up_to(3));
  for (size_t layer = 0; layer <= depth; ++layer) {
    CreateOptions options = random_options();
    add_layer(options);
    const uint64_t size = align_up(options.size, 512);
    flat_.resize(size);
    SCOPED_TRACE(fmt::format(
        "layer {} of {}: v{} cluster {} refcount {} size {} lazy {} extended {} data file {} raw "
        "{} "
        "preallocated {} yields {}",
        layer, depth, options.version, options.cluster_size, options.refcount_bits, size,
        options.lazy_refcounts, options.extended_l2, options.data_file.has_value(),
        options.data_file_raw, options.preallocation != block::Preallocation::kOff, yields_));
    const uint64_t opens = 1 + up_to(2);
    for (uint64_t open_number = 0; open_number < opens; ++open_number) {
      std::unique_ptr<Image> image = open_chain(layer, true);
      ASSERT_NE(image, nullptr);
      expect_equal(*image);
      if (open_number == 0) {
        add_bitmap(*image);
      } else {
        expect_bits(*image);
      }
      for (uint64_t n = up_to(12); n != 0; --n) {
        batch(*image);
        if (testing::Test::HasFailure()) break;
        if (chance(30)) expect_equal(*image);
        if (chance(10)) {
          uint64_t more = 512 * up_to(600);
          uint64_t size_now = image->size() + more;
          auto mode = chance(20) ? block::Preallocation::kMetadata : block::Preallocation::kOff;
          ASSERT_OK(run(image->truncate(size_now, mode)));
          flat_.resize(size_now);
          if (granularity_bits_ != 0) {
            bits_.resize(div_round_up(size_now, uint64_t{1} << granularity_bits_));
          }
        } else if (chance(5)) {
          uint64_t size_now = align_up(image->size() / 2 + 512, 512);
          ASSERT_OK(run(image->truncate(size_now, block::Preallocation::kOff)));
          flat_.resize(size_now);
          if (granularity_bits_ != 0) {
            bits_.resize(div_round_up(size_now, uint64_t{1} << granularity_bits_));
          }
        }
      }
      expect_equal(*image);
      expect_bits(*image);
      expect_raw_data_file();
      EXPECT_OK(close(*image));
      image.reset();
      expect_clean(disks_[layer]);
      if (testing::Test::HasFailure()) {
        for (size_t i = 0; i < messages.size() && i < 10; ++i)
          ADD_FAILURE() << messages[i];
        return;
      }
    }
  }
}

TEST(QcowModel, RandomOperationsMatchAFlatArray) {
  const char* one = std::getenv("QCOW2_MODEL_SEED");
  const char* runs = std::getenv("QCOW2_MODEL_RUNS");
  uint64_t count = runs != nullptr ? std::strtoull(runs, nullptr, 0) : 60;
  uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 0) : 1;
  if (one != nullptr) count = 1;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(fmt::format("QCOW2_MODEL_SEED={}", seed));
    Model model(seed);
    model.play();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace calf::qcow2
