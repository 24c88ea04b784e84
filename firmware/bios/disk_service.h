// INT 13h: disks, by cylinder, head and sector, and by EDD's linear numbers.
//
//   AX, CX, DX  or  packet at DS:SI  ->  checked range of the drive, checked guest memory
//                                    ->  Drive::read / write  ->  AH and carry
//
// The last status of a drive stands in the BIOS data area, floppies' at 441h, others' at 474h.
//
// Not supported: formatting, long sectors, changing of media, locking.
#pragma once

#include "block/base/log.h"
#include "firmware/bios/call.h"
#include "firmware/bios/drive_table.h"

namespace calf::firmware {

// What INT 13h returns in AH.
enum class DiskStatus : uint8_t {
  kOk = 0x00,
  kInvalid = 0x01,  // function, drive or parameter
  kWriteProtected = 0x03,
  kSectorNotFound = 0x04,
  kBadBuffer = 0x09,  // not RAM, all of it
  kReadError = 0x10,
  kWriteFault = 0xCC,
};

class DiskService {
 public:
  DiskService(DriveTable& drives, const RealMemory& memory, Log& log)
      : drives_(drives), memory_(memory), log_(log) {}

  // Every function that does not exist is an error in AH, as INT 13h's convention has it.
  void handle(Call& call);

 private:
  enum class Action : uint8_t { kRead, kWrite, kVerify };

  DiskStatus serve(Call& call, Drive& drive);
  DiskStatus by_geometry(Call& call, Drive& drive, Action action);
  DiskStatus by_packet(Call& call, Drive& drive, Action action);
  DiskStatus transfer(Drive& drive, uint64_t first, uint32_t count, devices::Gpa buffer,
                      Action action);
  DiskStatus parameters(Call& call, Drive& drive);
  DiskStatus type(Call& call, Drive& drive);
  DiskStatus extensions(Call& call);
  DiskStatus extended_parameters(Call& call, Drive& drive);
  DiskStatus reset(Drive& drive);
  void emulation(Call& call);
  void finish(Call& call, uint8_t number, DiskStatus status);

  DriveTable& drives_;
  const RealMemory& memory_;
  Log& log_;
  RateLimit limit_;
};

}  // namespace calf::firmware
