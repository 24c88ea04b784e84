// What is booted, and how the machine stands when it is: INT 19h and INT 18h, and power-on.
//
//   hard disk   sector 0 to 0:7C00
//   CD          El Torito: its program to the segment it wants, or the first sector of the disk
//   that
//               is emulated
//
// The boot program gets the drive's number in DL and a stack below 0:7C00.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "firmware/bios/bios.h"
#include "firmware/bios/drive_table.h"
#include "firmware/bios/real_memory.h"

namespace calf::firmware {

class BootService {
 public:
  // All of these outlive the service. Indices of `sequence` beyond `disks` are passed over.
  BootService(DriveTable& drives, std::span<const BiosDisk> disks, std::span<const size_t> sequence,
              const RealMemory& memory)
      : drives_(drives), disks_(disks), sequence_(sequence), memory_(memory) {}

  // Begins with the first of the sequence again.
  void reset();
  // Loads the next that is bootable and sets `regs` to start it. kNotFound: none was left; the text
  // tells what was tried since reset(), and what can be done.
  Result<void> boot_next(RealModeRegs& regs);

 private:
  struct Start {
    uint16_t segment;
    uint8_t drive;
  };
  Result<Start> load(size_t index);
  Result<Start> load_from_hard_disk(size_t index, uint8_t number);
  Result<Start> load_from_cd(size_t index, uint8_t number);
  Result<void> load_bytes(Drive& drive, ByteRange range, uint16_t segment);
  Error nothing_bootable() const;

  DriveTable& drives_;
  std::span<const BiosDisk> disks_;
  std::span<const size_t> sequence_;
  const RealMemory& memory_;
  size_t next_ = 0;
  std::vector<std::string> refusals_;
};

}  // namespace calf::firmware
