#include "block/tool/help.h"

#include <cstdio>

#include "block/tool/commands.h"

namespace calf::img {
namespace {

constexpr const char* kNotes = R"(
Common words:
  FILE        an image: a path (write ./a:b for a name with a colon), or with --image-opts a list
              driver=FORMAT,file.filename=PATH; json:{...} and nbd:... are names too
  FMT         an image's format; guessed from the content if left out, which is unsafe for raw ones
  SIZE        bytes, or with a suffix k, M, G, T, P, E (powers of 1024): 64M, 1.5G
  CACHE       writeback, none (O_DIRECT), writethrough, directsync, unsafe (never syncs)
  OPTIONS     name=value,name=value: how to make the new image; `-o help` lists them
  -U          read an image that another program has open for writing
  -p, -q      show progress; print nothing but errors
  --output    human or json
  --force     write to an overlay although its base was changed since it was made

create        -b names the backing file and -F its format; -u does not look at it
check         -r leaks gives unused space back, -r all also repairs what is wrong
compare       -s also compares sizes and allocation
convert       -C lets the kernel copy raw files (shared blocks where the file system can), -c
              compresses, -B keeps a backing file below the new image, -n writes into an existing
              image, -S sets how many zero bytes make a hole (default 4k, 0: none), -m how many
              requests run at a time, -W lets them write in any order
serve         exports FILE over NBD at --socket or --port; -w lets clients write, --persistent goes
              on when the last has left, --shared bounds how many there are at a time
)";

}  // namespace

void print_version(const Context& context) {
  if (context.exact()) {
    // What scripts read the version of the interface from.
    put("qemu-img version 7.2.0 (calf {})\n", CALF_VERSION);
  } else {
    put("{} version {} (commands of qemu-img 7.2)\n", context.program(), CALF_VERSION);
  }
  put("Copyright (c) 2026 the calf authors, MIT licence\n");
}

void print_help(const Context& context) {
  print_version(context);
  put("usage: {} [standard options] command [command options]\n", context.program());
  put("Makes, converts, checks and shows disk images.\n\n");
  put("  -h, --help      this text\n  -V, --version   version and licence\n");
  put("  -T, --trace     accepted for the sake of scripts, without effect\n\nCommands:\n");
  for (const Command& command : commands()) {
    put("  {} {}{}\n", command.name, command.synopsis,
        command.run == nullptr ? "   (not supported yet)" : "");
  }
  put("{}\nSupported formats:", kNotes);
  for (const auto& driver : context.formats.drivers())
    put(" {}", driver->name());
  put("\n");
}

}  // namespace calf::img
