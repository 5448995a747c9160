/* Bytes between two offsets of a stream. */
#include <string.h>

#include "edge.h"

/* Points at `size` bytes from an offset on, which may lie at both ends of the memory; returns the number of pieces. */
int ring_pieces(struct ring *ring, uint64_t from, uint32_t size, struct iovec pieces[2]) {
  uint32_t at = (uint32_t)((from - ring->start) % sizeof ring->bytes);
  uint32_t first = sizeof ring->bytes - at;

  if (first > size)
    first = size;
  pieces[0] = (struct iovec){ring->bytes + at, first};
  pieces[1] = (struct iovec){ring->bytes, size - first};
  return size > first ? 2 : 1;
}

/* Points at room for `size` bytes behind the tail; the caller has looked that it is there. */
int ring_room(struct ring *ring, uint32_t size, struct iovec pieces[2]) {
  if (ring->head == ring->tail)
    ring->start = ring->tail;
  return ring_pieces(ring, ring->tail, size, pieces);
}

/* Appends bytes; the caller has looked that there is room. */
void ring_put(struct ring *ring, const uint8_t *bytes, uint32_t size) {
  struct iovec pieces[2];

  ring_room(ring, size, pieces);
  memcpy(pieces[0].iov_base, bytes, pieces[0].iov_len);
  memcpy(pieces[1].iov_base, bytes + pieces[0].iov_len, pieces[1].iov_len);
  ring->tail += size;
}
