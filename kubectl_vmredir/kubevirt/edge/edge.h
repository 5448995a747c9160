/* The edge: owns one usb-redir socket of QEMU, and knows to the byte what QEMU has read.
 *
 * docs/edge.md tells the protocol, the algorithm and why it is so. One process serves one slot. There is no dynamic
 * memory: all buffers are below, and whoever fills one is held back when it is full. */
#ifndef EDGE_H
#define EDGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
  VERSION = 1,
  HEADER_SIZE = 8,          /* type u8, three zeros, length u32; all integers are little-endian */
  MAX_PAYLOAD = 64 << 10,   /* of a message to the edge */
  MAX_DATA = 32 << 10,      /* of a DATA message from the edge: what one read of an exec stream takes */
  TOKEN_SIZE = 16,
  CHUNK = 4096,             /* QEMU reads its character devices in slices of that size (CHR_READ_BUF_LEN) */
  BATCH = 128 << 10,        /* outside of lockstep, where the kernel may hold two */
  WINDOW = 2 << 20,         /* most bytes of the workstation that QEMU has not read */
  RETAINED = 2 << 20,       /* most bytes of QEMU that the workstation has not acknowledged */
  MAX_PATH = 107,           /* sockaddr_un.sun_path, without the terminator */
};

enum message {
  HELLO = 1,  /* edge: "VMRE", version u16, chunk u16, window u32, max payload u32, phase u8 */
  OPEN,       /* token, wait_ms u32, linger_s u32, flags u8 */
  RESUME,     /* token, sent u64, received u64 */
  RESUMED,    /* edge: received u64 */
  OPENED,     /* edge: accepted u8 (0: cannot tell) */
  REFUSED,    /* edge: code u16, errno u16, text */
  DATA,       /* both ways: bytes */
  CONSUMED,   /* edge: offset u64, lockstep u8 */
  ACK,        /* offset u64 */
  LOCKSTEP,   /* on u8 */
  PING,       /* u64 */
  PONG,       /* edge: the u64 of the newest PING */
  CLOSE,      /* nothing */
  CLOSED,     /* edge: consumed u64, received u64, reason u8, exact u8, errno u16 */
  FORGET,     /* nothing */
};

enum { OPEN_TAKE = 1, OPEN_LOCKSTEP = 2 }; /* flags of OPEN */

enum refusal {
  SLOT_TAKEN = 1,   /* somebody else is connected to QEMU's socket */
  SLOT_QUEUE_FULL,  /* QEMU accepts nobody, and others wait already */
  SLOT_SILENT,      /* QEMU did not accept the connection in time */
  SLOT_ERROR,       /* the socket cannot be reached; errno says why */
  SESSION_HELD,     /* the edge has a session of another token */
  SESSION_UNKNOWN,  /* the edge has no session of this token */
  SESSION_OFFSETS,  /* what the workstation says of the session cannot be */
  BROKEN_PROTOCOL,
};

enum reason { END_EOF, END_RESET, END_CLOSED_BY_US, END_ERROR };

enum phase { PHASE_NONE, PHASE_OPENING, PHASE_OPEN, PHASE_CLOSED };

/* A queue of bytes whose ends are offsets in a stream. It begins at the start of its memory again whenever it is empty, so
 * that no more of that is ever touched than was needed. */
struct ring {
  uint64_t head, tail;
  uint64_t start; /* offset of what is, or was, at the start of the memory */
  uint8_t bytes[2 << 20];
};

int ring_pieces(struct ring *ring, uint64_t from, uint32_t size, struct iovec pieces[2]);
int ring_room(struct ring *ring, uint32_t size, struct iovec pieces[2]);
void ring_put(struct ring *ring, const uint8_t *bytes, uint32_t size);

/* ---- session.c: the conversation with QEMU, which outlives tunnels */

struct session {
  enum phase phase;
  uint8_t token[TOKEN_SIZE];
  int64_t linger_ms;
  int64_t wait_until_ms;
  int fd;                     /* QEMU's socket, -1 while there is none */
  int wake;                   /* epoll that says when QEMU has read something */
  uint8_t lockstep, closing, half_closed, reset_seen, accepted;
  struct ring to_qemu;        /* head: given to the kernel; tail: got from the workstation */
  struct ring from_qemu;      /* head: acknowledged by the workstation; tail: read from QEMU */
  uint64_t consumed;          /* of what was given to the kernel, QEMU has read so much at least */
  uint64_t newer;             /* where the newest batch begins: behind `consumed` if two are unread */
  int newer_cost;             /* what it takes of the kernel's memory, at least */
  uint32_t net_ms;            /* when to look again what QEMU has read, if nothing wakes us before */
  enum refusal refusal;       /* why it is not open; 0 if there is no reason */
  int error;
  enum reason reason;
  uint8_t exact;
};

extern struct session session;

void session_try_open(const char *path, int64_t now_ms);
void session_forget(void);
void session_write(void);
void session_read(void);
void session_woken(void);
void session_waited(void);
int session_stalled(void);
uint32_t session_outstanding(void);
int session_exact(void);
short session_poll_events(void);

/* ---- occupancy.c */

struct occupancy {
  int accepted, waiting; /* connections to a socket: those that its owner has accepted, those it has not */
};

struct occupancy occupancy(const char *path);

/* ---- daemon.c, pipe.c, edge.c */

void daemon_run(const char *path, int listener);
int pipe_run(int socket);

int64_t clock_ms(void);

#endif
