#include "devices/pci/bar.h"

#include <algorithm>
#include <utility>

namespace calf::pci {

void BarDecoder::set_windows(ByteRange window32, ByteRange window64) {
  window32_ = window32;
  window64_ = window64;
}

bool BarDecoder::forwards(uint64_t address, uint64_t size) const {
  std::optional<ByteRange> range = make_range(address, size);
  return range && (window32_.contains(*range) || window64_.contains(*range));
}

void BarDecoder::move(Bar& bar, std::optional<uint64_t> address) {
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
  if (doorbells_ == nullptr) return true;
  for (const Doorbell& bell : bar.doorbells) {
    Result<void> attached = doorbells_->attach(address + bell.offset, bell.length, bell.event_fd);
    // The write then reaches the device as an exit: slower, not wrong.
    if (!attached.ok() && log_limit_.allow()) {
      log_->info("no doorbell at {:#x}: {}", address + bell.offset, attached.error().message());
    }
  }
  return true;
}

void BarDecoder::unmap(Bar& bar) {
  uint64_t address = *std::exchange(bar.decoded_at, std::nullopt);
  if (doorbells_ != nullptr) {
    for (const Doorbell& bell : bar.doorbells)
      doorbells_->detach(address + bell.offset, bell.length, bell.event_fd);
  }
  mmio_->unmap(address);
  // The place may be what others waited for.
  std::vector<Waiting> waiting = std::exchange(waiting_, {});
  for (const Waiting& w : waiting) {
    if (!map(*w.bar, w.address)) waiting_.push_back(w);
  }
}

}  // namespace calf::pci
