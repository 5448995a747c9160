/* Little-endian integers in byte buffers. */
#ifndef WIRE_H
#define WIRE_H

#include <stdint.h>

static inline uint8_t *put_number(uint8_t *at, uint64_t value, int size) {
  for (int i = 0; i < size; i++)
    *at++ = (uint8_t)(value >> (8 * i));
  return at;
}

static inline uint64_t number_at(const uint8_t *at, int size) {
  uint64_t value = 0;

  while (size-- > 0)
    value = value << 8 | at[size];
  return value;
}

#endif
