#include "vmm/cpuid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace calf::vmm {
namespace {

using Entry = kvm_cpuid_entry2;

Entry leaf(uint32_t function, uint32_t eax, uint32_t ebx = 0, uint32_t ecx = 0, uint32_t edx = 0) {
  Entry entry{};
  entry.function = function;
  entry.eax = eax;
  entry.ebx = ebx;
  entry.ecx = ecx;
  entry.edx = edx;
  return entry;
}

Entry subleaf(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx = 0) {
  Entry entry = leaf(function, eax, ebx);
  entry.index = index;
  entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  return entry;
}

constexpr uint32_t kIntel = 0x756E6547;
constexpr uint32_t kAmd = 0x68747541;
constexpr uint32_t kXsave = 1u << 26;
constexpr uint32_t kOsxsave = 1u << 27;

// A host with what the tests look at, and numbers of its own in the fields that must change.
std::vector<Entry> host(uint32_t vendor) {
  return {
      leaf(0, 0x1F, vendor),
      leaf(1, 0x000906EA, 0x07100800, kXsave | kOsxsave | 1u << 3, 0x078BFBFF),
      subleaf(4, 0, 0xFC004121),  // level 1 data
      subleaf(4, 2, 0xFC004143),  // level 2
      subleaf(4, 3, 0xFC03C163),  // level 3
      subleaf(4, 4, 0),
      subleaf(7, 0, 0, 1u << 5 | 1u << 16),  // avx2, avx512f
      leaf(0xA, 0x08300804, 1, 2, 3),
      subleaf(0xB, 0, 1, 2),
      subleaf(0xD, 0, 7, 0x340),
      subleaf(0x1F, 0, 1, 2),
      leaf(0x40000001, 0x01007EFB),
      leaf(0x80000001, 0, 0, 0x123),
      leaf(0x80000008, 0x3030, 0, 0x4007),
      subleaf(0x8000001D, 0, 0x00004121),
      leaf(0x8000001E, 99, 99, 99),
  };
}

std::vector<Entry> build(uint32_t vendor, Topology topology, unsigned cpu,
                         std::vector<CpuFeature> features = {}) {
  CpuidRequest request;
  request.topology = topology;
  request.features = features;
  request.tsc_deadline_timer = true;
  std::vector<Entry> supported = host(vendor);
  Result<std::vector<Entry>> built = build_cpuid(supported, request, cpu);
  EXPECT_TRUE(built.ok());
  return built.ok() ? *built : std::vector<Entry>{};
}

Entry get(const std::vector<Entry>& entries, uint32_t function, uint32_t index = 0) {
  auto found = std::ranges::find_if(
      entries, [&](const Entry& e) { return e.function == function && e.index == index; });
  EXPECT_NE(found, entries.end()) << "leaf " << std::hex << function << " is missing";
  return found == entries.end() ? Entry{} : *found;
}

TEST(Topology, ProductMustBeTheNumberOfCpus) {
  EXPECT_TRUE(check_topology({1, 1, 1, 1}).ok());
  EXPECT_TRUE(check_topology({64, 4, 8, 2}).ok());
  EXPECT_FALSE(check_topology({0, 0, 0, 0}).ok());
  EXPECT_FALSE(check_topology({65, 65, 1, 1}).ok());
  EXPECT_FALSE(check_topology({4, 2, 1, 1}).ok());
  // A product that wraps in 32 bits.
  EXPECT_FALSE(check_topology({1, 65537, 65537, 1}).ok());
}

TEST(Topology, ApicIdsAreBitFields) {
  Topology six{6, 1, 3, 2};
  std::vector<uint32_t> ids;
  for (unsigned cpu = 0; cpu < 6; ++cpu)
    ids.push_back(apic_id(six, cpu));
  EXPECT_EQ(ids, (std::vector<uint32_t>{0, 1, 2, 3, 4, 5}));
  Topology sockets{6, 2, 3, 1};
  ids.clear();
  for (unsigned cpu = 0; cpu < 6; ++cpu)
    ids.push_back(apic_id(sockets, cpu));
  EXPECT_EQ(ids, (std::vector<uint32_t>{0, 1, 2, 4, 5, 6}));
}

TEST(Topology, EveryAllowedOneHasDistinctEightBitIds) {
  for (unsigned sockets = 1; sockets <= 64; ++sockets) {
    for (unsigned cores = 1; sockets * cores <= 64; ++cores) {
      for (unsigned threads = 1; sockets * cores * threads <= 64; ++threads) {
        Topology topology{sockets * cores * threads, sockets, cores, threads};
        std::set<uint32_t> ids;
        for (unsigned cpu = 0; cpu < topology.cpus; ++cpu)
          ids.insert(apic_id(topology, cpu));
        ASSERT_EQ(ids.size(), topology.cpus);
        ASSERT_LT(*ids.rbegin(), 255u);
      }
    }
  }
}

TEST(Cpuid, BasicFeatures) {
  Entry one = get(build(kIntel, {1, 1, 1, 1}, 0), 1);
  EXPECT_TRUE(one.ecx & 1u << 31) << "hypervisor";
  EXPECT_TRUE(one.ecx & 1u << 21) << "x2apic";
  EXPECT_TRUE(one.ecx & 1u << 24) << "tsc deadline";
  EXPECT_FALSE(one.ecx & kOsxsave);
  EXPECT_FALSE(one.ecx & 1u << 3) << "monitor";
  EXPECT_FALSE(one.edx & 1u << 28) << "htt with one processor";
  EXPECT_EQ(one.ebx >> 24, 0u);
  EXPECT_EQ(one.ebx >> 16 & 0xFF, 1u);
  EXPECT_EQ(one.ebx & 0xFFFF, 0x0800u) << "what is not topology stays";
}

TEST(Cpuid, TwoSocketsOfThreeCoresOfTwoThreads) {
  std::vector<Entry> cpu9 = build(kIntel, {12, 2, 3, 2}, 9);  // socket 1, core 1, thread 1
  uint32_t apic = 1u << 3 | 1u << 1 | 1;
  Entry one = get(cpu9, 1);
  EXPECT_EQ(one.ebx >> 24, apic);
  EXPECT_EQ(one.ebx >> 16 & 0xFF, 8u);
  EXPECT_TRUE(one.edx & 1u << 28);
  for (uint32_t function : {0xBu, 0x1Fu}) {
    Entry smt = get(cpu9, function, 0);
    EXPECT_EQ(smt.eax, 1u);
    EXPECT_EQ(smt.ebx, 2u);
    EXPECT_EQ(smt.ecx, 0x100u);
    EXPECT_EQ(smt.edx, apic);
    Entry core = get(cpu9, function, 1);
    EXPECT_EQ(core.eax, 3u);
    EXPECT_EQ(core.ebx, 6u);
    EXPECT_EQ(core.ecx, 0x201u);
    EXPECT_EQ(core.edx, apic);
    Entry end = get(cpu9, function, 2);
    EXPECT_EQ(end.eax, 0u);
    EXPECT_EQ(end.ebx, 0u);
    EXPECT_EQ(end.ecx, 2u);
  }
  // Core IDs in a package; who shares level 1, 2 (a core) and 3 (the package).
  EXPECT_EQ(get(cpu9, 4, 0).eax, 0x0C004121u);
  EXPECT_EQ(get(cpu9, 4, 2).eax, 0x0C004143u);
  EXPECT_EQ(get(cpu9, 4, 3).eax, 0x0C01C163u);
  EXPECT_EQ(get(cpu9, 4, 4).eax, 0u);
}

TEST(Cpuid, AmdLeaves) {
  std::vector<Entry> cpu3 = build(kAmd, {4, 1, 2, 2}, 3);
  EXPECT_TRUE(get(cpu3, 0x80000001).ecx & 2) << "CmpLegacy";
  EXPECT_EQ(get(cpu3, 0x80000008).ecx, 0x2003u);
  Entry topology = get(cpu3, 0x8000001E);
  EXPECT_EQ(topology.eax, 3u);
  EXPECT_EQ(topology.ebx, 0x101u);
  EXPECT_EQ(topology.ecx, 0u);
  EXPECT_EQ(get(cpu3, 0x8000001D).eax >> 14 & 0xFFF, 1u);
}

TEST(Cpuid, NoPerformanceMonitoring) {
  Entry pmu = get(build(kIntel, {1, 1, 1, 1}, 0), 0xA);
  EXPECT_EQ(pmu.eax | pmu.ebx | pmu.ecx | pmu.edx, 0u);
}

TEST(Cpuid, FeaturesCanBeSwitchedOff) {
  std::vector<Entry> masked;
  masked = build(kIntel, {1, 1, 1, 1}, 0, {{"avx512f", false}, {"x2apic", false}});
  EXPECT_EQ(get(masked, 7).ebx, 1u << 5);
  EXPECT_FALSE(get(masked, 1).ecx & 1u << 21);
  masked = build(kIntel, {1, 1, 1, 1}, 0, {{"xsave", false}});
  EXPECT_EQ(get(masked, 0xD).eax, 0u);
}

TEST(Cpuid, AnUnknownNameIsRefused) {
  CpuidRequest request;
  std::vector<CpuFeature> features{{"xsavy", false}};
  request.features = features;
  std::vector<Entry> supported = host(kIntel);
  Result<std::vector<Entry>> built = build_cpuid(supported, request, 0);
  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().message().find("xsavy"), std::string::npos);
}

TEST(Cpuid, AMissingFeatureCannotBeSwitchedOn) {
  CpuidRequest request;
  std::vector<CpuFeature> features{{"sha-ni", true}};
  request.features = features;
  std::vector<Entry> supported = host(kIntel);
  Result<std::vector<Entry>> built = build_cpuid(supported, request, 0);
  ASSERT_FALSE(built.ok());
  EXPECT_NE(built.error().message().find("sha-ni"), std::string::npos);
}

TEST(Cpuid, PhysicalAddressBits) {
  std::vector<Entry> supported = host(kIntel);
  EXPECT_EQ(physical_address_bits(supported), 0x30u);
  EXPECT_EQ(physical_address_bits({}), 36u);
}

}  // namespace
}  // namespace calf::vmm
