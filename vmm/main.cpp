// calf: runs one guest.
//
//   parse_command_line()  words -> CommandLine                       vmm/cli/
//   run_session()         consoles, signals, exit code               vmm/cli/session.cpp
//     Machine::build()    the numbered list of what a machine is     vmm/machine.cpp
//     Machine::run()      one thread a vCPU, one a disk              vmm/vcpu_loop.cpp

#include <cstdio>
#include <string>
#include <vector>

#include "block/base/log.h"
#include "vmm/cli/command_line.h"
#include "vmm/cli/exit_status.h"
#include "vmm/cli/session.h"

int main(int argc, char** argv) {
  using namespace calf;
  using namespace calf::vmm;
  Log log("calf");
  std::vector<std::string> words(argv + 1, argv + argc);
  Result<CommandLine> line = parse_command_line(words);
  if (!line.ok()) {
    log.write(LogLevel::kError, line.error().message());
    bool strict = false;
    for (const std::string& word : words)
      strict = strict || word == "--timeout" || word == "-timeout";
    return usage_status(strict);
  }
  switch (line->action) {
    case CommandLine::Action::kHelp:
      std::fputs(help_text().c_str(), stdout);
      return 0;
    case CommandLine::Action::kVersion:
      std::puts("calf version " CALF_VERSION);
      return 0;
    case CommandLine::Action::kRun:
      break;
  }
  return run_session(*line, log);
}
