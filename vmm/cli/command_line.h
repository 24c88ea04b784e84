// calf's command line: QEMU's options, as far as calf has the thing behind them.
//
//   words -> option table (names, aliases, whether a value follows) -> one parser an option ->
//   CommandLine
//
// "-opt" and "--opt" are the same. An option that QEMU has and calf has not is an error that names
// it and the nearest thing that calf has; it is never ignored, except where it asks for what calf
// is anyway (-enable-kvm, -nodefaults, …).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "block/base/result.h"
#include "vmm/config.h"
#include "vmm/console/serial_spec.h"

namespace calf::vmm {

struct CommandLine {
  enum class Action : uint8_t { kRun, kHelp, kVersion };
  Action action = Action::kRun;

  MachineConfig machine;
  // COM1 to COM4; if none is given, COM1 is standard input and output.
  std::vector<SerialSpec> serials;
  std::optional<SerialSpec> debug_console;
  std::map<std::string, SerialSpec> chardevs;

  std::string pid_file;
  std::string result_file;
  bool daemonize = false;
  bool sandbox = false;
  // --timeout and the like: exit codes tell one failure from another (docs/exit-codes in the man
  // page).
  bool strict_exit_codes = false;
};

// `words` without the program's name. Errors name the word and say what to do.
Result<CommandLine> parse_command_line(const std::vector<std::string>& words);

// The text of --help.
std::string help_text();

}  // namespace calf::vmm
