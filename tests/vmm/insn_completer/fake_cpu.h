// A processor and 16 MiB of memory for the completer to work on, in 64-bit mode by default.
//
//   0x1000–0x4000   page tables: 0–2 MiB supervisor in 4 KiB pages, 2–16 MiB user in 2 MiB pages
//   0x5000  GDT     0x6000  IDT      0x10000  code (supervisor)     0x20000  data     0x30000 stack
//   0x400000        user
#pragma once

#include <cpuid.h>

#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "block/base/endian.h"
#include "devices/core/guest_memory.h"
#include "vmm/insn_completer/completer.h"

namespace calf::insn {

class FakeCpu final : public CpuAccess {
 public:
  static constexpr uint64_t kTables = 0x1000;
  static constexpr uint64_t kLastTable = 0x4000;
  static constexpr uint64_t kGdt = 0x5000;
  static constexpr uint64_t kIdt = 0x6000;
  static constexpr uint64_t kCode = 0x10000;
  static constexpr uint64_t kData = 0x20000;
  static constexpr uint64_t kStack = 0x30000;
  static constexpr uint64_t kUserData = 0x400000;
  static constexpr uint16_t kCode64 = 0x08, kData32 = 0x10, kCode32 = 0x18, kCode16 = 0x20,
                            kUserCode32 = 0x28, kUserData32 = 0x30, kData16 = 0x38;

  FakeCpu() : ram_(16 << 20) {
    build_tables();
    build_descriptors();
    sys.cr0 = kCr0Pg | kCr0Wp | kCr0Pe | 2;
    sys.cr3 = kTables;
    sys.cr4 = kCr4Pae | kCr4Osxsave | kCr4Fsgsbase;
    sys.efer = kEferLma | kEferNxe;
    sys.gdt = {kGdt, 0x3f};
    sys.idt = {kIdt, 0xfff};
    sys.ldtr.unusable = true;
    load(SegmentName::kCs, kCode64);
    for (SegmentName name :
         {SegmentName::kSs, SegmentName::kDs, SegmentName::kEs, SegmentName::kFs, SegmentName::kGs})
      load(name, kData32);
    regs.rip = kCode;
    regs.general[kRsp] = kStack;
    put<uint32_t>(xsave_state.bytes.data() + 24, 0x1f80);
  }

  // 32- or 16-bit protected mode without paging.
  void enter_protected(bool wide) {
    sys.cr0 = kCr0Pe | 2;
    sys.cr4 = kCr4Osxsave;
    sys.efer = 0;
    load(SegmentName::kCs, wide ? kCode32 : kCode16);
    load(SegmentName::kSs, wide ? kData32 : kData16);
  }
  void load(SegmentName name, uint16_t selector) {
    uint64_t bits = get<uint64_t>(at(kGdt + (selector & ~7)));
    Segment s;
    s.base = (bits >> 16 & 0xffffff) | (bits >> 32 & 0xff000000);
    s.limit = static_cast<uint32_t>((bits & 0xffff) | (bits >> 32 & 0xf0000));
    s.granular = (bits >> 55 & 1) != 0;
    if (s.granular) s.limit = s.limit << 12 | 0xfff;
    s.selector = selector;
    s.type = (bits >> 40 & 15) | 1;
    s.code_or_data = true;
    s.dpl = bits >> 45 & 3;
    s.present = true;
    s.long_mode = (bits >> 53 & 1) != 0;
    s.big = (bits >> 54 & 1) != 0;
    sys.segment(name) = s;
  }
  void be_user() {
    sys.segment(SegmentName::kSs).dpl = 3;
    sys.segment(SegmentName::kCs).dpl = 3;
  }

  uint8_t* at(uint64_t physical) { return ram_.data() + physical; }
  template <class T>
  static T get(const uint8_t* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  template <class T>
  static void put(uint8_t* to, std::type_identity_t<T> value) {
    std::memcpy(to, &value, sizeof value);
  }
  template <class T>
  T peek(uint64_t physical) {
    return get<T>(at(physical));
  }
  template <class T>
  void poke(uint64_t physical, std::type_identity_t<T> value) {
    put<T>(at(physical), value);
  }

  // Puts `code` at RIP and completes it.
  Outcome run(const std::vector<uint8_t>& code) {
    uint64_t where = regs.rip;
    if (!sys.segment(SegmentName::kCs).long_mode) where += sys.segment(SegmentName::kCs).base;
    std::copy(code.begin(), code.end(), at(where));
    return complete_here();
  }
  Outcome complete_here() {
    auto outcome = complete(*this, memory);
    if (!outcome.ok()) return CannotComplete{outcome.error().message()};
    return *outcome;
  }

  Result<Registers> registers() override { return regs; }
  Result<void> set_registers(const Registers& r) override {
    regs = r;
    return {};
  }
  Result<SystemRegisters> system_registers() override { return sys; }
  Result<void> set_system_registers(const SystemRegisters& s) override {
    sys = s;
    return {};
  }
  Result<uint64_t> msr(uint32_t index) override { return msrs[index]; }
  Result<void> set_msr(uint32_t index, uint64_t value) override {
    msrs[index] = value;
    return {};
  }
  Result<XsaveState> xsave() override { return xsave_state; }
  Result<void> set_xsave(const XsaveState& state) override {
    xsave_state = state;
    return {};
  }
  Result<uint64_t> xcr0() override { return xcr0_value; }
  Result<void> set_xcr0(uint64_t value) override {
    if ((value & 1) == 0) return make_error(ErrorKind::kInvalid, "x87 cannot be off");
    xcr0_value = value;
    return {};
  }
  // A processor with AVX, and a component 5 that wants alignment when compacted.
  CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) override {
    if (leaf != 0xd) return {};
    if (subleaf == 2) return {256, 576, 0, 0};
    if (subleaf == 5) return {64, 1088, 2, 0};
    if (subleaf == 6) return {512, 1152, 0, 0};
    return {};
  }
  bool frames_ignore_ss_base() const override { return ignore_ss_base; }
  Result<void> inject(const Exception& exception) override {
    injected = exception;
    return {};
  }
  Result<void> inject_software_interrupt(uint8_t vector) override {
    software_interrupt = vector;
    return {};
  }

  Registers regs;
  SystemRegisters sys;
  std::map<uint32_t, uint64_t> msrs;
  XsaveState xsave_state;
  uint64_t xcr0_value = 0x67;
  bool ignore_ss_base = false;
  std::optional<Exception> injected;
  std::optional<uint8_t> software_interrupt;

 private:
  void build_tables() {
    poke<uint64_t>(kTables, 0x2007);
    poke<uint64_t>(0x2000, 0x3007);
    poke<uint64_t>(0x3000, kLastTable | 7);
    for (uint64_t i = 1; i < 8; ++i)
      poke<uint64_t>(0x3000 + i * 8, i << 21 | 0x87);
    for (uint64_t i = 0; i < 512; ++i)
      poke<uint64_t>(kLastTable + i * 8, i << 12 | 3);
  }
  void build_descriptors() {
    poke<uint64_t>(kGdt + kCode64, 0x00af9b000000ffff);
    poke<uint64_t>(kGdt + kData32, 0x00cf93000000ffff);
    poke<uint64_t>(kGdt + kCode32, 0x00cf9b000000ffff);
    poke<uint64_t>(kGdt + kCode16, 0x00009b010000ffff);  // base 0x10000
    poke<uint64_t>(kGdt + kUserCode32, 0x00cffa000000ffff);
    poke<uint64_t>(kGdt + kUserData32, 0x00cff3000000ffff);
    poke<uint64_t>(kGdt + kData16, 0x000093020000ffff);  // base 0x20000
  }

  std::vector<uint8_t> ram_;

 public:
  devices::GuestMemory memory{
      std::vector<devices::GuestMemory::Region>{{devices::Gpa{0}, std::span<uint8_t>(ram_), true}}};
};

}  // namespace calf::insn
