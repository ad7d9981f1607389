/* Behind the last frame: call it @upper@_TAIL times, in place of a step, for what still comes. Of
   `in` it reads what is not along time; give the last input again. Then @name@_reset begins a new
   stream. Returns what @name@_step returns. */
int32_t @name@_finish(const void *weights, void *state, void *scratch, const void *in,
@indent@void *out);

