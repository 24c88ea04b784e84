// A block device in the machine of virtio_fixture.h, and requests of its driver.
#pragma once

#include <cstring>

#include "devices/virtio/blk.h"
#include "tests/devices/virtio/virtio_fixture.h"
#include "tests/support/memory_node.h"

namespace calf::virtio {

class BlkFixture : public VirtioFixture {
 protected:
  static constexpr uint64_t kDiskSize = 8u << 20;
  static constexpr uint64_t kAllBlkFeatures =
      kBlkFeatureSizeMax | kBlkFeatureSegMax | kBlkFeatureGeometry | kBlkFeatureBlockSize |
      kBlkFeatureFlush | kBlkFeatureTopology | kBlkFeatureConfigWce | kBlkFeatureDiscard |
      kBlkFeatureWriteZeroes;

  ~BlkFixture() override {
    if (node) node->release();
    if (transport) transport->stop();
    thread.settle();  // what was posted still names the node
  }

  void make_disk(BlkOptions options = {}, block::Limits limits = {}, bool read_only = false) {
    node = std::make_unique<block::MemoryNode>(thread.executor(), kDiskSize, limits, read_only);
    blk = std::move(*Blk::create(thread.executor(), *node, std::move(options), log));
    plug(*blk);
  }

  struct Request {
    uint64_t status_at = 0;
    uint64_t data_at = 0;
    uint32_t data_length = 0;
    uint64_t header_at = 0;
  };
  static constexpr uint8_t kNoStatus = 0xee;

  Request allocate_request(BlkType type, uint64_t sector, uint32_t data_length) {
    Request r;
    uint64_t header_at = ram.allocate(sizeof(BlkRequestHeader));
    BlkRequestHeader header;
    header.type = static_cast<uint32_t>(type);
    header.sector = sector;
    std::memcpy(ram.at(header_at), &header, sizeof header);
    r.data_length = data_length;
    r.data_at = data_length ? ram.allocate(data_length, 512) : 0;
    r.status_at = ram.allocate(1, 1);
    *ram.at(r.status_at) = kNoStatus;
    r.header_at = header_at;
    return r;
  }
  bool device_fills(BlkType type) { return type == BlkType::kRead || type == BlkType::kGetId; }

  // Adds a request to a queue. Nothing if the ring is full.
  std::optional<uint16_t> add(const Request& r, bool device_writes_data, uint16_t queue = 0,
                              bool indirect = false) {
    std::vector<VirtqueueDriver::Piece> pieces;
    pieces.push_back({r.header_at, sizeof(BlkRequestHeader), false});
    if (r.data_length != 0) pieces.push_back({r.data_at, r.data_length, device_writes_data});
    pieces.push_back({r.status_at, 1, true});
    return queues[queue].add(pieces, indirect);
  }

  // One request from start to end; the status it got. `data` is sent, or received into.
  uint8_t run(BlkType type, uint64_t sector, std::vector<uint8_t>* data = nullptr,
              bool indirect = false, uint16_t queue = 0) {
    uint32_t length = data ? static_cast<uint32_t>(data->size()) : 0;
    Request r = allocate_request(type, sector, length);
    bool fills = device_fills(type);
    if (length != 0 && !fills) std::memcpy(ram.at(r.data_at), data->data(), length);
    auto head = add(r, fills, queue, indirect);
    EXPECT_TRUE(head.has_value());
    publish_and_kick(queue);
    auto used = next_used(queue);
    EXPECT_TRUE(used.has_value()) << "no answer";
    if (!used) return kNoStatus;
    EXPECT_EQ(used->head, *head);
    written = used->written;
    if (length != 0 && fills) *data = ram.copy(r.data_at, length);
    return *ram.at(r.status_at);
  }
  uint8_t run_segments(BlkType type, const std::vector<BlkRangeSegment>& segments) {
    std::vector<uint8_t> bytes(segments.size() * sizeof(BlkRangeSegment));
    if (!bytes.empty()) std::memcpy(bytes.data(), segments.data(), bytes.size());
    return run(type, 0, &bytes);
  }
  static BlkRangeSegment segment(uint64_t sector, uint32_t sectors, uint32_t flags = 0) {
    BlkRangeSegment s;
    s.sector = sector;
    s.sectors = sectors;
    s.flags = flags;
    return s;
  }
  static std::vector<uint8_t> pattern(size_t size, uint8_t seed) {
    std::vector<uint8_t> bytes(size);
    for (size_t i = 0; i < size; ++i)
      bytes[i] = static_cast<uint8_t>(seed + i * 7 + i / 256);
    return bytes;
  }

  static constexpr uint8_t kOk = 0;
  static constexpr uint8_t kIoError = 1;
  static constexpr uint8_t kUnsupported = 2;

  std::unique_ptr<block::MemoryNode> node;
  std::unique_ptr<Blk> blk;
  uint32_t written = 0;  // what the used ring said of the last request
};

}  // namespace calf::virtio
