// The table of subcommands. Each parses its own arguments (argv[0] is its name) and returns the
// exit code of the program.
#pragma once

#include <span>

#include "block/tool/context.h"

namespace calf::img {

struct Command {
  const char* name;
  const char* synopsis;
  // Null: not there yet; main says so.
  int (*run)(const Context& context, int argc, char** argv);
};

std::span<const Command> commands();

int cmd_amend(const Context& context, int argc, char** argv);
int cmd_audit(const Context& context, int argc, char** argv);
int cmd_bitmap(const Context& context, int argc, char** argv);
int cmd_bench(const Context& context, int argc, char** argv);
int cmd_check(const Context& context, int argc, char** argv);
int cmd_commit(const Context& context, int argc, char** argv);
int cmd_compare(const Context& context, int argc, char** argv);
int cmd_convert(const Context& context, int argc, char** argv);
int cmd_create(const Context& context, int argc, char** argv);
int cmd_dd(const Context& context, int argc, char** argv);
int cmd_info(const Context& context, int argc, char** argv);
int cmd_map(const Context& context, int argc, char** argv);
int cmd_measure(const Context& context, int argc, char** argv);
int cmd_refs(const Context& context, int argc, char** argv);
int cmd_rebase(const Context& context, int argc, char** argv);
int cmd_resize(const Context& context, int argc, char** argv);
int cmd_serve(const Context& context, int argc, char** argv);
int cmd_snapshot(const Context& context, int argc, char** argv);

}  // namespace calf::img
