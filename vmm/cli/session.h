// Session: one run of calf, from a parsed command line to an exit code.
//
//   consoles -> machine -> (background, sandbox) -> run, with signals and console keys acting on
//   the machine -> result
#pragma once

#include "block/base/log.h"
#include "vmm/cli/command_line.h"

namespace calf::vmm {

// Returns the exit code. All errors have been told on `log`.
int run_session(const CommandLine& line, Log& log);

}  // namespace calf::vmm
