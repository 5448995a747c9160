/* The pipe: what an exec stream runs. It carries bytes between its standard streams and the daemon, and knows nothing. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "edge.h"

struct way {
  int from, to;
  uint32_t done, size;
  uint8_t bytes[64 << 10];
};

/* Moves what can be moved without waiting; returns whether the way is still open. */
static int move(struct way *way) {
  ssize_t count;

  if (way->done == way->size) {
    count = read(way->from, way->bytes, sizeof way->bytes);
    if (count <= 0)
      return count < 0 && (errno == EAGAIN || errno == EINTR);
    way->done = 0;
    way->size = (uint32_t)count;
  }
  count = write(way->to, way->bytes + way->done, way->size - way->done);
  if (count < 0)
    return errno == EAGAIN || errno == EINTR;
  way->done += (uint32_t)count;
  return 1;
}

static struct pollfd waiting_for(const struct way *way) {
  return way->done < way->size ? (struct pollfd){way->to, POLLOUT, 0} : (struct pollfd){way->from, POLLIN, 0};
}

/* Carries bytes until either side ends; returns the exit status. */
int pipe_run(int socket) {
  static struct way up, down;

  up.from = STDIN_FILENO;
  down.to = STDOUT_FILENO;
  up.to = down.from = socket;
  for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  fcntl(socket, F_SETFL, O_NONBLOCK);
  for (;;) {
    struct pollfd polled[] = {waiting_for(&up), waiting_for(&down)};

    if (poll(polled, 2, -1) < 0 && errno != EINTR)
      return 1;
    if ((polled[0].revents != 0 && !move(&up)) || (polled[1].revents != 0 && !move(&down)))
      return 0;
  }
}
