#include "vmm/kvm/system.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "vmm/kvm/abi.h"
#include "vmm/kvm/ioctl.h"
#include "vmm/kvm/variable.h"

namespace calf::kvm {
namespace {

struct Required {
  int number;
  const char* name;
};

constexpr std::array kRequired = {
    Required{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    Required{KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    Required{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    Required{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
    Required{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    Required{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    Required{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    Required{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    Required{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    Required{KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    Required{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    Required{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    Required{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    Required{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

Error open_error(const std::string& path, int sys_errno) {
  std::string what = fmt::format("Could not open '{}'", path);
  Error error = Error::from_errno(sys_errno, what);
  switch (sys_errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return Error(error.kind(), sys_errno,
                   error.message() +
                       "; load the module with 'modprobe kvm_intel' or 'modprobe kvm_amd', and see "
                       "that virtualisation is enabled in the firmware (in a virtual machine: "
                       "nested virtualisation in its host)");
    case EACCES:
    case EPERM:
      return Error(error.kind(), sys_errno,
                   error.message() +
                       "; join the group that owns it with 'usermod -aG kvm \"$USER\"' and log in "
                       "again (in a container: pass the device in)");
    default:
      return error;
  }
}

}  // namespace

Result<System> System::open(const std::string& path) {
  System system(Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC)));
  if (!system.fd_.valid()) return open_error(path, errno);
  Result<int> version = call(system.fd_.get(), KVM_GET_API_VERSION, "KVM_GET_API_VERSION", 0);
  if (!version.ok()) {
    return make_error(
        ErrorKind::kUnsupported,
        "'{}' is not KVM: {}; remove it and load the module ('modprobe kvm_intel' or 'modprobe "
        "kvm_amd'), which makes the right one",
        path, version.error().message());
  }
  if (*version != KVM_API_VERSION) {
    return make_error(ErrorKind::kUnsupported,
                      "'{}' speaks KVM API version {}, calf needs {}; use a newer kernel", path,
                      *version, KVM_API_VERSION);
  }
  for (const Required& required : kRequired) {
    if (system.capability(required.number) > 0) continue;
    return make_error(ErrorKind::kUnsupported,
                      "this host's KVM lacks {}, which calf needs; use a newer kernel",
                      required.name);
  }
  return system;
}

int System::capability(int number) const {
  // A number that the kernel does not know is 0; an error does not occur otherwise.
  return std::max(0, ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, number));
}

unsigned System::max_vcpus() const {
  int maximum = capability(KVM_CAP_MAX_VCPUS);
  return static_cast<unsigned>(maximum > 0 ? maximum : std::max(4, capability(KVM_CAP_NR_VCPUS)));
}

Result<Vm> System::create_vm() const {
  TRY(int fd, call(fd_.get(), KVM_CREATE_VM, "KVM_CREATE_VM", 0));
  Fd vm(fd);
  TRY(int run_size, call(fd_.get(), KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE", 0));
  return Vm(std::move(vm), static_cast<size_t>(run_size));
}

Result<std::vector<kvm_cpuid_entry2>> System::supported_cpuid() const {
  // KVM says E2BIG until the array is long enough; some 60 leaves exist today.
  for (uint32_t capacity = 128; capacity <= 4096; capacity *= 2) {
    Variable<CpuidHeader, kvm_cpuid_entry2> list(capacity);
    list.header().count = capacity;
    Result<int> result =
        call(fd_.get(), kGetSupportedCpuid, "KVM_GET_SUPPORTED_CPUID", &list.header());
    if (result.ok()) return list.to_vector(list.header().count);
    if (result.error().sys_errno() != E2BIG) return std::move(result.error());
  }
  return make_error(ErrorKind::kUnsupported, "KVM_GET_SUPPORTED_CPUID returns too many leaves");
}

Result<std::vector<uint32_t>> System::msr_indices() const {
  MsrListHeader probe{};
  Result<int> result = call(fd_.get(), kGetMsrIndexList, "KVM_GET_MSR_INDEX_LIST", &probe);
  if (result.ok()) return std::vector<uint32_t>{};
  if (result.error().sys_errno() != E2BIG) return std::move(result.error());
  Variable<MsrListHeader, uint32_t> list(probe.count);
  list.header().count = probe.count;
  TRY_VOID(call(fd_.get(), kGetMsrIndexList, "KVM_GET_MSR_INDEX_LIST", &list.header()));
  return list.to_vector(list.header().count);
}

}  // namespace calf::kvm
