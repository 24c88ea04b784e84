#include "tests/hostile/mutation/mutator.h"

#include <fmt/format.h>

#include <algorithm>

#include "block/qcow2/format.h"

namespace calf::test {
namespace {

namespace format = qcow2::format;

uint64_t get(const Bytes& bytes, uint64_t offset, unsigned width) {
  uint64_t value = 0;
  for (unsigned i = 0; i < width && offset + i < bytes.size(); ++i)
    value = value << 8 | bytes[offset + i];
  return value;
}

void put(Bytes& bytes, uint64_t offset, unsigned width, uint64_t value) {
  for (unsigned i = 0; i < width && offset + i < bytes.size(); ++i)
    bytes[offset + i] = static_cast<uint8_t>(value >> (8 * (width - 1 - i)));
}

}  // namespace

Mutator::Mutator(Bytes image) : image_(std::move(image)) {
  if (get(image_, 0, 4) == format::kMagic) find_tables();
}

void Mutator::find_tables() {
  const unsigned bits = static_cast<unsigned>(get(image_, 20, 4));
  const uint64_t cluster = uint64_t{1} << bits;
  for (uint64_t at : {4, 16, 20, 32, 36, 56, 60, 96, 100})
    fields_.push_back({at, 4, 4});
  for (uint64_t at : {8, 24, 40, 48, 64, 72, 80, 88})
    fields_.push_back({at, 8, 8});
  // Compression type, and the extensions behind the header.
  tables_.push_back({104, std::min<uint64_t>(cluster, 512) - 104, 4});
  const uint64_t l1 = get(image_, 40, 8);
  const uint64_t l1_length = get(image_, 36, 4) * 8;
  const uint64_t refcounts = get(image_, 48, 8);
  const uint64_t refcounts_length = get(image_, 56, 4) << bits;
  tables_.push_back({l1, l1_length, 8});
  tables_.push_back({refcounts, std::min<uint64_t>(refcounts_length, 64), 8});
  for (uint64_t at = l1; at < l1 + l1_length; at += 8) {
    const uint64_t l2 = get(image_, at, 8) & format::kOffsetMask;
    if (l2 != 0) tables_.push_back({l2, std::min<uint64_t>(cluster, 512), 8});
  }
  for (uint64_t at = refcounts; at < refcounts + refcounts_length; at += 8) {
    const uint64_t block = get(image_, at, 8);
    if (block != 0) tables_.push_back({block, std::min<uint64_t>(cluster, 128), 2});
  }
  if (get(image_, 60, 4) != 0) tables_.push_back({get(image_, 64, 8), 128, 4});
  // Whatever an extension points to: bitmap directory, LUKS header.
  for (uint64_t at = 112; at + 8 < std::min<uint64_t>(cluster, 4096); at += 8) {
    const uint64_t value = get(image_, at, 8);
    if (value >= cluster && value < image_.size() && value % cluster == 0) {
      tables_.push_back({value, 256, 4});
    }
  }
  for (const Table& table : tables_)
    places_.push_back(table.offset);
  std::erase_if(tables_, [&](const Table& table) { return table.offset >= image_.size(); });
}

uint64_t Mutator::interesting(uint64_t old, std::mt19937_64& random) const {
  const uint64_t bit = uint64_t{1} << (random() % 64);
  switch (random() % 12) {
    case 0:
      return 0;
    case 1:
      return 1;
    case 2:
      return ~uint64_t{0};
    case 3:
      return old + 1;
    case 4:
      return old - 1;
    case 5:
      return bit;
    case 6:
      return bit - 1;
    case 7:
      return old ^ bit;
    case 8:
      return old + 512;
    case 9:
      return places_.empty() ? random() : places_[random() % places_.size()];
    case 10:
      // A place elsewhere in the file, flags kept.
      return (old & ~format::kOffsetMask) | (random() % (image_.size() + 1) & ~uint64_t{511});
    default:
      return random();
  }
}

void Mutator::mutate(Bytes& image, std::mt19937_64& random, std::string* what) const {
  if (image.empty()) return;
  auto replace = [&](uint64_t at, unsigned width, uint64_t value) {
    put(image, at, width, value);
    *what += fmt::format(" [{}+{}]={:x}", at, width, get(image, at, width));
  };
  const unsigned kind = static_cast<unsigned>(random() % 16);
  if (kind < 5 && !fields_.empty()) {
    const Table& field = fields_[random() % fields_.size()];
    replace(field.offset, field.width, interesting(get(image, field.offset, field.width), random));
  } else if (kind < 12 && !tables_.empty()) {
    const Table& table = tables_[random() % tables_.size()];
    const uint64_t count = std::max<uint64_t>(table.length / table.width, 1);
    const uint64_t at = table.offset + random() % count * table.width;
    const uint64_t other = table.offset + random() % count * table.width;
    const bool swap = random() % 4 == 0;
    const uint64_t old = get(image, at, table.width);
    replace(at, table.width, swap ? get(image, other, table.width) : interesting(old, random));
  } else if (kind < 13) {
    image.resize(random() % 2 == 0 ? random() % (image.size() + 1)
                                   : image.size() + random() % (4 << 20));
    *what += fmt::format(" size={}", image.size());
  } else {
    // Metadata is mostly in front.
    const uint64_t reach =
        random() % 2 == 0 ? std::min<uint64_t>(image.size(), 4096) : image.size();
    const unsigned width = 1u << (random() % 4);
    const uint64_t at = random() % reach & ~uint64_t{width - 1};
    replace(at, width, interesting(get(image, at, width), random));
  }
}

Bytes Mutator::make(uint64_t number, std::string* what) const {
  std::mt19937_64 random(number);
  Bytes image = image_;
  for (uint64_t left = 1 + random() % 4; left != 0; --left)
    mutate(image, random, what);
  return image;
}

}  // namespace calf::test
