// What calf's end tells the shell, and, with --result, a program.
#pragma once

#include <string>

#include "block/base/result.h"
#include "vmm/machine.h"

namespace calf::vmm {

// 0 for the guest's own power-off, isa-debug-exit as QEMU, 1 for failures; `strict` gives each
// failure its own code (help_text() lists them).
int exit_status(const RunResult& result, bool strict);
// The code for a command line that calf does not accept.
int usage_status(bool strict);

// Writes the --result object to `path`, through a temporary file, so that a reader never sees half
// of it.
Result<void> write_result_file(const std::string& path, const RunResult& result, int status);

}  // namespace calf::vmm
