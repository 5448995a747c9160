/* edge SOCKET SLOT: pipes its standard streams to the daemon that serves SLOT, which it starts if there is none.
 *
 * SLOT is QEMU's socket, SOCKET the daemon's own; both are absolute paths. A lock beside SOCKET says that a daemon lives:
 * it holds the lock as long as it does. The daemon keeps nothing of the exec stream that started it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "edge.h"

enum { CONNECT_TRIES = 200, CONNECT_PAUSE_MS = 10, BACKLOG = 4 };

static struct sockaddr_un address = {.sun_family = AF_UNIX};

int64_t clock_ms(void) {
  struct timespec now;

  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int fail(const char *what, int error) {
  char text[64] = "edge: ", *at = text + strlen(text);

  at = stpcpy(at, what);
  at = stpcpy(at, ", errno ");
  *at++ = (char)('0' + error / 100 % 10);
  *at++ = (char)('0' + error / 10 % 10);
  *at++ = (char)('0' + error % 10);
  *at++ = '\n';
  return write(STDERR_FILENO, text, (size_t)(at - text)) < 0 ? 2 : 1;
}

static int stream_socket(void) {
  return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Returns the listening socket, or -1. The caller has the lock, so what is in the way is dead. */
static int listen_at_socket(void) {
  int listener = stream_socket();

  unlink(address.sun_path);
  umask(0077);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, BACKLOG) < 0)
    return -1;
  fcntl(listener, F_SETFL, O_NONBLOCK);
  return listener;
}

/* Becomes a process of nobody's, with the lock and the listener only. */
static void become_daemon(const char *slot, int lock, int listener) {
  int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

  if (setsid() < 0 || nothing < 0 || fork() != 0)
    _exit(0);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    dup2(nothing, fd);
  for (int fd = STDERR_FILENO + 1; fd < 64; fd++)
    if (fd != lock && fd != listener)
      close(fd);
  if (chdir("/") == 0)
    daemon_run(slot, listener);
  unlink(address.sun_path);
  _exit(0);
}

/* Starts a daemon unless one lives. Returns 0, or errno. */
static int start_daemon(const char *slot) {
  char path[sizeof address.sun_path + sizeof ".lock"];
  int lock, listener;

  strcpy(stpcpy(path, address.sun_path), ".lock");
  lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (lock < 0)
    return errno;
  if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
    if ((listener = listen_at_socket()) < 0)
      return errno;
    if (fork() == 0)
      become_daemon(slot, lock, listener);
    close(listener);
  }
  close(lock);
  return 0;
}

int main(int count, char **arguments) {
  struct timespec pause = {0, CONNECT_PAUSE_MS * 1000000L};

  if (count != 3 || arguments[1][0] != '/' || arguments[2][0] != '/' || strlen(arguments[1]) > MAX_PATH ||
      strlen(arguments[2]) > MAX_PATH)
    return fail("usage: edge SOCKET SLOT", EINVAL);
  memcpy(address.sun_path, arguments[1], strlen(arguments[1]));
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
  for (int tries = 0; tries < CONNECT_TRIES; tries++) {
    int tunnel = stream_socket(), error;

    if (tunnel < 0)
      return fail("socket", errno);
    if (connect(tunnel, (struct sockaddr *)&address, sizeof address) == 0)
      return pipe_run(tunnel);
    error = errno;
    close(tunnel);
    if (error != ENOENT && error != ECONNREFUSED)
      return fail("connect", error);
    if ((error = start_daemon(arguments[2])) != 0)
      return fail("start", error);
    if (tries > 0) /* another one starts or ends just now */
      nanosleep(&pause, NULL);
  }
  return fail("no daemon", ETIMEDOUT);
}
