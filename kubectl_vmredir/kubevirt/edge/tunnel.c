/* The tunnel: the conversation with the workstation, over a connection that may be another one tomorrow.
 *
 * What is to be said is not queued: flags say what is due, and the next batch of output is made of them when the last one
 * is gone. So nothing can pile up. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge.h"
#include "tunnel.h"
#include "wire.h"

enum {
  REPORT_BYTES = 16 << 10, /* CONSUMED is said so often, and whenever QEMU has read all, or stops reading */
  MAX_LINGER_S = 3600,
  MAX_WAIT_MS = 600000,
};

struct tunnel tunnel;

/* ---- what is said */

uint8_t *put_header(uint8_t *at, enum message type, uint32_t size) {
  return put_number(put_number(at, type, 4), size, 4);
}

uint8_t *put_refused(uint8_t *at, enum refusal code, int error, const char *text) {
  uint32_t size = (uint32_t)strlen(text);

  at = put_header(at, REFUSED, 4 + size);
  at = put_number(put_number(at, code, 2), (uint64_t)error, 2);
  memcpy(at, text, size);
  return at + size;
}

const char *text_of(enum refusal code) {
  switch (code) {
  case SLOT_TAKEN:
    return "somebody is connected to the slot";
  case SLOT_QUEUE_FULL:
    return "others wait for the slot";
  case SLOT_SILENT:
    return "QEMU did not accept the connection";
  case SLOT_ERROR:
    return "QEMU's socket cannot be reached";
  case SESSION_HELD:
    return "the edge holds another session";
  case SESSION_UNKNOWN:
    return "the edge has no such session";
  case SESSION_OFFSETS:
    return "the offsets do not fit the session";
  case BROKEN_PROTOCOL:
    break;
  }
  return "broken protocol";
}

static int consumed_is_due(void) {
  uint64_t news = session.consumed - tunnel.reported;

  if (session.phase != PHASE_OPEN)
    return 0;
  if (tunnel.say_consumed)
    return !session.lockstep || session_exact();
  return news >= REPORT_BYTES || (news > 0 && (session.consumed == session.to_qemu.tail || session_stalled()));
}

static uint8_t *put_consumed(uint8_t *at) {
  at = put_header(at, CONSUMED, 9);
  at = put_number(put_number(at, session.consumed, 8), session.lockstep && session_exact(), 1);
  tunnel.reported = session.consumed;
  tunnel.say_consumed = 0;
  return at;
}

static uint8_t *put_data(uint8_t *at, uint32_t size) {
  struct iovec pieces[2];
  int count = ring_pieces(&session.from_qemu, tunnel.sent, size, pieces);

  at = put_header(at, DATA, size);
  for (int i = 0; i < count; i++) {
    memcpy(at, pieces[i].iov_base, pieces[i].iov_len);
    at += pieces[i].iov_len;
  }
  tunnel.sent += size;
  return at;
}

static uint8_t *put_closed(uint8_t *at) {
  at = put_header(at, CLOSED, 20);
  at = put_number(put_number(at, session.consumed, 8), session.from_qemu.tail, 8);
  at = put_number(put_number(at, session.reason, 1), session.exact, 1);
  tunnel.say_closed = 0;
  return put_number(at, (uint64_t)session.error, 2);
}

/* Makes the next batch of output of what is due. */
static void compose(void) {
  uint8_t *at = tunnel.out;
  uint64_t left;

  if (tunnel.say_refused) {
    at = put_refused(at, session.refusal, session.error, text_of(session.refusal));
    tunnel.say_refused = 0;
  }
  if (tunnel.say_resumed) {
    at = put_number(put_header(at, RESUMED, 8), session.to_qemu.tail, 8);
    tunnel.say_resumed = 0;
  }
  if (tunnel.say_opened && session.phase >= PHASE_OPEN) {
    at = put_number(put_header(at, OPENED, 1), session.accepted, 1);
    tunnel.say_opened = 0;
  }
  if (tunnel.say_pong) {
    at = put_number(put_header(at, PONG, 8), tunnel.ping, 8);
    tunnel.say_pong = 0;
  }
  if (consumed_is_due())
    at = put_consumed(at);
  left = session.from_qemu.tail - tunnel.sent;
  if (left > 0)
    at = put_data(at, left > MAX_DATA ? MAX_DATA : (uint32_t)left);
  if (tunnel.say_closed && session.phase == PHASE_CLOSED && tunnel.sent == session.from_qemu.tail)
    at = put_closed(at);
  tunnel.out_done = 0;
  tunnel.out_size = (uint32_t)(at - tunnel.out);
}

/* ---- coming and going */

/* Begins with a new connection, in place of one that may be there. */
void tunnel_adopt(int fd, int64_t now_ms) {
  tunnel_drop(now_ms);
  memset(&tunnel, 0, offsetof(struct tunnel, in));
  tunnel.fd = fd;
  tunnel.heard_ms = now_ms;
}

/* The session goes on without a tunnel. */
void tunnel_drop(int64_t now_ms) {
  if (tunnel.fd < 0)
    return;
  close(tunnel.fd);
  tunnel.fd = -1;
  tunnel.lost_ms = now_ms;
}

void tunnel_flush(int64_t now_ms) {
  while (tunnel.fd >= 0) {
    ssize_t sent;

    if (tunnel.out_done == tunnel.out_size) {
      compose();
      if (tunnel.out_size == 0)
        return;
    }
    sent = send(tunnel.fd, tunnel.out + tunnel.out_done, tunnel.out_size - tunnel.out_done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR)
        tunnel_drop(now_ms);
      return;
    }
    tunnel.out_done += (uint32_t)sent;
  }
}

void tunnel_break_off(const char *text, int64_t now_ms) {
  tunnel_flush(now_ms); /* what is due */
  if (tunnel.fd >= 0 && tunnel.out_done == tunnel.out_size) {
    tunnel.out_done = 0;
    tunnel.out_size = (uint32_t)(put_refused(tunnel.out, BROKEN_PROTOCOL, 0, text) - tunnel.out);
    tunnel_flush(now_ms);
  }
  tunnel_drop(now_ms);
}

/* Begins a session. Returns whether what was asked for is well-formed. */
int tunnel_open(const uint8_t *payload, int64_t now_ms) {
  uint64_t wait = number_at(payload + TOKEN_SIZE, 4), linger = number_at(payload + TOKEN_SIZE + 4, 4);
  uint8_t flags = payload[TOKEN_SIZE + 8];

  if (wait > MAX_WAIT_MS || linger > MAX_LINGER_S || (flags & ~(OPEN_TAKE | OPEN_LOCKSTEP)) != 0)
    return 0;
  session_forget();
  memcpy(session.token, payload, TOKEN_SIZE);
  session.lockstep = (flags & OPEN_LOCKSTEP) != 0;
  session.linger_ms = (int64_t)linger * 1000;
  session.wait_until_ms = now_ms + (int64_t)wait;
  session.refusal = 0;
  tunnel.sent = tunnel.reported = 0;
  tunnel.say_opened = tunnel.say_consumed = tunnel.say_closed = 1;
  session.phase = PHASE_OPENING;
  return 1;
}

/* Goes on with the session, of which the workstation has received so much. */
void tunnel_resume(uint64_t received) {
  session.from_qemu.head = tunnel.sent = received;
  tunnel.say_resumed = tunnel.say_opened = tunnel.say_consumed = tunnel.say_closed = 1;
}

/* ---- what is heard */

/* Returns what is wrong, or NULL. */
static const char *hear_data(const uint8_t *payload, uint32_t size) {
  if (session.phase == PHASE_NONE || session.phase == PHASE_OPENING)
    return "DATA without an open slot";
  if (session.phase == PHASE_CLOSED || session.closing)
    return NULL; /* it was on its way when the slot was closed */
  if (size > WINDOW - (session.to_qemu.tail - session.consumed))
    return "DATA beyond the window";
  ring_put(&session.to_qemu, payload, size);
  return NULL;
}

static const char *hear_ack(uint64_t offset) {
  if (offset < session.from_qemu.head || offset > tunnel.sent)
    return "ACK of what was not sent";
  session.from_qemu.head = offset;
  return NULL;
}

static void hear_close(void) {
  if (session.phase == PHASE_OPENING) {
    session_forget();
    session.reason = END_CLOSED_BY_US;
    session.exact = 1;
    session.error = 0;
    session.phase = PHASE_CLOSED;
    tunnel.say_opened = 0;
  } else if (session.phase == PHASE_OPEN) {
    session.closing = 1;
    session_read();
  }
}

static const char *hear(uint32_t type, const uint8_t *payload, uint32_t size, int64_t now_ms) {
  static const uint8_t sizes[] = {[OPEN] = OPEN_SIZE, [ACK] = 8, [LOCKSTEP] = 1, [PING] = 8, [CLOSE] = 0, [FORGET] = 0};

  if (type == DATA)
    return hear_data(payload, size);
  if (type != OPEN && type != ACK && type != LOCKSTEP && type != PING && type != CLOSE && type != FORGET)
    return "unknown message";
  if (size != sizes[type])
    return "message of a wrong size";
  switch (type) {
  case OPEN:
    if (session.phase == PHASE_OPENING || session.phase == PHASE_OPEN)
      return "OPEN of an open slot";
    return tunnel_open(payload, now_ms) ? NULL : "OPEN out of bounds";
  case ACK:
    return hear_ack(number_at(payload, 8));
  case LOCKSTEP:
    session.lockstep = payload[0] != 0;
    tunnel.say_consumed = 1;
    break;
  case PING:
    tunnel.ping = number_at(payload, 8);
    tunnel.say_pong = 1;
    break;
  case CLOSE:
    hear_close();
    break;
  case FORGET:
    if (session.phase != PHASE_CLOSED)
      return "FORGET of an open slot";
    session_forget();
    tunnel.sent = 0;
    break;
  }
  return NULL;
}

/* Reads once, and takes all messages that are whole. */
void tunnel_hear(int64_t now_ms) {
  ssize_t got = recv(tunnel.fd, tunnel.in + tunnel.in_size, sizeof tunnel.in - tunnel.in_size, MSG_DONTWAIT);
  uint32_t done = 0;

  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (got <= 0) {
    tunnel_drop(now_ms);
    return;
  }
  tunnel.heard_ms = now_ms;
  tunnel.in_size += (uint32_t)got;
  while (tunnel.in_size - done >= HEADER_SIZE) {
    const uint8_t *message = tunnel.in + done;
    uint32_t type = (uint32_t)number_at(message, 4), size = (uint32_t)number_at(message + 4, 4);
    const char *fault;

    if (size > MAX_PAYLOAD) {
      tunnel_break_off("message too large", now_ms);
      return;
    }
    if (tunnel.in_size - done < HEADER_SIZE + size)
      break;
    if ((fault = hear(type, message + HEADER_SIZE, size, now_ms)) != NULL) {
      tunnel_break_off(fault, now_ms);
      return;
    }
    done += HEADER_SIZE + size;
  }
  tunnel.in_size -= done;
  memmove(tunnel.in, tunnel.in + done, tunnel.in_size);
}
