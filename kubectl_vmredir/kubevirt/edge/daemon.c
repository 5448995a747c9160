/* The daemon: keeps the session, and finds out who may be its tunnel.
 *
 * Whoever connects to the daemon's socket is a guest at first. Its first message is OPEN or RESUME, and only who says the
 * right one gets the place of the tunnel that is there. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "edge.h"
#include "tunnel.h"
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

enum { GUESTS = 4, OPENING_STEP_MS = 5, HELLO_SIZE = 17 };

/* A connection that has not said its first message yet. */
struct guest {
  int fd;
  int64_t deadline_ms;
  uint32_t size;
  uint8_t bytes[HEADER_SIZE + RESUME_SIZE];
};

static struct guest guests[GUESTS];
static const char *slot_path;
static int64_t now_ms;

/* ---- guests */

static void drop_guest(struct guest *guest) {
  if (guest->fd >= 0)
    close(guest->fd);
  guest->fd = -1;
}

/* Says why, as far as that can be said at once, and drops the connection. */
static void turn_away(struct guest *guest, enum refusal code, const char *text) {
  uint8_t answer[HEADER_SIZE + CONTROL_SIZE];

  send(guest->fd, answer, (size_t)(put_refused(answer, code, 0, text) - answer), MSG_DONTWAIT | MSG_NOSIGNAL);
  drop_guest(guest);
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

/* The guest becomes the tunnel. */
static void adopt(struct guest *guest) {
  tunnel_adopt(guest->fd, now_ms);
  guest->fd = -1;
}

static void hear_open(struct guest *guest) {
  const uint8_t *payload = guest->bytes + HEADER_SIZE;
  int take = (payload[TOKEN_SIZE + 8] & OPEN_TAKE) != 0;

  if ((session.phase == PHASE_OPENING || session.phase == PHASE_OPEN) && !take) {
    turn_away(guest, SESSION_HELD, text_of(SESSION_HELD));
    return;
  }
  adopt(guest);
  if (!tunnel_open(payload, now_ms))
    tunnel_break_off("OPEN out of bounds", now_ms);
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
    tunnel_resume(received);
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

/* ---- time */

static int64_t alone_until_ms(void) {
  return tunnel.lost_ms + (session.phase == PHASE_NONE ? IDLE_MS : session.linger_ms);
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
    tunnel_drop(now_ms);
}

static void work(void) {
  if (session.phase == PHASE_OPENING) {
    session_try_open(slot_path, now_ms);
    tunnel.say_refused = session.phase == PHASE_NONE;
  }
  session_write();
  session_read();
  session_write();
  tunnel_flush(now_ms);
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
    tunnel_hear(now_ms);
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
  tunnel.lost_ms = now_ms = clock_ms();
  while (tunnel.fd >= 0 || has_guests() || now_ms < alone_until_ms()) {
    wait_and_hear(listener);
    watch_time();
    work();
  }
  session_forget();
}
