// A sensor of 100 Hz on an ESP32: lines `time_us,value`, and answers to echo questions between them.
// edgelstm run MODEL -i 'serial:/dev/ttyUSB0?columns=time_us,ax&echo=1s' -i OTHER_SENSOR --rate 100
#include "echo.h"

EchoQuestions questions;
int64_t next_us = 0;

void setup() { Serial.begin(115200); }

void loop() {
  while (Serial.available()) {
    if (questions.take((char)Serial.read())) {
      const uint64_t had = (uint64_t)esp_timer_get_time();
      char answer[kEchoBytes];
      Serial.write(answer, write_answer(answer, questions.number, had, (uint64_t)esp_timer_get_time()));
    }
  }
  const int64_t now = esp_timer_get_time();  // micros() would begin anew after 71 minutes
  if (now >= next_us) {
    next_us = now + 10000;
    char line[kEchoBytes];
    char *at = write_number(line, (uint64_t)now);
    *at++ = ',';
    at = write_number(at, (uint64_t)analogRead(34));
    *at++ = '\n';
    Serial.write(line, (size_t)(at - line));
  }
}
