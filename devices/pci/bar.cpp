#include "devices/pci/bar.h"

#include <algorithm>
#include <utility>

namespace calf::pci {

void BarDecoder::set_windows(ByteRange window32, ByteRange window64) {
  MutexLock lock(mutex_);
  window32_ = window32;
  window64_ = window64;
}

bool BarDecoder::forwards(uint64_t address, uint64_t size) const {
  std::optional<ByteRange> range = make_range(address, size);
  return range && (window32_.contains(*range) || window64_.contains(*range));
}

void BarDecoder::move(Bar& bar, std::optional<uint64_t> address) {
  MutexLock lock(mutex_);
  std::erase_if(waiting_, [&](const Waiting& w) { return w.bar == &bar; });
  if (address && !forwards(*address, bar.size)) address.reset();
  if (bar.decoded_at == address) return;
  if (bar.decoded_at) unmap(bar);
  if (address && !map(bar, *address)) {
    waiting_.push_back({&bar, *address});
    if (log_limit_.allow()) {
      log_->info("PCI BAR at {:#x}+{:#x} lies on another one and is not decoded", *address,
                 bar.size);
    }
  }
}

bool BarDecoder::map(Bar& bar, uint64_t address) {
  if (!mmio_->map({address, bar.size}, *bar.device).ok()) return false;
  bar.decoded_at = address;
  if (bar.rings) attach_at(bar, address);
  return true;
}

void BarDecoder::unmap(Bar& bar) {
  uint64_t address = *std::exchange(bar.decoded_at, std::nullopt);
  if (bar.rings) detach_at(bar, address);
  mmio_->unmap(address);
  // The place may be what others waited for.
  std::vector<Waiting> waiting = std::exchange(waiting_, {});
  for (const Waiting& w : waiting) {
    if (!map(*w.bar, w.address)) waiting_.push_back(w);
  }
}

void BarDecoder::attach_doorbells(Bar& bar) {
  MutexLock lock(mutex_);
  if (std::exchange(bar.rings, true)) return;
  if (bar.decoded_at) attach_at(bar, *bar.decoded_at);
}

void BarDecoder::detach_doorbells(Bar& bar) {
  MutexLock lock(mutex_);
  if (!std::exchange(bar.rings, false)) return;
  if (bar.decoded_at) detach_at(bar, *bar.decoded_at);
}

void BarDecoder::attach_at(const Bar& bar, uint64_t address) {
  if (doorbells_ == nullptr) return;
  for (const Doorbell& bell : bar.doorbells) {
    Result<void> attached = doorbells_->attach(address + bell.offset, bell.length, bell.event_fd);
    // The write then reaches the device as an exit: slower, not wrong.
    if (!attached.ok() && log_limit_.allow()) {
      log_->info("no doorbell at {:#x}: {}", address + bell.offset, attached.error().message());
    }
  }
}

void BarDecoder::detach_at(const Bar& bar, uint64_t address) {
  if (doorbells_ == nullptr) return;
  for (const Doorbell& bell : bar.doorbells)
    doorbells_->detach(address + bell.offset, bell.length, bell.event_fd);
}

}  // namespace calf::pci
