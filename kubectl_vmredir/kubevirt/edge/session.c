/* The conversation with QEMU: writes a batch, waits until QEMU has read all of it, writes the next.
 *
 * How it is known what QEMU has read. SIOCOUTQ counts the memory of what lies unread. With one batch in the kernel it
 * says "all read" (0) or "not all". A peer that goes away is marked as hung up first and its queue is thrown away then,
 * so a sample counts only if there is still no hang-up AFTER it was taken. At the end recv() tells whether something lay
 * unread: end of file if not, ECONNRESET if so. QEMU reads up to CHUNK bytes at once, so of a single batch that is not
 * larger all is read or nothing: then the boundary is exact. Lockstep is a limit of CHUNK for batches, one at a time.
 *
 * Outside of lockstep a second batch follows a large one, so that QEMU need not wait for us. Its memory is known from
 * below: what SIOCOUTQ grew by while it was sent, and QEMU can only have made that less. When no more than this is left,
 * the older batch is gone. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "edge.h"

enum { NET_MIN_MS = 2, NET_MAX_MS = 64 };

_Static_assert(sizeof session.to_qemu.bytes == WINDOW && sizeof session.from_qemu.bytes == RETAINED, "rings");

struct session session;

static void hang_up(void) {
  if (session.fd >= 0)
    close(session.fd);
  if (session.wake >= 0)
    close(session.wake);
  session.fd = session.wake = -1;
}

void session_forget(void) {
  hang_up();
  session.phase = PHASE_NONE;
  session.to_qemu.head = session.to_qemu.tail = session.consumed = session.newer = 0;
  session.from_qemu.head = session.from_qemu.tail = 0;
  session.to_qemu.start = session.from_qemu.start = 0;
  session.closing = session.half_closed = session.reset_seen = session.accepted = session.lockstep = 0;
  memset(session.token, 0, sizeof session.token);
}

/* ---- opening */

static void refuse(enum refusal refusal, int error) {
  session_forget();
  session.refusal = refusal;
  session.error = error;
}

/* Returns 0, or errno. */
static int dial(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
  int room = 2 * BATCH;

  memcpy(address.sun_path, path, strlen(path) + 1);
  session.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  session.wake = epoll_create1(EPOLL_CLOEXEC);
  if (session.fd < 0 || session.wake < 0 || epoll_ctl(session.wake, EPOLL_CTL_ADD, session.fd, &event) < 0)
    return errno;
  setsockopt(session.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room); /* with less there are smaller batches */
  return connect(session.fd, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
}

/* Takes the next step of opening; to be called every few milliseconds. */
void session_try_open(const char *path, int64_t now_ms) {
  int late = now_ms >= session.wait_until_ms;
  struct occupancy found = occupancy(path);

  if (session.fd < 0) {
    int error;

    if (found.accepted + found.waiting > 0) {
      if (late)
        refuse(SLOT_TAKEN, 0);
      return;
    }
    if ((error = dial(path)) != 0) {
      int transient = error == ENOENT || error == ECONNREFUSED || error == EAGAIN || error == EINTR;

      hang_up();
      if (late || !transient)
        refuse(error == EAGAIN ? SLOT_QUEUE_FULL : SLOT_ERROR, error);
      return;
    }
    found = occupancy(path);
  }
  if (found.waiting == 0) {
    session.accepted = found.accepted > 0;
    session.phase = PHASE_OPEN;
    session.net_ms = NET_MIN_MS;
  } else if (late) {
    refuse(SLOT_SILENT, 0);
  }
}

/* ---- writing */

uint32_t session_outstanding(void) {
  return (uint32_t)(session.to_qemu.head - session.consumed);
}

static int hung_up(void) {
  struct pollfd look = {session.fd, 0, 0};

  return poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* Returns whether it is known of what was not seen to be read that it lies there as a whole, or was read as a whole. */
int session_exact(void) {
  return session.newer == session.consumed && session_outstanding() <= CHUNK;
}

static int unread_cost(void) {
  int cost = 0;

  return ioctl(session.fd, SIOCOUTQ, &cost) < 0 ? INT_MAX : cost;
}

static void sample(void) {
  int cost = session_outstanding() > 0 ? unread_cost() : INT_MAX;
  uint64_t consumed = session.consumed;

  if (cost <= 1) /* sock_wfree() leaves 1 for a moment after it has freed the last one */
    consumed = session.to_qemu.head;
  else if (cost <= session.newer_cost)
    consumed = session.newer;
  if (consumed > session.consumed && !hung_up()) {
    session.consumed = consumed;
    if (session.newer < consumed)
      session.newer = consumed;
    session.net_ms = NET_MIN_MS;
  }
}

/* Returns whether the kernel may be given one more batch. */
static int has_room(void) {
  if (session_outstanding() == 0)
    return 1;
  return !session.lockstep && session.newer == session.consumed && session_outstanding() > CHUNK;
}

/* Sees what QEMU has read, and writes the next batch if there is room for it. */
void session_write(void) {
  uint32_t limit = session.lockstep ? CHUNK : BATCH;

  if (session.phase != PHASE_OPEN || session.closing)
    return;
  for (;;) {
    uint64_t size = session.to_qemu.tail - session.to_qemu.head;
    struct iovec pieces[2];
    struct msghdr message = {.msg_iov = pieces};
    ssize_t sent;
    int cost;

    sample();
    if (size == 0 || !has_room())
      return;
    if (size > limit)
      size = limit;
    message.msg_iovlen = (size_t)ring_pieces(&session.to_qemu, session.to_qemu.head, (uint32_t)size, pieces);
    cost = unread_cost();
    sent = sendmsg(session.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) {
      /* That it is gone, and how, is for recv() to say, but it says ECONNRESET once only, to whoever asks first. */
      if (sent < 0 && errno == ECONNRESET)
        session.reset_seen = 1;
      return;
    }
    session.newer = session.to_qemu.head;
    session.newer_cost = unread_cost() - cost;
    session.to_qemu.head += (uint64_t)sent;
    session.net_ms = NET_MIN_MS;
  }
}

/* Takes note of the wake-up; session_write() looks what it was for. */
void session_woken(void) {
  struct epoll_event event;

  epoll_wait(session.wake, &event, 1, 0);
}

/* Takes note that nothing has happened for a while. */
void session_waited(void) {
  if (session.net_ms < NET_MAX_MS)
    session.net_ms *= 2;
}

/* Returns whether QEMU lets something lie unread, rather than being busy reading. */
int session_stalled(void) {
  return session_outstanding() > 0 && session.net_ms > NET_MIN_MS;
}

/* ---- reading, and the end */

static void finish(enum reason reason, int error) {
  if (reason == END_EOF)
    session.consumed = session.newer = session.to_qemu.head;
  session.reason = reason;
  session.error = error;
  session.exact = reason != END_ERROR && session_exact();
  session.phase = PHASE_CLOSED;
  hang_up();
}

/* recv() has returned 0. The peer may have shut down its own direction only, and then it can still read. */
static void end_of_file(void) {
  uint8_t byte;

  if (session.reset_seen) {
    finish(END_RESET, 0);
  } else if (!hung_up()) {
    session.half_closed = 1;
  } else if (recv(session.fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET) {
    finish(END_RESET, 0);
  } else {
    finish(END_EOF, 0);
  }
}

/* Reads what QEMU has written, as far as there is room; the last one is its end. */
void session_read(void) {
  while (session.phase == PHASE_OPEN) {
    uint32_t room = (uint32_t)(RETAINED - (session.from_qemu.tail - session.from_qemu.head));
    struct iovec pieces[2];
    struct msghdr message = {.msg_iov = pieces};
    ssize_t got;

    if (room == 0)
      return;
    message.msg_iovlen = (size_t)ring_room(&session.from_qemu, room, pieces);
    got = recvmsg(session.fd, &message, MSG_DONTWAIT);
    if (got > 0) {
      session.from_qemu.tail += (uint64_t)got;
    } else if (got == 0) {
      end_of_file();
      if (session.half_closed)
        break;
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      finish(errno == ECONNRESET ? END_RESET : END_ERROR, errno == ECONNRESET ? 0 : errno);
    }
  }
  if (session.phase == PHASE_OPEN && session.closing) { /* all that QEMU has written is read */
    sample();
    if (!hung_up())
      finish(END_CLOSED_BY_US, 0);
  }
}

/* Returns what to wait for on QEMU's socket; -1 for nothing at all, not even its end. */
short session_poll_events(void) {
  if (session.phase != PHASE_OPEN || session.from_qemu.tail - session.from_qemu.head == RETAINED)
    return -1;
  return session.half_closed ? 0 : POLLIN;
}
