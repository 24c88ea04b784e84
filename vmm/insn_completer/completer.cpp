#include "vmm/insn_completer/completer.h"

#include "vmm/insn_completer/execution.h"

namespace calf::insn {

namespace {

constexpr size_t kMaxLength = 15;
constexpr uint64_t kPage = 4096;

// The bytes at RIP up to the end of what is mapped, and why they end.
struct Code {
  std::array<uint8_t, kMaxLength> bytes{};
  size_t length = 0;
  std::optional<Stop> end;
};

Code fetch(const devices::GuestMemory& memory, const Registers& registers,
           const SystemRegisters& system) {
  Code code;
  LinearMemory linear_memory(memory, system, registers.rflags);
  uint64_t linear = registers.rip;
  if (code_mode(system) != CodeMode::k64) {
    linear = (linear + system.segment(SegmentName::kCs).base) & 0xffffffff;
  }
  while (code.length < kMaxLength) {
    size_t in_page = kPage - linear % kPage;
    size_t length = std::min(kMaxLength - code.length, in_page);
    auto piece = std::span(code.bytes).subspan(code.length, length);
    Step<void> read = linear_memory.read(linear, piece, AccessKind::kFetch);
    if (!read.has_value()) {
      code.end = std::move(read.error());
      break;
    }
    code.length += length;
    linear += length;
  }
  return code;
}

std::string hex(std::span<const uint8_t> bytes) {
  std::string text;
  for (uint8_t byte : bytes)
    text += fmt::format("{}{:02x}", text.empty() ? "" : " ", byte);
  return text;
}

// Writes back what the instruction did.
Step<void> commit(CpuAccess& cpu, const Execution& execution) {
  if (execution.system_changed) TRY_VOID(cpu.set_system_registers(execution.system));
  TRY_VOID(cpu.set_registers(execution.registers));
  if (execution.trap) TRY_VOID(cpu.inject(*execution.trap));
  if (execution.software_interrupt) {
    TRY_VOID(cpu.inject_software_interrupt(*execution.software_interrupt));
  }
  return {};
}

Step<void> run(CpuAccess& cpu, const devices::GuestMemory& memory, const Registers& registers,
               const SystemRegisters& system) {
  Code code = fetch(memory, registers, system);
  auto bytes = std::span<const uint8_t>(code.bytes).first(code.length);
  std::variant<Decoded, DecodeFailure> decoded = decode(bytes, code_mode(system));
  if (auto* failure = std::get_if<DecodeFailure>(&decoded)) {
    if (*failure == DecodeFailure::kIncomplete && code.end) return std::move(*code.end);
    return NotKnown{fmt::format("unknown instruction {}", hex(bytes))};
  }
  const Decoded& found = std::get<Decoded>(decoded);
  Execution execution(cpu, memory, registers, system, found.instruction);
  TRY_VOID(found.pattern->handler(execution));
  return commit(cpu, execution);
}

}  // namespace

Result<Outcome> complete(CpuAccess& cpu, const devices::GuestMemory& memory) {
  TRY(Registers registers, cpu.registers());
  TRY(SystemRegisters system, cpu.system_registers());
  Step<void> done = run(cpu, memory, registers, system);
  if (done.has_value()) return Outcome(Completed{});
  Stop& stop = done.error();
  if (auto* error = std::get_if<Error>(&stop)) return std::move(*error);
  if (auto* not_known = std::get_if<NotKnown>(&stop)) {
    return Outcome(CannotComplete{std::move(not_known->why)});
  }
  TRY_VOID(cpu.inject(std::get<Exception>(stop)));
  return Outcome(Completed{});
}

}  // namespace calf::insn
