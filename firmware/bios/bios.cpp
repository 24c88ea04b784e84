#include "firmware/bios/bios.h"

#include <mutex>
#include <set>

#include "firmware/bios/areas.h"
#include "firmware/bios/boot_service.h"
#include "firmware/bios/call.h"
#include "firmware/bios/console_merge.h"
#include "firmware/bios/deadlines.h"
#include "firmware/bios/disk_service.h"
#include "firmware/bios/drive_table.h"
#include "firmware/bios/keyboard_service.h"
#include "firmware/bios/pci_service.h"
#include "firmware/bios/serial_service.h"
#include "firmware/bios/stubs.h"
#include "firmware/bios/system_service.h"
#include "firmware/bios/text_screen.h"
#include "firmware/bios/time_service.h"
#include "firmware/bios/video_service.h"

namespace calf::firmware {
namespace {

// Vectors.
constexpr uint8_t kDivideError = 0x00;
constexpr uint8_t kInvalidOpcode = 0x06;
constexpr uint8_t kNoCoprocessor = 0x07;
constexpr uint8_t kVideo = 0x10;
constexpr uint8_t kEquipment = 0x11;
constexpr uint8_t kMemorySize = 0x12;
constexpr uint8_t kDisk = 0x13;
constexpr uint8_t kSerial = 0x14;
constexpr uint8_t kSystem = 0x15;
constexpr uint8_t kKeyboard = 0x16;
constexpr uint8_t kPrinter = 0x17;
constexpr uint8_t kBootFailed = 0x18;
constexpr uint8_t kBoot = 0x19;
constexpr uint8_t kTime = 0x1A;

void go_to_halt(RealModeRegs& regs) {
  regs.cs = kBiosSegmentSelector;
  regs.ip = kHaltOffset;
}

}  // namespace

class Bios::Impl {
 public:
  Impl(BiosConfig config, BiosServices services)
      : config_(std::move(config)),
        host_(std::move(services)),
        memory_(host_.memory),
        console_(host_.clock, host_.print),
        screen_([this](std::span<const uint8_t> text) { console_.print(text); }),
        video_(screen_, memory_),
        drives_(config_.disks),
        disk_(drives_, memory_, host_.log),
        deadlines_(host_.clock),
        serial_(host_.ports, deadlines_, memory_),
        system_(config_.e820, host_.ports, host_.clock, deadlines_, memory_),
        keyboard_(host_.keys, host_.clock, memory_),
        time_(host_.ports, memory_),
        pci_(host_.ports),
        boot_(drives_, config_.disks, config_.boot_sequence, memory_) {}

  Result<void> install() {
    std::lock_guard lock(mutex_);
    console_.reset();
    screen_.reset();
    drives_.reset();
    deadlines_.reset();
    system_.reset();
    keyboard_.reset();
    boot_.reset();
    return write_areas(host_.memory, host_.ports, {drives_.hard_disks(), time_.ticks_now()});
  }

  Result<void> boot(RealModeRegs& regs) {
    std::lock_guard lock(mutex_);
    boot_.reset();
    auto started = boot_.boot_next(regs);
    text_ = started.ok() ? "" : started.error().message();
    return started;
  }

  Outcome handle(RealModeRegs& regs) {
    std::lock_guard lock(mutex_);
    auto trap = find_trap(regs.cs, regs.ip);
    if (!trap) return Outcome::kIgnored;
    console_.settle();
    Call call{regs, memory_, trap->repeated};
    switch (trap->kind) {
      case Trap::Kind::kService:
        serve(trap->vector, call);
        break;
      case Trap::Kind::kTick:
        system_.tick();
        break;
      case Trap::Kind::kException:
        report_exception(trap->vector, call);
        break;
      case Trap::Kind::kReset:
        call.flow = Flow::kReset;
        break;
    }
    leave_trap(*trap, call.flow, regs);
    if (call.flow == Flow::kReset) return Outcome::kReset;
    if (call.flow == Flow::kNoBootDisk) return Outcome::kNoBootDisk;
    return Outcome::kResume;
  }

  void note_serial_output(uint8_t byte) { console_.note_serial(byte); }

  std::string text() {
    std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  void serve(uint8_t vector, Call& call) {
    RealModeRegs& regs = call.regs;
    bool known = true;
    // What a program does while it waits for a key: move the cursor, look at the time.
    bool idle = vector == kKeyboard || vector == kTime ||
                (vector == kVideo && regs.ax.high() >= 0x01 && regs.ax.high() <= 0x03);
    if (!idle) keyboard_.busy();
    switch (vector) {
      case kDivideError:
      case kInvalidOpcode:
      case kNoCoprocessor:
        report_exception(vector, call);
        break;
      case kVideo:
        known = video_.handle(call);
        break;
      case kEquipment:
        regs.ax.set_word(memory_.word(bda::kEquipment));
        break;
      case kMemorySize:
        regs.ax.set_word(memory_.word(bda::kBaseMemory));
        break;
      case kDisk:
        disk_.handle(call);
        break;
      case kSerial:
        known = serial_.handle(call);
        break;
      case kSystem:
        known = system_.handle(call);
        if (!known) call.fail(kUnsupportedFunction);
        break;
      case kKeyboard:
        video_.show_cursor();
        known = keyboard_.handle(call);
        break;
      case kPrinter:
        regs.ax.set_high(0x01);  // time-out: there is none
        break;
      case kBoot:
        boot_.reset();
        boot_next(call);
        break;
      case kBootFailed:
        boot_next(call);
        break;
      case kTime:
        known = time_or_pci(call);
        break;
      default:
        known = false;
        break;
    }
    if (!known) note_unknown(vector, regs);
  }

  bool time_or_pci(Call& call) {
    constexpr uint8_t kPci = 0xB1;
    constexpr uint8_t kPciUnsupported = 0x81;
    if (call.regs.ax.high() == kPci) {
      if (pci_.handle(call)) return true;
      call.fail(kPciUnsupported);
      return false;
    }
    if (time_.handle(call)) return true;
    call.set_carry(true);
    return false;
  }

  void boot_next(Call& call) {
    auto started = boot_.boot_next(call.regs);
    if (started.ok()) {
      call.flow = Flow::kJump;
      return;
    }
    text_ = started.error().message();
    video_.print("\n" + text_ + "\n");
    go_to_halt(call.regs);
    call.flow = Flow::kNoBootDisk;
  }

  // An instruction that the processor refuses, and no handler of the guest's: it would be tried
  // again forever.
  void report_exception(uint8_t vector, Call& call) {
    RealModeRegs& regs = call.regs;
    uint16_t ip = memory_.word(regs.ss, regs.sp.word());
    uint16_t cs = memory_.word(regs.ss, static_cast<uint16_t>(regs.sp.word() + 2));
    std::string bytes;
    for (unsigned i = 0; i < 8; ++i) {
      bytes += fmt::format(" {:02x}", memory_.byte(linear(cs, static_cast<uint16_t>(ip + i))));
    }
    auto text = fmt::format("Processor exception {:#x} at {:04x}:{:04x}, bytes{}. Halted.", vector,
                            cs, ip, bytes);
    host_.log.warning("The guest stopped in real mode: {}", text);
    video_.print("\n" + text + "\n");
    go_to_halt(regs);
    call.flow = Flow::kJump;
  }

  void note_unknown(uint8_t vector, const RealModeRegs& regs) {
    auto call = static_cast<uint16_t>(vector << 8 | regs.ax.high());
    if (!noted_.insert(call).second) return;
    host_.log.info("BIOS call INT {:02x}h, AX={:04x}h: there is no such service", vector,
                   regs.ax.word());
  }

  std::mutex mutex_;
  const BiosConfig config_;
  const BiosServices host_;
  const RealMemory memory_;
  ConsoleMerge console_;
  TextScreen screen_;
  VideoService video_;
  DriveTable drives_;
  DiskService disk_;
  Deadlines deadlines_;
  SerialService serial_;
  SystemService system_;
  KeyboardService keyboard_;
  TimeService time_;
  PciService pci_;
  BootService boot_;
  std::set<uint16_t> noted_;  // vector and AH of unknown calls
  std::string text_;
};

Bios::Bios(BiosConfig config, BiosServices services)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(services))) {}
Bios::~Bios() = default;

Result<void> Bios::install() {
  return impl_->install();
}
Result<void> Bios::boot(RealModeRegs& regs) {
  return impl_->boot(regs);
}
Outcome Bios::handle(RealModeRegs& regs) {
  return impl_->handle(regs);
}
void Bios::note_serial_output(uint8_t byte) {
  impl_->note_serial_output(byte);
}
std::string Bios::text() const {
  return impl_->text();
}

}  // namespace calf::firmware
