// In a self-contained program libraries load nothing at run time: c-ares resolves names by itself
// (host_name.cpp gives it ports as numbers), and nobody asks libgpg-error for a user's folder. The
// linker sends those calls here (--wrap), so what the C library can only do together with its
// shared objects stays out.
#include <netdb.h>
#include <pwd.h>

#include <cstddef>

extern "C" {

// c-ares, for the names of ports.
servent* __wrap_getservbyname(const char* /*name*/, const char* /*protocol*/) {
  return nullptr;
}

int __wrap_getservbyport_r(int /*port*/, const char* /*protocol*/, servent* /*entry*/,
                           char* /*buffer*/, size_t /*size*/, servent** found) {
  *found = nullptr;
  return 0;
}

// libgpg-error.
passwd* __wrap_getpwnam(const char* /*name*/) {
  return nullptr;
}

passwd* __wrap_getpwuid(uid_t /*user*/) {
  return nullptr;
}

}  // extern "C"
