// Image: a qcow2 file as a node.
//
//     read/write ──> resolve (metadata only) ──> transfer (data only) ──> commit (publish mapping)
//                        │                            │
//                   L1, L2, refcounts             HostFile ──> file node
//                   (caches, written in order          backing node (reads and copy-on-write)
//                    by WriteBack)
//
// Any byte range may be read and written, whatever the file below wants aligned. Guest data is
// durable after flush(); until then new mappings live in memory only.
//
// Spec: QEMU docs/interop/qcow2. Versions 2 and 3, every cluster size and refcount width, zlib and
// zstd, extended L2 entries, external data files, encryption by LUKS and by the legacy AES.
// Persistent bitmaps record what is written (bitmap_store.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "block/crypto/luks_keys.h"
#include "block/crypto/secret_store.h"
#include "block/io/executor.h"
#include "block/node.h"
#include "block/qcow2/image_info.h"

namespace calf::qcow2 {

// Lines that qemu-img prints without a prefix ("qcow2: Marking image as corrupt: …", repairs at
// open). Text from the image in it is not yet quoted for a terminal.
using MessageSink = std::function<void(std::string_view line)>;

struct OpenOptions {
  bool writable = false;
  // Only info() is wanted: features that the engine cannot read or write are no error, and
  // nothing is read but the header, the snapshot table and the bitmap directory.
  bool info_only = false;
  // Damage that check() reports is no error here, and a dirty image is not repaired at open.
  bool for_check = false;
  // Never syncs: for targets of a conversion and throw-away images (cache=unsafe).
  bool unsafe_no_flush = false;
  // Upper bound of cached L2 and refcount tables, in bytes each.
  uint64_t cache_bytes = uint64_t{32} << 20;
  // Asked for the passphrase of an encrypted image. Null: none was named, which is an error unless
  // data is left alone.
  crypto::PassphraseSource passphrase;
  // May be null.
  MessageSink message;
};

// What an overlay says about its base.
struct BackingRecord {
  std::optional<std::string> name;
  std::optional<std::string> format;
  // The header extension of block/base_fingerprint.h.
  std::optional<std::vector<uint8_t>> fingerprint;
};

// What the maker of a snapshot says about it.
struct NewSnapshot {
  std::string name;
  uint32_t date_sec = 0;
  uint32_t date_nsec = 0;
};

class BitmapStore;

class Image final : public block::Node {
 public:
  // Takes the file over. Error texts are those of contract section 6.3, without "Could not open".
  static Async<std::unique_ptr<Image>> open(Executor& executor, std::unique_ptr<block::Node> file,
                                            OpenOptions options);
  ~Image() override;

  // The names as recorded in the header; never resolved, never trusted.
  const std::optional<std::string>& backing_name() const;
  const std::optional<std::string>& backing_format() const;
  // The header extension of block/base_fingerprint.h, if the image has it.
  std::optional<std::vector<uint8_t>> base_fingerprint() const;
  BackingRecord backing_record() const;
  // The node that answers where this image has nothing; closed together with the image. Set before
  // the first request.
  void set_backing(std::unique_ptr<block::Node> backing);
  // The external data file's name as recorded; nothing if guest data is in this file.
  std::optional<std::string> data_file_name() const;
  // The external data file, closed together with the image. Set before the first request.
  void set_data_file(std::unique_ptr<block::Node> data);
  // The node that holds guest data: the external data file, or the image's own.
  block::Node& data_file() const;
  ImageInfo info() const;
  // Not of an info_only image. What a tool changes there is stored at close().
  BitmapStore& bitmaps() const;
  // The node that holds the file.
  block::Node& file() const;

  // Stores one whole cluster compressed (plain if that does not make it smaller, a zero cluster
  // never). `offset` is aligned to the cluster; `from` has the size of a cluster, or reaches the
  // end of the disk. Any number may be in flight: compression runs on the offload pool.
  Async<> write_compressed(uint64_t offset, IoSlice from);

  // What the header records about the base from now on; durable at the end, old or new after a
  // crash. The node below stays as it is. No name: no base. kNoSpace if it does not fit.
  Async<> record_backing(BackingRecord record);

  // Nothing of the disk is in this image any more: the backing node answers for all of it.
  // Snapshots stay. A crash leaves clusters that are gone and others that are not.
  Async<> make_empty();

  // Internal snapshots (snapshot.h finds them). A crash or an error on the way leaves the image as
  // it was before or as it is after, and leaked clusters at worst; requests wait meanwhile.
  const std::vector<SnapshotInfo>& snapshots() const;
  // Keeps the disk as it is now; a name may be there already.
  Async<> create_snapshot(NewSnapshot snapshot);
  // The disk becomes what it was then, its size too. The snapshot stays. `index` is inside the
  // list.
  Async<> apply_snapshot(size_t index);
  Async<> delete_snapshot(size_t index);
  // This image, opened read-only, shows the disk of that snapshot from now on.
  Async<> show_snapshot(size_t index);

  // Changes the key slots of an image encrypted by LUKS, durably. `change` outlives the await.
  Async<> change_keys(const crypto::LuksKeyChange& change);

  // block::Node
  uint64_t size() const override;
  const block::Limits& limits() const override;
  bool read_only() const override;
  Async<> read(uint64_t offset, IoSlice to) override;
  Async<> write(uint64_t offset, IoSlice from, block::WriteFlags flags) override;
  Async<> write_zeroes(ByteRange range, block::ZeroFlags flags) override;
  Async<> discard(ByteRange range) override;
  Async<> flush() override;
  Async<block::Extent> map(ByteRange range) override;
  std::optional<block::Extent> known(ByteRange range) override;
  Async<> truncate(uint64_t size, block::Preallocation preallocation) override;
  Async<> close() override;
  block::Node* backing() const override;
  const std::string& name() const override;
  const char* format() const override { return "qcow2"; }

  // The parts, for check and repair (image_state.h).
  struct State;
  State& state() { return *state_; }

 private:
  explicit Image(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace calf::qcow2
