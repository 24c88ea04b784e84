// The table: which bytes are which instruction. Patterns of one opcode agree on having a ModRM
// byte; the first match counts.
#include <array>

#include "vmm/insn_completer/handlers.h"

namespace calf::insn {

namespace {

using enum Mandatory;
using enum OpcodeMap;
using F = Form;

constexpr int8_t kAnyExtension = -1;
constexpr int16_t kAnyModrm = -1;

constexpr Pattern plain(OpcodeMap map, uint8_t opcode, Mandatory mandatory, Form form,
                        std::string_view name, Handler handler) {
  return {map, opcode, mandatory, form, kAnyExtension, kAnyModrm, 0, false, name, handler};
}

// With an opcode extension in ModRM.reg.
constexpr Pattern group(OpcodeMap map, uint8_t opcode, Mandatory mandatory, Form form,
                        int8_t extension, std::string_view name, Handler handler) {
  return {map, opcode, mandatory, form, extension, kAnyModrm, 0, false, name, handler};
}

// 0F 01 with a fixed third byte.
constexpr Pattern fixed(int16_t modrm, std::string_view name, Handler handler) {
  return {k0F, 0x01, kNoneOr66, F::kRegister, kAnyExtension, modrm, 0, false, name, handler};
}

constexpr Pattern vex(OpcodeMap map, uint8_t opcode, Mandatory mandatory, int8_t extension,
                      std::string_view name, Handler handler, uint8_t immediate = 0) {
  return {map, opcode, mandatory, F::kAny, extension, kAnyModrm, immediate, true, name, handler};
}

constexpr std::array kPatterns = {
    // ---- Traps and returns ----
    plain(kOneByte, 0xcc, kAny, F::kNoModrm, "int3", int3),
    Pattern{kOneByte, 0xcd, kAny, F::kNoModrm, kAnyExtension, kAnyModrm, 1, false, "int", int_n},
    plain(kOneByte, 0xcf, kAny, F::kNoModrm, "iret", iret),
    plain(k0F, 0xb9, kAny, F::kAny, "ud1", undefined),
    plain(k0F, 0xff, kAny, F::kAny, "ud0", undefined),

    // ---- State ----
    plain(kOneByte, 0x9b, kAny, F::kNoModrm, "fwait", fwait),
    fixed(0xca, "clac", clac),
    fixed(0xcb, "stac", stac),
    fixed(0xd0, "xgetbv", xgetbv),
    fixed(0xd1, "xsetbv", xsetbv),
    fixed(0xe8, "serialize", no_operation),
    fixed(0xf9, "rdtscp", rdtscp),
    plain(k0F, 0x02, kAny, F::kAny, "lar", lar),
    plain(k0F, 0x03, kAny, F::kAny, "lsl", lsl),
    group(k0F, 0x00, kAny, F::kAny, 4, "verr", verr),
    group(k0F, 0x00, kAny, F::kAny, 5, "verw", verw),
    group(k0F, 0xae, kF3, F::kRegister, 0, "rdfsbase", rdfsbase),
    group(k0F, 0xae, kF3, F::kRegister, 1, "rdgsbase", rdgsbase),
    group(k0F, 0xae, kF3, F::kRegister, 2, "wrfsbase", wrfsbase),
    group(k0F, 0xae, kF3, F::kRegister, 3, "wrgsbase", wrgsbase),

    // ---- Floating point and vector state ----
    group(k0F, 0xae, kNone, F::kMemory, 0, "fxsave", fxsave),
    group(k0F, 0xae, kNone, F::kMemory, 1, "fxrstor", fxrstor),
    group(k0F, 0xae, kNone, F::kMemory, 2, "ldmxcsr", ldmxcsr),
    group(k0F, 0xae, kNone, F::kMemory, 3, "stmxcsr", stmxcsr),
    group(k0F, 0xae, kNone, F::kMemory, 4, "xsave", xsave),
    group(k0F, 0xae, kNone, F::kMemory, 5, "xrstor", xrstor),
    group(k0F, 0xae, kNone, F::kMemory, 6, "xsaveopt", xsave),
    group(k0F, 0xc7, kNone, F::kMemory, 3, "xrstors", xrstors),
    group(k0F, 0xc7, kNone, F::kMemory, 4, "xsavec", xsavec),
    group(k0F, 0xc7, kNone, F::kMemory, 5, "xsaves", xsaves),

    // ---- Caches and order ----
    group(k0F, 0xae, kNone, F::kMemory, 7, "clflush", cache_line),
    group(k0F, 0xae, k66, F::kMemory, 6, "clwb", cache_line),
    group(k0F, 0xae, k66, F::kMemory, 7, "clflushopt", cache_line),
    group(k0F, 0xae, kNone, F::kRegister, 5, "lfence", no_operation),
    group(k0F, 0xae, kNone, F::kRegister, 6, "mfence", no_operation),
    group(k0F, 0xae, kNone, F::kRegister, 7, "sfence", no_operation),

    // ---- Integers ----
    group(k0F, 0xc7, kNoneOr66, F::kMemory, 1, "cmpxchg8b/16b", cmpxchg8b_16b),
    group(k0F, 0xc7, kNoneOr66, F::kRegister, 6, "rdrand", rdrand),
    group(k0F, 0xc7, kNoneOr66, F::kRegister, 7, "rdseed", rdrand),
    group(k0F, 0xc7, kF3, F::kRegister, 7, "rdpid", rdpid),
    plain(k0F, 0xb8, kF3, F::kAny, "popcnt", popcnt),
    plain(k0F, 0xbc, kF3, F::kAny, "tzcnt", tzcnt),
    plain(k0F, 0xbd, kF3, F::kAny, "lzcnt", lzcnt),
    plain(k0F38, 0xf0, kF2, F::kAny, "crc32", crc32),
    plain(k0F38, 0xf1, kF2, F::kAny, "crc32", crc32),
    plain(k0F38, 0xf0, kNoneOr66, F::kMemory, "movbe", movbe_load),
    plain(k0F38, 0xf1, kNoneOr66, F::kMemory, "movbe", movbe_store),
    plain(k0F38, 0xf6, k66, F::kAny, "adcx", adcx),
    plain(k0F38, 0xf6, kF3, F::kAny, "adox", adox),

    // ---- BMI1, BMI2 ----
    vex(k0F38, 0xf2, kNone, kAnyExtension, "andn", andn),
    vex(k0F38, 0xf3, kNone, 1, "blsr", blsr),
    vex(k0F38, 0xf3, kNone, 2, "blsmsk", blsmsk),
    vex(k0F38, 0xf3, kNone, 3, "blsi", blsi),
    vex(k0F38, 0xf5, kNone, kAnyExtension, "bzhi", bzhi),
    vex(k0F38, 0xf5, kF2, kAnyExtension, "pdep", pdep),
    vex(k0F38, 0xf5, kF3, kAnyExtension, "pext", pext),
    vex(k0F38, 0xf6, kF2, kAnyExtension, "mulx", mulx),
    vex(k0F38, 0xf7, kNone, kAnyExtension, "bextr", bextr),
    vex(k0F38, 0xf7, k66, kAnyExtension, "shlx", shlx),
    vex(k0F38, 0xf7, kF3, kAnyExtension, "sarx", sarx),
    vex(k0F38, 0xf7, kF2, kAnyExtension, "shrx", shrx),
    vex(k0F3A, 0xf0, kF2, kAnyExtension, "rorx", rorx, 1),
};

}  // namespace

std::span<const Pattern> patterns() {
  return kPatterns;
}

}  // namespace calf::insn
