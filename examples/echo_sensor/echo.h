// Answers to the echo questions of `edgelstm run`, which show how this device's clock stands to its own.
// A question is a line `#echo NUMBER`; the answer is `#echo NUMBER HAD SENT`, both times of the clock
// that samples are stamped by. Plain C++ without memory of its own beyond one number.
#pragma once
#include <stddef.h>
#include <stdint.h>

class EchoQuestions {
 public:
  uint32_t number = 0;  // of the last question

  // Takes a byte that came; whether a question ended with it.
  bool take(char byte) {
    static const char kMark[] = "#echo ";
    if (byte == '\n') {
      const bool is_question = digits_ > 0;
      at_ = digits_ = 0;
      return is_question;
    }
    if (byte == '\r') return false;
    if (at_ < sizeof(kMark) - 1) {
      at_ = byte == kMark[at_] ? at_ + 1 : kOther;
      number = 0;
    } else if (at_ != kOther && byte >= '0' && byte <= '9' && digits_ < 9) {
      number = 10 * number + (uint32_t)(byte - '0');
      ++digits_;
    } else {
      at_ = kOther;  // a line that is no question: the rest of it does not count
      digits_ = 0;
    }
    return false;
  }

 private:
  static const uint8_t kOther = 255;
  uint8_t at_ = 0;      // bytes of the mark that have come
  uint8_t digits_ = 0;  // of the number that have come
};

// Writes a number in digits; the first byte behind it.
inline char *write_number(char *to, uint64_t value) {
  char digits[20];
  int count = 0;
  do {
    digits[count++] = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  while (count) *to++ = digits[--count];
  return to;
}

const size_t kEchoBytes = 64;  // room for an answer

// Writes the answer to a question; how many bytes it has.
inline size_t write_answer(char *to, uint32_t number, uint64_t had_us, uint64_t sent_us) {
  char *at = to;
  for (const char *mark = "#echo "; *mark; ++mark) *at++ = *mark;
  at = write_number(at, number);
  *at++ = ' ';
  at = write_number(at, had_us);
  *at++ = ' ';
  at = write_number(at, sent_us);
  *at++ = '\n';
  return (size_t)(at - to);
}
