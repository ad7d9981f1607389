#define SLOTS @upper@_SLOTS
#define WINDOW @upper@_WINDOW
#define HOP @upper@_HOP
#define NEW_OUTPUTS @new_outputs@

/* The compiled code: @kernel@. */
int32_t @name@_kernel_step(const void *weights, void *state, void *scratch, const void *in,
                           void *out);

static void copy(uint8_t *to, const uint8_t *from, int32_t count)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        to[i] = from[i];
    }
}

@parts@/* The frame was fed: the answer, if it closes a window. */
static int32_t close_window(@name@_state *state, @name@_scratch *scratch, void *out)
{
    if (++state->fed - (state->answered + HOP) < WINDOW) {
        return 0;
    }
    state->answered += HOP;
@smooth@    copy((uint8_t *)out, (const uint8_t *)&scratch->output, @upper@_OUTPUT_BYTES);
    return NEW_OUTPUTS;
}

int32_t @name@_step(const void *weights, void *state, void *scratch, const void *in, void *out)
{
    @name@_state *windows = (@name@_state *)state;
    @name@_scratch *memory = (@name@_scratch *)scratch;
    int32_t code = @feed@;
    return code < 0 ? code : close_window(windows, memory, out);
}

int32_t @name@_slots(const @name@_state *state, @name@_slot slots[@upper@_SLOTS])
{
    int32_t count = 0;
    int64_t first;
    for (first = state->answered + HOP; first < state->fed; first += HOP) {
        slots[count].first = first;
        slots[count].frames = (int32_t)(state->fed - first);
        ++count;
    }
    return count;
}

int64_t @name@_first_frame(const @name@_state *state)
{
    return state->answered;
}

void @name@_reset(@name@_state *state)
{
    state->fed = state->next = 0;
    state->answered = -(int64_t)HOP;
    state->slot = state->place = state->kept = state->unused = 0;
}

void @name@_init(@name@_state *state, @name@_scratch *scratch)
{
    uint8_t *bytes = (uint8_t *)scratch;
    uint32_t i;
    for (i = 0; i < sizeof *scratch; ++i) {
        bytes[i] = 0;
    }
    @name@_reset(state);
}

