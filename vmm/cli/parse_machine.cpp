// -m, -smp, -cpu, -machine, -accel, -boot, -rtc, -smbios, --timeout.

#include <ctime>

#include "vmm/cli/key_value.h"
#include "vmm/cli/parsers.h"

namespace calf::vmm {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr unsigned kMaxCpus = 64;

Error unknown_key(std::string_view option, std::string_view key, std::string_view known) {
  return make_error(ErrorKind::kInvalid, "{}: '{}' is not known here; calf has {}", option, key,
                    known);
}

}  // namespace

Result<uint64_t> parse_memory(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "size"));
  std::optional<uint64_t> size;
  for (const KeyValue& item : list.items()) {
    if (item.key == "size") {
      TRY(size, parse_size("-m", item.value, kMiB));
    } else {
      return make_error(ErrorKind::kUnsupported,
                        "-m: '{}' needs memory hot-plug, which calf has not; give the size alone",
                        item.key);
    }
  }
  if (!size || *size < kMiB || *size % kMiB != 0) {
    return make_error(ErrorKind::kInvalid,
                      "-m: the guest's memory must be whole MiB, at least 1M, not '{}'", text);
  }
  return *size;
}

Result<Topology> parse_smp(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "cpus"));
  unsigned cpus = 0;
  unsigned sockets = 0;
  unsigned cores = 0;
  unsigned threads = 0;
  for (const KeyValue& item : list.items()) {
    TRY(uint64_t n, parse_number("-smp " + item.key, item.value, 1, kMaxCpus));
    unsigned value = static_cast<unsigned>(n);
    if (item.key == "cpus") {
      cpus = value;
    } else if (item.key == "sockets") {
      sockets = value;
    } else if (item.key == "cores") {
      cores = value;
    } else if (item.key == "threads") {
      threads = value;
    } else if (item.key == "dies" || item.key == "clusters") {
      if (value != 1)
        return make_error(ErrorKind::kUnsupported, "-smp: calf has one {} a socket", item.key);
    } else if (item.key == "maxcpus") {
      // Checked below: calf plugs no CPUs in later.
    } else {
      return unknown_key("-smp", item.key, "cpus, sockets, cores, threads");
    }
  }
  auto or_one = [](unsigned n) { return n == 0 ? 1 : n; };
  if (cpus == 0) {
    cpus = or_one(sockets) * or_one(cores) * or_one(threads);
  } else if (cores == 0) {
    cores = cpus / (or_one(sockets) * or_one(threads));
  } else if (sockets == 0) {
    sockets = cpus / (cores * or_one(threads));
  } else if (threads == 0) {
    threads = cpus / (cores * sockets);
  }
  Topology topology{cpus, or_one(sockets), or_one(cores), or_one(threads)};
  if (topology.sockets * topology.cores * topology.threads != cpus) {
    return make_error(ErrorKind::kInvalid,
                      "-smp {}: {} sockets x {} cores x {} threads is not {} CPUs", text,
                      topology.sockets, topology.cores, topology.threads, cpus);
  }
  if (cpus > kMaxCpus) {
    return make_error(ErrorKind::kInvalid, "-smp {}: calf has at most {} CPUs", text, kMaxCpus);
  }
  for (const KeyValue& item : list.items()) {
    if (item.key == "maxcpus" && item.value != std::to_string(cpus)) {
      return make_error(ErrorKind::kUnsupported,
                        "-smp: calf has no CPU hot-plug; leave out maxcpus={}", item.value);
    }
  }
  return topology;
}

Result<std::vector<CpuFeature>> parse_cpu(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "model"));
  std::vector<CpuFeature> features;
  for (const KeyValue& item : list.items()) {
    if (item.key == "model") {
      if (item.value != "host" && item.value != "max") {
        return make_error(ErrorKind::kUnsupported,
                          "-cpu {}: calf gives the guest the host's CPU; use -cpu host[,-feature]",
                          item.value);
      }
    } else if (!item.has_value && (item.key[0] == '+' || item.key[0] == '-') &&
               item.key.size() > 1) {
      features.push_back({item.key.substr(1), item.key[0] == '+'});
    } else if (item.has_value) {
      TRY(bool on, parse_switch(item));
      features.push_back({item.key, on});
    } else {
      features.push_back({item.key, true});
    }
  }
  return features;
}

Result<void> check_accel(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "accel"));
  for (const KeyValue& item : list.items()) {
    // A list such as kvm:tcg names kvm first.
    bool kvm = item.value == "kvm" || item.value.starts_with("kvm:");
    if (item.key == "accel" && !kvm) {
      return make_error(ErrorKind::kUnsupported, "accelerator '{}': calf runs guests with kvm only",
                        item.value);
    }
  }
  return {};
}

Result<void> check_machine(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "type"));
  for (const KeyValue& item : list.items()) {
    if (item.key == "type") {
      std::string_view type = item.value;
      bool known = type == "microvm" || type == "pc" || type == "q35" ||
                   type.starts_with("pc-i440fx") || type.starts_with("pc-q35");
      if (!known) {
        return make_error(
            ErrorKind::kUnsupported,
            "-machine {}: calf is one machine of its own kind; it answers to pc, q35 and "
            "microvm",
            type);
      }
    } else if (item.key == "accel") {
      TRY_VOID(check_accel(item.value));
    } else if (item.key == "usb" || item.key == "vmport" || item.key == "smm" ||
               item.key == "hpet" || item.key == "graphics") {
      TRY(bool on, parse_switch(item));
      if (on) return make_error(ErrorKind::kUnsupported, "-machine {}=on: calf has none", item.key);
    } else {
      return unknown_key("-machine", item.key, "a type and accel=kvm");
    }
  }
  return {};
}

Result<std::string> parse_boot(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text, "order"));
  std::string order = "cd";
  for (const KeyValue& item : list.items()) {
    if (item.key == "order" || item.key == "once") {
      if (item.value.empty() || item.value.find_first_not_of("acdn") != std::string::npos) {
        return make_error(ErrorKind::kInvalid, "-boot {}: letters are c (disk) and d (CD)",
                          item.value);
      }
      order = item.value;
    } else if (item.key == "menu" || item.key == "strict") {
      TRY(bool on, parse_switch(item));
      if (on && item.key == "menu") {
        return make_error(ErrorKind::kUnsupported,
                          "-boot menu=on: calf has no boot menu; use order=");
      }
    } else {
      return unknown_key("-boot", item.key, "order");
    }
  }
  return order;
}

Result<void> parse_rtc(std::string_view text, MachineConfig& machine) {
  TRY(KeyValueList list, KeyValueList::parse(text, "base"));
  for (const KeyValue& item : list.items()) {
    if (item.key == "base" && item.value == "utc") {
      machine.rtc_base = RtcBase::kUtc;
    } else if (item.key == "base" && item.value == "localtime") {
      machine.rtc_base = RtcBase::kLocalTime;
    } else if (item.key == "base") {
      tm date{};
      const char* end = ::strptime(item.value.c_str(), "%Y-%m-%dT%H:%M:%S", &date);
      if (end == nullptr) end = ::strptime(item.value.c_str(), "%Y-%m-%d", &date);
      if (end == nullptr || *end != '\0') {
        return make_error(ErrorKind::kInvalid,
                          "-rtc base={}: give utc, localtime, 2006-06-17 or 2006-06-17T16:01:21",
                          item.value);
      }
      machine.rtc_base = RtcBase::kDate;
      machine.rtc_date = std::chrono::seconds(timegm(&date));
    } else if (item.key == "clock" && item.value == "host") {
      // What calf does.
    } else if (item.key == "driftfix" && item.value == "none") {
      // What calf does.
    } else {
      return unknown_key("-rtc", item.key + "=" + item.value, "base=, clock=host, driftfix=none");
    }
  }
  return {};
}

Result<SmbiosEntry> parse_smbios(std::string_view text) {
  TRY(KeyValueList list, KeyValueList::parse(text));
  SmbiosEntry entry;
  bool typed = false;
  for (const KeyValue& item : list.items()) {
    if (item.key == "type") {
      TRY(uint64_t type, parse_number("-smbios type", item.value, 0, 127));
      entry.type = static_cast<unsigned>(type);
      typed = true;
    } else if (item.key == "file") {
      return make_error(ErrorKind::kUnsupported,
                        "-smbios file=: give the fields (type=1,serial=…)");
    } else {
      entry.fields.emplace_back(item.key, item.value);
    }
  }
  if (!typed) return make_error(ErrorKind::kInvalid, "-smbios {}: needs type=", text);
  return entry;
}

Result<std::chrono::milliseconds> parse_duration(std::string_view what, std::string_view text) {
  struct Unit {
    std::string_view suffix;
    uint64_t milliseconds;
  };
  for (Unit unit :
       {Unit{"ms", 1}, Unit{"s", 1000}, Unit{"m", 60'000}, Unit{"h", 3'600'000}, Unit{"", 1000}}) {
    if (!text.ends_with(unit.suffix)) continue;
    std::string_view digits = text.substr(0, text.size() - unit.suffix.size());
    Result<uint64_t> n = parse_number(what, digits, 1, 1'000'000'000);
    if (n.ok()) return std::chrono::milliseconds(*n * unit.milliseconds);
    break;
  }
  return make_error(ErrorKind::kInvalid, "{} must be a time such as 60s, 500ms or 5m, not '{}'",
                    what, text);
}

}  // namespace calf::vmm
