#include "firmware/bios/disk_service.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "firmware/bios/areas.h"
#include "firmware/bios/edd.h"

namespace calf::firmware {
namespace {

using devices::Gpa;

// The INT 13h numbers of a floppy's kind, for AH=08h.
uint8_t floppy_type(const Geometry& geometry) {
  switch (geometry.sectors) {
    case 15:
      return 2;
    case 18:
      return 4;
    default:
      return 5;
  }
}

Gpa status_address(uint8_t drive) {
  return drive < kFirstHardDisk ? bda::kDisketteStatus : bda::kDiskStatus;
}

}  // namespace

void DiskService::handle(Call& call) {
  RealModeRegs& regs = call.regs;
  uint8_t number = regs.dx.low();
  uint8_t function = regs.ax.high();
  if (function == 0x4B) return emulation(call);
  Drive* drive = drives_.find(number);
  if (!drive) {
    if (function == 0x15) {  // "no such drive" is an answer here
      call.succeed();
      return;
    }
    if (function == 0x00 && number < kFirstHardDisk) {
      // Boot programs reset the first floppy drive whether there is one or not.
      return finish(call, number, DiskStatus::kOk);
    }
    return finish(call, number, DiskStatus::kInvalid);
  }
  if (function == 0x01) {
    uint8_t last = memory_.byte(status_address(number));
    regs.ax.set_high(last);
    call.set_carry(last != 0);
    return;
  }
  DiskStatus status = serve(call, *drive);
  // AH of these is an answer, not a status.
  bool answered = status == DiskStatus::kOk && (function == 0x15 || function == 0x41);
  if (answered) {
    call.set_carry(false);
    return;
  }
  finish(call, number, status);
}

DiskStatus DiskService::serve(Call& call, Drive& drive) {
  bool cd = drive.type() == Drive::Type::kCdrom;
  uint8_t function = call.regs.ax.high();
  if (cd && function < 0x41 && function != 0x00 && function != 0x0D && function != 0x10) {
    return DiskStatus::kInvalid;  // a CD has no cylinders
  }
  switch (function) {
    case 0x00:  // reset
    case 0x0D:
      return reset(drive);
    case 0x02:
      return by_geometry(call, drive, Action::kRead);
    case 0x03:
      return by_geometry(call, drive, Action::kWrite);
    case 0x04:
      return by_geometry(call, drive, Action::kVerify);
    case 0x08:
      return parameters(call, drive);
    case 0x09:  // set up by parameter table
    case 0x0C:  // seek
    case 0x10:  // is it ready?
    case 0x11:  // recalibrate
    case 0x14:  // self-test
      return DiskStatus::kOk;
    case 0x15:
      return type(call, drive);
    case 0x16:  // floppy changed? never
      return drive.type() == Drive::Type::kFloppy ? DiskStatus::kOk : DiskStatus::kInvalid;
    case 0x41:
      return extensions(call);
    case 0x42:
      return by_packet(call, drive, Action::kRead);
    case 0x43:
      return by_packet(call, drive, Action::kWrite);
    case 0x44:  // verify
    case 0x47:  // seek
      return by_packet(call, drive, Action::kVerify);
    case 0x48:
      return extended_parameters(call, drive);
    case 0x49:  // changed? never
    case 0x4E:  // set hardware modes: all are as good as they get
      return DiskStatus::kOk;
    default:
      return DiskStatus::kInvalid;
  }
}

DiskStatus DiskService::by_geometry(Call& call, Drive& drive, Action action) {
  RealModeRegs& regs = call.regs;
  uint32_t count = regs.ax.low();
  regs.ax.set_low(0);  // transferred so far
  uint32_t sector = regs.cx.low() & 0x3F;
  uint32_t cylinder = regs.cx.high() | (regs.cx.low() & 0xC0u) << 2;
  uint32_t head = regs.dx.high();
  if (count == 0 || count > 128 || sector == 0) return DiskStatus::kInvalid;
  const Geometry& geometry = drive.geometry();
  if (cylinder >= geometry.cylinders || head >= geometry.heads || sector > geometry.sectors) {
    return DiskStatus::kSectorNotFound;
  }
  uint64_t first = (uint64_t{cylinder} * geometry.heads + head) * geometry.sectors + sector - 1;
  DiskStatus status = transfer(drive, first, count, linear(regs.es, regs.bx.word()), action);
  if (status == DiskStatus::kOk) regs.ax.set_low(count);
  return status;
}

DiskStatus DiskService::by_packet(Call& call, Drive& drive, Action action) {
  RealModeRegs& regs = call.regs;
  Gpa at = linear(regs.ds, regs.si.word());
  DiskAddressPacket packet;
  if (!memory_.read_object(at, packet) || packet.size < sizeof packet) return DiskStatus::kInvalid;
  Gpa buffer = linear(packet.segment, packet.offset);
  bool flat = packet.segment == 0xFFFF && packet.offset == 0xFFFF;
  if (flat && packet.size >= kPacketWithFlatAddress) {
    le64 address;
    if (!memory_.read_object(at + sizeof packet, address)) return DiskStatus::kInvalid;
    buffer = Gpa{address.value()};
  }
  uint16_t count = packet.count;
  DiskStatus status = transfer(drive, packet.sector, count, buffer, action);
  if (status != DiskStatus::kOk) {
    memory_.set_word(at + offsetof(DiskAddressPacket, count), 0);
  }
  return status;
}

DiskStatus DiskService::transfer(Drive& drive, uint64_t first, uint32_t count, Gpa buffer,
                                 Action action) {
  if (first > drive.sectors() || count > drive.sectors() - first) {
    return DiskStatus::kSectorNotFound;
  }
  if (action == Action::kWrite && drive.read_only()) return DiskStatus::kWriteProtected;
  if (count == 0 || action == Action::kVerify) return DiskStatus::kOk;
  ByteRange range{first * drive.sector_size(), uint64_t{count} * drive.sector_size()};
  bool reads = action == Action::kRead;
  std::vector<iovec> pieces;
  auto direction = reads ? RealMemory::Direction::kToGuest : RealMemory::Direction::kFromGuest;
  if (!memory_.pieces(buffer, range.length, direction, pieces)) return DiskStatus::kBadBuffer;
  Result<void> done = reads ? drive.read(range, pieces) : drive.write(range, pieces);
  if (done.ok()) return DiskStatus::kOk;
  if (limit_.allow()) {
    log_.warning("{}: BIOS {} of sector {} failed: {}", drive.disk().name, reads ? "read" : "write",
                 first, done.error().message());
  }
  return reads ? DiskStatus::kReadError : DiskStatus::kWriteFault;
}

DiskStatus DiskService::parameters(Call& call, Drive& drive) {
  RealModeRegs& regs = call.regs;
  const Geometry& geometry = drive.geometry();
  uint32_t last = geometry.cylinders - 1;
  bool floppy = drive.type() == Drive::Type::kFloppy;
  regs.ax.set_low(0);
  regs.cx.set_high(last);
  regs.cx.set_low(geometry.sectors | (last >> 8 & 3) << 6);
  regs.dx.set_high(geometry.heads - 1);
  regs.dx.set_low(floppy ? drives_.floppies() : drives_.hard_disks());
  if (floppy) {
    regs.bx.set_low(floppy_type(geometry));
    regs.es = kBiosSegmentSelector;
    regs.di.set_word(kDisketteTableOffset);
  }
  return DiskStatus::kOk;
}

DiskStatus DiskService::type(Call& call, Drive& drive) {
  constexpr uint8_t kFloppyWithoutChangeLine = 1;
  constexpr uint8_t kFixedDisk = 3;
  RealModeRegs& regs = call.regs;
  if (drive.type() == Drive::Type::kFloppy) {
    regs.ax.set_high(kFloppyWithoutChangeLine);
    return DiskStatus::kOk;
  }
  const Geometry& geometry = drive.geometry();
  uint64_t by_geometry = uint64_t{geometry.cylinders} * geometry.heads * geometry.sectors;
  auto sectors = static_cast<uint32_t>(std::min(by_geometry, drive.sectors()));
  regs.ax.set_high(kFixedDisk);
  regs.cx.set_word(sectors >> 16);
  regs.dx.set_word(sectors);
  return DiskStatus::kOk;
}

DiskStatus DiskService::extensions(Call& call) {
  RealModeRegs& regs = call.regs;
  if (regs.bx.word() != kExtensionsAsk) return DiskStatus::kInvalid;
  regs.bx.set_word(kExtensionsAnswer);
  regs.ax.set_high(kEddVersion30);
  regs.cx.set_word(kExtendedAccess | kEddSupport);
  return DiskStatus::kOk;
}

DiskStatus DiskService::extended_parameters(Call& call, Drive& drive) {
  RealModeRegs& regs = call.regs;
  Gpa at = linear(regs.ds, regs.si.word());
  le16 room;
  if (!memory_.read_object(at, room) || room < kDriveParameters1Size) return DiskStatus::kInvalid;
  DriveParameters info{};
  auto& devfn = drive.disk().pci_function;
  info.size = kDriveParameters1Size;
  if (room >= kDriveParameters2Size) info.size = kDriveParameters2Size;
  if (room >= kDriveParameters3Size && devfn) info.size = kDriveParameters3Size;
  if (drive.type() == Drive::Type::kCdrom) {
    info.flags = kRemovable;
    info.cylinders = info.heads = info.sectors = 0xFFFFFFFF;
  } else {
    const Geometry& geometry = drive.geometry();
    uint64_t per_cylinder = uint64_t{geometry.heads} * geometry.sectors;
    info.flags = kGeometryValid;
    info.cylinders = static_cast<uint32_t>(
        std::min<uint64_t>(std::max<uint64_t>(drive.sectors() / per_cylinder, 1), UINT32_MAX));
    info.heads = geometry.heads;
    info.sectors = geometry.sectors;
  }
  info.total_sectors = drive.sectors();
  info.sector_size = static_cast<uint16_t>(drive.sector_size());
  info.dpte_offset = info.dpte_segment = 0xFFFF;
  if (devfn) {
    constexpr size_t kPathStart = offsetof(DriveParameters, path_key);
    info.path_key = kDevicePathKey;
    info.path_size = static_cast<uint8_t>(sizeof info - kPathStart);
    std::memcpy(info.bus, "PCI ", sizeof info.bus);
    std::memcpy(info.interface, "SCSI    ", sizeof info.interface);  // EDD knows no virtio
    info.pci_slot = *devfn >> 3;
    info.pci_function = *devfn & 7;
    auto* bytes = reinterpret_cast<const uint8_t*>(&info);
    uint8_t sum = 0;
    for (size_t i = kPathStart; i < sizeof info; ++i)
      sum = static_cast<uint8_t>(sum + bytes[i]);
    info.checksum = static_cast<uint8_t>(-sum);
  }
  std::span<const uint8_t> stored(reinterpret_cast<const uint8_t*>(&info), info.size);
  return memory_.write(at, stored) ? DiskStatus::kOk : DiskStatus::kBadBuffer;
}

DiskStatus DiskService::reset(Drive& drive) {
  auto flushed = drive.flush();
  if (flushed.ok()) return DiskStatus::kOk;
  if (limit_.allow()) {
    log_.warning("{}: BIOS flush failed: {}", drive.disk().name, flushed.error().message());
  }
  return DiskStatus::kWriteFault;
}

// AH=4Bh: the CD that the machine was booted from.
void DiskService::emulation(Call& call) {
  constexpr uint8_t kTerminate = 0;
  constexpr uint8_t kStatus = 1;
  constexpr uint8_t kAllDrives = 0x7F;
  RealModeRegs& regs = call.regs;
  uint8_t number = regs.dx.low();
  uint8_t action = regs.ax.low();
  const auto& packet = drives_.boot_packet();
  bool ours = packet && (number == packet->drive || number == kAllDrives);
  if (action > kStatus || !ours) return finish(call, number, DiskStatus::kInvalid);
  SpecificationPacket copy = *packet;
  if (!memory_.write_object(linear(regs.ds, regs.si.word()), copy)) {
    return finish(call, number, DiskStatus::kBadBuffer);
  }
  if (action == kTerminate) {
    drives_.end_emulation();
    memory_.set_byte(bda::kDiskCount, static_cast<uint8_t>(drives_.hard_disks()));
  }
  finish(call, number, DiskStatus::kOk);
}

void DiskService::finish(Call& call, uint8_t number, DiskStatus status) {
  memory_.set_byte(status_address(number), static_cast<uint8_t>(status));
  call.regs.ax.set_high(static_cast<uint8_t>(status));
  call.set_carry(status != DiskStatus::kOk);
}

}  // namespace calf::firmware
