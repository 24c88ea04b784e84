// Sector contents: 64 bytes of text that name the writer, the sector and the round, then words that
// depend on all three.
//   "calf-guest <id> sector <n> round <n>\n", zeros to 64; 8 bytes round; 55 words of hash
#include "guest.h"

enum { TEXT = 64, ID_MAX = 20 };

u64 id_hash(const char* id) {
  u64 h = 0;
  for (u32 i = 0; i < ID_MAX && id[i] != 0; i++)
    h = mix(h ^ (u8)id[i]);
  return h;
}

static char* put_text(char* to, const char* s, u32 max) {
  while (*s != 0 && max-- > 0)
    *to++ = *s++;
  return to;
}

static char* put_decimal(char* to, u64 value) {
  char digits[20];
  int n = 0;
  do {
    digits[n++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (n > 0)
    *to++ = digits[--n];
  return to;
}

void sector_fill(u8* to, const char* id, u64 sector, u64 round) {
  memset(to, 0, TEXT);
  char* at = put_text((char*)to, "calf-guest ", TEXT);
  at = put_text(at, id, ID_MAX);
  at = put_decimal(put_text(at, " sector ", TEXT), sector % 10000000000);
  *put_decimal(put_text(at, " round ", TEXT), round % 1000000) = '\n';
  u64* words = (u64*)(to + TEXT);
  u64 x = mix(id_hash(id) ^ mix(sector) ^ round);
  words[0] = round;
  for (u32 i = 1; i < (SECTOR - TEXT) / 8; i++)
    words[i] = x = x * 6364136223846793005 + 1442695040888963407;
}

bool sector_is_ours(const u8* data, const char* id, u64 sector, u64* round) {
  u8 expected[SECTOR] __attribute__((aligned(8)));
  memcpy(round, data + TEXT, 8);
  sector_fill(expected, id, sector, *round);
  return memcmp(data, expected, SECTOR) == 0;
}

bool sector_is_zero(const u8* data) {
  const u64* words = (const u64*)data;
  u64 all = 0;
  for (u32 i = 0; i < SECTOR / 8; i++)
    all |= words[i];
  return all == 0;
}
