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
    std::unique_ptr<block::Node> out = std::move(image);
    co_return out;
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

TEST_F(Amend, DowngradeIsSafeAtEveryPoint) {
  AmendOptions wanted;
  wanted.version = 2;
  prove(small(), wanted, [](const ImageInfo& info) { EXPECT_EQ(info.version, 2u); });
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
