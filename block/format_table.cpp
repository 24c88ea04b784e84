#include "block/format_driver.h"
#include "block/protocol_driver.h"

namespace calf::block {
namespace {

template <class Driver>
const Driver* find_driver(const std::vector<std::unique_ptr<Driver>>& drivers,
                          std::string_view name) {
  for (const auto& driver : drivers) {
    if (driver->name() == name) return driver.get();
  }
  return nullptr;
}

}  // namespace

FormatTable::FormatTable() = default;
FormatTable::FormatTable(FormatTable&&) noexcept = default;
FormatTable::~FormatTable() = default;

void FormatTable::add(std::unique_ptr<FormatDriver> driver) {
  drivers_.push_back(std::move(driver));
}
void FormatTable::add(std::unique_ptr<ProtocolDriver> driver) {
  protocols_.push_back(std::move(driver));
}
void FormatTable::add(std::unique_ptr<FilterDriver> driver) {
  filters_.push_back(std::move(driver));
}

const FormatDriver* FormatTable::find(std::string_view name) const {
  return find_driver(drivers_, name);
}
const ProtocolDriver* FormatTable::find_protocol(std::string_view name) const {
  return find_driver(protocols_, name);
}
const FilterDriver* FormatTable::find_filter(std::string_view name) const {
  return find_driver(filters_, name);
}

}  // namespace calf::block
