#include "vmm/cpuid.h"

#include <algorithm>
#include <bit>

#include "vmm/cpu_features.h"

namespace calf::vmm {
namespace {

using Entry = kvm_cpuid_entry2;
using Entries = std::vector<Entry>;

constexpr unsigned kMaxCpus = 64;

// How many bits number `count` things.
unsigned id_bits(unsigned count) {
  return static_cast<unsigned>(std::bit_width(count - 1));
}

// Everything that the leaves say about the place of one vCPU.
struct Place {
  explicit Place(const Topology& topology, unsigned cpu)
      : threads(topology.threads),
        cores(topology.cores),
        thread_bits(id_bits(threads)),
        package_bits(thread_bits + id_bits(cores)),
        apic(apic_id(topology, cpu)),
        core((cpu / threads) % cores) {}

  unsigned per_package() const { return threads * cores; }

  unsigned threads;  // per core
  unsigned cores;    // per package
  unsigned thread_bits;
  unsigned package_bits;
  uint32_t apic;
  unsigned core;  // within the package
};

Entry* find(Entries& entries, uint32_t leaf, uint32_t subleaf = 0) {
  auto found = std::ranges::find_if(entries, [&](const Entry& entry) {
    bool indexed = (entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
    return entry.function == leaf && (!indexed || entry.index == subleaf);
  });
  return found == entries.end() ? nullptr : &*found;
}

uint32_t& reg_of(Entry& entry, CpuidRegister reg) {
  switch (reg) {
    case CpuidRegister::kEax:
      return entry.eax;
    case CpuidRegister::kEbx:
      return entry.ebx;
    case CpuidRegister::kEcx:
      return entry.ecx;
    default:
      return entry.edx;
  }
}

// `value` in the bits [low, low + width) of `word`.
void set_field(uint32_t& word, unsigned low, unsigned width, uint32_t value) {
  uint32_t mask = ((1u << width) - 1) << low;
  word = (word & ~mask) | ((value << low) & mask);
}

void set_bit(uint32_t& word, unsigned bit, bool value) {
  set_field(word, bit, 1, value ? 1 : 0);
}

bool is_amd(Entries& entries) {
  Entry* vendor = find(entries, 0);
  if (vendor == nullptr) return false;
  // "Auth", "Hygo" in EBX.
  return vendor->ebx == 0x68747541 || vendor->ebx == 0x6f677948;
}

void set_leaf_1(Entry& leaf, const Place& place, const CpuidRequest& request) {
  set_field(leaf.ebx, 24, 8, place.apic);
  set_field(leaf.ebx, 16, 8, 1u << place.package_bits);
  set_bit(leaf.edx, 28, place.per_package() > 1);  // HTT: more than one logical processor
  set_bit(leaf.ecx, 3, false);                     // MONITOR: exits are what HLT is for
  set_bit(leaf.ecx, 21, true);                     // x2APIC, which KVM emulates always
  set_bit(leaf.ecx, 24, request.tsc_deadline_timer);
  set_bit(leaf.ecx, 27, false);  // OSXSAVE follows CR4
  set_bit(leaf.ecx, 31, true);   // a hypervisor is present
}

// Leaves 4 and 0x8000001D have one layout for who shares a cache. Level 3 belongs to the package.
void set_cache_sharing(Entry& leaf, const Place& place, bool intel) {
  unsigned type = leaf.eax & 0x1f;
  if (type == 0) return;
  unsigned level = (leaf.eax >> 5) & 7;
  unsigned shared_bits = level >= 3 ? place.package_bits : place.thread_bits;
  set_field(leaf.eax, 14, 12, (1u << shared_bits) - 1);
  if (intel) set_field(leaf.eax, 26, 6, (1u << (place.package_bits - place.thread_bits)) - 1);
}

// Leaves 0xB and 0x1F: level by level, from the thread up.
void append_topology(Entries& entries, uint32_t function, const Place& place) {
  struct Level {
    unsigned bits;
    unsigned count;
    uint32_t type;
  };
  const Level levels[] = {
      {place.thread_bits, place.threads, 1},         // SMT
      {place.package_bits, place.per_package(), 2},  // core
      {0, 0, 0},
  };
  for (uint32_t i = 0; i < std::size(levels); ++i) {
    Entry entry{};
    entry.function = function;
    entry.index = i;
    entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry.eax = levels[i].bits;
    entry.ebx = levels[i].count;
    entry.ecx = i | levels[i].type << 8;
    entry.edx = place.apic;
    entries.push_back(entry);
  }
}

void set_amd_leaves(Entries& entries, const Place& place) {
  if (Entry* leaf = find(entries, 0x80000001)) {
    set_bit(leaf->ecx, 1, place.per_package() > 1);  // CmpLegacy
  }
  if (Entry* leaf = find(entries, 0x80000008)) {
    set_field(leaf->ecx, 0, 8, place.per_package() - 1);
    set_field(leaf->ecx, 12, 4, place.package_bits);
  }
  if (Entry* leaf = find(entries, 0x8000001E)) {
    leaf->eax = place.apic;
    leaf->ebx = place.core | (place.threads - 1) << 8;
    leaf->ecx = 0;  // one node
    leaf->edx = 0;
  }
}

Result<void> apply_features(Entries& entries, std::span<const CpuFeature> features) {
  for (const CpuFeature& feature : features) {
    std::optional<CpuidBit> bit = find_cpu_feature(feature.name);
    if (!bit) {
      return make_error(ErrorKind::kInvalid, "-cpu: '{}' is not a processor feature calf knows",
                        feature.name);
    }
    Entry* leaf = find(entries, bit->leaf, bit->subleaf);
    bool supported = leaf != nullptr && (reg_of(*leaf, bit->reg) >> bit->bit & 1) != 0;
    if (feature.enable && !supported) {
      return make_error(ErrorKind::kUnsupported,
                        "-cpu: this host's processor or KVM does not offer '{}'", feature.name);
    }
    if (supported) set_bit(reg_of(*leaf, bit->reg), bit->bit, feature.enable);
  }
  // A guest that may not use XSAVE finds no state components either.
  Entry* leaf = find(entries, 1);
  if (leaf != nullptr && (leaf->ecx >> 26 & 1) == 0) {
    for (Entry& entry : entries) {
      if (entry.function == 0xD) entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
    }
  }
  return {};
}

}  // namespace

Result<void> check_topology(const Topology& t) {
  uint64_t product = uint64_t{t.sockets} * t.cores * t.threads;
  if (t.cpus < 1 || t.cpus > kMaxCpus) {
    return make_error(ErrorKind::kInvalid, "-smp: {} vCPUs; a guest can have from 1 to {}", t.cpus,
                      kMaxCpus);
  }
  if (std::max({t.sockets, t.cores, t.threads}) > kMaxCpus || product != t.cpus) {
    return make_error(ErrorKind::kInvalid,
                      "-smp: {} sockets of {} cores of {} threads are not {} vCPUs", t.sockets,
                      t.cores, t.threads, t.cpus);
  }
  return {};
}

uint32_t apic_id(const Topology& topology, unsigned cpu) {
  unsigned thread = cpu % topology.threads;
  unsigned core = cpu / topology.threads % topology.cores;
  unsigned socket = cpu / (topology.threads * topology.cores);
  unsigned thread_bits = id_bits(topology.threads);
  unsigned package_bits = thread_bits + id_bits(topology.cores);
  return socket << package_bits | core << thread_bits | thread;
}

Result<Entries> build_cpuid(std::span<const Entry> supported, const CpuidRequest& request,
                            unsigned cpu) {
  Place place(request.topology, cpu);
  Entries entries(supported.begin(), supported.end());
  bool amd = is_amd(entries);
  std::erase_if(entries,
                [](const Entry& entry) { return entry.function == 0xB || entry.function == 0x1F; });
  for (Entry& entry : entries) {
    switch (entry.function) {
      case 1:
        set_leaf_1(entry, place, request);
        break;
      case 4:
        set_cache_sharing(entry, place, true);
        break;
      case 0xA:  // performance monitoring
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
        break;
      case 0x8000001D:
        set_cache_sharing(entry, place, false);
        break;
      default:
        break;
    }
  }
  uint32_t highest = 0;
  if (Entry* leaf = find(entries, 0)) highest = leaf->eax;
  if (highest >= 0xB) append_topology(entries, 0xB, place);
  if (highest >= 0x1F) append_topology(entries, 0x1F, place);
  if (amd) set_amd_leaves(entries, place);
  TRY_VOID(apply_features(entries, request.features));
  return entries;
}

unsigned physical_address_bits(std::span<const Entry> entries) {
  auto leaf =
      std::ranges::find_if(entries, [](const Entry& e) { return e.function == 0x80000008; });
  return leaf == entries.end() ? 36 : leaf->eax & 0xff;
}

}  // namespace calf::vmm
