#include "block/formats/null_driver.h"

#include "block/null_node.h"

namespace calf::block {
namespace {

class NullDriver final : public ProtocolDriver {
 public:
  explicit NullDriver(const char* name) : name_(name) {}
  const char* name() const override { return name_; }

  Async<std::unique_ptr<Node>> open(Executor& executor, NodeDescription* description,
                                    ProtocolOptions options) const override {
    NullNode::Options null_options;
    null_options.writable = options.writable;
    if (description->has("filename")) {
      co_return make_error(ErrorKind::kInvalid,
                           "The only allowed filename for this driver is '{}://'", name_);
    }
    CO_TRY(std::optional<uint64_t> size, description->take_size("size"));
    if (size && *size > INT64_MAX) {
      co_return Error(ErrorKind::kInvalid, "size is invalid");
    }
    null_options.size = size.value_or(null_options.size);
    CO_TRY(std::optional<bool> zeroes, description->take_switch("read-zeroes"));
    null_options.read_zeroes = zeroes.value_or(false);
    CO_TRY(std::optional<uint64_t> latency, description->take_number("latency-ns"));
    if (latency && *latency > INT64_MAX) {
      co_return Error(ErrorKind::kInvalid, "latency-ns is invalid");
    }
    null_options.latency = std::chrono::nanoseconds(latency.value_or(0));
    std::unique_ptr<Node> node = std::make_unique<NullNode>(executor, name_, null_options);
    co_return node;
  }

 private:
  const char* name_;
};

}  // namespace

std::unique_ptr<ProtocolDriver> make_null_driver(const char* name) {
  return std::make_unique<NullDriver>(name);
}

}  // namespace calf::block
