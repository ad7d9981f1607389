/* The newest answer among those before it. */
static void smooth(@name@_state *state, @name@_output *answer)
{
    const uint8_t *answers = (const uint8_t *)state->answers;
    int32_t place = state->place;
@votes@    copy((uint8_t *)&state->answers[place], (const uint8_t *)answer, @upper@_OUTPUT_BYTES);
    state->place = place + 1 < @smoothed@ ? place + 1 : 0;
    state->kept = state->kept < @smoothed@ ? state->kept + 1 : @smoothed@;
@results@}

