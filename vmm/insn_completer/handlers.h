// The instructions, one function each, in the words of the Intel SDM vol. 2. The table in
// patterns.cpp says which bytes lead here.
#pragma once

#include "vmm/insn_completer/execution.h"

namespace calf::insn {

// ---- integer.cpp ----
Step<void> popcnt(Execution& e);
Step<void> tzcnt(Execution& e);
Step<void> lzcnt(Execution& e);
Step<void> crc32(Execution& e);
Step<void> movbe_load(Execution& e);
Step<void> movbe_store(Execution& e);
Step<void> cmpxchg8b_16b(Execution& e);
Step<void> adcx(Execution& e);
Step<void> adox(Execution& e);
Step<void> rdrand(Execution& e);

// ---- bmi.cpp ----
Step<void> andn(Execution& e);
Step<void> bextr(Execution& e);
Step<void> blsr(Execution& e);
Step<void> blsmsk(Execution& e);
Step<void> blsi(Execution& e);
Step<void> bzhi(Execution& e);
Step<void> pdep(Execution& e);
Step<void> pext(Execution& e);
Step<void> mulx(Execution& e);
Step<void> rorx(Execution& e);
Step<void> sarx(Execution& e);
Step<void> shlx(Execution& e);
Step<void> shrx(Execution& e);

// ---- system.cpp ----
Step<void> int3(Execution& e);
Step<void> int_n(Execution& e);
Step<void> fwait(Execution& e);
Step<void> undefined(Execution& e);
Step<void> no_operation(Execution& e);
Step<void> cache_line(Execution& e);
Step<void> clac(Execution& e);
Step<void> stac(Execution& e);
Step<void> xgetbv(Execution& e);
Step<void> xsetbv(Execution& e);
Step<void> rdtscp(Execution& e);
Step<void> rdpid(Execution& e);
Step<void> rdfsbase(Execution& e);
Step<void> rdgsbase(Execution& e);
Step<void> wrfsbase(Execution& e);
Step<void> wrgsbase(Execution& e);

// ---- segments.cpp ----
Step<void> iret(Execution& e);
Step<void> lar(Execution& e);
Step<void> lsl(Execution& e);
Step<void> verr(Execution& e);
Step<void> verw(Execution& e);

// ---- xsave.cpp ----
Step<void> fxsave(Execution& e);
Step<void> fxrstor(Execution& e);
Step<void> ldmxcsr(Execution& e);
Step<void> stmxcsr(Execution& e);
Step<void> xsave(Execution& e);
Step<void> xsavec(Execution& e);
Step<void> xsaves(Execution& e);
Step<void> xrstor(Execution& e);
Step<void> xrstors(Execution& e);

}  // namespace calf::insn
