#include "block/tool/commands.h"

namespace calf::img {
namespace {

constexpr Command kCommands[] = {
    {"amend", "[-p] [-q] [-f FMT] [-t CACHE] [--force] -o OPTIONS FILE", cmd_amend},
    {"audit", "[-f FMT] [--json] [--max-size=SIZE] [--deep [--time-limit=SECONDS]] FILE",
     cmd_audit},
    {"bench",
     "[-c COUNT] [-d DEPTH] [-f FMT] [--flush-interval=N] [-i AIO] [-n] [--no-drain] [-o OFFSET] "
     "[--pattern=N] [-q] [-s SIZE] [-S STEP] [-t CACHE] [-w [--force]] [-U] FILE",
     cmd_bench},
    {"bitmap",
     "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b FILE [-F FMT]] "
     "[-g SIZE] [--image-opts | -f FMT] [--force] FILE NAME",
     cmd_bitmap},
    {"check",
     "[--image-opts] [-q] [-f FMT] [--output=human|json] [-r leaks|all] [-T CACHE] [-U] FILE",
     cmd_check},
    {"commit",
     "[--image-opts] [-q] [-f FMT] [-t CACHE] [-b BASE] [-r RATE] [-d] [-p] [--force] FILE",
     cmd_commit},
    {"compare", "[--image-opts] [-f FMT] [-F FMT] [-T CACHE] [-p] [-q] [-s] [-U] FILE1 FILE2",
     cmd_compare},
    {"convert",
     "[--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps] [-U] [-C] [-c] [-p] [-q] "
     "[-n [--force]] [-f FMT] [-t CACHE] [-T CACHE] [-O FMT] [-B FILE [-F FMT]] [-o OPTIONS] [-l "
     "SNAPSHOT] "
     "[-S SIZE] [-r RATE] [-m N] [-W] [--salvage] FILE [FILE2 ...] OUT",
     cmd_convert},
    {"create", "[-q] [-f FMT] [-b FILE [-F FMT]] [-u] [-o OPTIONS] FILE [SIZE]", cmd_create},
    {"dd", "[--image-opts] [-U] [-f FMT] [-O FMT] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE",
     cmd_dd},
    {"info", "[--image-opts] [-f FMT] [--output=human|json] [--backing-chain] [-U] FILE", cmd_info},
    {"map",
     "[--image-opts] [-f FMT] [--start-offset=N] [--max-length=N] [--output=human|json] [-U] FILE",
     cmd_map},
    {"measure",
     "[--output=human|json] [-O FMT] [-o OPTIONS] [--size SIZE | [--image-opts] [-f FMT] "
     "[-l SNAPSHOT] [-U] FILE]",
     cmd_measure},
    {"rebase",
     "[--image-opts] [-U] [-q] [-f FMT] [-t CACHE] [-T CACHE] [-p] [-u] [--force] -b FILE [-F FMT] "
     "FILE",
     cmd_rebase},
    {"refs", "[--output=human|json] DIR", cmd_refs},
    {"resize",
     "[--image-opts] [-f FMT] [--preallocation=MODE] [-q] [--shrink] [--force] FILE [+|-]SIZE",
     cmd_resize},
    {"serve",
     "[--image-opts] [-f FMT] [-t CACHE] [-U] [-q] [-w [--force]] (--socket PATH | --port N "
     "[--bind "
     "ADDRESS]) "
     "[--export-name NAME] [--shared N] [--persistent] FILE",
     cmd_serve},
    {"snapshot", "[--image-opts] [-U] [-q] [-l | -a NAME | -c NAME | -d NAME] FILE", cmd_snapshot},
};

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}

}  // namespace calf::img
