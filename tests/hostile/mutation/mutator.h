// Mutator: turns a valid image into a hostile one. What it does depends on the number alone, so any
// image can be made again.
//
//     fields     header fields: 0, 1, neighbours, powers of two, places of other tables, all ones
//     tables     entries of L1, L2, refcount tables and blocks, lists: flags, swaps, misalignment
//     bytes      bits and words anywhere in what the file really holds
//     length     cut short, or longer
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace calf::test {

using Bytes = std::vector<uint8_t>;

// A stretch of numbers of one width.
struct Table {
  uint64_t offset;
  uint64_t length;
  unsigned width;  // bytes: 2, 4 or 8
};

class Mutator {
 public:
  // `image`: a valid one, of any format; structure is looked for in qcow2 only.
  explicit Mutator(Bytes image);

  // Image `number`: one to four mutations. `what` tells them.
  Bytes make(uint64_t number, std::string* what) const;

 private:
  void find_tables();
  void mutate(Bytes& image, std::mt19937_64& random, std::string* what) const;
  uint64_t interesting(uint64_t old, std::mt19937_64& random) const;

  Bytes image_;
  std::vector<Table> fields_;  // one number each
  std::vector<Table> tables_;
  std::vector<uint64_t> places_;  // where tables stand: good values for pointers
};

}  // namespace calf::test
