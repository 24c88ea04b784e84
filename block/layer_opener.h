// LayerOpener: one layer of a chain, from its description to a node.
//
//     driver=qcow2            format driver     <─ opens over ─┐
//       file.driver=blkdebug  filter            <─ opens over ─┤
//         file.image.…        file, or protocol ───────────────┘
//
// The nodes are opened from the bottom up. What stands below a format, down to the file, belongs to
// the layer; the backing node is another layer (graph.h).
#pragma once

#include <optional>
#include <string>

#include "block/stack_opener.h"

namespace calf::block {

struct LayerRequest {
  NodeDescription description;
  // Counts if the description names no driver.
  std::optional<std::string> format;
  Probing probing = Probing::kNever;
  bool writable = false;
  bool is_base = false;
  // Of a base that its overlay names: that image, and what it says.
  std::string overlay;
  BackingReference reference;
};

struct OpenedLayer {
  OpenedFormat format;
  // The file of this host that the image is in: what the names recorded in it are relative to.
  // Empty if it comes from elsewhere; such names are not followed then.
  std::string path;
  // What the user said about the node below.
  std::optional<NodeDescription> backing;
  // The user said that there is none.
  bool no_backing = false;
};

class LayerOpener {
 public:
  // All of them outlive the opener.
  LayerOpener(Executor& executor, const FormatTable& formats, const OpenSpec& spec)
      : executor_(executor), formats_(formats), spec_(spec), stacks_(executor, formats, spec) {}

  Async<OpenedLayer> open(LayerRequest request);
  bool is_format(std::string_view driver) const { return formats_.find(driver) != nullptr; }

 private:
  Result<void> normalise(LayerRequest* request) const;
  Result<void> check_access(const GenericOptions& generic) const;
  void detect_zeroes(const GenericOptions& generic, OpenedLayer* layer) const;
  // The three kinds of what a guest could be given: an image, one with a filter on top of it, or
  // the bytes of a file or protocol. `request` outlives the calls.
  Async<OpenedLayer> open_disk(const LayerRequest& request, NodeDescription description,
                               Inherited inherited, unsigned depth);
  Async<OpenedLayer> open_filtered(const LayerRequest& request, const FilterDriver& filter,
                                   NodeDescription description, Inherited inherited,
                                   unsigned depth);
  // `driver`: null if it is to be guessed.
  Async<OpenedLayer> open_image(const LayerRequest& request, const FormatDriver* driver,
                                NodeDescription description, Inherited inherited);
  Async<const FormatDriver*> choose_driver(Node& file, const std::string& name, bool* probed);
  // Opens the file that holds the guest's data, if that is not the image itself.
  Async<> open_data_file(OpenedLayer* layer, NodeDescription given, Inherited inherited);
  Result<void> take_backing(NodeDescription* description, OpenedLayer* layer) const;
  Async<> check_base(const LayerRequest& request, FileNode& file, const FormatDriver& driver);

  Executor& executor_;
  const FormatTable& formats_;
  const OpenSpec& spec_;
  StackOpener stacks_;
  // Of the layer being opened.
  LayerAccess access_;
  Probing probing_ = Probing::kNever;
};

}  // namespace calf::block
