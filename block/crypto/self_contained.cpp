// In a self-contained program OpenSSL loads nothing at run time and looks no host up: its default
// provider is linked in, and we ask it for nothing else. The linker sends its calls here
// (--wrap), so the C library's loader and resolver, which a static program cannot carry whole, stay
// out of the program.
#include <netdb.h>

extern "C" {

void* __wrap_dlopen(const char* /*file*/, int /*mode*/) {
  return nullptr;
}

int __wrap_getaddrinfo(const char* /*node*/, const char* /*service*/, const addrinfo* /*hints*/,
                       addrinfo** /*found*/) {
  return EAI_FAIL;
}

hostent* __wrap_gethostbyname(const char* /*name*/) {
  return nullptr;
}

}  // extern "C"
