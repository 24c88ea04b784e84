// IRET in protected mode, and the instructions that ask about a selector.
//
// Not supported: IRET to virtual-8086 mode and from a nested task; IRETQ (KVM has it).
#include "vmm/insn_completer/descriptors.h"
#include "vmm/insn_completer/handlers.h"

namespace calf::insn {

namespace {

// Pops from SS without moving the stack pointer: an IRET that faults has popped nothing.
class StackReader {
 public:
  explicit StackReader(Execution& e) : e_(e) {
    bool big = e.system.segment(SegmentName::kSs).big;
    mask_ = big ? 0xffffffff : 0xffff;
    offset_ = e.registers.general[kRsp] & mask_;
  }
  Step<uint64_t> pop() {
    unsigned bytes = e_.size();
    TRY(uint64_t linear, address(bytes));
    TRY(uint64_t value, e_.read_memory(linear, bytes));
    offset_ = (offset_ + bytes) & mask_;
    return value;
  }
  // The same stack pointer, as if the segment began at linear address 0.
  void ignore_base() { ignore_base_ = true; }
  // The stack pointer behind what was popped; bits beyond the stack's width stay.
  uint64_t pointer() const { return (e_.registers.general[kRsp] & ~mask_) | offset_; }

 private:
  Step<uint64_t> address(unsigned bytes) const {
    if (ignore_base_) return offset_;
    return e_.linear_address(SegmentName::kSs, offset_, bytes);
  }

  Execution& e_;
  uint64_t mask_;
  uint64_t offset_;
  bool ignore_base_ = false;
};

struct Frame {
  uint64_t rip;
  uint16_t cs;
  uint64_t flags;
};

Step<Frame> pop_frame(StackReader& stack) {
  TRY(uint64_t rip, stack.pop());
  TRY(uint64_t cs, stack.pop());
  TRY(uint64_t flags, stack.pop());
  return Frame{rip, static_cast<uint16_t>(cs), flags};
}

Step<Descriptor> return_code_segment(Execution& e, uint16_t selector) {
  uint8_t rpl = selector & kRplMask;
  if (is_null(selector)) return general_protection();
  TRY(std::optional<Descriptor> found, read_descriptor(e, selector));
  Exception refused = general_protection(selector_error(selector));
  if (!found || !found->is_code() || rpl < e.cpl()) return refused;
  bool level_fits = found->is_conforming() ? found->dpl() <= rpl : found->dpl() == rpl;
  if (!level_fits) return refused;
  if (!found->present()) return segment_not_present(selector_error(selector));
  return *found;
}

Step<Descriptor> return_stack_segment(Execution& e, uint16_t selector, uint8_t rpl) {
  if (is_null(selector)) return general_protection();
  TRY(std::optional<Descriptor> found, read_descriptor(e, selector));
  Exception refused = general_protection(selector_error(selector));
  if (!found || !found->is_writable_data()) return refused;
  if ((selector & kRplMask) != rpl || found->dpl() != rpl) return refused;
  if (!found->present()) return stack_fault(selector_error(selector));
  return *found;
}

// Whether a processor could have pushed this when it was interrupted at the level of now.
bool looks_like_a_frame(Execution& e, const Step<Frame>& frame) {
  constexpr uint64_t kAlwaysSet = 1 << 1;
  constexpr uint64_t kPossible = kArithmetic | kTrap | kInterruptEnable | kDirection | kIopl |
                                 kResume | kAlignmentCheck | kId | kAlwaysSet;
  if (!frame || (frame->flags & ~kPossible) != 0 || (frame->flags & kAlwaysSet) == 0) return false;
  if ((frame->cs & kRplMask) != e.cpl()) return false;
  auto cs = return_code_segment(e, frame->cs);
  return cs && frame->rip <= cs->limit();
}

// Where the frame lies. A host that ignores the base of SS when it pushes one (iPXE runs with a
// base) makes that a question: the stack is asked first, for the guest may have built the frame
// itself.
StackReader frame_on_stack(Execution& e) {
  StackReader stack(e);
  if (!e.cpu().frames_ignore_ss_base() || e.system.segment(SegmentName::kSs).base == 0)
    return stack;
  StackReader flat = stack;
  flat.ignore_base();
  StackReader peek = stack;
  StackReader flat_peek = flat;
  if (looks_like_a_frame(e, pop_frame(peek)) || !looks_like_a_frame(e, pop_frame(flat_peek)))
    return stack;
  return flat;
}

uint64_t flags_that_may_change(const Execution& e) {
  uint64_t mask = kArithmetic | kTrap | kDirection | kNestedTask;
  if (e.size() == 4) mask |= kResume | kAlignmentCheck | kId;
  uint64_t iopl = (e.registers.rflags & kIopl) >> 12;
  if (e.cpl() <= iopl) mask |= kInterruptEnable;
  if (e.cpl() == 0) mask |= kIopl;
  if (e.cpl() == 0 && e.size() == 4) mask |= kVirtualInterrupt;
  return mask;
}

// Segments that the outer level may not use are emptied.
void drop_inner_segments(Execution& e, uint8_t new_cpl) {
  for (SegmentName name :
       {SegmentName::kEs, SegmentName::kDs, SegmentName::kFs, SegmentName::kGs}) {
    Segment& segment = e.system.segment(name);
    bool conforming =
        (segment.type & (kTypeCode | kTypeConforming)) == (kTypeCode | kTypeConforming);
    if (segment.unusable || conforming || segment.dpl >= new_cpl) continue;
    segment = Segment{};
    segment.unusable = true;
  }
}

// What LAR, LSL, VERR and VERW look at. Nothing: the selector is not to be seen.
Step<std::optional<Descriptor>> visible_descriptor(Execution& e) {
  if (!e.protected_mode() || e.virtual_8086()) return invalid_opcode();
  TRY(uint64_t value, e.read_rm(2));
  auto selector = static_cast<uint16_t>(value);
  TRY(std::optional<Descriptor> found, read_descriptor(e, selector));
  if (!found) return found;
  uint8_t level = std::max<uint8_t>(e.cpl(), selector & kRplMask);
  if (!found->is_conforming() && found->dpl() < level) return std::optional<Descriptor>();
  return found;
}

// System segments with a limit, and those with access rights (SDM, tables of LSL and LAR).
bool has_limit(const Descriptor& d, bool long_mode) {
  if (d.code_or_data()) return true;
  uint8_t type = d.type();
  if (long_mode) return type == 2 || type == 9 || type == 11;
  return type == 1 || type == 2 || type == 3 || type == 9 || type == 11;
}

bool has_rights(const Descriptor& d, bool long_mode) {
  uint8_t type = d.type();
  bool call_gate = type == 12 || (!long_mode && type == 4);
  bool task_gate = !long_mode && type == 5;
  return has_limit(d, long_mode) || call_gate || task_gate;
}

}  // namespace

Step<void> iret(Execution& e) {
  if (!e.protected_mode() || e.virtual_8086()) return NotKnown{"iret in real or 8086 mode"};
  if (e.insn().mode == CodeMode::k64) return NotKnown{"iret in 64-bit mode"};
  if ((e.registers.rflags & kNestedTask) != 0) return NotKnown{"iret from a nested task"};

  StackReader stack = frame_on_stack(e);
  TRY(Frame frame, pop_frame(stack));
  auto [rip, cs_selector, flags] = frame;
  if ((flags & kVirtual8086) != 0 && e.cpl() == 0 && e.size() == 4) {
    return NotKnown{"iret to virtual-8086 mode"};
  }
  uint8_t new_cpl = cs_selector & kRplMask;
  TRY(Descriptor cs, return_code_segment(e, cs_selector));
  if (!cs.long_mode() && rip > cs.limit()) return general_protection();
  uint64_t mask = flags_that_may_change(e);
  uint64_t new_rsp = stack.pointer();

  if (new_cpl > e.cpl()) {
    TRY(uint64_t outer_rsp, stack.pop());
    TRY(uint64_t ss_value, stack.pop());
    auto ss_selector = static_cast<uint16_t>(ss_value);
    TRY(Descriptor ss, return_stack_segment(e, ss_selector, new_cpl));
    TRY_VOID(mark_accessed(e, ss));
    e.system.segment(SegmentName::kSs) = ss.to_segment(ss_selector);
    new_rsp = outer_rsp;
    drop_inner_segments(e, new_cpl);
  }
  TRY_VOID(mark_accessed(e, cs));
  e.system.segment(SegmentName::kCs) = cs.to_segment(cs_selector);
  e.system_changed = true;
  e.registers.rip = rip;
  e.registers.general[kRsp] = new_rsp;
  e.set_flags(mask, flags);
  return {};
}

Step<void> lar(Execution& e) {
  TRY(std::optional<Descriptor> found, visible_descriptor(e));
  bool long_mode = (e.system.efer & kEferLma) != 0;
  bool ok = found && has_rights(*found, long_mode);
  e.set_flag(kZero, ok);
  if (ok) e.set_reg(e.insn().reg, e.size(), found->bits >> 32 & 0x00f0ff00);
  return {};
}

Step<void> lsl(Execution& e) {
  TRY(std::optional<Descriptor> found, visible_descriptor(e));
  bool long_mode = (e.system.efer & kEferLma) != 0;
  bool ok = found && has_limit(*found, long_mode);
  e.set_flag(kZero, ok);
  if (ok) e.set_reg(e.insn().reg, e.size(), found->limit());
  return {};
}

Step<void> verr(Execution& e) {
  TRY(std::optional<Descriptor> found, visible_descriptor(e));
  bool readable =
      found && found->code_or_data() && (!found->is_code() || (found->type() & kTypeAccess) != 0);
  e.set_flag(kZero, readable);
  return {};
}

Step<void> verw(Execution& e) {
  TRY(std::optional<Descriptor> found, visible_descriptor(e));
  e.set_flag(kZero, found && found->is_writable_data());
  return {};
}

}  // namespace calf::insn
