// Random values into every configuration register and BAR. Whatever happens, what is decoded stays
// inside the windows, no two BARs overlap, and doorbells stand where their BARs do.
#include <random>

#include "tests/devices/pci/pci_fixture.h"
#include "tests/support/hostile_access.h"
#include "tests/support/seed.h"

namespace calf::pci {
namespace {

class PciHostileTest : public PciTest {};

TEST_F(PciHostileTest, RandomConfiguration) {
  uint32_t seed = test_seed();
  std::mt19937 random(seed);

  std::vector<std::unique_ptr<TestFunction>> functions;
  TagDevice tag(1);
  for (uint8_t i = 0; i < 6; ++i) {
    functions.push_back(std::make_unique<TestFunction>(i));
    TestFunction& f = *functions.back();
    f.add_bar(make_bar(0, i % 2 ? BarKind::kMemory32 : BarKind::kMemory64,
                       uint64_t{0x1000} << (2 * i), tag, {{0x10, 0, 10 + i}}));
    f.add_msix(std::move(*Msix::create(msi, 4, log)), 0, 0, 0x800);
    f.use_intx();
    ASSERT_TRUE(bridge->add(f).ok());
  }
  ASSERT_TRUE(bridge->assign_resources(kWindow32, kWindow64).ok());

  auto ring = [&] {
    for (auto& f : functions)
      f->attach_doorbells();
  };
  ring();
  auto check = [&] {
    std::vector<ByteRange> decoded;
    size_t bells = 0;
    for (auto& f : functions) {
      for (auto& bar : f->bars()) {
        if (!bar->decoded_at) continue;
        ByteRange range{*bar->decoded_at, bar->size};
        EXPECT_TRUE(kWindow32.contains(range) || kWindow64.contains(range));
        for (ByteRange other : decoded)
          EXPECT_FALSE(other.overlaps(range));
        decoded.push_back(range);
        ++bells;
        EXPECT_EQ(doorbells.attached().count({range.offset + 0x10, 0, bar->doorbells[0].event_fd}),
                  1u);
      }
    }
    EXPECT_EQ(doorbells.attached().size(), bells);
  };

  for (int i = 0; i < 30000 && !HasFailure(); ++i) {
    uint8_t device = static_cast<uint8_t>(random() % 8);
    // Half of the accesses go where it matters: command and BARs, with likely addresses.
    unsigned offset = random() % 2 ? random() % 0x1c : random() % 260;
    uint32_t value = random();
    if (random() % 2) value = 0xc0000000 + (value & 0x000ff000);
    if (random() % 4 == 0) value |= kCommandMemory;
    unsigned size = 1u << random() % 3;
    if (random() % 2) {
      ecam_write(device, offset, size, value);
    } else {
      cf8_write(device, offset, size, value);
    }
    cf8_read(device, random() % 256, size);
    if (i % 16 == 0) check();
  }
  check();
  ASSERT_TRUE(bridge->reset().ok());
  EXPECT_EQ(doorbells.attached().size(), 0u);
  ring();
  check();
  EXPECT_EQ(doorbells.attached().size(), 6u);
  hostile_accesses(bridge->ecam(), kEcamSize, 20000, seed, [](uint32_t) {});
  hostile_accesses(bridge->config_ports(), kConfigPortCount, 20000, seed, [](uint32_t) {});
}

}  // namespace
}  // namespace calf::pci
