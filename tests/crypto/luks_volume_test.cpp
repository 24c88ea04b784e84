// LUKS volumes on a simulated file: made, opened, written, given keys, cut short.
#include <gtest/gtest.h>

#include "block/luks/create.h"
#include "block/luks/luks_node.h"
#include "tests/support/crash_proof.h"

namespace calf::luks {
namespace {

using crypto::LuksKeyChange;
using crypto::SecretBytes;
using test::Bytes;
using test::CrashProof;
using test::pattern;

crypto::PassphraseSource passphrase(std::string text) {
  return [text = std::move(text)]() -> Result<SecretBytes> { return SecretBytes::copy_of(text); };
}

class LuksVolumeTest : public test::ImageTest {
 protected:
  CrashProof::Disk make_volume(CreateOptions options) {
    auto disk = std::make_shared<test::SimulatedDisk>();
    test::SimulatedFile file(executor(), disk, {});
    options.passphrase = passphrase("old");
    options.format.iter_time = 1;
    EXPECT_OK(run(create(executor(), file, options)));
    return disk;
  }
  CrashProof::Disk make_volume() {
    CreateOptions options;
    options.size = 64 << 10;
    // A short key keeps the key material, which power cuts go through sector by sector, small.
    options.format.cipher.algorithm = crypto::Algorithm::kAes128;
    options.format.cipher.mode = crypto::Mode::kCbc;
    return make_volume(std::move(options));
  }
  Result<std::unique_ptr<LuksNode>> open_volume(const CrashProof::Disk& disk, const char* secret,
                                                test::SimulatedFile::Options file = {}) {
    std::unique_ptr<block::Node> node =
        std::make_unique<test::SimulatedFile>(executor(), disk, std::move(file));
    OpenOptions options;
    options.writable = true;
    options.passphrase = passphrase(secret);
    return run(LuksNode::open(executor(), std::move(node), std::move(options)));
  }
  LuksKeyChange add(const char* secret) {
    LuksKeyChange change;
    change.new_passphrase = SecretBytes::copy_of(std::string_view(secret));
    change.iter_time = 1;
    return change;
  }
  void prove(const std::function<LuksKeyChange()>& make_change, bool old_stays);
};

TEST_F(LuksVolumeTest, ReadsWhatItWroteInAnyRange) {
  for (auto algorithm :
       {crypto::Algorithm::kAes128, crypto::Algorithm::kAes192, crypto::Algorithm::kAes256}) {
    CreateOptions options;
    options.size = 256 << 10;
    options.format.cipher.algorithm = algorithm;
    auto disk = make_volume(options);
    auto volume = open_volume(disk, "old");
    ASSERT_OK(volume);
    EXPECT_EQ((*volume)->size(), 256u << 10);
    Bytes flat(256 << 10, 0);
    ASSERT_OK(write(**volume, 0, flat));
    for (auto [offset, size] :
         {std::pair<uint64_t, size_t>{1000, 100}, {511, 2}, {70000, 100001}}) {
      Bytes bytes = pattern(offset, size);
      ASSERT_OK(write(**volume, offset, bytes));
      std::copy(bytes.begin(), bytes.end(), flat.begin() + static_cast<ptrdiff_t>(offset));
    }
    ASSERT_OK(zero(**volume, {600, 3000}, false));
    std::fill_n(flat.begin() + 600, 3000, uint8_t{0});
    EXPECT_EQ(*read(**volume, 0, flat.size()), flat);
    EXPECT_EQ(*read(**volume, 70001, 777), Bytes(flat.begin() + 70001, flat.begin() + 70001 + 777));
    ASSERT_OK(close(**volume));
    // Nothing of it is in the file as it was written.
    const Bytes needle = pattern(70000, 64);
    Bytes file(disk->content.size());
    disk->content.read(0, file);
    EXPECT_EQ(std::search(file.begin(), file.end(), needle.begin(), needle.end()), file.end());
    volume = open_volume(disk, "old");
    ASSERT_OK(volume);
    EXPECT_EQ(*read(**volume, 0, flat.size()), flat);
  }
}

TEST_F(LuksVolumeTest, OnlyItsPassphrasesOpenIt) {
  auto disk = make_volume();
  auto volume = open_volume(disk, "wrong");
  ASSERT_FALSE(volume.ok());
  EXPECT_EQ(volume.error().message(), "Invalid password, cannot unlock any keyslot");
  volume = open_volume(disk, "old");
  ASSERT_OK(volume);
  LuksKeyChange change = add("new");
  ASSERT_OK(run((*volume)->change_keys(change)));
  EXPECT_EQ((*volume)->header().active_slots(), 2u);
  LuksKeyChange erase;
  erase.activate = false;
  erase.old_passphrase = SecretBytes::copy_of(std::string_view("old"));
  ASSERT_OK(run((*volume)->change_keys(erase)));
  Result<void> last = run((*volume)->change_keys(erase));
  ASSERT_FALSE(last.ok());
  EXPECT_EQ(last.error().message(), "No keyslots match given (old) password for erase operation");
  erase.old_passphrase = SecretBytes::copy_of(std::string_view("new"));
  last = run((*volume)->change_keys(erase));
  ASSERT_FALSE(last.ok());
  EXPECT_NE(last.error().message().find("refusing operation"), std::string::npos);
  EXPECT_FALSE(open_volume(disk, "old").ok());
  EXPECT_OK(open_volume(disk, "new"));
}

TEST_F(LuksVolumeTest, TakesEightKeysAndNoMore) {
  auto disk = make_volume();
  auto volume = open_volume(disk, "old");
  ASSERT_OK(volume);
  for (int i = 1; i < 8; ++i) {
    LuksKeyChange change = add("another");
    ASSERT_OK(run((*volume)->change_keys(change)));
  }
  LuksKeyChange change = add("one too many");
  Result<void> full = run((*volume)->change_keys(change));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().message(), "Can't add a keyslot - all keyslots are in use");
  change.slot = 8;
  full = run((*volume)->change_keys(change));
  ASSERT_FALSE(full.ok());
  EXPECT_NE(full.error().message().find("Invalid keyslot 8"), std::string::npos);
}

// After every cut and every error one of the two passphrases opens the volume, and the disk is what
// it was.
void LuksVolumeTest::prove(const std::function<LuksKeyChange()>& make_change, bool old_stays) {
  auto disk = make_volume();
  const Bytes data = pattern(3, 8192);
  {
    auto volume = open_volume(disk, "old");
    ASSERT_OK(volume);
    ASSERT_OK(write(**volume, 0, data));
    ASSERT_OK(close(**volume));
  }
  CrashProof proof(*this, disk);
  proof.operation = [&](const CrashProof::Disk& changed,
                        const test::SimulatedFile::Options& file) -> Result<void> {
    TRY(auto volume, open_volume(changed, "old", file));
    LuksKeyChange change = make_change();
    Result<void> done = run(volume->change_keys(change));
    Result<void> closed = close(*volume);
    return done.ok() ? closed : done;
  };
  proof.look = [&](const CrashProof::Disk& after, bool finished) {
    auto with_new = open_volume(after, "new");
    auto with_old = open_volume(after, "old");
    EXPECT_TRUE(with_new.ok() || (!finished && with_old.ok()));
    if (old_stays) {
      EXPECT_OK(with_old);
    } else if (finished) {
      EXPECT_FALSE(with_old.ok());
    }
    auto& volume = with_new.ok() ? with_new : with_old;
    if (!volume.ok()) return;
    EXPECT_EQ(*read(**volume, 0, data.size()) == data, true);
  };
  proof.random_cuts = 2;
  proof.power_cuts();
  if (!HasFailure()) proof.host_errors();
}

TEST_F(LuksVolumeTest, AddingAKeyIsSafeAtEveryPoint) {
  prove([&] { return add("new"); }, true);
}

// Slot 6 lies across two sectors of the header.
TEST_F(LuksVolumeTest, AddingAKeyToASlotAcrossSectorsIsSafe) {
  prove(
      [&] {
        LuksKeyChange change = add("new");
        change.slot = 6;
        return change;
      },
      true);
}

TEST_F(LuksVolumeTest, OverwritingTheOnlyKeyIsSafeAtEveryPoint) {
  prove(
      [&] {
        LuksKeyChange change = add("new");
        change.slot = 0;
        change.force = true;
        return change;
      },
      false);
}

}  // namespace
}  // namespace calf::luks
