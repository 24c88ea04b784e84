// Step<T>: what one step of an instruction gives, or why the instruction ends here.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <variant>

#include "block/base/result.h"
#include "vmm/insn_completer/cpu_access.h"

namespace calf::insn {

// The completer does not know what to do with this instruction.
struct NotKnown {
  std::string why;
};

// Exception: the guest gets it. NotKnown: nobody does. Error: the hypervisor failed.
using Stop = std::variant<Exception, NotKnown, Error>;

template <class T>
class [[nodiscard]] Step : public tl::expected<T, Stop> {
  using Base = tl::expected<T, Stop>;

 public:
  using Base::Base;
  Step(Stop stop) : Base(tl::unexpect, std::move(stop)) {}
  Step(Exception exception) : Base(tl::unexpect, exception) {}
  Step(NotKnown not_known) : Base(tl::unexpect, std::move(not_known)) {}
  Step(Error error) : Base(tl::unexpect, std::move(error)) {}
};

inline Exception invalid_opcode() {
  return {kVectorInvalidOpcode, std::nullopt, std::nullopt};
}
inline Exception device_not_available() {
  return {kVectorDeviceNotAvailable, std::nullopt, std::nullopt};
}
inline Exception general_protection(uint32_t error_code = 0) {
  return {kVectorGeneralProtection, error_code, std::nullopt};
}
inline Exception stack_fault(uint32_t error_code = 0) {
  return {kVectorStackFault, error_code, std::nullopt};
}
inline Exception segment_not_present(uint32_t error_code) {
  return {kVectorSegmentNotPresent, error_code, std::nullopt};
}

}  // namespace calf::insn
