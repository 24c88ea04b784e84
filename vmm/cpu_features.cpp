#include "vmm/cpu_features.h"

#include <algorithm>
#include <array>

namespace calf::vmm {
namespace {

struct Named {
  std::string_view name;
  CpuidBit bit;
};

using enum CpuidRegister;

// Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; KVM's leaves: Linux'
// Documentation/virt/kvm/x86/cpuid.rst.
constexpr std::array kFeatures = {
    Named{"sse3", {1, 0, kEcx, 0}},
    Named{"pni", {1, 0, kEcx, 0}},
    Named{"pclmulqdq", {1, 0, kEcx, 1}},
    Named{"ssse3", {1, 0, kEcx, 9}},
    Named{"fma", {1, 0, kEcx, 12}},
    Named{"cx16", {1, 0, kEcx, 13}},
    Named{"pcid", {1, 0, kEcx, 17}},
    Named{"sse4_1", {1, 0, kEcx, 19}},
    Named{"sse4_2", {1, 0, kEcx, 20}},
    Named{"x2apic", {1, 0, kEcx, 21}},
    Named{"movbe", {1, 0, kEcx, 22}},
    Named{"popcnt", {1, 0, kEcx, 23}},
    Named{"tsc_deadline", {1, 0, kEcx, 24}},
    Named{"aes", {1, 0, kEcx, 25}},
    Named{"xsave", {1, 0, kEcx, 26}},
    Named{"avx", {1, 0, kEcx, 28}},
    Named{"f16c", {1, 0, kEcx, 29}},
    Named{"rdrand", {1, 0, kEcx, 30}},
    Named{"hypervisor", {1, 0, kEcx, 31}},
    Named{"vme", {1, 0, kEdx, 1}},
    Named{"pse", {1, 0, kEdx, 3}},
    Named{"tsc", {1, 0, kEdx, 4}},
    Named{"mce", {1, 0, kEdx, 7}},
    Named{"sep", {1, 0, kEdx, 11}},
    Named{"mtrr", {1, 0, kEdx, 12}},
    Named{"pge", {1, 0, kEdx, 13}},
    Named{"mca", {1, 0, kEdx, 14}},
    Named{"pat", {1, 0, kEdx, 16}},
    Named{"pse36", {1, 0, kEdx, 17}},
    Named{"clflush", {1, 0, kEdx, 19}},
    Named{"mmx", {1, 0, kEdx, 23}},
    Named{"fxsr", {1, 0, kEdx, 24}},
    Named{"sse", {1, 0, kEdx, 25}},
    Named{"sse2", {1, 0, kEdx, 26}},
    Named{"arat", {6, 0, kEax, 2}},
    Named{"fsgsbase", {7, 0, kEbx, 0}},
    Named{"tsc_adjust", {7, 0, kEbx, 1}},
    Named{"bmi1", {7, 0, kEbx, 3}},
    Named{"hle", {7, 0, kEbx, 4}},
    Named{"avx2", {7, 0, kEbx, 5}},
    Named{"smep", {7, 0, kEbx, 7}},
    Named{"bmi2", {7, 0, kEbx, 8}},
    Named{"erms", {7, 0, kEbx, 9}},
    Named{"invpcid", {7, 0, kEbx, 10}},
    Named{"rtm", {7, 0, kEbx, 11}},
    Named{"mpx", {7, 0, kEbx, 14}},
    Named{"avx512f", {7, 0, kEbx, 16}},
    Named{"avx512dq", {7, 0, kEbx, 17}},
    Named{"rdseed", {7, 0, kEbx, 18}},
    Named{"adx", {7, 0, kEbx, 19}},
    Named{"smap", {7, 0, kEbx, 20}},
    Named{"clflushopt", {7, 0, kEbx, 23}},
    Named{"clwb", {7, 0, kEbx, 24}},
    Named{"avx512cd", {7, 0, kEbx, 28}},
    Named{"sha_ni", {7, 0, kEbx, 29}},
    Named{"avx512bw", {7, 0, kEbx, 30}},
    Named{"avx512vl", {7, 0, kEbx, 31}},
    Named{"umip", {7, 0, kEcx, 2}},
    Named{"pku", {7, 0, kEcx, 3}},
    Named{"gfni", {7, 0, kEcx, 8}},
    Named{"vaes", {7, 0, kEcx, 9}},
    Named{"la57", {7, 0, kEcx, 16}},
    Named{"rdpid", {7, 0, kEcx, 22}},
    Named{"fsrm", {7, 0, kEdx, 4}},
    Named{"md_clear", {7, 0, kEdx, 10}},
    Named{"serialize", {7, 0, kEdx, 14}},
    Named{"amx_tile", {7, 0, kEdx, 24}},
    Named{"spec_ctrl", {7, 0, kEdx, 26}},
    Named{"stibp", {7, 0, kEdx, 27}},
    Named{"arch_capabilities", {7, 0, kEdx, 29}},
    Named{"ssbd", {7, 0, kEdx, 31}},
    Named{"xsaveopt", {0xD, 1, kEax, 0}},
    Named{"xsavec", {0xD, 1, kEax, 1}},
    Named{"xgetbv1", {0xD, 1, kEax, 2}},
    Named{"xsaves", {0xD, 1, kEax, 3}},
    Named{"lahf_lm", {0x80000001, 0, kEcx, 0}},
    Named{"svm", {0x80000001, 0, kEcx, 2}},
    Named{"abm", {0x80000001, 0, kEcx, 5}},
    Named{"lzcnt", {0x80000001, 0, kEcx, 5}},
    Named{"sse4a", {0x80000001, 0, kEcx, 6}},
    Named{"3dnowprefetch", {0x80000001, 0, kEcx, 8}},
    Named{"topoext", {0x80000001, 0, kEcx, 22}},
    Named{"syscall", {0x80000001, 0, kEdx, 11}},
    Named{"nx", {0x80000001, 0, kEdx, 20}},
    Named{"pdpe1gb", {0x80000001, 0, kEdx, 26}},
    Named{"rdtscp", {0x80000001, 0, kEdx, 27}},
    Named{"lm", {0x80000001, 0, kEdx, 29}},
    Named{"vmx", {1, 0, kEcx, 5}},
    Named{"invtsc", {0x80000007, 0, kEdx, 8}},
    Named{"kvmclock", {0x40000001, 0, kEax, 3}},
    Named{"kvm_asyncpf", {0x40000001, 0, kEax, 4}},
    Named{"kvm_steal_time", {0x40000001, 0, kEax, 5}},
    Named{"kvm_pv_eoi", {0x40000001, 0, kEax, 6}},
    Named{"kvm_pv_unhalt", {0x40000001, 0, kEax, 7}},
    Named{"kvm_pv_tlb_flush", {0x40000001, 0, kEax, 9}},
    Named{"kvm_pv_ipi", {0x40000001, 0, kEax, 11}},
    Named{"kvm_poll_control", {0x40000001, 0, kEax, 12}},
    Named{"kvm_pv_sched_yield", {0x40000001, 0, kEax, 13}},
};

constexpr char normal(char c) {
  return c == '-' || c == '.' ? '_' : c;
}

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, normal, normal);
}

}  // namespace

std::optional<CpuidBit> find_cpu_feature(std::string_view name) {
  auto found = std::ranges::find_if(
      kFeatures, [name](const Named& feature) { return same_name(feature.name, name); });
  if (found == kFeatures.end()) return std::nullopt;
  return found->bit;
}

}  // namespace calf::vmm
