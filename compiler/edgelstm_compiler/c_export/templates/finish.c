int32_t @name@_finish(const void *weights, void *state, void *scratch, const void *in, void *out)
{
    uint8_t *bytes = (uint8_t *)state;
    const uint8_t *frame = bytes + @clock@;
    uint8_t *end = bytes + @end@;
    const uint32_t unknown = @unknown@u;
    uint32_t found = 0;
    int i;
    for (i = 0; i < 4; ++i) {
        ((uint8_t *)&found)[i] = end[i];
    }
    if (found == unknown) {
        for (i = 0; i < 4; ++i) {
            end[i] = frame[i];
        }
    }
    return @name@_step(weights, state, scratch, in, out);
}

