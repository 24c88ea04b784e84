#include "devices/pci/function.h"

#include <bit>
#include <cassert>

namespace calf::pci {

void IntxWire::change(bool asserted) {
  std::lock_guard lock(mutex_);
  bool was = asserted_ != 0;
  asserted ? ++asserted_ : --asserted_;
  bool is = asserted_ != 0;
  if (was != is) line_->set_level(is);
}

void Function::add_bar(Bar bar) {
  assert(std::has_single_bit(bar.size) && bar.size >= Bar::kMinimumSize);
  bool wide = bar.kind == BarKind::kMemory64;
  assert(bar.index + (wide ? 1u : 0u) < kBarCount);
  unsigned at = kRegBar0 + 4u * bar.index;
  uint64_t mask = ~(bar.size - 1);
  // With the low bits closed, a guest that writes ones reads back the size: sizing needs no state.
  config_.set(at, 4, (wide ? kBarMemory64 : 0u) | (bar.prefetchable ? kBarPrefetchable : 0u));
  config_.set_writable(at, 4, static_cast<uint32_t>(mask));
  if (wide) config_.set_writable(at + 4, 4, static_cast<uint32_t>(mask >> 32));
  bars_.push_back(std::make_unique<Bar>(std::move(bar)));
}

void Function::add_msix(std::unique_ptr<Msix> msix, uint8_t bar, uint32_t table_offset,
                        uint32_t pba_offset) {
  msix_ = std::move(msix);
  msix_capability_ = msix_->add_capability(config_, bar, table_offset, pba_offset);
}

void Function::use_intx() {
  has_intx_ = true;
  config_.set(kRegInterruptPin, 1, 1);
}

void Function::attach(BarDecoder& decoder, IntxWire* wire) {
  decoder_ = &decoder;
  std::lock_guard lock(intx_mutex_);
  wire_ = wire;
}

uint32_t Function::read_config(unsigned offset, unsigned size) {
  before_config_read(offset, size);
  uint32_t value = config_.read(offset, size);
  if (offset <= kRegStatus && offset + size > kRegStatus) {
    std::lock_guard lock(intx_mutex_);
    if (intx_asserted_) value |= uint32_t{kStatusInterrupt} << (8 * (kRegStatus - offset));
  }
  return value;
}

void Function::write_config(unsigned offset, unsigned size, uint32_t value) {
  config_.write(offset, size, value);
  unsigned end = offset + size;
  bool command = offset < kRegCommand + 2 && end > kRegCommand;
  if (command) {
    std::lock_guard lock(intx_mutex_);
    intx_disabled_ = (config_.read(kRegCommand, 2) & kCommandIntxDisable) != 0;
    drive_intx();
  }
  if (command || (offset < kRegBar0 + 4 * kBarCount && end > kRegBar0)) update_bars();
  if (msix_ != nullptr) {
    unsigned control = msix_capability_ + kMsixCapControl;
    if (offset < control + 2 && end > control) {
      msix_->set_control(static_cast<uint16_t>(config_.read(control, 2)));
    }
  }
  after_config_write(offset, size);
}

void Function::update_bars() {
  if (decoder_ == nullptr) return;
  bool decoding = (config_.read(kRegCommand, 2) & kCommandMemory) != 0;
  for (auto& bar : bars_) {
    unsigned at = kRegBar0 + 4u * bar->index;
    uint64_t address = config_.read(at, 4) & ~uint32_t{kBarMemoryFlags};
    if (bar->kind == BarKind::kMemory64) address |= uint64_t{config_.read(at + 4, 4)} << 32;
    decoder_->move(*bar, decoding ? std::optional(address) : std::nullopt);
  }
}

void Function::attach_doorbells() {
  if (decoder_ == nullptr) return;
  for (auto& bar : bars_)
    decoder_->attach_doorbells(*bar);
}

void Function::set_intx(bool asserted) {
  if (!has_intx_) return;
  std::lock_guard lock(intx_mutex_);
  intx_asserted_ = asserted;
  drive_intx();
}

void Function::drive_intx() {
  bool drive = intx_asserted_ && !intx_disabled_;
  if (drive == intx_driven_) return;
  intx_driven_ = drive;
  if (wire_ != nullptr) wire_->change(drive);
}

void Function::reset() {
  reset_device();
  set_intx(false);
  if (msix_ != nullptr) msix_->reset();
  // What the guest can write starts as zero; with that nothing is decoded.
  for (unsigned offset = 0; offset < kConfigSize; offset += 4)
    config_.write(offset, 4, 0);
  {
    std::lock_guard lock(intx_mutex_);
    intx_disabled_ = false;
  }
  update_bars();
  if (decoder_ == nullptr) return;
  for (auto& bar : bars_)
    decoder_->detach_doorbells(*bar);
}

void Function::before_config_read(unsigned, unsigned) {}
void Function::after_config_write(unsigned, unsigned) {}

}  // namespace calf::pci
