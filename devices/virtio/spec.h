// Numbers and layouts of virtio 1.2, nothing else: status, features, split ring (2.7), PCI
// transport (4.1), block device (5.2), entropy device (5.4).
#pragma once

#include <cstddef>
#include <cstdint>

#include "block/base/endian.h"

namespace calf::virtio {

// ---- Device status (2.1) ----
enum DeviceStatus : uint8_t {
  kStatusAcknowledge = 1,
  kStatusDriver = 2,
  kStatusDriverOk = 4,
  kStatusFeaturesOk = 8,
  kStatusNeedsReset = 64,
  kStatusFailed = 128,
};

// ---- Feature bits of every device (6) ----
inline constexpr uint64_t feature_bit(unsigned number) {
  return uint64_t{1} << number;
}
inline constexpr uint64_t kFeatureIndirectDescriptors = feature_bit(28);
inline constexpr uint64_t kFeatureEventIndex = feature_bit(29);
inline constexpr uint64_t kFeatureVersion1 = feature_bit(32);

// ---- Split ring (2.7) ----
struct Descriptor {
  le64 address;
  le32 length;
  le16 flags;
  le16 next;
};
static_assert(sizeof(Descriptor) == 16);
enum DescriptorFlags : uint16_t {
  kDescriptorNext = 1,
  kDescriptorWrite = 2,
  kDescriptorIndirect = 4,
};

// Available ring: flags, idx, ring[size], used_event.
inline constexpr uint64_t kAvailableFlags = 0;
inline constexpr uint64_t kAvailableIndex = 2;
inline constexpr uint64_t kAvailableRing = 4;
inline constexpr uint16_t kAvailableNoInterrupt = 1;
// Used ring: flags, idx, ring[size] of {id, len}, avail_event.
inline constexpr uint64_t kUsedFlags = 0;
inline constexpr uint64_t kUsedIndex = 2;
inline constexpr uint64_t kUsedRing = 4;
inline constexpr uint64_t kUsedElementSize = 8;
inline constexpr uint16_t kUsedNoNotify = 1;

inline constexpr uint16_t kMaxQueueSize = 32768;
inline constexpr uint64_t descriptor_table_bytes(uint16_t size) {
  return uint64_t{16} * size;
}
inline constexpr uint64_t available_ring_bytes(uint16_t size) {
  return 6 + uint64_t{2} * size;
}
inline constexpr uint64_t used_ring_bytes(uint16_t size) {
  return 6 + kUsedElementSize * size;
}

// ---- PCI transport (4.1) ----
inline constexpr uint16_t kPciVendor = 0x1af4;
inline constexpr uint16_t kPciDeviceBase = 0x1040;  // plus the device type
inline constexpr uint8_t kPciRevision = 1;

enum PciCapabilityType : uint8_t {
  kPciCapCommon = 1,
  kPciCapNotify = 2,
  kPciCapIsr = 3,
  kPciCapDevice = 4,
  kPciCapPciCfg = 5,
};
// A vendor capability after its id and link bytes.
struct PciCapability {
  uint8_t length = 0;  // of the whole capability
  uint8_t type = 0;
  uint8_t bar = 0;
  uint8_t id = 0;
  uint8_t padding[2] = {};
  le32 offset;
  le32 size;
};
static_assert(sizeof(PciCapability) == 14);
struct PciNotifyCapability {
  PciCapability cap;
  le32 offset_multiplier;
};
struct PciCfgCapability {
  PciCapability cap;
  uint8_t data[4] = {};
};
// Offsets of that capability's fields, from its start.
inline constexpr unsigned kPciCfgBar = 4;
inline constexpr unsigned kPciCfgOffset = 8;
inline constexpr unsigned kPciCfgLength = 12;
inline constexpr unsigned kPciCfgData = 16;

// Common configuration (4.1.4.3).
struct CommonConfig {
  le32 device_feature_select;
  le32 device_feature;  // read-only
  le32 driver_feature_select;
  le32 driver_feature;
  le16 config_vector;
  le16 queue_count;  // read-only
  uint8_t status = 0;
  uint8_t config_generation = 0;  // read-only
  le16 queue_select;
  // Of the selected queue; zeroes if there is no such queue.
  le16 queue_size;
  le16 queue_vector;
  le16 queue_enable;
  le16 queue_notify_offset;  // read-only
  le64 queue_descriptors;
  le64 queue_available;
  le64 queue_used;
};
static_assert(sizeof(CommonConfig) == 0x38 && offsetof(CommonConfig, queue_used) == 0x30);
inline constexpr uint16_t kNoVector = 0xffff;
enum IsrBits : uint8_t { kIsrQueue = 1, kIsrConfig = 2 };

// ---- Block device (5.2) ----
inline constexpr uint16_t kTypeBlock = 2;
inline constexpr uint64_t kSectorSize = 512;

inline constexpr uint64_t kBlkFeatureSizeMax = feature_bit(1);
inline constexpr uint64_t kBlkFeatureSegMax = feature_bit(2);
inline constexpr uint64_t kBlkFeatureGeometry = feature_bit(4);
inline constexpr uint64_t kBlkFeatureReadOnly = feature_bit(5);
inline constexpr uint64_t kBlkFeatureBlockSize = feature_bit(6);
inline constexpr uint64_t kBlkFeatureFlush = feature_bit(9);
inline constexpr uint64_t kBlkFeatureTopology = feature_bit(10);
inline constexpr uint64_t kBlkFeatureConfigWce = feature_bit(11);
inline constexpr uint64_t kBlkFeatureMultiQueue = feature_bit(12);
inline constexpr uint64_t kBlkFeatureDiscard = feature_bit(13);
inline constexpr uint64_t kBlkFeatureWriteZeroes = feature_bit(14);

struct BlkConfig {
  le64 capacity;  // in sectors of 512 bytes
  le32 size_max;
  le32 seg_max;
  le16 cylinders;
  uint8_t heads = 0;
  uint8_t sectors = 0;
  le32 blk_size;
  uint8_t physical_block_exp = 0;
  uint8_t alignment_offset = 0;
  le16 min_io_size;  // in logical blocks, as the next one
  le32 opt_io_size;
  uint8_t writeback = 0;
  uint8_t unused0 = 0;
  le16 num_queues;
  le32 max_discard_sectors;
  le32 max_discard_seg;
  le32 discard_sector_alignment;
  le32 max_write_zeroes_sectors;
  le32 max_write_zeroes_seg;
  uint8_t write_zeroes_may_unmap = 0;
  uint8_t unused1[3] = {};
};
static_assert(sizeof(BlkConfig) == 60);
static_assert(offsetof(BlkConfig, writeback) == 32);

enum class BlkType : uint32_t {
  kRead = 0,
  kWrite = 1,
  kFlush = 4,
  kGetId = 8,
  kDiscard = 11,
  kWriteZeroes = 13,
};
enum class BlkStatus : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2 };

struct BlkRequestHeader {
  le32 type;
  le32 reserved;
  le64 sector;
};
static_assert(sizeof(BlkRequestHeader) == 16);

struct BlkRangeSegment {  // of discard and write zeroes
  le64 sector;
  le32 sectors;
  le32 flags;
};
static_assert(sizeof(BlkRangeSegment) == 16);
inline constexpr uint32_t kBlkSegmentUnmap = 1;
inline constexpr size_t kBlkIdBytes = 20;

// ---- Entropy device (5.4) ----
inline constexpr uint16_t kTypeEntropy = 4;

}  // namespace calf::virtio
