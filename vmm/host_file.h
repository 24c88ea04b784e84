// HostFile: a whole file of the host in memory (a kernel, an initial RAM disk).
//
// Read, not mapped: a mapped file that somebody truncates would end the process.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "block/base/result.h"

namespace calf::vmm {

class HostFile {
 public:
  HostFile() = default;
  // Errors name the file.
  static Result<HostFile> read(const std::string& path);
  std::span<const uint8_t> bytes() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t size_ = 0;
};

}  // namespace calf::vmm
