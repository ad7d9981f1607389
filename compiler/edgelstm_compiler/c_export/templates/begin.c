void @name@_reset(@name@_state *state)
{
@reset@
}

void @name@_init(@name@_state *state, @name@_scratch *scratch)
{
    uint32_t i;
    for (i = 0; i < sizeof scratch->bytes; ++i) {
        scratch->bytes[i] = 0;
    }
    @name@_reset(state);
}

