// The command line: `key=value` words. A word that no test asked for is a typing mistake, and an
// error.
#include "guest.h"

enum { MAX_WORDS = 32, TEXT_MAX = 512 };

static char text[TEXT_MAX];
static struct {
  const char *key, *value;
  bool used;
} words[MAX_WORDS];
static u32 word_count;

void params_parse(const char* command_line) {
  u32 i = 0;
  for (; i < TEXT_MAX - 1 && command_line[i] != 0 && command_line[i] != '\n'; i++)
    text[i] = command_line[i];
  text[i] = 0;
  for (char* s = text; *s != 0 && word_count < MAX_WORDS;) {
    while (*s == ' ')
      s++;
    if (*s == 0) break;
    words[word_count].key = s;
    words[word_count].value = "1";
    while (*s != 0 && *s != ' ' && *s != '=')
      s++;
    if (*s == '=') {
      *s++ = 0;
      words[word_count].value = s;
      while (*s != 0 && *s != ' ')
        s++;
    }
    if (*s == ' ') *s++ = 0;
    word_count++;
  }
  if (word_count > 0 && !equal(words[0].key, "test") && equal(words[0].value, "1")) {
    words[0].value = words[0].key;
    words[0].key = "test";
  }
}

const char* param_text(const char* key, const char* fallback) {
  const char* found = fallback;
  for (u32 i = 0; i < word_count; i++) {
    if (!equal(words[i].key, key)) continue;
    words[i].used = true;
    found = words[i].value;
  }
  return found;
}

u64 param_number(const char* key, u64 fallback) {
  const char* s = param_text(key, NULL);
  if (s == NULL) return fallback;
  u64 value = 0, base = 10;
  if (starts_with(s, "0x")) {
    base = 16;
    s += 2;
  }
  for (;; s++) {
    u64 digit = *s >= '0' && *s <= '9'   ? (u64)(*s - '0')
                : *s >= 'a' && *s <= 'f' ? (u64)(*s - 'a' + 10)
                                         : 99;
    if (digit >= base) break;
    value = value * base + digit;
  }
  switch (*s) {
    case 'K':
      value *= KIB;
      break;
    case 'M':
      value *= MIB;
      break;
    case 'G':
      value *= 1024 * MIB;
      break;
    case 0:
      return value;
    default:
      fail("parameter %s is not a number", key);
  }
  if (s[1] != 0) fail("parameter %s is not a number", key);
  return value;
}

bool param_flag(const char* key, bool fallback) {
  return param_number(key, fallback) != 0;
}

void params_check_used(void) {
  for (u32 i = 0; i < word_count; i++) {
    if (!words[i].used) fail("unknown parameter %s", words[i].key);
  }
}
