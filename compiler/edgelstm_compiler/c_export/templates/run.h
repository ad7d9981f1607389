/* n_steps steps on arrays of inputs and outputs; all inputs are checked before the first step.
   Returns what @name@_step returns. */
int32_t @name@_run(const void *weights, void *state, void *scratch, const void *in, void *out,
@indent@int64_t n_steps);

