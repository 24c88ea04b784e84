#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "tests/bench/limits/kvm_machine.h"
#include "tests/bench/limits/limits.h"

namespace calf::bench {
namespace {

// In real mode: mov al,10h; out 0f4h,al; hlt
constexpr unsigned char kCode[] = {0xb0, 0x10, 0xe6, 0xf4, 0xf4};
constexpr uint16_t kEntry = 0x7c00;

int run(KvmMachine& machine) {
  if (const int error = machine.create(size_t{128} << 20); error != 0) return error;
  std::memcpy(machine.memory() + kEntry, kCode, sizeof kCode);
  kvm_sregs sregs{};
  if (const int error = machine.vcpu_call(KVM_GET_SREGS, &sregs); error != 0) return error;
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  if (const int error = machine.vcpu_call(KVM_SET_SREGS, &sregs); error != 0) return error;
  kvm_regs regs{};
  regs.rip = kEntry;
  regs.rflags = 2;
  if (const int error = machine.vcpu_call(KVM_SET_REGS, &regs); error != 0) return error;
  return machine.run_to_exit();
}

}  // namespace

int run_kvm_limit(const char* say, bool stay) {
  KvmMachine machine;
  const int error = run(machine);
  if (error != 0) return error;
  if (say != nullptr) {
    std::puts(say);
    std::fflush(stdout);
  }
  if (stay) ::pause();
  return 0;
}

}  // namespace calf::bench
