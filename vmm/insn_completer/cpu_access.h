// What the completer needs of a processor. One implementation sits on KVM, one in the tests.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "block/base/result.h"

namespace calf::insn {

// Numbers of the general registers as instructions encode them.
enum Reg : uint8_t { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR8 };

struct Registers {
  std::array<uint64_t, 16> general{};
  uint64_t rip = 0;
  uint64_t rflags = 2;
  bool operator==(const Registers&) const = default;
};

// RFLAGS.
inline constexpr uint64_t kCarry = 1 << 0;
inline constexpr uint64_t kFlagsFixed = 1 << 1;
inline constexpr uint64_t kParity = 1 << 2;
inline constexpr uint64_t kAuxiliary = 1 << 4;
inline constexpr uint64_t kZero = 1 << 6;
inline constexpr uint64_t kSign = 1 << 7;
inline constexpr uint64_t kTrap = 1 << 8;
inline constexpr uint64_t kInterruptEnable = 1 << 9;
inline constexpr uint64_t kDirection = 1 << 10;
inline constexpr uint64_t kOverflow = 1 << 11;
inline constexpr uint64_t kIopl = 3 << 12;
inline constexpr uint64_t kNestedTask = 1 << 14;
inline constexpr uint64_t kResume = 1 << 16;
inline constexpr uint64_t kVirtual8086 = 1 << 17;
inline constexpr uint64_t kAlignmentCheck = 1 << 18;
inline constexpr uint64_t kVirtualInterrupt = 3 << 19;
inline constexpr uint64_t kId = 1 << 21;
inline constexpr uint64_t kArithmetic = kCarry | kParity | kAuxiliary | kZero | kSign | kOverflow;

struct Segment {
  uint64_t base = 0;
  uint32_t limit = 0;  // in bytes
  uint16_t selector = 0;
  uint8_t type = 0;
  uint8_t dpl = 0;
  bool present = false;
  bool code_or_data = false;  // S
  bool long_mode = false;     // L
  bool big = false;           // D/B
  bool granular = false;      // G
  bool available = false;     // AVL
  bool unusable = false;      // loaded with a null selector
  bool operator==(const Segment&) const = default;
};

enum class SegmentName : uint8_t { kEs, kCs, kSs, kDs, kFs, kGs };

struct DescriptorTable {
  uint64_t base = 0;
  uint16_t limit = 0;
  bool operator==(const DescriptorTable&) const = default;
};

struct SystemRegisters {
  std::array<Segment, 6> segments;  // by SegmentName
  Segment ldtr;
  Segment tr;
  DescriptorTable gdt;
  DescriptorTable idt;
  uint64_t cr0 = 0;
  uint64_t cr2 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;

  Segment& segment(SegmentName name) { return segments[static_cast<uint8_t>(name)]; }
  const Segment& segment(SegmentName name) const { return segments[static_cast<uint8_t>(name)]; }
  // The processor takes its privilege level from SS.
  uint8_t cpl() const { return segment(SegmentName::kSs).dpl; }
  bool operator==(const SystemRegisters&) const = default;
};

// CR0, CR4, EFER.
inline constexpr uint64_t kCr0Pe = 1 << 0;
inline constexpr uint64_t kCr0Ts = 1 << 3;
inline constexpr uint64_t kCr0Wp = 1 << 16;
inline constexpr uint64_t kCr0Pg = uint64_t{1} << 31;
inline constexpr uint64_t kCr4Pse = 1 << 4;
inline constexpr uint64_t kCr4Pae = 1 << 5;
inline constexpr uint64_t kCr4La57 = 1 << 12;
inline constexpr uint64_t kCr4Fsgsbase = 1 << 16;
inline constexpr uint64_t kCr4Osxsave = 1 << 18;
inline constexpr uint64_t kCr4Smep = 1 << 20;
inline constexpr uint64_t kCr4Smap = 1 << 21;
inline constexpr uint64_t kEferLma = 1 << 10;
inline constexpr uint64_t kEferNxe = 1 << 11;

enum MsrIndex : uint32_t {
  kMsrTsc = 0x10,
  kMsrXss = 0xda0,
  kMsrStar = 0xc0000081,
  kMsrLstar = 0xc0000082,
  kMsrSyscallMask = 0xc0000084,
  kMsrTscAux = 0xc0000103,
};

enum Vector : uint8_t {
  kVectorDebug = 1,
  kVectorBreakpoint = 3,
  kVectorInvalidOpcode = 6,
  kVectorDeviceNotAvailable = 7,
  kVectorSegmentNotPresent = 11,
  kVectorStackFault = 12,
  kVectorGeneralProtection = 13,
  kVectorPageFault = 14,
};

// An exception for the guest. RIP is the one to be pushed: of the instruction for a fault, behind
// it for a trap.
struct Exception {
  uint8_t vector = 0;
  std::optional<uint32_t> error_code;
  std::optional<uint64_t> cr2;
  bool operator==(const Exception&) const = default;
};

// The XSAVE area in its standard (not compacted) form; bit 1 of word 64 is always valid, so that
// the MXCSR in it is.
struct XsaveState {
  alignas(64) std::array<uint8_t, 4096> bytes{};
};

struct CpuidLeaf {
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
};

class CpuAccess {
 public:
  virtual ~CpuAccess() = default;
  virtual Result<Registers> registers() = 0;
  virtual Result<void> set_registers(const Registers& registers) = 0;
  virtual Result<SystemRegisters> system_registers() = 0;
  virtual Result<void> set_system_registers(const SystemRegisters& registers) = 0;
  virtual Result<uint64_t> msr(uint32_t index) = 0;
  virtual Result<void> set_msr(uint32_t index, uint64_t value) = 0;
  virtual Result<XsaveState> xsave() = 0;
  virtual Result<void> set_xsave(const XsaveState& state) = 0;
  virtual Result<uint64_t> xcr0() = 0;
  virtual Result<void> set_xcr0(uint64_t value) = 0;
  // What the guest sees of the processor.
  virtual CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) = 0;
  // Whether the host pushes the frames of interrupts and exceptions at linear address ESP, without
  // the base of SS (kvm_pvm does, in protected mode; a processor does not).
  virtual bool frames_ignore_ss_base() const { return false; }
  // Delivered before the next instruction. Registers are set before.
  virtual Result<void> inject(const Exception& exception) = 0;
  // As INT n does, gate already checked.
  virtual Result<void> inject_software_interrupt(uint8_t vector) = 0;
};

}  // namespace calf::insn
