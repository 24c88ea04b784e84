// Bios: the PC's BIOS services, without a ROM.
//
//   guest:  int 13h  ->  F000:stub 13h  ->  out kTrapPort, al      (exit to the VMM)
//   VMM:    registers -> Bios::handle() -> registers, memory, disk
//   guest:                                  iret                    (where handle() left CS:IP)
//
// Each of the 256 vectors has an 8-byte stub in segment F000:
//
//   +0  out kTrapPort, al     first call
//   +2  iret
//   +3  sti; hlt              a service that waits sends the guest here: interrupts are taken and
//   +5  out kTrapPort, al     the vCPU thread never blocks; after each, the service is asked again
//   +7  iret
//
// so the address of the trap tells the vector and whether the call is a repeated one. `pushf; call
// far` of a saved vector works like `int`. A service edits the flags image on the guest's stack
// (SS:SP -> IP, CS, FLAGS).
//
// What the VMM does:
//   - at power-on and after every reset: install(), then boot(), which gives the registers of the
//     boot sector's first instruction (segment bases are 16 * selector, limits 64 KiB, CR0.PE = 0);
//     and the chips in the state of struct ChipSetup, as no code runs that would program them;
//   - at an `out` to kTrapPort with CR0.PE = 0 or EFLAGS.VM = 1: complete the pending I/O, call
//     handle() with the registers (IP before or behind the `out`: both are understood), put all of
//     them back, IP and CS included. An `out` to that port in protected mode is no service call;
//     it is ignored.
//
// Memory between 0xF0000 and 0x100000 holds the stubs and is read-only to the guest;
// kEntryPointArea in it is left alone (ACPI and friends put their entry points there).
//
// Not supported: APM, VESA, a display's memory, PXE, disk formatting, INT 13h on changed media.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/base/log.h"
#include "block/base/result.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "devices/core/bus.h"
#include "devices/core/clock.h"
#include "devices/core/guest_memory.h"
#include "firmware/bios/regs.h"
#include "firmware/memory_map.h"

namespace calf::firmware {

// One byte wide; nothing else of the machine answers there.
inline constexpr uint16_t kTrapPort = 0xB8;

enum class DiskKind : uint8_t { kHardDisk, kCdrom };

// A disk that INT 13h reaches. Hard disks are numbered from 80h, CDs from E0h, in list order.
struct BiosDisk {
  block::Node* node = nullptr;   // not owned; outlives the Bios
  Executor* executor = nullptr;  // the node's; some thread runs it whenever handle() is called
  DiskKind kind = DiskKind::kHardDisk;
  bool read_only = false;
  uint32_t sector_size = 512;  // of a hard disk: 512 or 4096; CDs have 2048
  std::string name;            // for messages: the file's name
  // Where its PCI device stands (slot << 3 | function on bus 0), for the EDD device path.
  std::optional<uint8_t> pci_function;
};

// What has been typed and no one has read yet: the serial console's received bytes.
class KeySource {
 public:
  virtual ~KeySource() = default;
  // Takes the oldest byte; nothing if none is there. Called on the vCPU's thread, and only when the
  // guest asks for a key.
  virtual std::optional<uint8_t> take() = 0;
};

struct BiosConfig {
  std::vector<BiosDisk> disks;
  // Indices into `disks`, in the order in which booting is tried. Others are never booted from.
  std::vector<size_t> boot_sequence;
  // The memory map for INT 15h; copied.
  std::vector<E820Entry> e820;
};

// Everything outlives the Bios.
struct BiosServices {
  const devices::GuestMemory& memory;
  // The machine's I/O ports: RTC, serial ports, PCI configuration and A20 gate are reached there.
  devices::Bus& ports;
  devices::Clock& clock;
  Log& log;
  KeySource& keys;
  // Takes what the guest prints, as UTF-8 with ANSI escapes. Called on the vCPU's thread; does not
  // wait.
  std::function<void(std::span<const uint8_t>)> print;
};

// What the VMM does after handle().
enum class Outcome : uint8_t {
  kResume,      // registers as they are now
  kIgnored,     // not one of the stubs: nothing was changed, go on behind the `out`
  kReset,       // reset the machine
  kNoBootDisk,  // the guest gave up booting (INT 18h, 19h) and nothing is left to try; text() says
                // what was tried. It was printed too; registers lead to a halt loop.
};

// The state in which the BIOS leaves the interrupt controllers and the timer.
struct ChipSetup {
  static constexpr uint8_t kPicMasterBase = 0x08;  // vector of IRQ0
  static constexpr uint8_t kPicSlaveBase = 0x70;   // vector of IRQ8
  static constexpr uint8_t kPicMasterMask = 0xF8;  // timer, keyboard and cascade are on
  static constexpr uint8_t kPicSlaveMask = 0xFE;   // RTC
  static constexpr uint8_t kPitChannel0Mode = 2;   // rate generator, binary, low then high byte
  static constexpr uint32_t kPitChannel0Count = 0x10000;  // written as 0: 18.2 Hz
};

class Bios {
 public:
  Bios(BiosConfig config, BiosServices services);
  ~Bios();
  Bios(const Bios&) = delete;
  Bios& operator=(const Bios&) = delete;

  // Writes the vector table, the BIOS data areas and the F000 segment (through the host's view)
  // and forgets all state of an earlier run. kInvalid if guest memory lacks one of the areas.
  Result<void> install();

  // Loads the first boot sector of the boot sequence and sets `regs` to start it. Executors run.
  // If there is none, the error (kNotFound) lists what was looked at, why it was refused, and what
  // to do.
  Result<void> boot(RealModeRegs& regs);

  // A trap. Any vCPU thread; calls are serialised. Waits for disk I/O, nothing else.
  Outcome handle(RealModeRegs& regs);

  // The guest itself has written `byte` to the serial port where `print` goes: what it also says by
  // INT 10h is then not printed a second time (see console_merge.h). Any thread; does not wait.
  void note_serial_output(uint8_t byte);

  // The last failure of booting, for people; empty if there was none.
  std::string text() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace calf::firmware
