// In a self-contained program OpenSSL loads nothing at run time and looks no host up: its default
// provider is linked in, and we ask it for nothing else. The linker sends its calls here
// (--wrap), so the C library's loader, which a static program cannot carry whole, stays out.
// getaddrinfo() is not among them: NBD clients resolve names (block/io/stream_socket.cpp), and the
// linker's warning about it is true: names other than numbers need the host's C library.
#include <netdb.h>

extern "C" {

void* __wrap_dlopen(const char* /*file*/, int /*mode*/) {
  return nullptr;
}

hostent* __wrap_gethostbyname(const char* /*name*/) {
  return nullptr;
}

}  // extern "C"
