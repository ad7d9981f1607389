#define SLOT_BYTES @upper@_SLOT_BYTES

/* A window begins in this slot. */
static void begin_window(uint8_t *slot)
{
    uint32_t i;
    for (i = 0; i < @state_bytes@; ++i) {
        slot[i] = @value@;
    }
}

static int32_t before(int32_t slot)
{
    return slot == 0 ? SLOTS - 1 : slot - 1;
}

/* Step every open window, the oldest last: its outputs are those that stay in the scratch. */
static int32_t step_windows(const void *weights, @name@_state *state, @name@_scratch *scratch,
                            const void *in)
{
    int64_t next = state->next, first;
    int32_t newest = state->slot, slot, code;
    if (state->fed == next) {
@begin@        next += HOP;
        newest = newest + 1 < SLOTS ? newest + 1 : 0;
    }
@check@@keep@    slot = before(newest);
    for (first = next - HOP; first > state->answered; first -= HOP) {
        code = @name@_kernel_step(weights, state->windows + slot * SLOT_BYTES, scratch->kernel, in,
                                  &scratch->output);
        if (code < 0) {
@undo@            return code;
        }
        slot = before(slot);
    }
    state->next = next;
    state->slot = newest;
    return 0;
}

