#include "block/open_gate.h"

namespace calf::block {

Result<std::string> resolve_recorded_name(std::string_view image, std::string_view recorded) {
  if (recorded.empty()) return make_error(ErrorKind::kCorrupt, "The recorded file name is empty");
  if (recorded.size() > kMaxRecordedName) {
    return make_error(ErrorKind::kCorrupt, "The recorded file name has {} bytes, {} are allowed",
                      recorded.size(), kMaxRecordedName);
  }
  if (recorded.find('\0') != std::string_view::npos) {
    return make_error(ErrorKind::kCorrupt, "The recorded file name has a NUL byte in it");
  }
  size_t slash = image.rfind('/');
  if (recorded.front() == '/' || slash == std::string_view::npos) return std::string(recorded);
  return std::string(image.substr(0, slash + 1)).append(recorded);
}

}  // namespace calf::block
