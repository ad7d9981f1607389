// Lets a computer validate @name@ on this board: edgelstm validate FILE --on serial://PORT
#include <@name@_agent.h>

static @name@_state state;
static @name@_scratch scratch;

static int get(void *) {
  while (!Serial.available()) {
  }
  return Serial.read();
}

static void put(void *, uint8_t value) {
  Serial.write(value);
}

static uint32_t ticks(void *) {
  return micros();
}

void setup() {
  Serial.begin(115200);
}

void loop() {
  const @name@_port port = {get, put, ticks, 1000000, nullptr};
  @name@_agent(&state, &scratch, &port);
}
