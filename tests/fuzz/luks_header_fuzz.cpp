// The input is the begin of a LUKS volume. Whatever stands in it: parsing, opening and writing the
// header again end, quickly, and nothing outside the file's own bytes is believed.
#include <cstdint>
#include <memory>
#include <vector>

#include "block/crypto/luks_header.h"
#include "block/luks/luks_node.h"
#include "tests/support/simulated_file.h"

namespace calf::luks {
namespace {

// Longer derivations are bounded (luks_header.h), but would make no further path.
constexpr uint32_t kMaxIterations = 2000;

bool is_quick(const crypto::LuksHeader& header) {
  if (header.digest_iterations > kMaxIterations) return false;
  for (const crypto::LuksSlot& slot : header.slots) {
    if (slot.active && slot.iterations > kMaxIterations) return false;
  }
  return true;
}

void one_input(std::span<const uint8_t> input) {
  Result<crypto::LuksHeader> header = crypto::parse_luks_header(input);
  if (!header.ok()) return;
  // What was accepted keeps its meaning.
  Result<crypto::LuksHeader> again =
      crypto::parse_luks_header(crypto::serialize_luks_header(*header));
  if (!again.ok() || again->payload_offset != header->payload_offset) __builtin_trap();
  if (!is_quick(*header)) return;

  Executor::Options executor_options;
  executor_options.engine = Executor::Engine::kThreads;
  static std::unique_ptr<Executor> executor = std::move(*Executor::create(executor_options));
  auto disk = std::make_shared<test::SimulatedDisk>();
  disk->content.write(0, input);
  test::SimulatedFile::Options file;
  std::unique_ptr<block::Node> node = std::make_unique<test::SimulatedFile>(*executor, disk, file);
  OpenOptions options;
  options.passphrase = []() -> Result<crypto::SecretBytes> {
    return crypto::SecretBytes::copy_of(std::string_view("secret"));
  };
  auto opened = executor->run(LuksNode::open(*executor, std::move(node), std::move(options)));
  if (!opened.ok()) return;
  std::vector<uint8_t> sector(512);
  FlatIo io{std::span<uint8_t>(sector)};
  if ((*opened)->size() >= sector.size()) {
    Result<void> ignored = executor->run((*opened)->read(0, io.slice()));
  }
  Result<void> ignored = executor->run((*opened)->close());
}

}  // namespace
}  // namespace calf::luks

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  calf::luks::one_input({data, size});
  return 0;
}
