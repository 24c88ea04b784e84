// The 8254 that KVM gets when the guest can tell (vmm/late_pit.h): real guest code meets it.
#include <gtest/gtest.h>

#include "firmware/platform.h"
#include "tests/kvm/mini_machine.h"
#include "vmm/late_pit.h"
#include "vmm/timers.h"

namespace calf::vmm {
namespace {

constexpr uint16_t kCode = 0x1000;

struct TimerMachine : MiniMachine {
  TimerMachine() {
    EXPECT_TRUE(ports.map({firmware::kPitPort, LatePit::kWindow}, pit.timer()).ok());
    EXPECT_TRUE(ports.map({firmware::kSpeakerPort, 1}, pit.speaker()).ok());
  }
  Log log{"test"};
  std::unique_ptr<LoopTimers> timers = std::move(*LoopTimers::create(*loop));
  LatePit pit{*irq, *timers, log};
};

// Counter 2 in mode 0 raises bit 5 of the speaker's port when it has counted down: the timer is
// KVM's from the first access on, which must not be lost.
void count_down(std::initializer_list<int> first) {
  TimerMachine machine;
  machine.load(kCode, first);
  machine.load(kCode + first.size(), {
                                         0xB0, 0x00,  // mov al, 0
                                         0xE6, 0x42,  // out 42h, al
                                         0xB0, 0x10,  // mov al, 10h
                                         0xE6, 0x42,  // out 42h, al
                                         0xE4, 0x61,  // in al, 61h
                                         0x0C, 0x01,  // or al, 1
                                         0xE6, 0x61,  // out 61h, al
                                         0xE4, 0x61,  // wait: in al, 61h
                                         0xA8, 0x20,  // test al, 20h
                                         0x74, 0xFA,  // jz wait
                                         0xE6, 0xF4,  // out F4h, al
                                         0xF4,        // hlt
                                     });
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value & 0x21, 0x21u);
}

TEST(LateTimer, TheTimerComesWhenItsControlWordIsWritten) {
  CALF_NEED_KVM();
  count_down({
      0xB0, 0xB0,  // mov al, B0h: counter 2, low then high byte, mode 0
      0xE6, 0x43,  // out 43h, al
  });
}

TEST(LateTimer, TheTimerComesWhenTheSpeakersPortIsRead) {
  CALF_NEED_KVM();
  count_down({
      0xE4, 0x61,  // in al, 61h
      0xB0, 0xB0,  // mov al, B0h
      0xE6, 0x43,  // out 43h, al
  });
}

// Three ticks: the first is made when the timer is, the others are KVM's.
void count_ticks(TimerMachine& machine, std::initializer_list<int> first) {
  ASSERT_TRUE(machine.irq->apply_bios_setup().ok());
  machine.pit.start_ticks(std::chrono::steady_clock::now().time_since_epoch());
  machine.load(4 * 8, {0x00, 0x30, 0x00, 0x00});  // vector 8 (IRQ0) -> 0:3000h
  machine.load(0x3000, {
                           0x43,        // inc bx
                           0xB0, 0x20,  // mov al, 20h: end of interrupt
                           0xE6, 0x20,  // out 20h, al
                           0xCF,        // iret
                       });
  machine.load(kCode, first);
  machine.load(kCode + first.size(), {
                                         0x31, 0xDB,        // xor bx, bx
                                         0xFB,              // next: sti
                                         0xF4,              // hlt
                                         0x83, 0xFB, 0x03,  // cmp bx, 3
                                         0x75, 0xF9,        // jne next
                                         0x88, 0xD8,        // mov al, bl
                                         0xE6, 0xF4,        // out F4h, al
                                         0xF4,              // hlt
                                     });
  const auto begin = std::chrono::steady_clock::now();
  std::optional<Request> end = machine.run(kCode);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->value, 3u);
  // 18.2 Hz: not before two whole periods, however late the first was noticed.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(105));
}

TEST(LateTimer, TheBiosTicksComeThoughNobodyTouchesTheTimer) {
  CALF_NEED_KVM();
  TimerMachine machine;
  count_ticks(machine, {});
}

TEST(LateTimer, ATouchedTimerTicksByItself) {
  CALF_NEED_KVM();
  TimerMachine machine;
  count_ticks(machine, {0xE4, 0x40});  // in al, 40h
}

TEST(LateTimer, AfterAResetNothingTicksUntilTheBiosStartsIt) {
  CALF_NEED_KVM();
  TimerMachine machine;
  machine.pit.start_ticks(std::chrono::steady_clock::now().time_since_epoch());
  machine.pit.reset();
  ASSERT_TRUE(machine.irq->reset().ok());
  machine.load(4 * 8, {0x00, 0x30, 0x00, 0x00});
  machine.load(0x3000, {0xE6, 0xF4, 0xF4});  // out F4h, al; hlt
  machine.load(kCode, {0xFB, 0xF4, 0xF4});   // sti; hlt; hlt
  EXPECT_FALSE(machine.run(kCode, std::chrono::seconds(1)).has_value());
  EXPECT_TRUE(*machine.irq->need_pit()) << "made by nobody";
}

}  // namespace
}  // namespace calf::vmm
