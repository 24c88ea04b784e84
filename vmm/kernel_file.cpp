#include "vmm/kernel_file.h"

namespace calf::vmm {

firmware::KernelEntry kernel_entry(const MachineConfig& config) {
  using firmware::KernelEntry;
  return config.guest_decompresses ? KernelEntry::kSelfUnpack : KernelEntry::kAuto;
}

Result<KernelFile> KernelFile::read(const MachineConfig& config, uint64_t limit) {
  KernelFile kernel;
  TRY(kernel.file, HostFile::read(config.kernel));
  auto unpacked = firmware::unpack_kernel(kernel.file.bytes(), kernel_entry(config), limit);
  if (!unpacked.ok()) return std::move(unpacked.error()).with_context(config.kernel);
  kernel.unpacked = std::move(*unpacked);
  return kernel;
}

std::future<Result<KernelFile>> KernelFile::start_reading(const MachineConfig& config,
                                                          uint64_t limit) {
  return std::async(std::launch::async, [&config, limit] { return read(config, limit); });
}

}  // namespace calf::vmm
