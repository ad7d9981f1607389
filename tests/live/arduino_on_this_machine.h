// What a sketch for an ESP32 uses of Arduino, on this machine: Serial is standard input and output.
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

static struct {
  char held[4096];
  ssize_t count = 0, taken = 0;

  void begin(unsigned long) {}

  int available() {
    if (taken == count) {
      fd_set set;
      FD_ZERO(&set);
      FD_SET(0, &set);
      timeval pause{0, 1000};
      if (select(1, &set, nullptr, nullptr, &pause) <= 0) return 0;
      count = ::read(0, held, sizeof held);
      taken = 0;
      if (count == 0) _exit(0);
      if (count < 0) count = 0;  // a datagram of before had no receiver
    }
    return (int)(count - taken);
  }

  int read() { return available() ? (unsigned char)held[taken++] : -1; }

  size_t write(const char *data, size_t size) {
    const ssize_t done = ::write(1, data, size);
    return done < 0 ? 0 : (size_t)done;
  }
} Serial;

static int64_t esp_timer_get_time() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int analogRead(int pin) { return 1000 + pin; }

void setup();
void loop();

int main() {
  setup();
  for (;;) loop();
}
