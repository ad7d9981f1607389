/* @upper@_FRAMES steps: `in` and `out` point to as many inputs and outputs; all inputs are checked
   before the first step. Returns the bits of the outputs that are new in one of the steps at least,
   or what @name@_step returns where it refuses. An output along time is new in out[*_ROW],
   out[*_ROW + *_STRIDE] and so on, once *_DELAY steps are over; of any other the newest value is
   that of out[@upper@_FRAMES - 1]. Frames that fill no chunk go to @name@_step one by one. */
int32_t @name@_chunk(const void *weights, void *state, void *scratch, const @name@_input *in,
@indent@@name@_output *out);

