// Changing what an image is: its version, its refcount width, its switches, its keys.
//
// Each of these is one step. A step that changes the shape of tables or header leaves the open
// image behind the file: nothing but close() may follow, and the next step opens the image anew.
// A power cut leaves the image as it was before the step or after it, at worst with leaked
// clusters.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "block/crypto/luks_keys.h"
#include "block/qcow2/image.h"

namespace calf::qcow2 {

// How far a step has come.
using AmendProgress = std::function<void(uint64_t done, uint64_t total)>;

struct AmendOptions {
  // 2 or 3.
  std::optional<unsigned> version;
  std::optional<uint64_t> refcount_bits;
  std::optional<bool> lazy_refcounts;
  std::optional<uint64_t> size;
  // The name to record of the data file, none if empty. It must be opened by hand until a file of
  // that name is there.
  std::optional<std::string> data_file;
  // The data file need not be a raw disk any longer.
  bool drop_data_file_raw = false;
  std::optional<crypto::LuksKeyChange> keys;
  // Of the steps that take long; may be null.
  AmendProgress progress;
};

// What can be refused before anything is changed. Error texts are those of contract section 6.5.
Result<void> check_amend(Image& image, const AmendOptions& options);

// The image must be opened anew afterwards.
Async<> upgrade(Image& image);
// The same. Zero clusters, which version 2 does not have, become unallocated or data.
Async<> downgrade(Image& image, const AmendProgress& progress);
// The same; the old structure's clusters leak until give_back_leaks().
Async<> set_refcount_bits(Image& image, uint64_t bits);
Async<> give_back_leaks(Image& image);
Async<> set_lazy_refcounts(Image& image, bool on);
// Only the records in the header; the data stays where it is.
Async<> set_data_file_record(Image& image, std::optional<std::string> name, bool drop_raw);

}  // namespace calf::qcow2
