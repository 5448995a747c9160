/* The daemon: carries the session over tunnels, which come and go.
 *
 * A tunnel is a connection to the daemon's own unix socket. Its first message is OPEN or RESUME, and only who says the
 * right one gets the place of the tunnel that is there. What is to be said to the workstation is not queued: flags say
 * what is due, and the next batch of output is made of them when the last one is gone. So nothing can pile up. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge.h"
#include "wire.h"

#ifndef HEARTBEAT_MS
#define HEARTBEAT_MS 15000 /* a tunnel that brings nothing for so long is dead */
#endif
#ifndef INTRODUCTION_MS
#define INTRODUCTION_MS 5000 /* so long may a new one take for its first message */
#endif
#ifndef IDLE_MS
#define IDLE_MS 5000 /* without session and tunnel the daemon ends after that */
#endif

enum {
  OPENING_STEP_MS = 5,
  GUESTS = 4,
  REPORT_BYTES = 16 << 10, /* CONSUMED is said so often, and whenever QEMU has read all, or stops reading */
  MAX_LINGER_S = 3600,
  MAX_WAIT_MS = 600000,
  OPEN_SIZE = TOKEN_SIZE + 9,
  RESUME_SIZE = TOKEN_SIZE + 16,
  HELLO_SIZE = 17,
  CONTROL_SIZE = 256,      /* all but DATA that one batch of output may hold */
};

static const char *slot_path;

/* A connection that has not said its first message yet. */
struct guest {
  int fd;
  int64_t deadline_ms;
  uint32_t size;
  uint8_t bytes[HEADER_SIZE + RESUME_SIZE];
};

static struct guest guests[GUESTS];

static struct {
  int fd;
  int64_t heard_ms;
  uint32_t in_size;
  uint32_t out_done, out_size;
  uint64_t sent;      /* bytes of QEMU's that it was given, as offset in QEMU's stream */
  uint64_t reported;  /* last CONSUMED */
  uint64_t ping;
  uint8_t say_resumed, say_opened, say_refused, say_pong, say_consumed, say_closed;
  uint8_t in[HEADER_SIZE + MAX_PAYLOAD];
  uint8_t out[CONTROL_SIZE + HEADER_SIZE + MAX_DATA];
} tunnel;

static int64_t now_ms, alone_since_ms;

/* ---- what is said */

static uint8_t *put_header(uint8_t *at, enum message type, uint32_t size) {
  return put_number(put_number(at, type, 4), size, 4);
}

static uint8_t *put_refused(uint8_t *at, enum refusal code, int error, const char *text) {
  uint32_t size = (uint32_t)strlen(text);

  at = put_header(at, REFUSED, 4 + size);
  at = put_number(put_number(at, code, 2), (uint64_t)error, 2);
  memcpy(at, text, size);
  return at + size;
}

static const char *text_of(enum refusal code) {
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
    return !session.lockstep || session_outstanding() <= CHUNK;
  return news >= REPORT_BYTES || (news > 0 && (session.consumed == session.to_qemu.tail || session_stalled()));
}

static uint8_t *put_consumed(uint8_t *at) {
  at = put_header(at, CONSUMED, 9);
  at = put_number(put_number(at, session.consumed, 8), session.lockstep && session_outstanding() <= CHUNK, 1);
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

/* ---- tunnels come and go */

static void drop_guest(struct guest *guest) {
  if (guest->fd >= 0)
    close(guest->fd);
  guest->fd = -1;
}

/* The session goes on without a tunnel. */
static void drop_tunnel(void) {
  if (tunnel.fd < 0)
    return;
  close(tunnel.fd);
  tunnel.fd = -1;
  alone_since_ms = now_ms;
}

static void flush(void) {
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
        drop_tunnel();
      return;
    }
    tunnel.out_done += (uint32_t)sent;
  }
}

/* Says why, as far as that can be said at once, and drops the connection. */
static void turn_away(struct guest *guest, enum refusal code, const char *text) {
  uint8_t answer[HEADER_SIZE + CONTROL_SIZE];

  send(guest->fd, answer, (size_t)(put_refused(answer, code, 0, text) - answer), MSG_DONTWAIT | MSG_NOSIGNAL);
  drop_guest(guest);
}

static void break_off(const char *text) {
  flush(); /* what is due */
  if (tunnel.fd >= 0 && tunnel.out_done == tunnel.out_size) {
    tunnel.out_done = 0;
    tunnel.out_size = (uint32_t)(put_refused(tunnel.out, BROKEN_PROTOCOL, 0, text) - tunnel.out);
    flush();
  }
  drop_tunnel();
}

/* The guest becomes the tunnel, in place of one that may be there. */
static void adopt(struct guest *guest) {
  drop_tunnel();
  memset(&tunnel, 0, offsetof(__typeof__(tunnel), in));
  tunnel.fd = guest->fd;
  tunnel.heard_ms = now_ms;
  guest->fd = -1;
}

/* Returns a place for one more: a free one, or that of the one which has said nothing for the longest time. */
static struct guest *place_for_guest(void) {
  struct guest *oldest = guests;

  for (struct guest *guest = guests; guest < guests + GUESTS; guest++) {
    if (guest->fd < 0)
      return guest;
    if (guest->deadline_ms < oldest->deadline_ms)
      oldest = guest;
  }
  drop_guest(oldest);
  return oldest;
}

static void greet(int fd) {
  uint8_t hello[HEADER_SIZE + HELLO_SIZE], *at = put_header(hello, HELLO, HELLO_SIZE);
  struct guest *guest;
  struct ucred peer;
  socklen_t size = sizeof peer;

  if (fd < 0)
    return;
  guest = place_for_guest();
  guest->fd = fd;
  guest->size = 0;
  guest->deadline_ms = now_ms + INTRODUCTION_MS;
  memcpy(at, "VMRE", 4);
  at = put_number(put_number(at + 4, VERSION, 2), CHUNK, 2);
  at = put_number(put_number(at, WINDOW, 4), MAX_PAYLOAD, 4);
  put_number(at, session.phase, 1);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid() ||
      send(fd, hello, sizeof hello, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof hello)
    drop_guest(guest);
}

/* ---- what is heard */

/* Begins a session. Returns whether what was asked for is well-formed. */
static int open_session(const uint8_t *payload) {
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

static void hear_open(struct guest *guest) {
  const uint8_t *payload = guest->bytes + HEADER_SIZE;
  int take = (payload[TOKEN_SIZE + 8] & OPEN_TAKE) != 0;

  if ((session.phase == PHASE_OPENING || session.phase == PHASE_OPEN) && !take) {
    turn_away(guest, SESSION_HELD, text_of(SESSION_HELD));
    return;
  }
  adopt(guest);
  if (!open_session(payload))
    break_off("OPEN out of bounds");
}

static void hear_resume(struct guest *guest) {
  const uint8_t *payload = guest->bytes + HEADER_SIZE;
  uint64_t sent = number_at(payload + TOKEN_SIZE, 8), received = number_at(payload + TOKEN_SIZE + 8, 8);

  if (session.phase == PHASE_NONE || memcmp(payload, session.token, TOKEN_SIZE) != 0) {
    turn_away(guest, SESSION_UNKNOWN, text_of(SESSION_UNKNOWN));
  } else if (sent < session.to_qemu.tail || received < session.from_qemu.head || received > tunnel.sent) {
    turn_away(guest, SESSION_OFFSETS, text_of(SESSION_OFFSETS));
  } else {
    adopt(guest);
    session.from_qemu.head = tunnel.sent = received;
    tunnel.say_resumed = tunnel.say_opened = tunnel.say_consumed = tunnel.say_closed = 1;
  }
}

/* Reads no byte more than the first message has: what follows is the tunnel's. */
static void hear_guest(struct guest *guest) {
  uint32_t type = (uint32_t)number_at(guest->bytes, 4), size = type == OPEN ? OPEN_SIZE : RESUME_SIZE;
  uint32_t wanted = guest->size < HEADER_SIZE ? HEADER_SIZE : HEADER_SIZE + size;
  ssize_t got = recv(guest->fd, guest->bytes + guest->size, wanted - guest->size, MSG_DONTWAIT);

  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (got <= 0) {
    drop_guest(guest);
    return;
  }
  guest->size += (uint32_t)got;
  if (guest->size < wanted)
    return;
  if (wanted == HEADER_SIZE) {
    type = (uint32_t)number_at(guest->bytes, 4);
    size = type == OPEN ? OPEN_SIZE : RESUME_SIZE;
    if ((type != OPEN && type != RESUME) || number_at(guest->bytes + 4, 4) != size)
      turn_away(guest, BROKEN_PROTOCOL, "neither OPEN nor RESUME");
  } else if (type == OPEN) {
    hear_open(guest);
  } else {
    hear_resume(guest);
  }
}

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

static const char *hear(uint32_t type, const uint8_t *payload, uint32_t size) {
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
    return open_session(payload) ? NULL : "OPEN out of bounds";
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
static void hear_tunnel(void) {
  ssize_t got = recv(tunnel.fd, tunnel.in + tunnel.in_size, sizeof tunnel.in - tunnel.in_size, MSG_DONTWAIT);
  uint32_t done = 0;

  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (got <= 0) {
    drop_tunnel();
    return;
  }
  tunnel.heard_ms = now_ms;
  tunnel.in_size += (uint32_t)got;
  while (tunnel.in_size - done >= HEADER_SIZE) {
    const uint8_t *message = tunnel.in + done;
    uint32_t type = (uint32_t)number_at(message, 4), size = (uint32_t)number_at(message + 4, 4);
    const char *fault;

    if (size > MAX_PAYLOAD) {
      break_off("message too large");
      return;
    }
    if (tunnel.in_size - done < HEADER_SIZE + size)
      break;
    if ((fault = hear(type, message + HEADER_SIZE, size)) != NULL) {
      break_off(fault);
      return;
    }
    done += HEADER_SIZE + size;
  }
  tunnel.in_size -= done;
  memmove(tunnel.in, tunnel.in + done, tunnel.in_size);
}

/* ---- time */

static int64_t alone_until_ms(void) {
  return alone_since_ms + (session.phase == PHASE_NONE ? IDLE_MS : session.linger_ms);
}

static int timeout_ms(void) {
  int64_t until = tunnel.fd >= 0 ? tunnel.heard_ms + HEARTBEAT_MS : alone_until_ms();

  for (int i = 0; i < GUESTS; i++)
    if (guests[i].fd >= 0 && guests[i].deadline_ms < until)
      until = guests[i].deadline_ms;
  if (session.phase == PHASE_OPENING && now_ms + OPENING_STEP_MS < until)
    until = now_ms + OPENING_STEP_MS;
  if (session_outstanding() > 0 && now_ms + session.net_ms < until)
    until = now_ms + session.net_ms;
  return until > now_ms ? (int)(until - now_ms) : 0;
}

static void watch_time(void) {
  for (int i = 0; i < GUESTS; i++)
    if (now_ms >= guests[i].deadline_ms)
      drop_guest(&guests[i]);
  if (now_ms >= tunnel.heard_ms + HEARTBEAT_MS)
    drop_tunnel();
}

static void work(void) {
  if (session.phase == PHASE_OPENING) {
    session_try_open(slot_path, now_ms);
    tunnel.say_refused = session.phase == PHASE_NONE;
  }
  session_write();
  session_read();
  session_write();
  flush();
}

/* Waits for something to happen, and hears it. */
static void wait_and_hear(int listener) {
  enum { LISTENER = GUESTS, TUNNEL, QEMU, WAKE, POLLED };
  short qemu_events = session_poll_events();
  struct pollfd polled[POLLED];

  for (int i = 0; i < GUESTS; i++)
    polled[i] = (struct pollfd){guests[i].fd, POLLIN, 0};
  polled[LISTENER] = (struct pollfd){listener, POLLIN, 0};
  polled[TUNNEL] = (struct pollfd){tunnel.fd, POLLIN | (tunnel.out_done < tunnel.out_size ? POLLOUT : 0), 0};
  polled[QEMU] = (struct pollfd){qemu_events < 0 ? -1 : session.fd, qemu_events, 0};
  polled[WAKE] = (struct pollfd){session_outstanding() > 0 ? session.wake : -1, POLLIN, 0};
  if (poll(polled, POLLED, timeout_ms()) == 0)
    session_waited();
  now_ms = clock_ms();
  if (polled[WAKE].revents != 0)
    session_woken();
  if (polled[TUNNEL].revents != 0)
    hear_tunnel();
  for (int i = 0; i < GUESTS; i++)
    if (polled[i].revents != 0)
      hear_guest(&guests[i]);
  if (polled[LISTENER].revents != 0)
    greet(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static int has_guests(void) {
  for (int i = 0; i < GUESTS; i++)
    if (guests[i].fd >= 0)
      return 1;
  return 0;
}

/* Serves until nobody needs it any more. */
void daemon_run(const char *path, int listener) {
  slot_path = path;
  session.fd = session.wake = tunnel.fd = -1;
  for (int i = 0; i < GUESTS; i++)
    guests[i].fd = -1;
  alone_since_ms = now_ms = clock_ms();
  while (tunnel.fd >= 0 || has_guests() || now_ms < alone_until_ms()) {
    wait_and_hear(listener);
    watch_time();
    work();
  }
  session_forget();
}
