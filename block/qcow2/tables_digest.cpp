#include "block/qcow2/tables_digest.h"

#include <libdeflate.h>

#include <algorithm>
#include <vector>

#include "block/io/io_slice.h"
#include "block/qcow2/read_header.h"

namespace calf::qcow2 {
namespace {

constexpr uint64_t kMaxL2Bytes = uint64_t{16} << 20;
constexpr uint64_t kPiece = uint64_t{128} << 10;  // stays in a core's cache

// `bytes` is memory to use.
Async<uint32_t> digest_range(block::Node& file, uint32_t digest, ByteRange range,
                             std::vector<uint8_t>& bytes) {
  while (!range.empty()) {
    uint64_t length = std::min(range.length, kPiece);
    bytes.resize(static_cast<size_t>(length));
    FlatIo io{std::span<uint8_t>(bytes)};
    CO_TRY_VOID(co_await file.read(range.offset, io.slice()));
    digest = libdeflate_crc32(digest, bytes.data(), bytes.size());
    range = {range.offset + length, range.length - length};
  }
  co_return digest;
}

}  // namespace

Async<uint32_t> tables_digest(Executor& executor, block::Node& file) {
  CO_TRY(HeaderBytes read, co_await read_header(file));
  const Header& header = read.header;
  CO_TRY_VOID(validate_tables(header, file.size()));
  const uint64_t cluster = header.geometry.cluster_size();
  std::vector<be64> l1(header.l1_entries);
  std::span<uint8_t> l1_bytes(reinterpret_cast<uint8_t*>(l1.data()), l1.size() * sizeof(be64));
  FlatIo io{l1_bytes};
  CO_TRY_VOID(co_await file.read(header.l1_offset, io.slice()));
  uint32_t digest = libdeflate_crc32(0, l1_bytes.data(), l1_bytes.size());

  std::vector<uint64_t> tables;
  for (be64 entry : l1) {
    uint64_t offset = entry.value() & format::kOffsetMask;
    if (offset != 0 && offset < file.size()) tables.push_back(offset);
  }
  uint64_t step = std::max<uint64_t>(1, div_round_up(tables.size() * cluster, kMaxL2Bytes));
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < tables.size(); i += static_cast<size_t>(step)) {
    ByteRange table{tables[i], cluster};
    CO_TRY(digest, co_await digest_range(file, digest, table, bytes));
    if (i % 64 == 0) co_await executor.yield();
  }
  co_return digest;
}

}  // namespace calf::qcow2
