// -drive, -device, -chardev, -object.

#include <algorithm>

#include "vmm/cli/key_value.h"
#include "vmm/cli/parsers.h"

namespace calf::vmm {
namespace {

Result<CacheMode> parse_cache(std::string_view text) {
  if (text == "writeback") return CacheMode::kWriteback;
  if (text == "none" || text == "off") return CacheMode::kNone;
  if (text == "writethrough") return CacheMode::kWritethrough;
  if (text == "directsync") return CacheMode::kDirectSync;
  if (text == "unsafe") return CacheMode::kUnsafe;
  return make_error(ErrorKind::kInvalid,
                    "cache={}: give writeback, none, writethrough, directsync or unsafe", text);
}

Result<DiskErrorAction> parse_error_action(const KeyValue& item) {
  if (item.value == "report") return DiskErrorAction::kReport;
  if (item.value == "ignore") return DiskErrorAction::kIgnore;
  if (item.value == "stop") return DiskErrorAction::kStop;
  if (item.value == "enospc" && item.key == "werror") return DiskErrorAction::kEnospc;
  return make_error(ErrorKind::kInvalid, "{}={}: give report, ignore, stop{}", item.key, item.value,
                    item.key == "werror" ? " or enospc" : "");
}

Result<unsigned> parse_unsigned(std::string_view what, std::string_view text, uint64_t low,
                                uint64_t high) {
  TRY(uint64_t n, parse_number(what, text, low, high));
  return static_cast<unsigned>(n);
}

// Options of -drive that are about the disk itself. False if the key is not one of them.
Result<bool> apply_drive_option(const KeyValue& item, DiskConfig& disk) {
  if (item.key == "file") {
    disk.filename = item.value;
  } else if (item.key == "format") {
    disk.format = item.value;
  } else if (item.key == "id") {
    disk.id = item.value;
  } else if (item.key == "serial") {
    disk.serial = item.value;
  } else if (item.key == "readonly" || item.key == "read-only") {
    TRY(disk.read_only, parse_switch(item));
  } else if (item.key == "snapshot") {
    TRY(disk.snapshot, parse_switch(item));
  } else if (item.key == "force") {
    TRY(disk.force, parse_switch(item));
  } else if (item.key == "cache") {
    TRY(disk.cache, parse_cache(item.value));
  } else if (item.key == "werror") {
    TRY(disk.on_write_error, parse_error_action(item));
  } else if (item.key == "rerror") {
    TRY(disk.on_read_error, parse_error_action(item));
  } else if (item.key == "queues") {
    TRY(disk.queues, parse_unsigned("-drive queues", item.value, 1, 64));
  } else if (item.key == "discard") {
    disk.discard_unmap = item.value == "unmap" || item.value == "on";
    if (!disk.discard_unmap && item.value != "ignore" && item.value != "off") {
      return make_error(ErrorKind::kInvalid, "-drive discard={}: give unmap or ignore", item.value);
    }
  } else if (item.key == "detect-zeroes") {
    disk.detect_zeroes = item.value != "off";
    if (disk.detect_zeroes && item.value != "on" && item.value != "unmap") {
      return make_error(ErrorKind::kInvalid, "-drive detect-zeroes={}: give on, off or unmap",
                        item.value);
    }
  } else {
    return false;
  }
  return true;
}

Result<void> attach_disk(const KeyValueList& list, CommandLine& line) {
  std::string drive;
  for (const KeyValue& item : list.items()) {
    if (item.key == "drive") drive = item.value;
  }
  auto& disks = line.machine.disks;
  auto disk =
      std::find_if(disks.begin(), disks.end(), [&](const DiskConfig& d) { return d.id == drive; });
  if (drive.empty() || disk == disks.end()) {
    return make_error(
        ErrorKind::kInvalid,
        "-device virtio-blk-pci: drive={} names no -drive; give -drive file=…,if=none,id={} "
        "before it",
        drive, drive.empty() ? "ID" : drive);
  }
  disk->attach = true;
  for (const KeyValue& item : list.items()) {
    if (item.key == "serial") {
      disk->serial = item.value;
    } else if (item.key == "bootindex") {
      TRY(uint64_t n, parse_number("bootindex", item.value, 0, INT32_MAX));
      disk->boot_index = static_cast<int>(n);
    } else if (item.key == "num-queues") {
      TRY(disk->queues, parse_unsigned("num-queues", item.value, 1, 64));
    } else if (item.key == "queue-size") {
      TRY(disk->queue_size, parse_unsigned("queue-size", item.value, 2, 1024));
      if ((disk->queue_size & (disk->queue_size - 1)) != 0) {
        return make_error(ErrorKind::kInvalid, "queue-size={}: must be a power of two", item.value);
      }
    } else if (item.key == "logical_block_size") {
      TRY(disk->logical_block_size, parse_unsigned(item.key, item.value, 512, 4096));
    } else if (item.key == "physical_block_size") {
      TRY(disk->physical_block_size, parse_unsigned(item.key, item.value, 512, 1u << 20));
    } else if (item.key != "driver" && item.key != "drive" && item.key != "id" &&
               item.key != "bus" && item.key != "addr" && item.key != "disable-legacy" &&
               item.key != "disable-modern" && item.key != "iothread") {
      return make_error(ErrorKind::kUnsupported,
                        "-device virtio-blk-pci: property '{}' is not known here", item.key);
    } else if (item.key == "disable-modern") {
      TRY(bool off, parse_switch(item));
      if (off)
        return make_error(ErrorKind::kUnsupported, "calf's virtio devices are modern (1.x) only");
    }
  }
  return {};
}

Result<void> add_debug_exit(const KeyValueList& list, CommandLine& line) {
  DebugExitConfig config;
  for (const KeyValue& item : list.items()) {
    if (item.key == "iobase") {
      TRY(uint64_t port, parse_number("iobase", item.value, 0, 0xffff));
      config.port = static_cast<uint16_t>(port);
    } else if (item.key == "iosize") {
      TRY(uint64_t size, parse_number("iosize", item.value, 1, 8));
      config.size = static_cast<uint16_t>(size);
    } else if (item.key != "driver" && item.key != "id") {
      return make_error(
          ErrorKind::kInvalid,
          "-device isa-debug-exit: '{}' is not known; give iobase=, iosize=", item.key);
    }
  }
  line.machine.debug_exit = config;
  return {};
}

}  // namespace

Result<DriveSpec> parse_drive(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text));
  DriveSpec spec;
  for (const KeyValue& item : list.items()) {
    TRY(bool known, apply_drive_option(item, spec.disk));
    if (known) continue;
    if (item.key == "if") {
      if (item.value == "none") {
        spec.disk.attach = false;
      } else if (item.value != "virtio") {
        return make_error(
            ErrorKind::kUnsupported,
            "-drive if={}: calf's disks are virtio-blk; give if=virtio or leave it out",
            item.value);
      }
    } else if (item.key == "index") {
      TRY(spec.index, parse_unsigned("-drive index", item.value, 0, 63));
    } else if (item.key == "media") {
      if (item.value != "disk" && item.value != "cdrom") {
        return make_error(ErrorKind::kInvalid, "-drive media={}: give disk or cdrom", item.value);
      }
      spec.disk.media = item.value == "cdrom" ? DiskMedia::kCdrom : DiskMedia::kDisk;
    } else if (item.key == "aio") {
      // The engine is chosen by what the host allows; all of QEMU's words ask for the same result.
      if (item.value != "threads" && item.value != "native" && item.value != "io_uring") {
        return make_error(ErrorKind::kInvalid, "-drive aio={}: give threads, native or io_uring",
                          item.value);
      }
    } else {
      return make_error(ErrorKind::kUnsupported,
                        "-drive: option '{}' is not known here (see calf --help)", item.key);
    }
  }
  if (spec.disk.filename.empty())
    return make_error(ErrorKind::kInvalid, "-drive {}: needs file=", text);
  if (spec.disk.media == DiskMedia::kCdrom) spec.disk.read_only = true;
  return spec;
}

Result<void> parse_device(std::string_view text, CommandLine& line) {
  TRY(KeyValueList list, KeyValueList::parse(text, "driver"));
  std::string driver;
  for (const KeyValue& item : list.items()) {
    if (item.key == "driver") driver = item.value;
  }
  if (driver.starts_with("virtio-blk")) return attach_disk(list, line);
  if (driver.starts_with("virtio-rng")) {
    ++line.machine.rng_devices;
    return {};
  }
  if (driver == "isa-debug-exit") return add_debug_exit(list, line);
  if (driver == "pvpanic" || driver == "pvpanic-pci") {
    line.machine.pvpanic = true;
    return {};
  }
  return make_error(
      ErrorKind::kUnsupported,
      "-device {}: calf has virtio-blk-pci, virtio-rng-pci, isa-debug-exit and pvpanic", driver);
}

Result<void> parse_chardev(std::string_view text, CommandLine& line) {
  TRY(KeyValueList list, KeyValueList::parse(text, "backend"));
  std::string backend;
  std::string id;
  SerialSpec spec;
  for (const KeyValue& item : list.items()) {
    if (item.key == "backend") {
      backend = item.value;
    } else if (item.key == "id") {
      id = item.value;
    } else if (item.key == "path") {
      spec.path = item.value;
    } else if (item.key == "server") {
      TRY(spec.server, parse_switch(item));
    } else if (item.key == "wait") {
      TRY(spec.wait, parse_switch(item));
    } else if (item.key == "append") {
      TRY(spec.append, parse_switch(item));
    } else if (item.key == "mux" || item.key == "signal") {
      TRY(bool on, parse_switch(item));
      spec.monitor = (item.key == "mux") == on;
    } else {
      return make_error(ErrorKind::kUnsupported, "-chardev: option '{}' is not known here",
                        item.key);
    }
  }
  using Kind = SerialSpec::Kind;
  if (backend == "stdio") {
    spec.kind = Kind::kStdio;
  } else if (backend == "null") {
    spec.kind = Kind::kNull;
  } else if (backend == "pty") {
    spec.kind = Kind::kPty;
  } else if (backend == "file") {
    spec.kind = Kind::kFile;
  } else if (backend == "socket") {
    spec.kind = Kind::kUnix;
  } else {
    return make_error(ErrorKind::kUnsupported,
                      "-chardev {}: calf has stdio, null, pty, file and socket (with path=)",
                      backend);
  }
  if (id.empty()) return make_error(ErrorKind::kInvalid, "-chardev {}: needs id=", text);
  if ((spec.kind == Kind::kFile || spec.kind == Kind::kUnix) && spec.path.empty()) {
    return make_error(ErrorKind::kInvalid, "-chardev {}: needs path=", text);
  }
  if (!line.chardevs.emplace(id, spec).second) {
    return make_error(ErrorKind::kInvalid, "-chardev: id '{}' is used twice", id);
  }
  return {};
}

Result<void> check_object(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "type"));
  for (const KeyValue& item : list.items()) {
    if (item.key != "type" && item.key != "qom-type") continue;
    if (item.value == "rng-random" || item.value == "rng-builtin") return {};
    return make_error(
        ErrorKind::kUnsupported,
        "-object {}: calf has rng-random and rng-builtin (encrypted disks are not supported "
        "yet)",
        item.value);
  }
  return make_error(ErrorKind::kInvalid, "-object {}: needs a type", text);
}

}  // namespace calf::vmm
