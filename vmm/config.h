// MachineConfig: what the person asked for, as plain values. The command line fills it, build()
// reads it.
//
// Nothing here is checked beyond its type; Machine::build() refuses what does not fit together and
// names the option.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace calf::vmm {

// -smp. cpus = sockets * cores * threads, and 1 to 64.
struct Topology {
  unsigned cpus = 1;
  unsigned sockets = 1;
  unsigned cores = 1;    // per socket
  unsigned threads = 1;  // per core
};

enum class CacheMode : uint8_t { kWriteback, kNone, kWritethrough, kDirectSync, kUnsafe };
enum class DiskErrorAction : uint8_t { kReport, kIgnore, kStop, kEnospc };
enum class DiskMedia : uint8_t { kDisk, kCdrom };

// One -drive, -hda, -cdrom or plain disk argument.
struct DiskConfig {
  std::string id;        // for messages and QMP; may be empty
  std::string filename;  // relative to the working directory
  std::string format;    // "raw", "qcow2", …; empty: probed, which refuses what looks like raw
  // False for if=none: opened, but no device until a -device virtio-blk-pci,drive=ID names it.
  bool attach = true;
  DiskMedia media = DiskMedia::kDisk;
  bool read_only = false;
  bool snapshot = false;  // writes go to a throw-away overlay
  bool force = false;     // written to although its base was changed after it was made
  CacheMode cache = CacheMode::kWriteback;
  bool discard_unmap = false;
  bool detect_zeroes = false;
  DiskErrorAction on_write_error = DiskErrorAction::kEnospc;
  DiskErrorAction on_read_error = DiskErrorAction::kReport;
  std::string serial;   // GET_ID, at most 20 bytes
  unsigned queues = 0;  // 0: one per vCPU, within reason
  unsigned queue_size = 256;
  unsigned logical_block_size = 512;
  unsigned physical_block_size = 512;
  std::optional<int> boot_index;  // lower boots first; those without one follow in order
};

enum class RtcBase : uint8_t { kUtc, kLocalTime, kDate };

// -smbios type=N,key=value…
struct SmbiosEntry {
  unsigned type = 1;
  std::vector<std::pair<std::string, std::string>> fields;
};

// -cpu host,+name,-name
struct CpuFeature {
  std::string name;
  bool enable = true;
};

// -device isa-debug-exit,iobase=,iosize=
struct DebugExitConfig {
  uint16_t port = 0x501;
  uint16_t size = 2;
};

struct MachineConfig {
  std::string name;
  std::string uuid;  // empty: all zeroes

  uint64_t memory_bytes = uint64_t{128} << 20;  // a multiple of 1 MiB, at least 1 MiB
  Topology topology;
  std::vector<CpuFeature> cpu_features;

  std::vector<DiskConfig>
      disks;  // in the order in which they are numbered (80h, 81h, …; vda, vdb, …)
  std::string boot_order = "cd";  // QEMU's letters: c disk, d CD; the others are passed over
  std::string scratch_directory;  // for snapshot overlays; empty: beside the image
  std::optional<uint64_t> scratch_limit;

  std::string kernel;  // empty: boot from disk
  std::string initrd;
  std::string append;
  bool guest_decompresses = false;  // let the bzImage's own code unpack the kernel

  std::optional<DebugExitConfig> debug_exit;
  bool pvpanic = false;
  bool debug_port = false;  // 0xE9, to HostServices::debug_port
  unsigned rng_devices = 0;

  std::vector<SmbiosEntry> smbios;
  RtcBase rtc_base = RtcBase::kUtc;
  std::chrono::seconds rtc_date{0};  // since 1970, for RtcBase::kDate

  bool no_reboot = false;    // a reset ends the run
  bool no_shutdown = false;  // a power-off stops the guest; the process stays until stop()
  bool start_paused = false;
  std::optional<std::chrono::milliseconds> timeout;  // the run ends with EndReason::kTimeout
};

}  // namespace calf::vmm
