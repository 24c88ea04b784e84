// Stands in for `lz4 -l` in the kernel build: writes LZ4's legacy frame with every byte as a
// literal.
//
//   frame   magic 0x184C2102, then blocks of at most 8 MiB of plain data:  le32 size, block
//   block   one sequence: token 0xF0 (15 or more literals, no match), length-15 in bytes of 255 and
//   a rest, the literals
//
// Any LZ4 decoder takes it. The kernel's own turns such a block into one `rep movsq`, so a boot
// loader starts the bzImage without inflating anything in the guest: 16 MiB in about a second where
// KVM emulates CPL 0 code, against minutes for gzip. Format: lz4_Frame_format.md ("Legacy frame")
// and lz4_Block_format.md in the lz4 sources.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kBlock = 8 << 20 };

static void put32(uint32_t v) {
  for (int i = 0; i < 4; i++)
    putchar((int)(v >> (8 * i) & 0xFF));
}

int main(void) {
  unsigned char* data = malloc(kBlock);
  size_t n;
  if (data == NULL) return 1;
  put32(0x184C2102);
  while ((n = fread(data, 1, kBlock, stdin)) > 0) {
    if (n < 15) {  // short tail: the length fits the token
      put32((uint32_t)n + 1);
      putchar((int)(n << 4));
    } else {
      size_t rest = n - 15;
      put32((uint32_t)(1 + rest / 255 + 1 + n));
      putchar(0xF0);
      for (; rest >= 255; rest -= 255)
        putchar(255);
      putchar((int)rest);
    }
    fwrite(data, 1, n, stdout);
  }
  return ferror(stdin) || fflush(stdout) != 0;
}
