// Function: what every PCI function has (configuration space, BARs, MSI-X, an interrupt pin), as
// the base of those that do something.
//
// A derived class describes itself in its constructor (add_bar, add_msix, use_intx, add_capability
// on config()), and is then given to HostBridge::add(). It answers accesses to its BARs as ordinary
// devices::Device objects and never learns where they stand.
//
// Threads: configuration accesses come one at a time (the bridge has a lock). set_intx() and the
// Msix object are for any thread. Ignored: bus master enable (DMA and messages work without it, so
// that sloppy drivers do too), parity and SERR enables, latency timer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "devices/core/device.h"
#include "devices/pci/bar.h"
#include "devices/pci/config_space.h"
#include "devices/pci/msix.h"

namespace calf::pci {

// One input of the interrupt controllers, shared by the functions wired to it: high while any of
// them asks. Any thread.
class IntxWire {
 public:
  explicit IntxWire(devices::IrqLine& line) : line_(&line) {}
  // A function that changed its mind; callers never repeat themselves.
  void change(bool asserted);

 private:
  std::mutex mutex_;
  devices::IrqLine* line_;
  unsigned asserted_ = 0;
};

class Function {
 public:
  explicit Function(const Identity& identity) : config_(identity) {}
  virtual ~Function() = default;
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;

  // `size` is 1, 2 or 4, the access stays within one dword, offset < 256.
  uint32_t read_config(unsigned offset, unsigned size);
  void write_config(unsigned offset, unsigned size, uint32_t value);

  // Power-on state, when the machine is reset: no vCPU runs. May wait for requests in flight.
  void reset();

  // ---- For the host bridge ----
  void attach(BarDecoder& decoder, IntxWire* wire);
  std::vector<std::unique_ptr<Bar>>& bars() { return bars_; }
  bool has_intx() const { return has_intx_; }

 protected:
  ConfigSpace& config() { return config_; }
  Msix* msix() const { return msix_.get(); }

  void add_bar(Bar bar);
  void add_msix(std::unique_ptr<Msix> msix, uint8_t bar, uint32_t table_offset,
                uint32_t pba_offset);
  // The function has pin INTA#.
  void use_intx();
  // Level of the pin. Nothing is driven while the guest has set Interrupt Disable.
  void set_intx(bool asserted);

  // A doorbell in one of the BARs was rung by an exit. Any thread, called more than once in vain.
  void attach_doorbells();

  // The guest reads these bytes / has written these bytes: for registers that act.
  virtual void before_config_read(unsigned offset, unsigned size);
  virtual void after_config_write(unsigned offset, unsigned size);
  // Part of reset(): the device's own state.
  virtual void reset_device() = 0;

 private:
  void update_bars();
  void drive_intx();  // intx_mutex_ held

  ConfigSpace config_;
  std::vector<std::unique_ptr<Bar>> bars_;
  std::unique_ptr<Msix> msix_;
  uint8_t msix_capability_ = 0;
  BarDecoder* decoder_ = nullptr;

  bool has_intx_ = false;
  std::mutex intx_mutex_;
  IntxWire* wire_ = nullptr;
  bool intx_asserted_ = false;
  bool intx_disabled_ = false;
  bool intx_driven_ = false;
};

}  // namespace calf::pci
