// In a self-contained program libraries load nothing at run time: OpenSSL's default provider is
// linked in, and c-ares resolves names by itself (host_name.cpp gives it ports as numbers). The
// linker sends their other calls here (--wrap), so what the C library can only do together with its
// shared objects stays out.
#include <netdb.h>

#include <cstddef>

extern "C" {

void* __wrap_dlopen(const char* /*file*/, int /*mode*/) {
  return nullptr;
}

// OpenSSL's sockets, which we do not use.
int __wrap_getaddrinfo(const char* /*host*/, const char* /*service*/, const addrinfo* /*hints*/,
                       addrinfo** /*found*/) {
  return EAI_FAIL;
}

hostent* __wrap_gethostbyname(const char* /*name*/) {
  return nullptr;
}

// c-ares, for the names of ports.
servent* __wrap_getservbyname(const char* /*name*/, const char* /*protocol*/) {
  return nullptr;
}

int __wrap_getservbyport_r(int /*port*/, const char* /*protocol*/, servent* /*entry*/,
                           char* /*buffer*/, size_t /*size*/, servent** found) {
  *found = nullptr;
  return 0;
}

}  // extern "C"
