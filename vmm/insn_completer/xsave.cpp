// FXSAVE and the XSAVE family (Intel SDM vol. 1, chapter 13).
//
//   0    512   legacy region: x87, MXCSR, XMM
//   512   64   header: XSTATE_BV, XCOMP_BV, zeros
//   576        extended components, at offsets that CPUID leaf 0Dh tells (standard form) or packed
//              in order (compacted form)
//
// The processor's state comes and goes in standard form; the work is to move components. Supervisor
// components (IA32_XSS) are taken to be in their initial state always: KVM keeps none of those that
// would matter where this code runs.
#include <algorithm>
#include <bit>
#include <cstring>

#include "block/base/endian.h"
#include "vmm/insn_completer/handlers.h"

namespace calf::insn {

namespace {

constexpr size_t kHeader = 512;
constexpr size_t kExtended = 576;
constexpr size_t kMxcsrOffset = 24;
constexpr size_t kXmmOffset = 160;
constexpr size_t kXmmEnd = 416;
constexpr size_t kFxsaveEnd = 512;
constexpr uint32_t kMxcsrInitial = 0x1f80;
constexpr uint32_t kMxcsrMask = 0xffff;
constexpr uint16_t kFcwInitial = 0x37f;
constexpr uint64_t kX87 = 1 << 0;
constexpr uint64_t kSse = 1 << 1;
constexpr uint64_t kAvx = 1 << 2;
constexpr uint64_t kCompacted = uint64_t{1} << 63;
constexpr unsigned kComponents = 63;

struct Header {
  le64 xstate_bv;
  le64 xcomp_bv;
  le64 zero[6];
};
static_assert(sizeof(Header) == 64);

template <class T>
T load(const XsaveState& state, size_t offset) {
  T value;
  std::memcpy(&value, state.bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
void store(XsaveState& state, size_t offset, const T& value) {
  std::memcpy(state.bytes.data() + offset, &value, sizeof value);
}

struct Component {
  size_t standard_offset;
  size_t size;
  bool aligned;     // to 64 bytes, in compacted form
  bool supervisor;  // not in standard form at all
};

Component component(Execution& e, unsigned number) {
  CpuidLeaf leaf = e.cpu().cpuid(0xd, number);
  return {leaf.ebx, leaf.eax, (leaf.ecx & 2) != 0, (leaf.ecx & 1) != 0};
}

// Calls visit(component number, its Component, its offset) for the extended components of `layout`
// in order. Offsets are those of the standard or of the compacted form.
template <class Visit>
Step<void> for_each_extended(Execution& e, uint64_t layout, bool compacted, Visit visit) {
  size_t next = kExtended;
  for (unsigned i = 2; i < kComponents; ++i) {
    if ((layout >> i & 1) == 0) continue;
    Component c = component(e, i);
    size_t offset = c.standard_offset;
    if (compacted) {
      if (c.aligned) next = (next + 63) & ~size_t{63};
      offset = next;
      next += c.size;
    }
    if (!c.supervisor && c.standard_offset + c.size > sizeof XsaveState::bytes) {
      return NotKnown{"a state component beyond the first 4 KiB"};
    }
    TRY_VOID(visit(i, c, offset));
  }
  return {};
}

struct Request {
  uint64_t linear;
  uint64_t components;  // RFBM
  uint64_t enabled;     // XCR0, with XSS for the supervisor forms
};

// What all forms check first.
Step<Request> begin(Execution& e, bool supervisor) {
  if ((e.system.cr4 & kCr4Osxsave) == 0) return invalid_opcode();
  if ((e.system.cr0 & kCr0Ts) != 0) return device_not_available();
  if (supervisor && e.cpl() != 0) return general_protection();
  TRY(uint64_t linear, e.operand_address(kExtended));
  if (linear % 64 != 0) return general_protection();
  TRY(uint64_t enabled, e.cpu().xcr0());
  if (supervisor) {
    TRY(uint64_t xss, e.cpu().msr(kMsrXss));
    enabled |= xss;
  }
  uint64_t wanted = e.reg(kRax, 4) | e.reg(kRdx, 4) << 32;
  return Request{linear, wanted & enabled, enabled};
}

Step<void> write_part(Execution& e, uint64_t linear, const XsaveState& state, size_t offset,
                      size_t size) {
  return e.memory().write(linear, std::span(state.bytes).subspan(offset, size));
}

Step<void> write_legacy(Execution& e, uint64_t linear, const XsaveState& state, uint64_t components,
                        bool mxcsr) {
  if ((components & kX87) != 0) {
    TRY_VOID(write_part(e, linear, state, 0, kMxcsrOffset));
    TRY_VOID(write_part(e, linear + 32, state, 32, kXmmOffset - 32));
  }
  if (mxcsr) TRY_VOID(write_part(e, linear + kMxcsrOffset, state, kMxcsrOffset, 8));
  if ((components & kSse) != 0) {
    TRY_VOID(write_part(e, linear + kXmmOffset, state, kXmmOffset, kXmmEnd - kXmmOffset));
  }
  return {};
}

Step<void> save_compacted(Execution& e, bool supervisor) {
  TRY(Request request, begin(e, supervisor));
  TRY(XsaveState state, e.cpu().xsave());
  uint64_t in_use = load<Header>(state, kHeader).xstate_bv;
  bool mxcsr_changed = load<le32>(state, kMxcsrOffset) != kMxcsrInitial;
  if (mxcsr_changed) in_use |= kSse;
  uint64_t saved = request.components & in_use;
  TRY_VOID(write_legacy(e, request.linear, state, saved, (saved & kSse) != 0));
  auto write_component = [&](unsigned i, const Component& c, size_t offset) -> Step<void> {
    if ((saved >> i & 1) == 0 || c.supervisor) return {};
    return write_part(e, request.linear + offset, state, c.standard_offset, c.size);
  };
  TRY_VOID(for_each_extended(e, request.components, true, write_component));
  le64 header[2] = {saved, request.components | kCompacted};
  return e.memory().write(request.linear + kHeader,
                          {reinterpret_cast<const uint8_t*>(header), sizeof header});
}

void reset_x87(XsaveState& state) {
  std::fill_n(state.bytes.begin(), kMxcsrOffset, uint8_t{0});
  std::fill(state.bytes.begin() + 32, state.bytes.begin() + kXmmOffset, uint8_t{0});
  store(state, 0, le16(kFcwInitial));
}

Step<void> read_part(Execution& e, uint64_t linear, XsaveState& state, size_t offset, size_t size) {
  return e.memory().read(linear, std::span(state.bytes).subspan(offset, size));
}

Step<void> check_header(const Header& header, const Request& request, bool supervisor) {
  uint64_t layout = header.xcomp_bv;
  bool good = true;
  if ((layout & kCompacted) != 0) {
    uint64_t present = layout & ~kCompacted;
    good = (header.xstate_bv & ~present) == 0 && (present & ~request.enabled) == 0;
  } else {
    good = !supervisor && layout == 0 && (header.xstate_bv & ~request.enabled) == 0;
  }
  for (const le64& zero : header.zero)
    good = good && zero == 0;
  if (!good) return general_protection();
  return {};
}

Step<void> read_legacy(Execution& e, uint64_t linear, XsaveState& state, const Request& request,
                       uint64_t loaded, bool compacted) {
  if ((loaded & kX87) != 0) {
    TRY_VOID(read_part(e, linear, state, 0, kMxcsrOffset));
    TRY_VOID(read_part(e, linear + 32, state, 32, kXmmOffset - 32));
  } else if ((request.components & kX87) != 0) {
    reset_x87(state);
  }
  // The standard form loads MXCSR whether or not its component is there.
  bool wants_mxcsr = (request.components & (kSse | kAvx)) != 0;
  bool loads_mxcsr = compacted ? (loaded & kSse) != 0 : wants_mxcsr;
  if (loads_mxcsr) {
    TRY_VOID(read_part(e, linear + kMxcsrOffset, state, kMxcsrOffset, 4));
    if ((load<le32>(state, kMxcsrOffset) & ~kMxcsrMask) != 0) return general_protection();
  } else if ((request.components & kSse) != 0) {
    store(state, kMxcsrOffset, le32(kMxcsrInitial));
  }
  if ((loaded & kSse) != 0) {
    TRY_VOID(read_part(e, linear + kXmmOffset, state, kXmmOffset, kXmmEnd - kXmmOffset));
  } else if ((request.components & kSse) != 0) {
    std::fill(state.bytes.begin() + kXmmOffset, state.bytes.begin() + kXmmEnd, uint8_t{0});
  }
  return {};
}

Step<void> restore(Execution& e, bool supervisor) {
  TRY(Request request, begin(e, supervisor));
  Header header;
  auto header_bytes = std::span(reinterpret_cast<uint8_t*>(&header), sizeof header);
  TRY_VOID(e.memory().read(request.linear + kHeader, header_bytes));
  TRY_VOID(check_header(header, request, supervisor));
  uint64_t layout = header.xcomp_bv;
  bool compacted = (layout & kCompacted) != 0;
  uint64_t loaded = request.components & header.xstate_bv;

  TRY(XsaveState state, e.cpu().xsave());
  TRY_VOID(read_legacy(e, request.linear, state, request, loaded, compacted));
  auto read_component = [&](unsigned i, const Component& c, size_t offset) -> Step<void> {
    if ((loaded >> i & 1) == 0 || c.supervisor) return {};
    return read_part(e, request.linear + offset, state, c.standard_offset, c.size);
  };
  uint64_t places = compacted ? layout & ~kCompacted : request.components;
  TRY_VOID(for_each_extended(e, places, compacted, read_component));

  Header now = load<Header>(state, kHeader);
  // SSE stays marked as in use, so that MXCSR counts.
  now.xstate_bv = (now.xstate_bv & ~request.components) | loaded | kSse;
  store(state, kHeader, now);
  TRY_VOID(e.cpu().set_xsave(state));
  return {};
}

// The MXCSR is 4 bytes at `offset` of the legacy region.
Step<void> set_mxcsr(Execution& e, XsaveState& state, uint32_t value) {
  if ((value & ~kMxcsrMask) != 0) return general_protection();
  store(state, kMxcsrOffset, le32(value));
  Header header = load<Header>(state, kHeader);
  header.xstate_bv |= kSse;
  store(state, kHeader, header);
  TRY_VOID(e.cpu().set_xsave(state));
  return {};
}

Step<uint64_t> begin_fxsave(Execution& e) {
  if ((e.system.cr0 & kCr0Ts) != 0) return device_not_available();
  TRY(uint64_t linear, e.operand_address(kFxsaveEnd));
  if (linear % 16 != 0) return general_protection();
  return linear;
}

// Outside of 64-bit mode there are eight XMM registers.
size_t fxsave_end(const Execution& e) {
  return e.insn().mode == CodeMode::k64 ? kXmmEnd : kXmmOffset + 8 * 16;
}

}  // namespace

Step<void> fxsave(Execution& e) {
  TRY(uint64_t linear, begin_fxsave(e));
  TRY(XsaveState state, e.cpu().xsave());
  TRY_VOID(write_part(e, linear, state, 0, fxsave_end(e)));
  return {};
}

Step<void> fxrstor(Execution& e) {
  TRY(uint64_t linear, begin_fxsave(e));
  TRY(XsaveState state, e.cpu().xsave());
  TRY_VOID(read_part(e, linear, state, 0, fxsave_end(e)));
  Header header = load<Header>(state, kHeader);
  header.xstate_bv |= kX87 | kSse;
  store(state, kHeader, header);
  return set_mxcsr(e, state, load<le32>(state, kMxcsrOffset));
}

Step<void> ldmxcsr(Execution& e) {
  if ((e.system.cr0 & kCr0Ts) != 0) return device_not_available();
  TRY(uint64_t value, e.read_rm(4));
  TRY(XsaveState state, e.cpu().xsave());
  return set_mxcsr(e, state, static_cast<uint32_t>(value));
}

Step<void> stmxcsr(Execution& e) {
  if ((e.system.cr0 & kCr0Ts) != 0) return device_not_available();
  TRY(XsaveState state, e.cpu().xsave());
  return e.write_rm(4, load<le32>(state, kMxcsrOffset));
}

// XSAVE, and XSAVEOPT without its optimisation.
Step<void> xsave(Execution& e) {
  TRY(Request request, begin(e, false));
  TRY(XsaveState state, e.cpu().xsave());
  uint64_t in_use = load<Header>(state, kHeader).xstate_bv;
  bool mxcsr = (request.components & (kSse | kAvx)) != 0;
  TRY_VOID(write_legacy(e, request.linear, state, request.components, mxcsr));
  auto write_component = [&](unsigned, const Component& c, size_t offset) -> Step<void> {
    return write_part(e, request.linear + offset, state, c.standard_offset, c.size);
  };
  TRY_VOID(for_each_extended(e, request.components, false, write_component));
  uint64_t address = request.linear + kHeader;
  TRY(uint64_t before, e.read_memory(address, 8));
  uint64_t after = (before & ~request.components) | (in_use & request.components);
  return e.write_memory(address, 8, after);
}

Step<void> xsavec(Execution& e) {
  return save_compacted(e, false);
}

Step<void> xsaves(Execution& e) {
  return save_compacted(e, true);
}

Step<void> xrstor(Execution& e) {
  return restore(e, false);
}

Step<void> xrstors(Execution& e) {
  return restore(e, true);
}

}  // namespace calf::insn
