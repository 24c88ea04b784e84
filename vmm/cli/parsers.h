// One parser for each option whose value has a form of its own. All take what stands behind the
// option.
#pragma once

#include <string_view>

#include "block/base/result.h"
#include "vmm/cli/command_line.h"
#include "vmm/config.h"

namespace calf::vmm {

// -m [size=]SIZE: MiB if there is no suffix.
Result<uint64_t> parse_memory(std::string_view text);
// -smp [cpus=]N,sockets=,cores=,threads=: what is missing is filled in as QEMU does since 6.2
// (cores before sockets).
Result<Topology> parse_smp(std::string_view text);
// -cpu host|max[,+feature][,-feature][,feature=on|off]
Result<std::vector<CpuFeature>> parse_cpu(std::string_view text);
// -machine pc|q35|microvm[,accel=kvm]: accepted, since calf has one machine.
Result<void> check_machine(std::string_view text);
Result<void> check_accel(std::string_view text);
// -boot c|d|order=…,…
Result<std::string> parse_boot(std::string_view text);
// -rtc base=utc|localtime|DATE
Result<void> parse_rtc(std::string_view text, MachineConfig& machine);
Result<SmbiosEntry> parse_smbios(std::string_view text);
Result<std::chrono::milliseconds> parse_duration(std::string_view what, std::string_view text);

// -drive file=…; a disk with an index stands at that place.
struct DriveSpec {
  DiskConfig disk;
  std::optional<unsigned> index;
};
Result<DriveSpec> parse_drive(std::string_view text);
// -device NAME,…; changes what it names.
Result<void> parse_device(std::string_view text, CommandLine& line);
// -chardev KIND,id=ID,…
Result<void> parse_chardev(std::string_view text, CommandLine& line);
// -object rng-random|rng-builtin,id=…: what -device virtio-rng-pci may refer to.
Result<void> check_object(std::string_view text);

}  // namespace calf::vmm
