// Reading the options of a subcommand with getopt_long(): prefixes of long names, bundled letters,
// options and operands mixed, the error texts of the contract (section 1.2).
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/tool/context.h"

namespace calf::img {

struct Option {
  // Null or 0 where there is none of its kind; one of them is there.
  const char* long_name = nullptr;
  char letter = 0;
  bool takes_value = false;
  // What the handler gets: the letter, unless this is not 0.
  int code = 0;
};

// Codes of options without a letter start here.
constexpr int kLongOnly = 256;

// Options that every subcommand with an image has.
constexpr int kOptObject = kLongOnly + 1000;
constexpr int kOptImageOpts = kLongOnly + 1001;
constexpr Option kObjectOption{"object", 0, true, kOptObject};
constexpr Option kImageOptsOption{"image-opts", 0, false, kOptImageOpts};

// Of subcommands that write to an image which stands on another: ImageArguments::force. Not known
// to those who stand in for qemu-img, where "--force" is short for "--force-share".
constexpr int kOptForce = kLongOnly + 1002;
constexpr Option kForceOption{"force", 0, false, kOptForce};

struct Operands {
  // Set: the subcommand ends now, with this code (an error was printed, or help).
  std::optional<int> exit_code;
  std::vector<std::string> words;
};

// Calls `handle(code, value)` for each option in order, which returns an exit code to stop. -h and
// --help are handled here. argv[0] is the subcommand.
Operands parse_options(
    const Context& context, int argc, char** argv, std::span<const Option> options,
    const std::function<std::optional<int>(int code, std::string value)>& handle);

// Takes the definition of an object: only secrets exist, kept in context.secrets. An exit code if
// the subcommand ends here.
std::optional<int> check_object(const Context& context, const std::string& definition);

}  // namespace calf::img
