// Encrypted qcow2 images, and the steps of amend on a simulated file: each is cut short at every
// point, and the image is what it was or what it should be.
#include "block/ops/amend.h"

#include <gtest/gtest.h>

#include "tests/support/crash_proof.h"

namespace calf::qcow2 {
namespace {

using crypto::SecretBytes;
using test::Bytes;
using test::CrashProof;
using test::pattern;

crypto::PassphraseSource passphrase(std::string text) {
  return [text = std::move(text)]() -> Result<SecretBytes> { return SecretBytes::copy_of(text); };
}

class Amend : public test::ImageTest {
 protected:
  Result<std::unique_ptr<Image>> open_image(const CrashProof::Disk& disk,
                                            test::SimulatedFile::Options file = {},
                                            const char* secret = "old") {
    OpenOptions options;
    options.writable = true;
    options.passphrase = passphrase(secret);
    return open(disk, std::move(options), std::move(file));
  }
  static Async<std::unique_ptr<block::Node>> as_node(Amend* self, CrashProof::Disk disk,
                                                     test::SimulatedFile::Options file) {
    std::unique_ptr<block::Node> node =
        std::make_unique<test::SimulatedFile>(self->executor(), disk, file);
    OpenOptions options;
    options.writable = true;
    options.passphrase = passphrase("old");
    CO_TRY(std::unique_ptr<Image> image,
           co_await Image::open(self->executor(), std::move(node), std::move(options)));
    if (self->base_) {
      auto file_below =
          std::make_unique<test::SimulatedFile>(self->executor(), self->base_, kPlain);
      OpenOptions reader;
      CO_TRY(std::unique_ptr<Image> below,
             co_await Image::open(self->executor(), std::move(file_below), std::move(reader)));
      image->set_backing(std::move(below));
    }
    std::unique_ptr<block::Node> out = std::move(image);
    co_return out;
  }
  Result<std::unique_ptr<Image>> open_over(const CrashProof::Disk& disk,
                                           test::SimulatedFile::Options file) {
    TRY(auto image, open_image(disk, std::move(file)));
    TRY(auto below, open(base_, OpenOptions{}));
    image->set_backing(std::move(below));
    return image;
  }
  CrashProof::Disk make_filled(const CreateOptions& options) {
    auto disk = make(options);
    auto image = open_image(disk);
    EXPECT_OK(image);
    EXPECT_OK(write(**image, 0, data_));
    EXPECT_OK(zero(**image, {64 << 10, 16 << 10}, false));
    EXPECT_OK(close(**image));
    return disk;
  }
  void prove(const CreateOptions& options, const AmendOptions& wanted,
             const std::function<void(const ImageInfo&)>& finished_look);

  // Below the image, if there is one.
  CrashProof::Disk base_;
  inline static const test::SimulatedFile::Options kPlain{};
  const Bytes data_ = pattern(5, 40 << 10);
};

void Amend::prove(const CreateOptions& options, const AmendOptions& wanted,
                  const std::function<void(const ImageInfo&)>& finished_look) {
  auto disk = make_filled(options);
  CrashProof proof(*this, disk);
  proof.operation = [&](const CrashProof::Disk& changed,
                        const test::SimulatedFile::Options& file) -> Result<void> {
    ops::OpenImage opener = [&] { return as_node(this, changed, file); };
    return run(ops::amend(opener, wanted));
  };
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    expect_clean(after, true);
    auto image = open_image(after);
    ASSERT_OK(image);
    EXPECT_EQ(*read(**image, 0, data_.size()) == data_, true);
    EXPECT_EQ(*read(**image, 64 << 10, 16 << 10), Bytes(16 << 10, 0));
    if (finished) finished_look((*image)->info());
    ASSERT_OK(close(**image));
  };
  proof.random_cuts = 2;
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

CreateOptions small() {
  CreateOptions options;
  options.cluster_size = 1024;
  options.size = 128 << 10;
  return options;
}

TEST_F(Amend, UpgradeIsSafeAtEveryPoint) {
  CreateOptions options = small();
  options.version = 2;
  AmendOptions wanted;
  wanted.version = 3;
  prove(options, wanted, [](const ImageInfo& info) { EXPECT_EQ(info.version, 3u); });
}

// Entries of old programs lack the extra data that version 3 wants.
TEST_F(Amend, UpgradeCompletesTheSnapshotTableAtEveryPoint) {
  CreateOptions options = small();
  options.version = 2;
  auto disk = make_filled(options);
  auto image = open_image(disk);
  ASSERT_OK(image);
  ASSERT_OK(run((*image)->create_snapshot({"kept"})));
  ASSERT_OK(write(**image, 0, pattern(6, 40 << 10)));
  ASSERT_OK(close(**image));
  be64 table = 0;
  disk->content.read(64, std::span(reinterpret_cast<uint8_t*>(&table), sizeof table));
  constexpr uint64_t kFixed = 40;
  constexpr uint64_t kExtra = 24;
  Bytes names(5);  // "1kept"
  disk->content.read(table + kFixed + kExtra, names);
  ASSERT_EQ(std::string(names.begin(), names.end()), "1kept");
  disk->content.write(table + kFixed, names);
  disk->content.write(table + kFixed - 4, Bytes(4));  // no extra data

  CrashProof proof(*this, disk);
  proof.operation = [&](const CrashProof::Disk& changed,
                        const test::SimulatedFile::Options& file) -> Result<void> {
    AmendOptions wanted;
    wanted.version = 3;
    ops::OpenImage opener = [&] { return as_node(this, changed, file); };
    return run(ops::amend(opener, wanted));
  };
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    expect_clean(after, true);
    auto now = open(after, OpenOptions{});
    ASSERT_OK(now);
    EXPECT_TRUE(!finished || (*now)->info().version == 3);
    EXPECT_TRUE(*read(**now, 0, 40 << 10) == pattern(6, 40 << 10));
    ASSERT_OK(run((*now)->show_snapshot(0)));
    EXPECT_TRUE(*read(**now, 0, data_.size()) == data_);
    ASSERT_OK(close(**now));
  };
  proof.random_cuts = 2;
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

TEST_F(Amend, DowngradeIsSafeAtEveryPoint) {
  AmendOptions wanted;
  wanted.version = 2;
  prove(small(), wanted, [](const ImageInfo& info) { EXPECT_EQ(info.version, 2u); });
}

// Zero clusters in tables of the disk alone, of snapshots alone, and of both, above a base.
TEST_F(Amend, DowngradeWithSnapshotsIsSafeAtEveryPoint) {
  CreateOptions options = small();
  options.backing_name = "base";
  options.backing_format = "qcow2";
  auto disk = make(options);
  base_ = make(small());
  auto below = open(base_);
  ASSERT_OK(below);
  ASSERT_OK(write(**below, 0, pattern(9, options.size)));
  ASSERT_OK(close(**below));

  std::vector<Bytes> flat;
  auto image = open_over(disk, {});
  ASSERT_OK(image);
  auto note = [&] { flat.push_back(*read(**image, 0, options.size)); };
  ASSERT_OK(zero(**image, {4 << 10, 3 << 10}, true));
  ASSERT_OK(write(**image, 16 << 10, pattern(1, 4 << 10)));
  ASSERT_OK(zero(**image, {17 << 10, 1 << 10}, false));
  ASSERT_OK(run((*image)->create_snapshot({"first"})));
  note();
  ASSERT_OK(run((*image)->create_snapshot({"same"})));
  note();
  ASSERT_OK(write(**image, 5 << 10, pattern(2, 1 << 10)));
  ASSERT_OK(zero(**image, {18 << 10, 2 << 10}, false));
  note();
  ASSERT_OK(close(**image));
  expect_clean(disk);

  CrashProof proof(*this, disk);
  proof.operation = [&](const CrashProof::Disk& changed,
                        const test::SimulatedFile::Options& file) -> Result<void> {
    AmendOptions wanted;
    wanted.version = 2;
    ops::OpenImage opener = [&] { return as_node(this, changed, file); };
    return run(ops::amend(opener, wanted));
  };
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    expect_clean(after, true);
    for (size_t i = 0; i < flat.size(); ++i) {
      auto now = open(after, OpenOptions{});
      ASSERT_OK(now);
      auto base = open(base_, OpenOptions{});
      ASSERT_OK(base);
      (*now)->set_backing(std::move(*base));
      EXPECT_TRUE(!finished || (*now)->info().version == 2);
      const bool is_snapshot = i < 2;
      if (is_snapshot) {
        ASSERT_OK(run((*now)->show_snapshot(i)));
      }
      EXPECT_TRUE(*read(**now, 0, flat[i].size()) == flat[i]) << i;
      ASSERT_OK(close(**now));
    }
    // The flags fit the counts: what is written to the disk changes no snapshot.
    auto now = open_over(after, {});
    ASSERT_OK(now);
    ASSERT_OK(write(**now, 0, Bytes(32 << 10, 3)));
    ASSERT_OK(run((*now)->apply_snapshot(0)));
    EXPECT_TRUE(*read(**now, 0, flat[0].size()) == flat[0]);
    ASSERT_OK(close(**now));
    expect_clean(after, true);
  };
  proof.random_cuts = 2;
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

TEST_F(Amend, SnapshotsOfAnotherSizeKeepTheVersion) {
  auto disk = make_filled(small());
  auto image = open_image(disk);
  ASSERT_OK(image);
  ASSERT_OK(run((*image)->create_snapshot({"small"})));
  ASSERT_OK(run((*image)->truncate(256 << 10, block::Preallocation::kOff)));
  ASSERT_OK(close(**image));
  AmendOptions wanted;
  wanted.version = 2;
  ops::OpenImage opener = [&] { return as_node(this, disk, {}); };
  Result<void> done = run(ops::amend(opener, wanted));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().message(), "Internal snapshots prevent downgrade of image");
  wanted.size = 128 << 10;
  EXPECT_OK(run(ops::amend(opener, wanted)));
  expect_clean(disk);
}

TEST_F(Amend, NewRefcountWidthsAreSafeAtEveryPoint) {
  for (uint64_t bits : {1, 2, 8, 64}) {
    AmendOptions wanted;
    wanted.refcount_bits = bits;
    prove(small(), wanted, [bits](const ImageInfo& info) { EXPECT_EQ(info.refcount_bits, bits); });
    if (HasFailure()) return;
  }
}

TEST_F(Amend, TheWidthMayNotBeTooSmallForTheCounts) {
  auto disk = make_filled(small());
  auto image = open_image(disk);
  ASSERT_OK(image);
  // Compressed clusters share a host cluster.
  for (uint64_t at = 100; at < 104; ++at)
    ASSERT_OK(write_compressed(**image, at << 10, Bytes(1024, 7)));
  ASSERT_OK(close(**image));
  AmendOptions wanted;
  wanted.refcount_bits = 1;
  ops::OpenImage opener = [&] { return as_node(this, disk, {}); };
  Result<void> done = run(ops::amend(opener, wanted));
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message().find("Cannot decrease refcount entry width to 1 bits"),
            std::string::npos)
      << done.error().message();
  expect_clean(disk);
}

TEST_F(Amend, LazyRefcountsGoOn) {
  AmendOptions on;
  on.lazy_refcounts = true;
  prove(small(), on, [](const ImageInfo& info) { EXPECT_TRUE(info.lazy_refcounts); });
}

TEST_F(Amend, WhatCannotBeIsRefusedBeforeAnythingChanges) {
  auto disk = make_filled(small());
  auto refused = [&](const AmendOptions& wanted, const char* text) {
    ops::OpenImage opener = [&] { return as_node(this, disk, {}); };
    Result<void> done = run(ops::amend(opener, wanted));
    ASSERT_FALSE(done.ok());
    EXPECT_NE(done.error().message().find(text), std::string::npos) << done.error().message();
  };
  AmendOptions wanted;
  wanted.version = 2;
  wanted.refcount_bits = 8;
  refused(wanted, "compat=0.10 requires refcount_bits=16");
  wanted = {};
  wanted.keys.emplace();
  refused(wanted, "encryption not present");
}

TEST_F(Amend, EncryptedImagesHoldNoPlainText) {
  for (Encryption method : {Encryption::kAes, Encryption::kLuks}) {
    for (unsigned version : {2u, 3u}) {
      CreateOptions options;
      options.cluster_size = 4096;
      options.size = 512 << 10;
      options.version = version;
      options.encrypt.emplace();
      options.encrypt->method = method;
      options.encrypt->luks.iter_time = 1;
      options.encrypt->passphrase = passphrase("old");
      auto disk = make(options);
      auto image = open_image(disk);
      ASSERT_OK(image);
      Bytes flat(options.size, 0);
      for (auto [offset, size] :
           {std::pair<uint64_t, size_t>{0, 5000}, {100, 3}, {70001, 9999}, {70400, 512}}) {
        Bytes bytes = pattern(offset + 9, size);
        ASSERT_OK(write(**image, offset, bytes));
        std::copy(bytes.begin(), bytes.end(), flat.begin() + static_cast<ptrdiff_t>(offset));
      }
      ASSERT_OK(zero(**image, {4500, 10000}, true));
      std::fill_n(flat.begin() + 4500, 10000, uint8_t{0});
      EXPECT_FALSE(write_compressed(**image, 200704, Bytes(4096, 1)).ok());
      EXPECT_EQ(*read(**image, 0, flat.size()) == flat, true);
      ASSERT_OK(close(**image));
      image = open_image(disk);
      ASSERT_OK(image);
      EXPECT_EQ(*read(**image, 0, flat.size()) == flat, true);
      ASSERT_OK(close(**image));
      Bytes file(disk->content.size());
      disk->content.read(0, file);
      const Bytes needle(flat.begin() + 72000, flat.begin() + 72064);
      EXPECT_EQ(std::search(file.begin(), file.end(), needle.begin(), needle.end()), file.end());
    }
  }
}

}  // namespace
}  // namespace calf::qcow2
