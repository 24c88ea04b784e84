// INT 11h, 12h, 14h, 15h, 16h, 17h, 1Ah, and what install() leaves.
#include "firmware/bios/key_decoder.h"

#include <cstring>

#include "firmware/bios/stubs.h"
#include "tests/firmware/bios/bios_fixture.h"

namespace calf::firmware {
namespace {

using devices::Gpa;
using namespace std::chrono_literals;

class ServicesTest : public BiosFixture {
 protected:
  void SetUp() override { start(); }
  void service(uint8_t vector, uint16_t ax) {
    regs.ax.set_word(ax);
    call(vector);
  }
};

TEST_F(ServicesTest, EveryVectorLeadsToCode) {
  for (unsigned n = 0; n < 256; ++n) {
    uint16_t offset = memory.word(Gpa{n * 4});
    uint16_t segment = memory.word(Gpa{n * 4 + 2});
    bool unused = n >= 0x60 && n < 0x68;
    bool table = n == 0x1D || n == 0x1E || n == 0x1F || n == 0x41 || n == 0x43 || n == 0x46;
    if (unused) {
      EXPECT_EQ(offset | segment, 0) << n;
      continue;
    }
    EXPECT_EQ(segment, 0xF000) << n;
    if (table) continue;
    EXPECT_EQ(offset, vector_offset(static_cast<uint8_t>(n))) << n;
    EXPECT_NE(memory.byte(linear(segment, offset)), 0) << n;
  }
}

TEST_F(ServicesTest, RomConstants) {
  EXPECT_EQ(memory.byte(linear(0xF000, 0xFFF0)), 0xEA);
  EXPECT_EQ(memory.byte(linear(0xF000, 0xFFFE)), 0xFC);
  EXPECT_EQ(memory.byte(linear(0xF000, 0xFFF7)), '/');
  EXPECT_EQ(memory.word(Gpa{0x40E}), 0x9FC0);
  EXPECT_EQ(memory.byte(Gpa{0x9FC00}), 1);
}

TEST_F(ServicesTest, TrapsAreFoundBeforeAndBehindTheOut) {
  for (uint16_t offset : {uint16_t{0}, uint16_t{2}}) {
    auto trap = find_trap(0xF000, static_cast<uint16_t>(vector_offset(0x13) + offset));
    ASSERT_TRUE(trap);
    EXPECT_EQ(trap->vector, 0x13);
    EXPECT_FALSE(trap->repeated);
  }
  for (uint16_t offset : {uint16_t{5}, uint16_t{7}}) {
    auto trap = find_trap(0xF000, static_cast<uint16_t>(vector_offset(0x16) + offset));
    ASSERT_TRUE(trap);
    EXPECT_EQ(trap->vector, 0x16);
    EXPECT_TRUE(trap->repeated);
  }
  EXPECT_FALSE(find_trap(0xF000, static_cast<uint16_t>(vector_offset(0x13) + 3)));
  EXPECT_FALSE(find_trap(0x0000, 0x7C00));
  EXPECT_FALSE(find_trap(0xF000, 0x0000));
  // Through an alias of the segment.
  auto alias = find_trap(0xFF00, static_cast<uint16_t>(vector_offset(0x13) - 0xF000));
  ASSERT_TRUE(alias);
  EXPECT_EQ(alias->vector, 0x13);
  RealModeRegs r;
  r.cs = 0xFF00;
  leave_trap(*alias, Flow::kReturn, r);
  EXPECT_EQ(memory.byte(linear(r.cs, r.ip)), 0xCF);
}

TEST_F(ServicesTest, EveryOutOfTheCodeIsATrap) {
  unsigned found = 0;
  for (unsigned offset = kIrqCodeOffset; offset + 1 < 0x10000; ++offset) {
    auto at = static_cast<uint16_t>(offset);
    bool out = memory.byte(linear(0xF000, at)) == 0xE6 &&
               memory.byte(linear(0xF000, static_cast<uint16_t>(at + 1))) == kTrapPort;
    if (!out) continue;
    ++found;
    auto trap = find_trap(0xF000, at);
    ASSERT_TRUE(trap) << offset;
    EXPECT_EQ(trap->out_offset, at);
  }
  EXPECT_EQ(found, 256 * 2 + 6 + 1u);
}

TEST_F(ServicesTest, ForeignOutsAreIgnored) {
  regs.cs = 0x1000;
  regs.ip = 0x10;
  auto before = regs;
  EXPECT_EQ(bios_->handle(regs), Outcome::kIgnored);
  EXPECT_EQ(regs, before);
}

TEST_F(ServicesTest, ResetVectorResets) {
  regs.cs = 0xF000;
  regs.ip = kPostOffset;
  EXPECT_EQ(bios_->handle(regs), Outcome::kReset);
}

TEST_F(ServicesTest, EquipmentAndMemory) {
  service(0x11, 0);
  EXPECT_EQ(regs.ax.word() & 0x30, 0x20);
  service(0x12, 0);
  EXPECT_EQ(regs.ax.word(), 639);
  // A program that takes memory says so in the data area.
  memory.set_word(Gpa{0x413}, 600);
  service(0x12, 0);
  EXPECT_EQ(regs.ax.word(), 600);
}

TEST_F(ServicesTest, E820GivesTheMap) {
  std::vector<E820Entry> got;
  uint32_t index = 0;
  do {
    regs.ax.set_all(0xE820);
    regs.bx.set_all(index);
    regs.cx.set_all(20);
    regs.dx.set_all(0x534D4150);
    regs.es = 0x2000;
    regs.di.set_word(0x10);
    memory.set_dword(linear(0x2000, 0x24), 0xAAAAAAAA);
    call(0x15);
    ASSERT_FALSE(carry());
    EXPECT_EQ(regs.ax.all(), 0x534D4150u);
    EXPECT_EQ(regs.cx.all(), 20u);
    E820Entry entry;
    ASSERT_TRUE(memory.read_object(linear(0x2000, 0x10), entry));
    got.push_back(entry);
    EXPECT_EQ(memory.dword(linear(0x2000, 0x24)), 0xAAAAAAAAu);
    index = regs.bx.all();
  } while (index != 0);
  ASSERT_EQ(got.size(), config_.e820.size());
  EXPECT_EQ(std::memcmp(got.data(), config_.e820.data(), got.size() * sizeof(E820Entry)), 0);
}

TEST_F(ServicesTest, E820WithAttributes) {
  regs.ax.set_all(0xE820);
  regs.bx.set_all(0);
  regs.cx.set_all(24);
  regs.dx.set_all(0x534D4150);
  regs.es = 0x2000;
  regs.di.set_word(0);
  call(0x15);
  EXPECT_EQ(regs.cx.all(), 24u);
  EXPECT_EQ(memory.dword(linear(0x2000, 20)), 1u);
}

TEST_F(ServicesTest, E820RefusesNonsense) {
  for (int kind = 0; kind < 3; ++kind) {
    regs.ax.set_all(0xE820);
    regs.bx.set_all(kind == 0 ? 1000 : 0);
    regs.cx.set_all(kind == 1 ? 19 : 20);
    regs.dx.set_all(kind == 2 ? 0 : 0x534D4150);
    call(0x15);
    EXPECT_TRUE(carry());
    EXPECT_EQ(regs.ax.high(), 0x86);
  }
}

TEST_F(ServicesTest, OlderMemorySizes) {
  service(0x15, 0x8800);
  EXPECT_EQ(regs.ax.word(), 3 * 1024);
  service(0x15, 0xE801);
  EXPECT_EQ(regs.ax.word(), 3 * 1024);
  EXPECT_EQ(regs.cx.word(), 3 * 1024);
  EXPECT_EQ(regs.bx.word(), 0);
  EXPECT_FALSE(carry());
}

TEST_F(ServicesTest, BlockMoveReachesHighMemory) {
  memory.set_dword(Gpa{0x8000}, 0x12345678);
  const uint8_t table[48] = {
      0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0, 0,
      0,    0,    0,    0,    0xFF, 0xFF, 0x00, 0x80, 0x00, 0x93, 0, 0,  // from 8000h
      0xFF, 0xFF, 0x00, 0x00, 0x20, 0x93, 0,    0,                       // to 200000h
      0};
  ASSERT_TRUE(memory.write(linear(0x3000, 0), table));
  regs.es = 0x3000;
  regs.si.set_word(0);
  regs.cx.set_word(2);
  service(0x15, 0x8700);
  EXPECT_FALSE(carry());
  EXPECT_EQ(memory.dword(Gpa{0x200000}), 0x12345678u);
  regs.cx.set_word(0x8001);
  service(0x15, 0x8700);
  EXPECT_TRUE(carry());
  memory.set_byte(linear(0x3000, 0x1F), 0x80);  // to 80200000h, where nothing is
  regs.cx.set_word(2);
  service(0x15, 0x8700);
  EXPECT_TRUE(carry());
}

TEST_F(ServicesTest, ConfigurationTable) {
  service(0x15, 0xC000);
  EXPECT_FALSE(carry());
  EXPECT_EQ(memory.word(linear(regs.es, regs.bx.word())), 8);
  service(0x15, 0xC100);
  EXPECT_EQ(regs.es, 0x9FC0);
  service(0x15, 0x5300);  // APM
  EXPECT_TRUE(carry());
  EXPECT_EQ(regs.ax.high(), 0x86);
}

TEST_F(ServicesTest, UnknownCallsAreNotedOnce) {
  service(0x15, 0x5300);
  service(0x15, 0x5301);
  service(0x2F, 0x1600);
  size_t lines = static_cast<size_t>(std::count(logged_.begin(), logged_.end(), '\n'));
  EXPECT_EQ(lines, 2u) << logged_;
}

TEST_F(ServicesTest, WaitTakesItsTime) {
  regs.cx.set_word(0);
  regs.dx.set_word(50000);
  service(0x15, 0x8600);
  EXPECT_TRUE(waits());
  clock_.advance(49ms);
  EXPECT_EQ(wake(), Outcome::kResume);
  EXPECT_TRUE(waits());
  EXPECT_TRUE(regs.flags & kFlagInterrupts);
  clock_.advance(2ms);
  wake();
  EXPECT_TRUE(returned());
  EXPECT_FALSE(carry());
}

TEST_F(ServicesTest, LongWaitsHalt) {
  regs.cx.set_word(0x20);
  service(0x15, 0x8600);
  EXPECT_EQ(memory.byte(here()), 0xFB);
  clock_.advance(3s);
  wake();
  EXPECT_TRUE(returned());
}

TEST_F(ServicesTest, EventWaitMarksAByte) {
  memory.set_byte(Gpa{0x5000}, 0);
  regs.es = 0;
  regs.bx.set_word(0x5000);
  regs.cx.set_word(1);
  regs.dx.set_word(0);
  service(0x15, 0x8300);
  EXPECT_FALSE(carry());
  EXPECT_EQ(memory.byte(Gpa{0x4A0}), 1);
  service(0x15, 0x8300);
  EXPECT_TRUE(carry());
  auto tick = [&] {
    // The `out` of the timer interrupt.
    for (uint16_t at = kTimerCodeOffset;; ++at) {
      if (memory.byte(linear(0xF000, at)) != 0xE6) continue;
      regs.cs = 0xF000;
      regs.ip = at;
      return bios_->handle(regs);
    }
  };
  EXPECT_EQ(tick(), Outcome::kResume);
  EXPECT_EQ(memory.byte(Gpa{0x5000}), 0);
  clock_.advance(66ms);
  tick();
  EXPECT_EQ(memory.byte(Gpa{0x5000}), 0x80);
  EXPECT_EQ(memory.byte(Gpa{0x4A0}), 0);
}

TEST_F(ServicesTest, ReadsAKey) {
  service(0x16, 0x0100);
  EXPECT_TRUE(zero());
  service(0x16, 0x0000);
  EXPECT_TRUE(waits());
  keys_.bytes = "a";
  wake();
  EXPECT_TRUE(returned());
  EXPECT_EQ(regs.ax.word(), 0x1E61);
}

TEST_F(ServicesTest, LooksAtAKeyWithoutTakingIt) {
  keys_.bytes = "xy";
  service(0x16, 0x1100);
  EXPECT_FALSE(zero());
  EXPECT_EQ(regs.ax.word(), 0x2D78);
  EXPECT_EQ(keys_.bytes, "y");  // only what was asked for
  service(0x16, 0x0100);
  EXPECT_EQ(regs.ax.word(), 0x2D78);
  service(0x16, 0x1000);
  EXPECT_EQ(regs.ax.word(), 0x2D78);
  service(0x16, 0x0000);
  EXPECT_EQ(regs.ax.word(), 0x1579);
}

TEST_F(ServicesTest, EscapeSequencesAreKeys) {
  keys_.bytes = "\x1b[A";
  service(0x16, 0x1000);
  EXPECT_EQ(regs.ax.word(), 0x48E0);
  keys_.bytes = "\x1b[A";
  service(0x16, 0x0000);
  EXPECT_EQ(regs.ax.word(), 0x4800);
  // Its bytes may come one by one.
  keys_.bytes = "\x1b";
  service(0x16, 0x0100);
  EXPECT_TRUE(zero());
  keys_.bytes = "[";
  service(0x16, 0x0100);
  EXPECT_TRUE(zero());
  keys_.bytes = "B";
  service(0x16, 0x0100);
  EXPECT_FALSE(zero());
  EXPECT_EQ(regs.ax.word(), 0x5000);
  service(0x16, 0x0000);
  // Escape alone is itself, after a while.
  keys_.bytes = "\x1b";
  service(0x16, 0x0100);
  EXPECT_TRUE(zero());
  clock_.advance(60ms);
  service(0x16, 0x0000);
  EXPECT_EQ(regs.ax.word(), 0x011B);
}

TEST_F(ServicesTest, ClassicCallsDoNotSeeNewKeys) {
  keys_.bytes = "\x1b[24~q";  // F12
  service(0x16, 0x0000);
  EXPECT_EQ(regs.ax.word(), 0x1071);
}

TEST_F(ServicesTest, PollingForKeysComesToRest) {
  // No timer interrupts: never.
  for (int i = 0; i < 1000; ++i) {
    service(0x16, 0x0100);
    ASSERT_TRUE(returned());
  }
  memory.set_dword(Gpa{0x46C}, memory.dword(Gpa{0x46C}) + 1);
  service(0x16, 0x0100);
  EXPECT_TRUE(waits());
  wake();
  EXPECT_TRUE(returned());
  EXPECT_TRUE(zero());
  // One rest a tick.
  service(0x16, 0x0100);
  EXPECT_TRUE(returned());
  memory.set_dword(Gpa{0x46C}, memory.dword(Gpa{0x46C}) + 1);
  service(0x16, 0x1100);
  EXPECT_TRUE(waits());
  // A key that comes meanwhile is the answer.
  keys_.bytes = "k";
  wake();
  EXPECT_TRUE(returned());
  EXPECT_FALSE(zero());
  EXPECT_EQ(regs.ax.low(), 'k');
  service(0x16, 0x0000);
  // Who works does not rest.
  for (int i = 0; i < 200; ++i) {
    memory.set_dword(Gpa{0x46C}, memory.dword(Gpa{0x46C}) + 1);
    service(0x16, 0x0100);
    ASSERT_TRUE(returned()) << i;
    service(0x10, 0x0E00 | 'x');
  }
}

TEST_F(ServicesTest, KeysCanBePushed) {
  regs.cx.set_word(0x1C0D);
  service(0x16, 0x0500);
  EXPECT_EQ(regs.ax.low(), 0);
  service(0x16, 0x0000);
  EXPECT_EQ(regs.ax.word(), 0x1C0D);
  for (int i = 0; i < 15; ++i) {
    service(0x16, 0x0500);
    EXPECT_EQ(regs.ax.low(), 0);
  }
  service(0x16, 0x0500);
  EXPECT_EQ(regs.ax.low(), 1);  // full
}

TEST_F(ServicesTest, SurvivesABrokenRing) {
  struct Ring {
    uint16_t head, tail;
  };
  // Outside on both sides, between two slots, behind the last slot.
  for (Ring ring : {Ring{0xFFFF, 0x0001}, {0x1E, 0xFFFE}, {0x1F, 0x20}, {0x3E, 0x1E}}) {
    memory.set_word(Gpa{0x41A}, ring.head);
    memory.set_word(Gpa{0x41C}, ring.tail);
    keys_.bytes = "k";
    service(0x16, 0x0000);
    ASSERT_TRUE(returned());
    EXPECT_EQ(regs.ax.word(), 0x256B);
    service(0x16, 0x0100);
    EXPECT_TRUE(zero());
  }
}

TEST(KeyDecoder, PrintableKeysComeBack) {
  for (unsigned c = 0x20; c < 0x7F; ++c) {
    auto byte = static_cast<uint8_t>(c);
    Decoded decoded = decode_key({&byte, 1}, false);
    ASSERT_EQ(decoded.length, 1u);
    ASSERT_TRUE(decoded.key);
    EXPECT_EQ(decoded.key->character, c);
    EXPECT_NE(decoded.key->scan, 0) << c;
  }
}

TEST(KeyDecoder, KnownKeys) {
  struct Case {
    const char* bytes;
    uint16_t word;
  };
  const Case cases[] = {
      {"\r", 0x1C0D},
      {"\x7f", 0x0E08},
      {"\t", 0x0F09},
      {"\x03", 0x2E03},
      {"\x1b[H", 0x47E0},
      {"\x1bOF", 0x4FE0},
      {"\x1b[3~", 0x53E0},
      {"\x1b[5~", 0x49E0},
      {"\x1bOP", 0x3B00},
      {"\x1b[15~", 0x3F00},
      {"\x1b[21~", 0x4400},
      {"\x1b[23~", 0x8500},
      {"\x1b[[A", 0x3B00},
      {"\x1b[1;5C", 0x74E0},
      {"\x1b[Z", 0x0F00},
      {"\x1bx", 0x2D00},
      {"\x1b"
       "1",
       0x7800},
      {"\x1b[1;2A", 0x48E0},
      {"~", 0x297E},
      {"\\", 0x2B5C},
      {"?", 0x353F},
      {"P", 0x1950},
      {"M", 0x324D},
      {"\"", 0x2822},
  };
  for (const Case& c : cases) {
    std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(c.bytes), strlen(c.bytes));
    Decoded decoded = decode_key(bytes, false);
    EXPECT_EQ(decoded.length, bytes.size()) << c.bytes + 1;
    ASSERT_TRUE(decoded.key) << c.bytes + 1;
    EXPECT_EQ(decoded.key->word(), c.word) << c.bytes + 1;
    for (size_t n = 1; n < bytes.size(); ++n)
      EXPECT_EQ(decode_key(bytes.first(n), false).length, 0u) << c.bytes + 1;
  }
}

TEST(KeyDecoder, AnySequenceEnds) {
  std::vector<uint8_t> endless(kMaxKeyLength + 1, '1');
  endless[0] = 0x1B;
  endless[1] = '[';
  EXPECT_GT(decode_key(endless, false).length, 0u);
}

TEST_F(ServicesTest, Ticks) {
  // 23:59:50 by the RTC.
  service(0x1A, 0x0000);
  uint32_t ticks = uint32_t{regs.cx.word()} << 16 | regs.dx.word();
  EXPECT_NEAR(ticks, 0x1800B0 * 86390.0 / 86400, 2);
  EXPECT_EQ(regs.ax.word(), 0);
  regs.cx.set_word(0x12);
  regs.dx.set_word(0x3456);
  service(0x1A, 0x0100);
  EXPECT_EQ(memory.dword(Gpa{0x46C}), 0x123456u);
  memory.set_byte(Gpa{0x470}, 1);
  service(0x1A, 0x0000);
  EXPECT_EQ(regs.ax.low(), 1);
  service(0x1A, 0x0000);
  EXPECT_EQ(regs.ax.low(), 0);
}

TEST_F(ServicesTest, TimeAndDate) {
  service(0x1A, 0x0200);
  EXPECT_FALSE(carry());
  EXPECT_EQ(regs.cx.word(), 0x2359);
  EXPECT_EQ(regs.dx.high(), 0x50);
  service(0x1A, 0x0400);
  EXPECT_EQ(regs.cx.word(), 0x2024);
  EXPECT_EQ(regs.dx.word(), 0x0228);
  clock_.advance(15s);
  service(0x1A, 0x0400);
  EXPECT_EQ(regs.dx.word(), 0x0229);
  regs.cx.set_word(0x1234);
  regs.dx.set_word(0x5600);
  service(0x1A, 0x0300);
  service(0x1A, 0x0200);
  EXPECT_EQ(regs.cx.word(), 0x1234);
  EXPECT_EQ(regs.dx.high(), 0x56);
  regs.cx.set_word(0x1999);
  regs.dx.set_word(0x1231);
  service(0x1A, 0x0500);
  service(0x1A, 0x0400);
  EXPECT_EQ(regs.cx.word(), 0x1999);
  EXPECT_EQ(regs.dx.word(), 0x1231);
}

TEST_F(ServicesTest, Alarm) {
  regs.cx.set_word(0x2359);
  regs.dx.set_word(0x5500);
  service(0x1A, 0x0600);
  EXPECT_FALSE(carry());
  service(0x1A, 0x0600);
  EXPECT_TRUE(carry());
  int before = irq_.edges();
  clock_.advance(10s);
  EXPECT_GT(irq_.edges(), before);
  service(0x1A, 0x0700);
  service(0x1A, 0x0600);
  EXPECT_FALSE(carry());
}

TEST_F(ServicesTest, PciBios) {
  auto function = [&](uint8_t f, uint16_t vendor, uint16_t device, uint32_t code, uint8_t header) {
    auto& space = pci_.functions[f];
    space.fill(0);
    space[0] = static_cast<uint8_t>(vendor);
    space[1] = static_cast<uint8_t>(vendor >> 8);
    space[2] = static_cast<uint8_t>(device);
    space[3] = static_cast<uint8_t>(device >> 8);
    space[9] = static_cast<uint8_t>(code);
    space[10] = static_cast<uint8_t>(code >> 8);
    space[11] = static_cast<uint8_t>(code >> 16);
    space[14] = header;
  };
  function(0x00, 0x8086, 0x1237, 0x060000, 0x80);
  function(0x01, 0x1AF4, 0x1042, 0x018000, 0);
  function(0x18, 0x1AF4, 0x1042, 0x018000, 0);
  function(0x19, 0x1AF4, 0x1042, 0x018000, 0);  // hidden: function 0 is not multi-function

  service(0x1A, 0xB101);
  EXPECT_FALSE(carry());
  EXPECT_EQ(regs.dx.all(), 0x20494350u);
  EXPECT_EQ(regs.bx.word(), 0x0210);
  EXPECT_EQ(regs.ax.high(), 0);

  auto find = [&](uint16_t index) {
    regs.cx.set_word(0x1042);
    regs.dx.set_word(0x1AF4);
    regs.si.set_word(index);
    service(0x1A, 0xB102);
  };
  find(0);
  EXPECT_EQ(regs.bx.word(), 0x0001);
  find(1);
  EXPECT_EQ(regs.bx.word(), 0x0018);
  find(2);
  EXPECT_TRUE(carry());
  EXPECT_EQ(regs.ax.high(), 0x86);
  regs.cx.set_all(0x060000);
  regs.si.set_word(0);
  service(0x1A, 0xB103);
  EXPECT_FALSE(carry());
  EXPECT_EQ(regs.bx.word(), 0);

  regs.bx.set_word(0x0018);
  regs.di.set_word(0x40);
  regs.cx.set_all(0xA1B2C3D4);
  service(0x1A, 0xB10D);
  EXPECT_FALSE(carry());
  regs.di.set_word(0x42);
  service(0x1A, 0xB109);
  EXPECT_EQ(regs.cx.word(), 0xA1B2);
  regs.di.set_word(0x43);
  service(0x1A, 0xB108);
  EXPECT_EQ(regs.cx.low(), 0xA1);
  service(0x1A, 0xB109);
  EXPECT_TRUE(carry());
  EXPECT_EQ(regs.ax.high(), 0x87);
  regs.bx.set_word(0x0118);  // another bus
  regs.di.set_word(0);
  service(0x1A, 0xB10A);
  EXPECT_EQ(regs.cx.all(), 0xFFFFFFFFu);
  service(0x1A, 0xB10E);
  EXPECT_TRUE(carry());
  EXPECT_EQ(regs.ax.high(), 0x81);
}

TEST_F(ServicesTest, NoPrinterNoSerialPort) {
  service(0x17, 0x0200);
  EXPECT_EQ(regs.ax.high(), 1);
  regs.dx.set_word(0);
  service(0x14, 0x0300);
  EXPECT_EQ(regs.ax.high(), 0x80);
}

TEST_F(ServicesTest, ExceptionsStopTheGuestWithAReport) {
  memory.set_word(linear(0x0800, 0x1234), 0x0B0F);  // ud2
  service(0x06, 0);
  EXPECT_EQ(memory.byte(here()), 0xFA);
  EXPECT_NE(printed_.find("exception 0x6 at 0800:1234, bytes 0f 0b"), std::string::npos)
      << printed_;
}

// A port that remembers what is written and answers what the test says.
class FakeUart final : public devices::ByteDevice {
 public:
  uint8_t read_byte(uint64_t offset) override {
    if (offset == 5) return line_status;
    return offset == 0 ? data : uint8_t{0x30};
  }
  void write_byte(uint64_t offset, uint8_t value) override {
    if (offset == 0 && !(lcr & 0x80)) sent += static_cast<char>(value);
    if (offset == 3) lcr = value;
  }
  uint8_t line_status = 0x60;
  uint8_t data = 0;
  uint8_t lcr = 0;
  std::string sent;
};

class SerialTest : public BiosFixture {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ports_.map({0x3F8, 8}, uart_).ok());
    start();
  }
  FakeUart uart_;
};

TEST_F(SerialTest, SendsAndReceives) {
  EXPECT_EQ(memory.word(Gpa{0x400}), 0x3F8);
  regs.dx.set_word(0);
  regs.ax.set_word(0x00E3);
  call(0x14);
  EXPECT_EQ(regs.ax.word(), 0x6030);
  EXPECT_EQ(uart_.lcr, 0x03);
  regs.ax.set_word(0x0100 | 'Q');
  call(0x14);
  EXPECT_EQ(uart_.sent, "Q");
  EXPECT_EQ(regs.ax.high(), 0x60);
  regs.ax.set_word(0x0200);
  call(0x14);
  EXPECT_TRUE(waits());
  uart_.line_status = 0x61;
  uart_.data = 'z';
  wake();
  EXPECT_TRUE(returned());
  EXPECT_EQ(regs.ax.word(), 'z');
}

TEST_F(SerialTest, GivesUpAfterTheTimeout) {
  regs.dx.set_word(0);
  regs.ax.set_word(0x0200);
  call(0x14);
  EXPECT_TRUE(waits());
  clock_.advance(11s);
  wake();
  EXPECT_TRUE(returned());
  EXPECT_EQ(regs.ax.high() & 0x80, 0x80);
}

}  // namespace
}  // namespace calf::firmware
