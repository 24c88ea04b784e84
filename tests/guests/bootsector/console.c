// Lines on COM1 (16550A, 115200 baud), polled. Each port access may be an exit: the line status is
// read once for every FIFO of bytes.
#include "guest.h"

enum { COM1 = 0x3F8, FIFO = 16, LINE_MAX = 240 };

static struct lock console_lock;
static u8 fifo_free;

void console_open(void) {
  // What the BIOS has still to send would be cleared.
  for (int i = 0; i < 100000 && (in8(COM1 + 5) & 0x40) == 0; i++)
    pause();
  out8(COM1 + 1, 0);     // no interrupts
  out8(COM1 + 3, 0x80);  // divisor latch
  out8(COM1 + 0, 1);
  out8(COM1 + 1, 0);
  out8(COM1 + 3, 3);  // 8n1
  out8(COM1 + 2, 7);  // FIFO on, cleared
  out8(COM1 + 4, 3);  // DTR, RTS
}

void console_break_lock(void) {
  lock_drop(&console_lock);
}

static void put(char c) {
  if (fifo_free == 0) {
    // A UART that never empties is not there: the line is lost, the test goes on.
    for (int i = 0; i < 100000 && (in8(COM1 + 5) & 0x20) == 0; i++)
      pause();
    fifo_free = FIFO;
  }
  out8(COM1, (u8)c);
  fifo_free--;
}

static char* put_number(char* to, char* end, u64 value, u64 base) {
  char digits[20];
  int n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  while (n > 0 && to < end)
    *to++ = digits[--n];
  return to;
}

static void vsay(const char* prefix, const char* format, va_list args) {
  char line[LINE_MAX], *to = line, *end = line + LINE_MAX - 2;
  for (const char* s = "CALF-GUEST: "; *s != 0;)
    *to++ = *s++;
  while (*prefix != 0)
    *to++ = *prefix++;
  for (; *format != 0 && to < end; format++) {
    if (*format != '%') {
      *to++ = *format;
      continue;
    }
    switch (*++format) {
      case 's':
        for (const char* s = va_arg(args, const char*); *s != 0 && to < end;)
          *to++ = *s++;
        break;
      case 'u':
        to = put_number(to, end, va_arg(args, u64), 10);
        break;
      case 'x':
        to = put_number(to, end, va_arg(args, u64), 16);
        break;
      case 'd':
        to = put_number(to, end, (u64)va_arg(args, unsigned), 10);
        break;
      case 'c':
        *to++ = (char)va_arg(args, int);
        break;
      default:
        *to++ = *format;
    }
  }
  *to++ = '\r';
  *to++ = '\n';
  lock_take(&console_lock);
  fifo_free = 0;
  for (const char* s = line; s < to; s++)
    put(*s);
  lock_drop(&console_lock);
}

void say(const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsay("", format, args);
  va_end(args);
}

void fail(const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsay("error: ", format, args);
  va_end(args);
  debug_exit(EXIT_FAILURE_CODE);
}
