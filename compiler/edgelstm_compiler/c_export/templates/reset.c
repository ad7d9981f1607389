    uint32_t i;
    for (i = 0; i < @upper@_STATE_BYTES; ++i) {
        state->bytes[i] = @value@;
    }