// Checks @name@ on this board: its weights, and known inputs and outputs. Then steps it.
#include <@name@.h>

static @name@_state state;
static @name@_scratch scratch;
static @name@_input in;
static @name@_output out;

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  const long result = @name@_selftest(&state, &scratch);
  if (result == 0) {
    Serial.println("@name@: PASS");
  } else {
    Serial.print("@name@: FAIL ");
    Serial.println(result);
  }
  @name@_init(&state, &scratch);
}

void loop() {
  // Fill `in` with a sample of your sensor here.
  const unsigned long start = micros();
  const long result = @name@_step(@name@_weights, &state, &scratch, &in, &out);
  const unsigned long taken = micros() - start;
  Serial.print(result);
  Serial.print(" microseconds: ");
  Serial.println(taken);
  delay(1000);
}
