// -sandbox on: a seccomp filter over the whole process.
#pragma once

#include "block/base/result.h"

namespace calf::vmm {

// Forbids this process, from now on, what running a guest never needs and what would help somebody
// who broke out of one: starting programs, changing who we are, tracing others, mounting, loading
// modules, rebooting. A forbidden call fails with EPERM. Images and consoles are open by then;
// threads may still be made.
Result<void> enter_sandbox();

}  // namespace calf::vmm
