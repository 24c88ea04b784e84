// Seeds: small valid images of every feature, made by the subcommands themselves.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace calf::test {

struct Seed {
  std::string name;
  std::string format;
  std::string path;
  // Passwords: words that come before the file, which is then a list of options.
  std::vector<std::string> secret;

  // The words that name `file` as an image like this seed.
  std::vector<std::string> words(const std::string& file) const;
};

using Words = std::vector<std::string>;

// Makes all seeds in `folder`, where `run` returns the exit code of a command line without the
// program's name. What cannot be made (a format that needs qemu-img) is told and left out.
std::vector<Seed> make_seeds(const std::string& folder, const std::function<int(Words)>& run);

}  // namespace calf::test
