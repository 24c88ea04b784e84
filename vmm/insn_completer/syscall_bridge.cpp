#include "vmm/insn_completer/syscall_bridge.h"

#include <algorithm>
#include <array>

#include "block/base/endian.h"
#include "vmm/insn_completer/linear_memory.h"

namespace calf::insn {

namespace {

constexpr uint32_t kFaultUser = 1 << 2;
constexpr uint16_t kRplMask = 3;
constexpr uint8_t kTypeCodeReadAccessed = 11;
constexpr uint8_t kTypeDataWriteAccessed = 3;

// A gate of the 64-bit IDT.
struct Gate {
  le16 offset_low;
  le16 selector;
  uint8_t ist;
  uint8_t attributes;
  le16 offset_middle;
  le32 offset_high;
  le32 reserved;
  uint64_t offset() const {
    return offset_low | uint64_t{offset_middle} << 16 | uint64_t{offset_high} << 32;
  }
  bool present() const { return (attributes & 0x80) != 0; }
};
static_assert(sizeof(Gate) == 16);

// What the processor pushes for a page fault in 64-bit mode.
struct FaultFrame {
  le64 error_code;
  le64 rip;
  le64 cs;
  le64 rflags;
  le64 rsp;
  le64 ss;
};

template <class T>
std::optional<T> read_supervisor(const devices::GuestMemory& memory, const SystemRegisters& system,
                                 uint64_t linear) {
  T value;
  LinearMemory linear_memory(memory, system, kAlignmentCheck, true);
  auto bytes = std::span(reinterpret_cast<uint8_t*>(&value), sizeof value);
  if (!linear_memory.read(linear, bytes).has_value()) return std::nullopt;
  return value;
}

Segment flat(uint16_t selector, uint8_t type) {
  Segment segment;
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = true;
  segment.code_or_data = true;
  segment.granular = true;
  return segment;
}

// Instructions with which page-fault handlers begin, and which are nothing but their length here:
// then the breakpoint is passed without a second exit.
size_t length_if_idle(std::span<const uint8_t> code) {
  constexpr std::array<uint8_t, 1> kNop{0x90};
  constexpr std::array<uint8_t, 3> kNop3{0x0f, 0x1f, 0x00};
  constexpr std::array<uint8_t, 4> kEndbr64{0xf3, 0x0f, 0x1e, 0xfa};
  auto begins_with = [code](std::span<const uint8_t> pattern) {
    return code.size() >= pattern.size() &&
           std::equal(pattern.begin(), pattern.end(), code.begin());
  };
  for (std::span<const uint8_t> pattern :
       {std::span<const uint8_t>(kNop), std::span<const uint8_t>(kNop3),
        std::span<const uint8_t>(kEndbr64)}) {
    if (begins_with(pattern)) return pattern.size();
  }
  return 0;
}

// Those with an effect on the flags.
size_t length_if_clears_flag(std::span<const uint8_t> code, uint64_t& rflags) {
  if (code.size() >= 3 && code[0] == 0x0f && code[1] == 0x01 && code[2] == 0xca) {
    rflags &= ~kAlignmentCheck;  // clac
    return 3;
  }
  if (!code.empty() && code[0] == 0xfc) {
    rflags &= ~kDirection;  // cld
    return 1;
  }
  return 0;
}

}  // namespace

Result<bool> SyscallBridge::on_msr_write(uint32_t index, uint64_t value) {
  Result<void> set = cpu_.set_msr(index, value);
  if (!set.ok()) return false;
  switch (index) {
    case kMsrStar:
      star_ = value;
      break;
    case kMsrLstar:
      lstar_ = value;
      break;
    case kMsrSyscallMask:
      flags_mask_ = value;
      break;
    default:
      break;
  }
  TRY_VOID(refresh());
  return true;
}

std::optional<uint64_t> SyscallBridge::page_fault_handler(const SystemRegisters& system) const {
  if ((system.efer & kEferLma) == 0) return std::nullopt;
  uint64_t offset = kVectorPageFault * sizeof(Gate);
  if (offset + sizeof(Gate) - 1 > system.idt.limit) return std::nullopt;
  auto gate = read_supervisor<Gate>(memory_, system, system.idt.base + offset);
  if (!gate || !gate->present()) return std::nullopt;
  return gate->offset();
}

Result<void> SyscallBridge::refresh() {
  if (lstar_ == 0 || stepping_) return {};
  TRY(SystemRegisters system, cpu_.system_registers());
  std::optional<uint64_t> handler = page_fault_handler(system);
  if (!handler || *handler == handler_) return {};
  TRY_VOID(debug_.set_breakpoint(*handler));
  handler_ = *handler;
  return {};
}

Result<bool> SyscallBridge::on_debug_exit(uint64_t pc) {
  if (stepping_) {
    stepping_ = false;
    TRY_VOID(debug_.set_breakpoint(handler_));
    return true;
  }
  if (handler_ == 0 || pc != handler_) return false;
  TRY(Registers registers, cpu_.registers());
  TRY(SystemRegisters system, cpu_.system_registers());
  auto frame = read_supervisor<FaultFrame>(memory_, system, registers.general[kRsp]);
  bool is_syscall = frame && frame->rip == lstar_ && system.cr2 == lstar_ &&
                    (frame->error_code & kFaultUser) != 0 && (frame->cs & kRplMask) == 3;
  if (is_syscall) {
    TRY_VOID(enter_kernel(registers, system, frame->rflags, frame->rsp));
  } else {
    TRY_VOID(pass_on(registers, system));
  }
  return true;
}

// Lets the handler run. The breakpoint is in the way: KVM's interpreter does not know RF.
Result<void> SyscallBridge::pass_on(Registers registers, const SystemRegisters& system) {
  ++other_faults_;
  std::array<uint8_t, 4> code{};
  LinearMemory memory(memory_, system, registers.rflags);
  bool readable = memory.read(registers.rip, code, AccessKind::kFetch).has_value();
  size_t length = readable ? length_if_idle(code) : 0;
  if (readable && length == 0) length = length_if_clears_flag(code, registers.rflags);
  if (length != 0) {
    registers.rip += length;
    return cpu_.set_registers(registers);
  }
  stepping_ = true;
  return debug_.single_step();
}

// What SYSCALL does beyond RIP, RCX and R11 (AMD64 APM vol. 3). `flags` are those of the frame, to
// which KVM may have applied the mask already; the user's own are in R11, with IF as the real
// processor has it in user mode: set.
Result<void> SyscallBridge::enter_kernel(Registers registers, SystemRegisters system,
                                         uint64_t flags, uint64_t user_rsp) {
  ++system_calls_;
  registers.rip = lstar_;
  registers.general[kRsp] = user_rsp;
  registers.rflags = (flags & ~flags_mask_ & ~kResume) | kFlagsFixed;
  auto selector = static_cast<uint16_t>((star_ >> 32) & 0xfffc);
  Segment& cs = system.segment(SegmentName::kCs);
  cs = flat(selector, kTypeCodeReadAccessed);
  cs.long_mode = true;
  Segment& ss = system.segment(SegmentName::kSs);
  ss = flat(static_cast<uint16_t>(selector + 8), kTypeDataWriteAccessed);
  ss.big = true;
  TRY_VOID(cpu_.set_system_registers(system));
  return cpu_.set_registers(registers);
}

Result<void> SyscallBridge::reset() {
  star_ = lstar_ = flags_mask_ = 0;
  stepping_ = false;
  if (handler_ == 0) return {};
  handler_ = 0;
  return debug_.clear();
}

}  // namespace calf::insn
