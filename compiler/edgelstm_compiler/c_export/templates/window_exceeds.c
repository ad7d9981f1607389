/* Whether the magnitude of a number in floating point is beyond the largest, by its bits. */
static int exceeds(const uint8_t *values, int32_t count, int32_t size, uint64_t magnitude,
                   uint64_t largest)
{
    int32_t i;
    for (; count > 0; --count) {
        uint64_t bits = 0;
        for (i = size; i > 0; --i) {
            bits = bits << 8 | values[i - 1];
        }
        if ((bits & magnitude) > largest) {
            return 1;
        }
        values += size;
    }
    return 0;
}

