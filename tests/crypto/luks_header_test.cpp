// LUKS headers that lie: each is refused by name, and nothing is allocated or computed before.
#include <gtest/gtest.h>

#include <cstring>

#include "block/crypto/luks_header.h"

namespace calf::crypto {
namespace {

std::vector<uint8_t> good_header() {
  LuksHeader header;
  header.payload_offset = new_luks_payload_offset(header.key_bytes());
  header.digest_iterations = 1000;
  header.uuid = "00000000-0000-4000-8000-000000000000";
  for (size_t i = 0; i < kLuksSlots; ++i)
    header.slots[i].offset = 4096 + i * 258048;
  header.slots[0].active = true;
  header.slots[0].iterations = 1000;
  return serialize_luks_header(header);
}

struct Lie {
  const char* name;
  size_t offset;
  std::vector<uint8_t> bytes;
  const char* error;
};

constexpr size_t slot(size_t index, size_t field) {
  return 208 + index * 48 + field;
}

const Lie kLies[] = {
    {"magic", 0, {'L', 'U', 'K', 'X'}, "not in LUKS format"},
    {"version_2", 6, {0, 2}, "version 2 is not supported"},
    {"cipher_name_without_end", 8, std::vector<uint8_t>(32, 'a'), "cipher name is not null"},
    {"cipher_mode_without_end", 40, std::vector<uint8_t>(32, 'a'), "cipher mode is not null"},
    {"hash_without_end", 72, std::vector<uint8_t>(32, 'a'), "hash spec is not null"},
    {"unknown_cipher", 8, {'x'}, "Algorithm 'xes'"},
    {"unknown_mode", 40, {'y'}, "Algorithm 'yts'"},
    {"mode_without_generator", 43, {0}, "Unexpected cipher mode"},
    {"essiv_without_hash", 44, {'e', 's', 's', 'i', 'v', 0}, "Missing IV generator hash"},
    {"unknown_hash", 72, {'z'}, "Hash algorithm 'zha256'"},
    {"payload_over_header", 104, {0, 0, 0, 7}, "payload is overlapping with the header"},
    {"payload_over_slots", 104, {0, 0, 0, 8}, "overlapping with the encrypted payload"},
    {"key_of_no_bytes", 108, {0, 0, 0, 0}, "key size 0"},
    {"key_of_4_GiB", 108, {255, 255, 255, 254}, "key size 4294967294"},
    {"odd_xts_key", 108, {0, 0, 0, 63}, "multiple of 2"},
    {"digest_without_iterations", 164, {0, 0, 0, 0}, "LUKS key iteration count is zero"},
    {"digest_for_hours", 164, {255, 255, 255, 255}, "above the limit"},
    {"slot_state", slot(3, 0), {1, 2, 3, 4}, "Keyslot 3 state"},
    {"slot_without_iterations", slot(0, 4), {0, 0, 0, 0}, "Keyslot 0 iteration count is zero"},
    {"slot_for_hours", slot(0, 4), {255, 255, 255, 255}, "above the limit"},
    {"slot_in_the_header", slot(2, 40), {0, 0, 0, 1}, "Keyslot 2 is overlapping with the LUKS"},
    {"slot_in_the_payload", slot(7, 40), {0, 0, 15, 0}, "overlapping with the encrypted payload"},
    {"slot_beyond_everything", slot(7, 40), {255, 255, 255, 255}, "overlapping with the encrypted"},
    {"slots_on_each_other", slot(5, 40), {0, 0, 0, 8}, "Keyslots 0 and 5 are overlapping"},
    {"stripes_4_billion", slot(1, 44), {255, 255, 255, 255}, "stripes count"},
    {"stripes_none", slot(0, 44), {0, 0, 0, 0}, "stripes count"},
};

class LuksLies : public testing::TestWithParam<Lie> {};

TEST_P(LuksLies, AreRefusedByName) {
  const Lie& lie = GetParam();
  std::vector<uint8_t> bytes = good_header();
  std::memcpy(bytes.data() + lie.offset, lie.bytes.data(), lie.bytes.size());
  Result<LuksHeader> header = parse_luks_header(bytes);
  ASSERT_FALSE(header.ok());
  EXPECT_NE(header.error().message().find(lie.error), std::string::npos)
      << header.error().message();
}

INSTANTIATE_TEST_SUITE_P(All, LuksLies, testing::ValuesIn(kLies),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

TEST(LuksHeader, SurvivesItsOwnBytes) {
  const std::vector<uint8_t> bytes = good_header();
  Result<LuksHeader> header = parse_luks_header(bytes);
  ASSERT_TRUE(header.ok()) << header.error().message();
  EXPECT_EQ(serialize_luks_header(*header), bytes);
  EXPECT_EQ(header->payload_offset, 2068480u);
  EXPECT_EQ(header->active_slots(), 1u);
}

TEST(LuksHeader, ShortOnesAreNoHeaders) {
  std::vector<uint8_t> bytes = good_header();
  for (size_t size : {size_t{0}, size_t{6}, size_t{591}}) {
    EXPECT_FALSE(parse_luks_header(std::span(bytes).first(size)).ok());
  }
}

}  // namespace
}  // namespace calf::crypto
