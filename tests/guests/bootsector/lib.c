// The few library functions that the compiler and the tests need.
#include "guest.h"

void* memset(void* to, int value, size_t n) {
  void* at = to;
  asm volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(value) : "memory");
  return to;
}

void* memcpy(void* to, const void* from, size_t n) {
  void* at = to;
  asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
  return to;
}

int memcmp(const void* a, const void* b, size_t n) {
  const u8 *x = a, *y = b;
  for (; n >= 8 && *(const u64*)x == *(const u64*)y; n -= 8, x += 8, y += 8) {
  }
  for (; n > 0; n--, x++, y++) {
    if (*x != *y) return *x < *y ? -1 : 1;
  }
  return 0;
}

size_t strlen(const char* s) {
  size_t n = 0;
  while (s[n] != 0)
    n++;
  return n;
}

bool equal(const char* a, const char* b) {
  for (; *a == *b; a++, b++) {
    if (*a == 0) return true;
  }
  return false;
}

bool starts_with(const char* s, const char* prefix) {
  while (*prefix != 0) {
    if (*s++ != *prefix++) return false;
  }
  return true;
}

// splitmix64
u64 mix(u64 x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

u64 random_next(u64* state) {
  *state += 0x9E3779B97F4A7C15;
  return mix(*state);
}

u64 random_below(u64* state, u64 limit) {
  return limit == 0 ? 0 : random_next(state) % limit;
}
