/* Who is connected to a unix socket: proc(5), /proc/net/unix.
 *
 * The server's ends of connections carry the path of the listener. An end that was accepted is in state 03 (connected);
 * one that waits in the queue has no file yet: state 02 (connecting), inode 0. Only this network namespace is seen, and
 * only the path as its owner has bound it. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "edge.h"

enum { STATE_FIELD = 5, INODE_FIELD = 6, PATH_FIELD = 7 };

static void look_at(char *line, const char *path, struct occupancy *found) {
  char *fields[PATH_FIELD + 1];
  int count = 0;

  while (count < PATH_FIELD) {
    line += strspn(line, " ");
    if (*line == '\0')
      return;
    fields[count++] = line;
    line += strcspn(line, " ");
    if (*line != '\0')
      *line++ = '\0';
  }
  if (strcmp(line, path) != 0)
    return;
  if (strcmp(fields[STATE_FIELD], "03") == 0)
    found->accepted++;
  else if (strcmp(fields[STATE_FIELD], "02") == 0 && strcmp(fields[INODE_FIELD], "0") == 0)
    found->waiting++;
}

struct occupancy occupancy(const char *path) {
  static char text[8192];
  struct occupancy found = {0, 0};
  size_t size = 0;
  int file = open("/proc/net/unix", O_RDONLY | O_CLOEXEC);

  if (file < 0)
    return found;
  for (;;) {
    ssize_t got = read(file, text + size, sizeof text - size);
    char *line = text, *end;

    if (got <= 0)
      break;
    size += (size_t)got;
    while ((end = memchr(line, '\n', size - (size_t)(line - text))) != NULL) {
      *end = '\0';
      look_at(line, path, &found);
      line = end + 1;
    }
    size -= (size_t)(line - text);
    memmove(text, line, size);
    if (size == sizeof text) /* no line of the kernel's is that long */
      size = 0;
  }
  close(file);
  return found;
}
