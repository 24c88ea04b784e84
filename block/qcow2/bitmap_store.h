// BitmapStore: the persistent bitmaps of an open image, in memory and in the file.
//
//     in the file        consistent ──begin()──> in use ──store()──> consistent
//     in memory                    bits loaded     │  record(): guest writes set bits
//                                                  └─ a crash here: inconsistent for good
//
// A bitmap that records (`automatic`) is marked as in use before the first change of guest data and
// stored when the image is closed; one that nothing changes stays in the file as it is. Storing
// writes new bits, tables and directory beside the old ones, and switches over in the header while
// the autoclear bit is off:
//
//   1  bits, tables, directory, their refcounts
//      ══ sync   A directory that points to what is not written: wrong bits would be believed.
//   2  autoclear bit off          ══ sync   Half of a new header extension is never looked at.
//   3  header extension           ══ sync
//   4  autoclear bit on           ══ sync   A bitmap's old clusters reused while it points there.
//   5  old bits, tables, directory are freed
//
// A cut between 2 and 4 loses the bitmaps, as the format has it for a writer that does not know
// them; check counts their clusters as leaks then.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/io/sync.h"
#include "block/qcow2/bitmap_directory.h"
#include "block/qcow2/dirty_bitmap.h"
#include "block/qcow2/image.h"

namespace calf::qcow2 {

class BitmapStore {
 public:
  explicit BitmapStore(Image::State& state);

  // What the directory says, at open. Bits are read when they are needed.
  void adopt(std::vector<BitmapEntry> entries);
  // In the order of the directory. `in_use` means inconsistent here: left so by a crash.
  std::vector<BitmapInfo> infos() const;
  bool empty() const { return items_.empty(); }

  // ---- For the image ----

  // Before guest data in `range` changes. Waits only the first time, for marks in the file.
  Async<> before_write(ByteRange range);
  // Before the disk gets another size; an error if a bitmap is inconsistent.
  Async<> before_resize();
  void resize(uint64_t disk_size);
  // Before another disk takes this one's place (a snapshot is applied), and when it has.
  Async<> before_replace();
  void replaced(uint64_t disk_size);
  // Writes what has changed. Nothing is in flight.
  Async<> store();

  // ---- For tools; changes reach the file with store() ----

  // Error texts are those of qemu-img. A new bitmap records from now on.
  Result<void> add(const std::string& name, unsigned granularity_bits);
  Async<> remove(std::string name);
  Async<> clear(std::string name);
  Async<> set_recording(std::string name, bool on);
  // Sets in `name` what is set in `source` (of this image or another one).
  Async<> merge(std::string name, const DirtyBitmap* source);
  // The bits, until the next change. An error for an inconsistent bitmap.
  Async<const DirtyBitmap*> bits(std::string name);

 private:
  struct Item {
    BitmapEntry entry;
    std::optional<DirtyBitmap> bits;
    // Clusters that hold its bits in the file, known with `bits`.
    std::vector<uint64_t> clusters;
    // The entry is in the file's directory, there.
    std::optional<size_t> disk_index;
    // In memory newer than in the file, or marked as in use there.
    bool changed = false;
    bool marked = false;

    const std::string& name() const { return entry.info.name; }
    bool inconsistent() const { return entry.info.in_use; }
    bool records() const { return entry.info.automatic && !entry.info.in_use; }
  };

  Item* find_item(std::string_view name);
  Result<Item*> find_consistent(std::string_view name);
  bool is_ours(ByteRange range) const;
  Async<> load_bits(Item& item);
  Async<std::vector<uint64_t>> load_table(const Item& item);
  Async<> load_pages(Item& item, const std::vector<uint64_t>& table);
  // Marks items in the file: those that record, or all.
  Async<> mark_in_use(bool all);

  Async<> write_items(std::vector<ByteRange>* made);
  Async<> write_item(Item& item, std::vector<ByteRange>* made);
  Async<std::optional<BitmapDirectoryPlace>> write_directory(std::vector<ByteRange>* made);
  Async<uint64_t> allocate(uint64_t bytes, std::vector<ByteRange>* made);
  Async<> switch_directory(std::optional<BitmapDirectoryPlace> place);
  void discard_old(const Item& item);

  Image::State& state_;
  AsyncMutex mutex_;
  std::vector<Item> items_;
  // The directory as it is in the file.
  std::optional<BitmapDirectoryPlace> directory_;
  std::vector<BitmapEntry> on_disk_;
  // Recording bitmaps are marked in the file.
  bool recording_ = false;
  bool list_changed_ = false;
  // Freed once the new directory counts.
  std::vector<ByteRange> old_;
};

}  // namespace calf::qcow2
