/* A frame's elements go to its column of the window: `outer` runs of `inner` bytes. */
static void put(uint8_t *window, int32_t column, const uint8_t *frame, int32_t outer,
                int32_t inner)
{
    for (; outer > 0; --outer) {
        copy(window + column * inner, frame, inner);
        window += WINDOW * inner;
        frame += inner;
    }
}

@move_on@/* Keep a frame, and compute the window that it closes. */
static int32_t keep_frame(const void *weights, @name@_state *state, @name@_scratch *scratch,
                          const void *in)
{
    const uint8_t *frame = (const uint8_t *)in;
    int64_t held = state->fed - (state->answered + HOP);
    int32_t column = (int32_t)held, code = refused(in);
    if (code < 0 || held < 0) {
        return code;
    }
@put@    if (column < WINDOW - 1) {
        return 0;
    }
    code = @name@_kernel_step(weights, scratch->kernel, scratch->kernel, state->windows,
                              &scratch->output);
    if (code < 0) {
        return code;
    }
@move@    return 0;
}

