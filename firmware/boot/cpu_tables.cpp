#include "firmware/boot/cpu_tables.h"

#include <array>
#include <vector>

#include "block/base/endian.h"
#include "firmware/table_area.h"

namespace calf::firmware {
namespace {

// Segment descriptors (Intel SDM volume 3, 3.4.5): present, accessed, limit 4 GiB.
constexpr uint64_t kFlatCode32 = 0x00CF9B000000FFFF;
constexpr uint64_t kFlatCode64 = 0x00AF9B000000FFFF;
constexpr uint64_t kFlatData = 0x00CF93000000FFFF;

Result<EntryState> prepare(BootMemory& memory, uint64_t code_descriptor) {
  std::array<le64, 4> gdt{0, 0, code_descriptor, kFlatData};
  static_assert(kBootCodeSegment == 2 * sizeof(le64) && kBootDataSegment == 3 * sizeof(le64));
  TRY_VOID(memory.load("descriptor table", kBootGdt, bytes_of(gdt)));
  EntryState state;
  state.code_segment = kBootCodeSegment;
  state.data_segment = kBootDataSegment;
  state.gdt = devices::Gpa{kBootGdt.offset};
  state.gdt_limit = sizeof gdt - 1;
  state.rsp = kBootStackTop;
  return state;
}

}  // namespace

Result<EntryState> prepare_protected32(BootMemory& memory) {
  TRY(EntryState state, prepare(memory, kFlatCode32));
  state.mode = CpuMode::kProtected32;
  return state;
}

Result<EntryState> prepare_long64(BootMemory& memory) {
  constexpr uint64_t kPresent = 1 << 0, kWritable = 1 << 1, kLargePage = 1 << 7;
  constexpr unsigned kEntries = 512, kDirectories = 4;
  constexpr uint64_t kLargePageSize = 2 * kOneMiB;
  // One page of level 4, one of level 3, four of level 2.
  static_assert(kBootPageTables.length == (2 + kDirectories) * kPageSize);
  std::vector<le64> tables((2 + kDirectories) * kEntries);
  auto table_address = [](uint64_t index) { return kBootPageTables.offset + index * kPageSize; };
  tables[0] = table_address(1) | kPresent | kWritable;
  for (unsigned i = 0; i < kDirectories; ++i) {
    tables[kEntries + i] = table_address(2 + i) | kPresent | kWritable;
  }
  for (unsigned i = 0; i < kDirectories * kEntries; ++i) {
    tables[2 * kEntries + i] = i * kLargePageSize | kPresent | kWritable | kLargePage;
  }
  TRY(EntryState state, prepare(memory, kFlatCode64));
  TRY_VOID(memory.load("page tables", kBootPageTables,
                       {reinterpret_cast<const uint8_t*>(tables.data()), tables.size() * 8}));
  state.mode = CpuMode::kLong64;
  state.page_tables = devices::Gpa{kBootPageTables.offset};
  return state;
}

}  // namespace calf::firmware
