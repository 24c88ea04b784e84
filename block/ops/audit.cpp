#include "block/ops/audit.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "block/file_node.h"
#include "block/graph.h"
#include "block/probe.h"
#include "block/qcow2/check.h"
#include "block/qcow2/image.h"
#include "block/qcow2/read_header.h"

namespace calf::ops {
namespace {

using enum Severity;

// Lines of a check that are repeated in the report; the rest is counted.
constexpr uint64_t kMaxLines = 10;

class Auditor {
 public:
  Auditor(Executor& executor, const block::FormatTable& formats, std::string path, AuditRules rules)
      : executor_(executor),
        formats_(formats),
        path_(std::move(path)),
        rules_(std::move(rules)),
        deadline_(Deadline::after(rules_.time_limit)) {}

  Async<AuditReport> run();

 private:
  void note(const char* rule, std::string text) { add(kNote, rule, std::move(text)); }
  void refuse(const char* rule, std::string text) { add(kRefuse, rule, std::move(text)); }
  void add(Severity severity, const char* rule, std::string text) {
    report_.findings.push_back({severity, rule, std::move(text)});
  }
  void name_file(const char* role, const char* rule, std::string name,
                 std::optional<std::string> format);

  Async<> look_at_file();
  Async<> look_at_image();
  Async<> look_at_tables();
  void look_at_qcow2(const qcow2::ImageInfo& info);
  block::OpenSpec spec() const;

  Executor& executor_;
  const block::FormatTable& formats_;
  std::string path_;
  AuditRules rules_;
  Deadline deadline_;
  AuditReport report_;
};

void Auditor::name_file(const char* role, const char* rule, std::string name,
                        std::optional<std::string> format) {
  refuse(rule, fmt::format("The image wants another file opened: '{}'", name));
  report_.names.push_back({role, std::move(name), std::move(format)});
}

block::OpenSpec Auditor::spec() const {
  block::OpenSpec spec;
  spec.filename = path_;
  spec.format = report_.format;
  spec.open_backing = false;
  spec.force_share = true;
  return spec;
}

// Format and length; for qcow2 the tables that an open reads.
Async<> Auditor::look_at_file() {
  block::FileOptions options;
  CO_TRY(std::unique_ptr<block::FileNode> file,
         co_await block::FileNode::open(executor_, path_, options));
  struct stat st {};
  if (::fstat(file->fd(), &st) != 0) co_return Error::from_errno(errno);
  report_.file_length = file->size();
  report_.allocated = static_cast<uint64_t>(st.st_blocks) * 512;
  std::vector<uint8_t> head(block::kProbeBytes);
  FlatIo io{std::span<uint8_t>(head)};
  CO_TRY_VOID(co_await file->read(0, io.slice()));
  report_.format = block::probe_format(head);
  if (report_.format == "qcow2") {
    Result<qcow2::HeaderBytes> read = co_await qcow2::read_header(*file);
    if (read.ok()) {
      const qcow2::Header& header = read->header;
      report_.table_bytes =
          uint64_t{header.l1_entries} * 8 +
          (uint64_t{header.refcount_table_clusters} << header.geometry.cluster_bits);
    }
  }
  co_return co_await file->close();
}

void Auditor::look_at_qcow2(const qcow2::ImageInfo& info) {
  std::vector<std::string>& features = report_.features;
  features.push_back(info.version >= 3 ? "compat-1.1" : "compat-0.10");
  if (info.compression == qcow2::Compression::kZstd) features.push_back("zstd");
  if (info.extended_l2) features.push_back("extended-l2");
  if (info.lazy_refcounts) features.push_back("lazy-refcounts");
  if (info.encryption != qcow2::Encryption::kNone) {
    features.push_back("encryption");
    note("encrypted", "The disk is encrypted: nobody but the owner knows what is on it");
  }
  report_.snapshots = info.snapshots.size();
  if (report_.snapshots != 0) {
    features.push_back("snapshots");
    note("snapshots", "Internal snapshots hold data that the disk does not show");
  }
  report_.bitmaps = info.bitmaps.size();
  if (report_.bitmaps != 0) features.push_back("bitmaps");
  if (info.backing_name) {
    name_file("backing-file", "names-backing-file", *info.backing_name, info.backing_format);
  }
  if (info.has_data_file) {
    features.push_back("data-file");
    name_file("data-file", "names-data-file", info.data_file.value_or(""), std::nullopt);
  }
  if (info.corrupt) refuse("marked-corrupt", "The image says that it is damaged");
  if (info.dirty) note("not-closed", "The image was not closed: its refcounts may be out of date");
}

Async<> Auditor::look_at_image() {
  if (formats_.find(report_.format) == nullptr) {
    refuse("unknown-format", fmt::format("It looks like {}, which is not read", report_.format));
    co_return Result<void>();
  }
  block::OpenSpec opened_as = spec();
  opened_as.info_only = true;
  auto node = co_await block::open_chain(executor_, formats_, std::move(opened_as));
  if (!node.ok()) {
    bool feature = node.error().kind() == ErrorKind::kUnsupported;
    refuse(feature ? "unknown-feature" : "malformed", node.error().message());
    co_return Result<void>();
  }
  report_.virtual_size = (*node)->size();
  if (const auto* image = dynamic_cast<const qcow2::Image*>(node->get())) {
    look_at_qcow2(image->info());
  }
  co_return co_await (*node)->close();
}

Async<> Auditor::look_at_tables() {
  block::OpenSpec opened_as = spec();
  opened_as.for_check = true;
  auto node = co_await block::open_chain(executor_, formats_, std::move(opened_as));
  if (!node.ok()) {
    note("not-checked", node.error().message());
    co_return Result<void>();
  }
  if (auto* image = dynamic_cast<qcow2::Image*>(node->get())) {
    uint64_t lines = 0;
    qcow2::FindingSink sink = [&](std::string_view line) {
      if (++lines <= kMaxLines) note("check", std::string(line));
    };
    Result<qcow2::CheckResult> checked =
        co_await qcow2::check(*image, qcow2::Repair::kNone, sink, deadline_);
    if (!checked.ok() && checked.error().kind() == ErrorKind::kCancelled) {
      refuse("not-finished-in-time", fmt::format("Its tables could not be walked within {} seconds",
                                                 rules_.time_limit.count()));
    } else if (!checked.ok()) {
      refuse("damaged", checked.error().message());
    } else if (checked->corruptions != 0 || checked->check_errors != 0) {
      refuse("damaged",
             fmt::format("{} errors in its tables", checked->corruptions + checked->check_errors));
    } else if (checked->leaks != 0) {
      note("leaks", fmt::format("{} clusters are used by nothing", checked->leaks));
    }
  }
  co_return co_await (*node)->close();
}

Async<AuditReport> Auditor::run() {
  CO_TRY_VOID(co_await look_at_file());
  if (rules_.format && *rules_.format != report_.format) {
    refuse("other-format",
           fmt::format("It is to be {}, but looks like {}", *rules_.format, report_.format));
  }
  CO_TRY_VOID(co_await look_at_image());
  if (rules_.max_size && report_.virtual_size > *rules_.max_size) {
    refuse("too-large", fmt::format("The disk has {} bytes, {} are allowed", report_.virtual_size,
                                    *rules_.max_size));
  }
  if (rules_.deep && !report_.refused()) CO_TRY_VOID(co_await look_at_tables());
  co_return std::move(report_);
}

}  // namespace

bool AuditReport::refused() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& finding) { return finding.severity == kRefuse; });
}

Async<AuditReport> audit(Executor& executor, const block::FormatTable& formats, std::string path,
                         AuditRules rules) {
  Auditor auditor(executor, formats, std::move(path), std::move(rules));
  co_return co_await auditor.run();
}

}  // namespace calf::ops
