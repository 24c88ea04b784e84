// The texts of --help and --version.
#pragma once

#include "block/tool/context.h"

namespace calf::img {

void print_help(const Context& context);
void print_version(const Context& context);

}  // namespace calf::img
