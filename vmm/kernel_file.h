// KernelFile: what -kernel names, read and, if calf unpacks it, unpacked.
//
// That takes longer than anything else at the start of a guest, so it is begun before there is a
// machine, on a thread of its own, and waited for when the guest's memory is filled.
#pragma once

#include <future>

#include "firmware/boot/kernel.h"
#include "vmm/config.h"
#include "vmm/host_file.h"

namespace calf::vmm {

struct KernelFile {
  HostFile file;
  firmware::UnpackedBytes unpacked;

  // `limit`: bytes that the guest has room for. Errors name the file.
  static Result<KernelFile> read(const MachineConfig& config, uint64_t limit);
  // `config` outlives the answer, whose destructor waits for it.
  static std::future<Result<KernelFile>> start_reading(const MachineConfig& config, uint64_t limit);
};

// How the configuration wants it entered.
firmware::KernelEntry kernel_entry(const MachineConfig& config);

}  // namespace calf::vmm
