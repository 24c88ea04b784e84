// KVM's variable-length structures, declared anew for C++.
//
// The kernel's headers of Debian 12 declare their arrays with __DECLARE_FLEX_ARRAY, which holds an
// empty struct: no bytes in C, one byte in C++. So sizeof, and with it the ioctl's number, comes
// out wrong there. Here are the headers alone; entries follow them in memory (variable.h).
#pragma once

#include <linux/kvm.h>

#include <cstdint>

namespace calf::kvm {

struct CpuidHeader {
  uint32_t count;
  uint32_t padding;
};
struct MsrsHeader {
  uint32_t count;
  uint32_t padding;
};
struct MsrListHeader {
  uint32_t count;
};
struct IrqRoutingHeader {
  uint32_t count;
  uint32_t flags;
};
// Without the part that only guests with AMX have.
struct Xsave {
  uint32_t region[1024];
};
static_assert(sizeof(CpuidHeader) == 8 && sizeof(MsrsHeader) == 8 && sizeof(MsrListHeader) == 4 &&
              sizeof(IrqRoutingHeader) == 8);

inline constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, MsrListHeader);
inline constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, CpuidHeader);
inline constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, IrqRoutingHeader);
inline constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, MsrsHeader);
inline constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, MsrsHeader);
inline constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, Xsave);
inline constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, Xsave);
inline constexpr unsigned long kSetCpuid = _IOW(KVMIO, 0x90, CpuidHeader);

}  // namespace calf::kvm
