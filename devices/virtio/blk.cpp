#include "devices/virtio/blk.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

namespace calf::virtio {
namespace {

// size_max * seg_max is BlkLimits::kMaxTransfer at most. With header and status a request has
// seg_max + 2 descriptors.
constexpr uint32_t kSegMax = 254;
constexpr uint32_t kSizeMax = 256u << 10;
static_assert(uint64_t{kSegMax} * kSizeMax <= BlkLimits::kMaxTransfer);

Result<void> check_block_size(const char* option, uint32_t size) {
  if (std::has_single_bit(size) && size >= kSectorSize && size <= (64u << 10)) return {};
  return make_error(ErrorKind::kInvalid, "{}={}: must be a power of two from 512 to 65536", option,
                    size);
}

const char* name_of(BlkType type) {
  switch (type) {
    case BlkType::kRead:
      return "read";
    case BlkType::kWrite:
      return "write";
    case BlkType::kFlush:
      return "flush";
    case BlkType::kGetId:
      return "request for the serial";
    case BlkType::kDiscard:
      return "discard";
    case BlkType::kWriteZeroes:
      return "write of zeroes";
  }
  return "request";
}

}  // namespace

Result<ErrorPolicy> parse_error_policy(std::string_view text) {
  if (text == "report") return ErrorPolicy::kReport;
  if (text == "ignore") return ErrorPolicy::kIgnore;
  if (text == "stop") return ErrorPolicy::kStop;
  if (text == "enospc") return ErrorPolicy::kNoSpace;
  return make_error(ErrorKind::kInvalid,
                    "'{}' is no error policy; use report, ignore, stop or enospc", text);
}

Result<std::unique_ptr<Blk>> Blk::create(Executor& executor, block::Node& node, BlkOptions options,
                                         Log& log) {
  if (options.queues < 1 || options.queues > kMaxQueues) {
    return make_error(ErrorKind::kInvalid, "num-queues={}: must be 1 to {}", options.queues,
                      kMaxQueues);
  }
  if (!std::has_single_bit(options.queue_size) || options.queue_size < 8 ||
      options.queue_size > 1024) {
    return make_error(ErrorKind::kInvalid, "queue-size={}: must be a power of two from 8 to 1024",
                      options.queue_size);
  }
  if (options.serial.size() > kBlkIdBytes) {
    return make_error(ErrorKind::kInvalid, "serial={}: at most {} bytes", options.serial,
                      kBlkIdBytes);
  }
  if (options.logical_block_size == 0) options.logical_block_size = kSectorSize;
  if (options.physical_block_size == 0) {
    options.physical_block_size = std::max(options.logical_block_size, node.limits().write_unit);
  }
  TRY_VOID(check_block_size("logical_block_size", options.logical_block_size));
  TRY_VOID(check_block_size("physical_block_size", options.physical_block_size));
  if (options.physical_block_size < options.logical_block_size) {
    return make_error(ErrorKind::kInvalid, "physical_block_size={}: less than the logical one",
                      options.physical_block_size);
  }
  return std::unique_ptr<Blk>(new Blk(executor, node, std::move(options), log));
}

Blk::Blk(Executor& executor, block::Node& node, BlkOptions options, Log& log)
    : QueueDevice(executor),
      node_(&node),
      options_(std::move(options)),
      log_(&log),
      stopped_(executor) {
  options_.read_only = options_.read_only || node.read_only();
  features_ = kBlkFeatureSizeMax | kBlkFeatureSegMax | kBlkFeatureGeometry | kBlkFeatureBlockSize |
              kBlkFeatureFlush | kBlkFeatureTopology | kBlkFeatureConfigWce;
  if (options_.queues > 1) features_ |= kBlkFeatureMultiQueue;
  if (options_.read_only) {
    features_ |= kBlkFeatureReadOnly;
  } else {
    features_ |= kBlkFeatureWriteZeroes;
    if (options_.discard) features_ |= kBlkFeatureDiscard;
  }
  fill_config();
}

uint64_t Blk::usable_size() const {
  return node_->size() / options_.logical_block_size * options_.logical_block_size;
}

void Blk::fill_config() {
  uint32_t block = options_.logical_block_size;
  uint32_t granularity = std::max(node_->limits().discard_granularity, block);
  uint64_t size = usable_size();
  config_.capacity = size / kSectorSize;
  config_.size_max = kSizeMax;
  config_.seg_max = kSegMax;
  // The geometry that PC firmware makes up for disks of today.
  config_.heads = 16;
  config_.sectors = 63;
  config_.cylinders =
      static_cast<uint16_t>(std::min<uint64_t>(size / kSectorSize / (16 * 63), 16383));
  config_.blk_size = block;
  config_.physical_block_exp =
      static_cast<uint8_t>(std::countr_zero(options_.physical_block_size / block));
  config_.min_io_size = static_cast<uint16_t>(options_.physical_block_size / block);
  config_.writeback = options_.writeback ? 1 : 0;
  config_.num_queues = options_.queues;
  if (options_.read_only) return;
  if (options_.discard) {
    config_.max_discard_sectors = BlkLimits::kMaxRangeSectors;
    config_.max_discard_seg = BlkLimits::kMaxSegments;
    config_.discard_sector_alignment = static_cast<uint32_t>(granularity / kSectorSize);
    config_.write_zeroes_may_unmap = 1;
  }
  config_.max_write_zeroes_sectors = BlkLimits::kMaxRangeSectors;
  config_.max_write_zeroes_seg = BlkLimits::kMaxSegments;
}

void Blk::read_config(uint64_t offset, std::span<uint8_t> data) const {
  BlkConfig config;
  {
    std::lock_guard lock(config_mutex_);
    config = config_;
  }
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&config);
  for (uint8_t& byte : data) {
    byte = offset < sizeof config ? bytes[offset] : uint8_t{0};
    ++offset;
  }
}

void Blk::write_config(uint64_t offset, std::span<const uint8_t> data) {
  constexpr uint64_t kWriteback = offsetof(BlkConfig, writeback);
  if (offset > kWriteback || kWriteback - offset >= data.size()) return;
  std::lock_guard lock(config_mutex_);
  config_.writeback = data[kWriteback - offset] != 0 ? 1 : 0;
}

uint8_t Blk::config_generation() const {
  std::lock_guard lock(config_mutex_);
  return generation_;
}

void Blk::resized() {
  executor().post([this] {
    limits_.capacity = usable_size();
    {
      std::lock_guard lock(config_mutex_);
      config_.capacity = limits_.capacity / kSectorSize;
      ++generation_;
    }
    if (notifier() != nullptr) notifier()->configuration_changed();
  });
}

void Blk::retry_stopped() {
  executor().post([this] { stopped_.wake_all(); });
}

void Blk::starting(uint64_t features) {
  abandoning_ = false;
  limits_.capacity = usable_size();
  limits_.block_size = options_.logical_block_size;
  limits_.read_only = options_.read_only;
  limits_.discard = (features & kBlkFeatureDiscard) != 0;
  limits_.write_zeroes = (features & kBlkFeatureWriteZeroes) != 0;
  flush_negotiated_ = (features & kBlkFeatureFlush) != 0;
  config_wce_negotiated_ = (features & kBlkFeatureConfigWce) != 0;
}

void Blk::stopping() {
  abandoning_ = true;
  stopped_.wake_all();
}

// virtio 5.2.6.2: a driver that negotiated neither FLUSH nor CONFIG_WCE cannot ask for durability,
// so every write is durable; one with CONFIG_WCE says what it wants.
bool Blk::write_through() const {
  if (!config_wce_negotiated_) return !flush_negotiated_ || !options_.writeback;
  std::lock_guard lock(config_mutex_);
  return config_.writeback == 0;
}

void Blk::take(QueueRunner& runner, Chain chain) {
  if (!has_status_byte(chain)) {
    runner.fail(chain.head, "a block request has no room for its status");
    return;
  }
  executor().spawn(serve(this, PendingRequest{&runner, std::move(chain)}));
}

Task<void> Blk::serve(Blk* self, PendingRequest pending) {
  ParsedBlkRequest parsed = parse_blk_request(pending.chain, self->limits_);
  if (parsed.status != BlkStatus::kOk) {
    if (self->log_limit_.allow()) {
      self->log_->info("{}: the guest sent {}", self->node_->name(), parsed.problem);
    }
    self->finish(pending, parsed.status, 0);
    co_return;
  }
  const BlkRequest& request = parsed.request;
  bool is_read = request.type == BlkType::kRead;
  BlkStatus status = BlkStatus::kOk;
  for (;;) {
    Result<void> done = co_await self->perform(request);
    if (done.ok()) break;
    if (!self->stops(is_read, done.error())) {
      status = self->status_of(request.type, done.error());
      break;
    }
    self->options_.on_stop(done.error());
    co_await self->stopped_.wait();
    if (self->abandoning_) {
      status = BlkStatus::kIoError;
      break;
    }
  }
  uint32_t filled = 0;
  if (status == BlkStatus::kOk && is_read) filled = static_cast<uint32_t>(request.data.size());
  if (request.type == BlkType::kGetId) {
    filled = static_cast<uint32_t>(std::min(request.data.size(), kBlkIdBytes));
  }
  self->finish(pending, status, filled);
}

Async<> Blk::perform(const BlkRequest& request) {
  switch (request.type) {
    case BlkType::kRead:
      if (request.data.empty()) co_return Result<void>();
      co_return co_await node_->read(request.offset, request.data);
    case BlkType::kWrite: {
      if (request.data.empty()) co_return Result<void>();
      block::WriteFlags flags;
      flags.fua = write_through();
      co_return co_await node_->write(request.offset, request.data, flags);
    }
    case BlkType::kFlush:
      co_return co_await node_->flush();
    case BlkType::kGetId:
      get_id(request.data);
      co_return Result<void>();
    case BlkType::kDiscard:
    case BlkType::kWriteZeroes:
      co_return co_await perform_segments(request);
  }
  co_return Result<void>();
}

Async<> Blk::perform_segments(const BlkRequest& request) {
  for (const BlkSegment& segment : request.segments) {
    if (request.type == BlkType::kDiscard) {
      CO_TRY_VOID(co_await node_->discard(segment.range));
    } else {
      block::ZeroFlags flags;
      flags.may_unmap = segment.unmap && options_.discard;
      flags.fua = write_through();
      CO_TRY_VOID(co_await node_->write_zeroes(segment.range, flags));
    }
  }
  co_return Result<void>();
}

void Blk::get_id(IoSlice to) const {
  std::array<uint8_t, kBlkIdBytes> id{};
  std::copy(options_.serial.begin(), options_.serial.end(), id.begin());
  size_t count = std::min(to.size(), id.size());
  to.slice(0, count).copy_from(std::span(id).first(count));
}

bool Blk::stops(bool is_read, const Error& error) const {
  if (abandoning_ || !options_.on_stop) return false;
  switch (is_read ? options_.on_read_error : options_.on_write_error) {
    case ErrorPolicy::kStop:
      return true;
    case ErrorPolicy::kNoSpace:
      return error.kind() == ErrorKind::kNoSpace;
    case ErrorPolicy::kReport:
    case ErrorPolicy::kIgnore:
      return false;
  }
  return false;
}

BlkStatus Blk::status_of(BlkType type, const Error& error) {
  bool is_read = type == BlkType::kRead;
  if (log_limit_.allow()) {
    log_->error("{}: a {} of the guest failed: {}", node_->name(), name_of(type), error.message());
  }
  ErrorPolicy policy = is_read ? options_.on_read_error : options_.on_write_error;
  return policy == ErrorPolicy::kIgnore ? BlkStatus::kOk : BlkStatus::kIoError;
}

// The one place where requests end. A read that failed may have filled anything: the driver is told
// of the status byte only.
void Blk::finish(const PendingRequest& pending, BlkStatus status, uint32_t data_written) {
  write_status_byte(pending.chain, status);
  pending.runner->finish(pending.chain.head, data_written + 1);
}

}  // namespace calf::virtio
