/* The one tunnel that the session has, or none. */
#ifndef TUNNEL_H
#define TUNNEL_H

#include "edge.h"

enum {
  OPEN_SIZE = TOKEN_SIZE + 9,
  RESUME_SIZE = TOKEN_SIZE + 16,
  CONTROL_SIZE = 256, /* all but DATA that one batch of output may hold */
};

struct tunnel {
  int fd;            /* -1 while there is none */
  int64_t heard_ms;  /* when it brought something last */
  int64_t lost_ms;   /* when it went */
  uint32_t in_size;
  uint32_t out_done, out_size;
  uint64_t sent;     /* bytes of QEMU's that it was given, as offset in QEMU's stream */
  uint64_t reported; /* last CONSUMED */
  uint64_t ping;
  uint8_t say_resumed, say_opened, say_refused, say_pong, say_consumed, say_closed;
  uint8_t in[HEADER_SIZE + MAX_PAYLOAD];
  uint8_t out[CONTROL_SIZE + HEADER_SIZE + MAX_DATA];
};

extern struct tunnel tunnel;

void tunnel_adopt(int fd, int64_t now_ms);
void tunnel_drop(int64_t now_ms);
int tunnel_open(const uint8_t *payload, int64_t now_ms);
void tunnel_resume(uint64_t received);
void tunnel_hear(int64_t now_ms);
void tunnel_flush(int64_t now_ms);
void tunnel_break_off(const char *text, int64_t now_ms);

uint8_t *put_header(uint8_t *at, enum message type, uint32_t size);
uint8_t *put_refused(uint8_t *at, enum refusal code, int error, const char *text);
const char *text_of(enum refusal code);

#endif
